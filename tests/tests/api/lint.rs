//! What a good protobuf API looks like: the rules of buf's STANDARD category, a comment on everything, and reads that
//! say that they are reads.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    MethodDescriptorProto, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
    method_options::IdempotencyLevel,
};

/// Field numbers stay below this: one or two bytes on the wire, and no room for numbers that mean something.
const FIELD_NUMBER_END: i32 = 100;

/// RPCs that change nothing, by name or by how the name begins.
const READS: [&str; 7] = ["Get", "BatchGet", "Export", "Status", "Overlay", "Lookup", "Explain"];
const READ_PREFIXES: [&str; 2] = ["Scan", "List"];

/// RPCs that change something.
const WRITES: [&str; 10] = [
    "Put",
    "Delete",
    "CompareAndSet",
    "Increment",
    "BatchWrite",
    "Join",
    "Depart",
    "CreateKeyspace",
    "DropKeyspace",
    "SetReplicas",
];

/// Everything that is wrong with the files of a package and the packages below it.
pub(crate) fn problems(set: &FileDescriptorSet, package: &str) -> Vec<String> {
    let inside =
        |file: &&FileDescriptorProto| file.package() == package || file.package().starts_with(&format!("{package}."));
    let files: Vec<&FileDescriptorProto> = set.file.iter().filter(inside).collect();
    let mut problems = Vec::new();
    for file in &files {
        problems.extend(file_problems(file));
        problems.extend(import_problems(file, set));
        let mut lint = Lint { file, documented: documented(file), problems: Vec::new() };
        lint.contents();
        problems.extend(lint.problems);
    }
    problems.extend(option_problems(&files));
    problems.extend(shared_messages(&files));
    problems
}

fn file_problems(file: &FileDescriptorProto) -> Vec<String> {
    let package = file.package();
    let (folder, name) = file.name().rsplit_once('/').unwrap_or(("", file.name()));
    let rules = [
        (file.syntax() == "proto3", "write `syntax = \"proto3\"`"),
        (package.split('.').all(is_lower_snake), "name the package in lower_snake_case"),
        (folder == package.replace('.', "/"), "put the file into the folder that its package names"),
        (package.rsplit('.').next().is_some_and(is_version), "end the package with a version, like `v1`"),
        (name.strip_suffix(".proto").is_some_and(is_lower_snake), "name the file in lower_snake_case"),
        (file.public_dependency.is_empty(), "import nothing publicly"),
        (file.weak_dependency.is_empty(), "import nothing weakly"),
    ];
    broken(file.name(), rules)
}

fn broken<const N: usize>(what: &str, rules: [(bool, &str); N]) -> Vec<String> {
    rules.into_iter().filter(|(kept, _)| !kept).map(|(_, advice)| format!("{what}: {advice}")).collect()
}

/// Imports of which nothing is used.
fn import_problems(file: &FileDescriptorProto, set: &FileDescriptorSet) -> Vec<String> {
    let used = used_types(file);
    let uses = |import: &str| {
        let imported = set.file.iter().filter(|other| other.name() == import);
        imported.flat_map(type_names).any(|name| used.contains(&name))
    };
    let unused = file.dependency.iter().filter(|import| !uses(import));
    unused.map(|import| format!("{}: uses nothing of {import}: do not import it", file.name())).collect()
}

/// Full names of the messages and enums of a file, those inside messages too.
fn type_names(file: &FileDescriptorProto) -> Vec<String> {
    fn inside(scope: &str, message: &DescriptorProto, names: &mut Vec<String>) {
        let name = format!("{scope}.{}", message.name());
        names.extend(message.enum_type.iter().map(|inner| format!("{name}.{}", inner.name())));
        message.nested_type.iter().for_each(|inner| inside(&name, inner, names));
        names.push(name);
    }
    let scope = format!(".{}", file.package());
    let mut names: Vec<String> = file.enum_type.iter().map(|inner| format!("{scope}.{}", inner.name())).collect();
    file.message_type.iter().for_each(|message| inside(&scope, message, &mut names));
    names
}

fn used_types(file: &FileDescriptorProto) -> BTreeSet<String> {
    fn inside(message: &DescriptorProto, used: &mut BTreeSet<String>) {
        used.extend(message.field.iter().map(|field| field.type_name().to_string()));
        message.nested_type.iter().for_each(|inner| inside(inner, used));
    }
    let methods = file.service.iter().flat_map(|service| &service.method);
    let mut used: BTreeSet<String> =
        methods.flat_map(|method| [method.input_type().to_string(), method.output_type().to_string()]).collect();
    file.message_type.iter().for_each(|message| inside(message, &mut used));
    used
}

