//! What a change of the protobuf files breaks for clients that were built before it, on the wire or when they are
//! built again.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet, MethodDescriptorProto,
    ServiceDescriptorProto, method_options::IdempotencyLevel,
};

/// What the services, and everything that their messages hold, have in `old` and lack or have otherwise in `new`.
/// Additions break nothing. Services are named without their package.
pub(crate) fn broken(old: &FileDescriptorSet, new: &FileDescriptorSet, services: &[&str]) -> Vec<String> {
    let (old, new) = (Types::new(old), Types::new(new));
    let mut problems = Vec::new();
    let mut reached = Vec::new();
    for (name, service) in old.services.iter().filter(|(_, service)| services.contains(&service.name())) {
        reached.extend(service.method.iter().flat_map(|method| [method.input_type(), method.output_type()]));
        match new.services.get(name) {
            None => problems.push(format!("{name}: the service is gone")),
            Some(now) => problems.extend(service_changes(name, service, now)),
        }
    }
    for name in old.closure(reached) {
        problems.extend(match (old.messages.get(&name), new.messages.get(&name)) {
            (Some(was), Some(now)) => message_changes(&name, was, now),
            (Some(_), None) => vec![format!("{name}: the message is gone")],
            (None, _) => Vec::new(),
        });
        problems.extend(match (old.enums.get(&name), new.enums.get(&name)) {
            (Some(was), Some(now)) => enum_changes(&name, was, now),
            (Some(_), None) => vec![format!("{name}: the enum is gone")],
            (None, _) => Vec::new(),
        });
    }
    problems
}

/// Everything in a descriptor set by its full name, with a dot in front.
#[derive(Default)]
struct Types<'a> {
    services: BTreeMap<String, &'a ServiceDescriptorProto>,
    messages: BTreeMap<String, &'a DescriptorProto>,
    enums: BTreeMap<String, &'a EnumDescriptorProto>,
}

impl<'a> Types<'a> {
    fn new(set: &'a FileDescriptorSet) -> Self {
        let mut types = Self::default();
        for file in &set.file {
            let scope = if file.package().is_empty() { String::new() } else { format!(".{}", file.package()) };
            types.services.extend(file.service.iter().map(|service| (format!("{scope}.{}", service.name()), service)));
            types.add(&scope, &file.message_type, &file.enum_type);
        }
        types
    }

    fn add(&mut self, scope: &str, messages: &'a [DescriptorProto], enums: &'a [EnumDescriptorProto]) {
        self.enums.extend(enums.iter().map(|inner| (format!("{scope}.{}", inner.name()), inner)));
        for message in messages {
            let name = format!("{scope}.{}", message.name());
            self.add(&name, &message.nested_type, &message.enum_type);
            self.messages.insert(name, message);
        }
    }

    /// These types and all that they hold.
    fn closure(&self, names: Vec<&str>) -> BTreeSet<String> {
        let mut todo: Vec<String> = names.into_iter().map(String::from).collect();
        let mut reached = BTreeSet::new();
        while let Some(name) = todo.pop() {
            if let Some(message) = self.messages.get(&name).filter(|_| !reached.contains(&name)) {
                todo.extend(message.field.iter().map(|field| field.type_name().to_string()));
            }
            reached.insert(name);
        }
        reached
    }
}

fn service_changes(name: &str, was: &ServiceDescriptorProto, now: &ServiceDescriptorProto) -> Vec<String> {
    let mut problems = Vec::new();
    for method in &was.method {
        let name = format!("{name}.{}", method.name());
        match now.method.iter().find(|other| other.name() == method.name()) {
            None => problems.push(format!("{name}: the RPC is gone")),
            Some(other) => problems.extend(method_changes(&name, method, other)),
        }
    }
    problems
}

fn method_changes(name: &str, was: &MethodDescriptorProto, now: &MethodDescriptorProto) -> Vec<String> {
    let is_read = |method: &MethodDescriptorProto| {
        method.options.as_ref().is_some_and(|options| options.idempotency_level() == IdempotencyLevel::NoSideEffects)
    };
    let changes = [
        (was.input_type() != now.input_type(), "takes another message"),
        (was.output_type() != now.output_type(), "returns another message"),
        (was.client_streaming() != now.client_streaming(), "streams requests, or does so no more"),
        (was.server_streaming() != now.server_streaming(), "streams responses, or does so no more"),
        (is_read(was) && !is_read(now), "is no read any more"),
    ];
    described(name, changes)
}

fn described<const N: usize>(name: &str, changes: [(bool, &str); N]) -> Vec<String> {
    changes.into_iter().filter(|(changed, _)| *changed).map(|(_, change)| format!("{name}: {change}")).collect()
}

fn message_changes(name: &str, was: &DescriptorProto, now: &DescriptorProto) -> Vec<String> {
    let mut problems = Vec::new();
    for field in &was.field {
        let field_name = format!("{name}.{}", field.name());
        let same_number = now.field.iter().find(|other| other.number() == field.number());
        let same_name = now.field.iter().find(|other| other.name() == field.name());
        match (same_number, same_name) {
            (_, Some(other)) if other.number() != field.number() => {
                problems.push(format!("{field_name}: its number was {} and is {}", field.number(), other.number()));
            }
            (Some(other), None) => problems.push(format!("{field_name}: is now called {}", other.name())),
            (None, _) => problems.push(format!("{field_name}: the field is gone")),
            (Some(other), Some(_)) => problems.extend(field_changes(&field_name, (was, field), (now, other))),
        }
    }
    problems.extend(reused(name, was, now));
    problems
}

type Field<'a> = (&'a DescriptorProto, &'a FieldDescriptorProto);

fn field_changes(name: &str, (was_in, was): Field<'_>, (now_in, now): Field<'_>) -> Vec<String> {
    let changes = [
        (was.r#type() != now.r#type() || was.type_name() != now.type_name(), "has another type"),
        (was.label() != now.label(), "is repeated, or is so no more"),
        (was.proto3_optional() != now.proto3_optional(), "tells unset from zero, or does so no more"),
        (oneof((was_in, was)) != oneof((now_in, now)), "is in another oneof"),
        (was.json_name() != now.json_name(), "has another name in JSON"),
    ];
    described(name, changes)
}

/// The name of the oneof that a field is in; the one that stands for `optional` is none.
fn oneof((message, field): Field<'_>) -> Option<&str> {
    let index = field.oneof_index.filter(|_| !field.proto3_optional())?;
    message.oneof_decl.get(usize::try_from(index).ok()?).map(|oneof| oneof.name())
}

/// New fields with numbers or names that had been given up for good.
fn reused(name: &str, was: &DescriptorProto, now: &DescriptorProto) -> Vec<String> {
    let is_reserved = |field: &&FieldDescriptorProto| {
        was.reserved_range.iter().any(|range| (range.start()..range.end()).contains(&field.number()))
            || was.reserved_name.iter().any(|reserved| reserved == field.name())
    };
    now.field.iter().filter(is_reserved).map(|field| format!("{name}.{}: had been reserved", field.name())).collect()
}

fn enum_changes(name: &str, was: &EnumDescriptorProto, now: &EnumDescriptorProto) -> Vec<String> {
    let mut problems = Vec::new();
    for value in &was.value {
        match now.value.iter().find(|other| other.name() == value.name()) {
            None => problems.push(format!("{name}.{}: the value is gone", value.name())),
            Some(other) if other.number() != value.number() => {
                let (was, is) = (value.number(), other.number());
                problems.push(format!("{name}.{}: its number was {was} and is {is}", value.name()));
            }
            Some(_) => {}
        }
    }
    problems
}