/// Options for other languages: there, and the same in all files of a package.
fn option_problems(files: &[&FileDescriptorProto]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut seen = BTreeMap::new();
    for file in files {
        let options = file.options.clone().unwrap_or_default();
        let values = [
            ("go_package", options.go_package.clone()),
            ("java_package", options.java_package.clone()),
            ("java_multiple_files", options.java_multiple_files.map(|value| value.to_string())),
            ("csharp_namespace", options.csharp_namespace.clone()),
        ];
        for (name, value) in values {
            let Some(value) = value else {
                problems.push(format!("{}: write `option {name}`", file.name()));
                continue;
            };
            let first = seen.entry((file.package(), name)).or_insert_with(|| value.clone());
            if *first != value {
                problems.push(format!("{}: `option {name}` is {first} in other files: make them agree", file.name()));
            }
        }
    }
    problems
}

/// Messages that serve more than one RPC: neither could change alone.
fn shared_messages(files: &[&FileDescriptorProto]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let methods = files.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
    let messages = methods.flat_map(|method| [method.input_type(), method.output_type()]);
    let shared = messages.filter(|name| !seen.insert(*name));
    shared.map(|name| format!("{name}: serves two RPCs: give each its own message")).collect()
}

/// The rules for what is in a file.
struct Lint<'a> {
    file: &'a FileDescriptorProto,
    documented: BTreeSet<Vec<i32>>,
    problems: Vec<String>,
}

/// The places in a file, as field numbers of its descriptor, that have a comment.
fn documented(file: &FileDescriptorProto) -> BTreeSet<Vec<i32>> {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    let commented = locations.filter(|location| {
        !location.leading_comments().trim().is_empty() || !location.trailing_comments().trim().is_empty()
    });
    commented.map(|location| location.path.clone()).collect()
}

/// A place with one more step: a field of the descriptor and an index.
fn step(path: &[i32], field: i32, index: usize) -> Vec<i32> {
    [path, &[field, i32::try_from(index).expect("an index in a file")]].concat()
}

impl Lint<'_> {
    fn contents(&mut self) {
        let file = self.file;
        for (index, message) in file.message_type.iter().enumerate() {
            self.message(file.package(), message, &step(&[], 4, index));
        }
        for (index, inner) in file.enum_type.iter().enumerate() {
            self.enumeration(file.package(), inner, &step(&[], 5, index));
        }
        for (index, service) in file.service.iter().enumerate() {
            self.service(service, &step(&[], 6, index));
        }
    }

    fn rules<const N: usize>(&mut self, what: &str, path: &[i32], rules: [(bool, &str); N]) {
        let what = format!("{}: {what}", self.file.name());
        self.problems.extend(broken(&what, rules));
        if !self.documented.contains(path) {
            self.problems.push(format!("{what}: write a comment: what it means, its unit, what unset means"));
        }
    }

    fn message(&mut self, scope: &str, message: &DescriptorProto, path: &[i32]) {
        if message.options.as_ref().is_some_and(|options| options.map_entry()) {
            return;
        }
        let name = format!("{scope}.{}", message.name());
        self.rules(&name, path, [(is_pascal(message.name()), "name it in PascalCase")]);
        let mut numbers = BTreeSet::new();
        for (index, field) in message.field.iter().enumerate() {
            let unique = numbers.insert(field.number());
            self.field(&name, field, unique, &step(path, 2, index));
        }
        for (index, oneof) in message.oneof_decl.iter().enumerate() {
            let is_own = |field: &FieldDescriptorProto| field.oneof_index.is_some() && !field.proto3_optional();
            if message.field.iter().any(|field| is_own(field) && field.oneof_index() == index as i32) {
                let rules = [(is_lower_snake(oneof.name()), "name it in lower_snake_case")];
                self.rules(&format!("{name}.{}", oneof.name()), &step(path, 8, index), rules);
            }
        }
        for (index, inner) in message.nested_type.iter().enumerate() {
            self.message(&name, inner, &step(path, 3, index));
        }
        for (index, inner) in message.enum_type.iter().enumerate() {
            self.enumeration(&name, inner, &step(path, 4, index));
        }
    }

    fn field(&mut self, message: &str, field: &FieldDescriptorProto, unique: bool, path: &[i32]) {
        // What a oneof chooses between is documented where the message is that stands for the choice.
        let is_choice = field.oneof_index.is_some() && field.r#type() == Type::Message;
        let path = if is_choice && !field.proto3_optional() { &path[..path.len() - 2] } else { path };
        let rules = [
            (is_lower_snake(field.name()), "name it in lower_snake_case"),
            (field.label() != Label::Required, "make it optional: a required field can never go"),
            (unique, "give it a number of its own"),
            ((1..FIELD_NUMBER_END).contains(&field.number()), "number it from 1 to 99"),
        ];
        self.rules(&format!("{message}.{}", field.name()), path, rules);
    }

    fn enumeration(&mut self, scope: &str, inner: &EnumDescriptorProto, path: &[i32]) {
        let name = format!("{scope}.{}", inner.name());
        let prefix = upper_snake(inner.name());
        let zero = inner.value.first().filter(|value| value.number() == 0);
        let aliased = inner.options.as_ref().is_some_and(|options| options.allow_alias());
        let rules = [
            (is_pascal(inner.name()), "name it in PascalCase"),
            (!aliased, "give each number one name"),
            (zero.is_some_and(|value| value.name() == format!("{prefix}_UNSPECIFIED")), "begin with …_UNSPECIFIED = 0"),
        ];
        self.rules(&name, path, rules);
        for (index, value) in inner.value.iter().enumerate() {
            // Zero says nothing, in every enum; there is nothing to add.
            let path = if value.number() == 0 { path.to_vec() } else { step(path, 2, index) };
            let rules = [
                (is_upper_snake(value.name()), "name it in UPPER_SNAKE_CASE"),
                (value.name().starts_with(&format!("{prefix}_")), "begin its name with that of the enum"),
            ];
            self.rules(&format!("{name}.{}", value.name()), &path, rules);
        }
    }

    fn service(&mut self, service: &ServiceDescriptorProto, path: &[i32]) {
        let name = service.name();
        self.rules(name, path, [(is_pascal(name) && name.ends_with("Service"), "name it in PascalCase, …Service")]);
        for (index, method) in service.method.iter().enumerate() {
            self.method(name, method, &step(path, 2, index));
        }
    }

    fn method(&mut self, service: &str, method: &MethodDescriptorProto, path: &[i32]) {
        let name = method.name();
        let scope = format!(".{}.", self.file.package());
        let is_named = |message: &str, suffix: &str| {
            let message = message.strip_prefix(&scope).unwrap_or_default();
            message == format!("{name}{suffix}") || message == format!("{service}{name}{suffix}")
        };
        let level =
            method.options.as_ref().map_or(IdempotencyLevel::IdempotencyUnknown, |options| options.idempotency_level());
        let is_read = READS.contains(&name) || READ_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        let without_effect = level == IdempotencyLevel::NoSideEffects;
        let rules = [
            (is_pascal(name), "name it in PascalCase"),
            (is_named(method.input_type(), "Request"), "name what it takes after it, …Request"),
            (is_named(method.output_type(), "Response"), "name what it returns after it, …Response"),
            (without_effect || !is_read, "write `option idempotency_level = NO_SIDE_EFFECTS`: it is a read"),
            (!without_effect || !WRITES.contains(&name), "it has side effects: do not claim that it has none"),
        ];
        self.rules(&format!("{service}.{name}"), path, rules);
    }
}

fn is_version(part: &str) -> bool {
    let number = part.strip_prefix('v').unwrap_or_default();
    let number = number.split_once("alpha").or_else(|| number.split_once("beta")).map_or(number, |(number, _)| number);
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_lower_snake(name: &str) -> bool {
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.split('_').all(word)
}

fn is_upper_snake(name: &str) -> bool {
    !name.contains(|c: char| c.is_ascii_lowercase()) && is_lower_snake(&name.to_ascii_lowercase())
}

fn is_pascal(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// `PeerPhase` as `PEER_PHASE`.
fn upper_snake(name: &str) -> String {
    let mut upper = String::new();
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_ascii_uppercase() {
            upper.push('_');
        }
        upper.push(letter.to_ascii_uppercase());
    }
    upper
}
