//! The protobuf API keeps to the rules that its users' tools expect, and a change that breaks clients is recognised.

#[path = "api/breaking.rs"]
mod breaking;
#[path = "api/lint.rs"]
mod lint;

use dhtd_proto::DESCRIPTOR_SET;
use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, MethodDescriptorProto, OneofDescriptorProto, ServiceDescriptorProto,
    descriptor_proto::ReservedRange,
    field_descriptor_proto::{Label, Type},
};

/// The package, and the services that clients are built against. Peers speak `PeerService` among themselves and
/// refuse other versions.
const PACKAGE: &str = "dhtd";
const FOR_CLIENTS: [&str; 2] = ["KvService", "RingService"];

fn api() -> FileDescriptorSet {
    FileDescriptorSet::decode(DESCRIPTOR_SET).expect("a FileDescriptorSet")
}

#[test]
fn the_api_keeps_to_the_rules() {
    let problems = lint::problems(&api(), PACKAGE);
    assert!(problems.is_empty(), "\n\n{}\n", problems.join("\n"));
}

#[test]
fn the_api_does_not_break_itself() {
    let problems = breaking::broken(&api(), &api(), &FOR_CLIENTS);
    assert!(problems.is_empty(), "\n\n{}\n", problems.join("\n"));
    let names: Vec<String> = api().file.iter().flat_map(|file| &file.service).map(|s| s.name().into()).collect();
    assert!(FOR_CLIENTS.iter().all(|name| names.iter().any(|other| other == name)), "{names:?}");
}

type Change = fn(&mut FileDescriptorSet);

/// The file of that name.
fn file<'a>(set: &'a mut FileDescriptorSet, name: &str) -> &'a mut FileDescriptorProto {
    let name = format!("dhtd/v1/{name}.proto");
    set.file.iter_mut().find(|file| file.name() == name).expect("the file")
}

fn method<'a>(set: &'a mut FileDescriptorSet, name: &str) -> &'a mut MethodDescriptorProto {
    let mut methods = set.file.iter_mut().flat_map(|file| &mut file.service).flat_map(|service| &mut service.method);
    methods.find(|method| method.name() == name).expect("the RPC")
}

fn message<'a>(set: &'a mut FileDescriptorSet, name: &str) -> &'a mut DescriptorProto {
    let mut messages = set.file.iter_mut().flat_map(|file| &mut file.message_type);
    messages.find(|message| message.name() == name).expect("the message")
}

fn mode(set: &mut FileDescriptorSet) -> &mut EnumDescriptorProto {
    file(set, "types").enum_type.iter_mut().find(|inner| inner.name() == "Mode").expect("the enum")
}

fn file_options(set: &mut FileDescriptorSet) -> &mut prost_types::FileOptions {
    file(set, "kv").options.as_mut().expect("options")
}

/// Takes the comment at a place of kv.proto away: 4 is a message, 6 a service, 2 below them a field or an RPC.
fn forget_comment(set: &mut FileDescriptorSet, path: &[i32]) {
    let info = file(set, "kv").source_code_info.as_mut().expect("protox keeps comments");
    info.location.retain(|location| location.path != path);
}

const AGAINST_THE_RULES: [(&str, Change); 33] = [
    ("write `syntax", |set| file(set, "kv").syntax = None),
    ("folder that its package names", |set| file(set, "kv").package = Some("dhtd.v2".into())),
    ("end the package with a version", |set| file(set, "kv").package = Some("dhtd.kv".into())),
    ("the package in lower_snake_case", |set| file(set, "kv").package = Some("dhtd.V1".into())),
    ("name the file in lower_snake_case", |set| file(set, "kv").name = Some("dhtd/v1/Kv.proto".into())),
    ("import nothing publicly", |set| file(set, "kv").public_dependency = vec![0]),
    ("import nothing weakly", |set| file(set, "kv").weak_dependency = vec![0]),
    ("uses nothing of dhtd/v1/ring.proto", |set| file(set, "kv").dependency.push("dhtd/v1/ring.proto".into())),
    ("write `option go_package`", |set| file_options(set).go_package = None),
    ("write `option java_package`", |set| file_options(set).java_package = None),
    ("write `option java_multiple_files`", |set| file_options(set).java_multiple_files = None),
    ("write `option csharp_namespace`", |set| file_options(set).csharp_namespace = None),
    ("make them agree", |set| file_options(set).go_package = Some("other".into())),
    ("serves two RPCs", |set| method(set, "Delete").input_type = Some(".dhtd.v1.PutRequest".into())),
    ("takes after it", |set| method(set, "Put").input_type = Some(".dhtd.v1.KeyValue".into())),
    ("returns after it", |set| method(set, "Put").output_type = Some(".dhtd.v1.KeyValue".into())),
    ("KvService.put: name it in PascalCase", |set| method(set, "Put").name = Some("put".into())),
    ("it is a read", |set| method(set, "Get").options = None),
    ("it has side effects", |set| method(set, "Put").options = method(set, "Get").options.clone()),
    ("…Service", |set| file(set, "kv").service[0].name = Some("Kv".into())),
    ("dhtd.v1.key_value: name it in PascalCase", |set| message(set, "KeyValue").name = Some("key_value".into())),
    ("KeyValue.theKey: name it in lower", |set| message(set, "KeyValue").field[0].name = Some("theKey".into())),
    ("KeyValue.key: make it optional", |set| message(set, "KeyValue").field[0].set_label(Label::Required)),
    ("a number of its own", |set| message(set, "KeyValue").field[0].number = Some(2)),
    ("number it from 1 to 99", |set| message(set, "KeyValue").field[0].number = Some(100)),
    ("LookupRequest.Target: name it", |set| message(set, "LookupRequest").oneof_decl[0].name = Some("Target".into())),
    ("begin with …_UNSPECIFIED = 0", |set| mode(set).value[0].name = Some("MODE_NONE".into())),
    ("begin with …_UNSPECIFIED = 0", |set| mode(set).value.swap(0, 1)),
    ("CHAIN: begin its name with", |set| mode(set).value[1].name = Some("CHAIN".into())),
    ("name it in UPPER_SNAKE_CASE", |set| mode(set).value[1].name = Some("MODE_Chain".into())),
    ("dhtd.v1.PutRequest: write a comment", |set| forget_comment(set, &[4, 0])),
    ("dhtd.v1.PutRequest.key: write a comment", |set| forget_comment(set, &[4, 0, 2, 0])),
    ("KvService.Put: write a comment", |set| forget_comment(set, &[6, 0, 2, 0])),
];

#[test]
fn every_rule_finds_what_breaks_it() {
    for (expected, change) in AGAINST_THE_RULES {
        let mut set = api();
        change(&mut set);
        let problems = lint::problems(&set, PACKAGE);
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:?}");
    }
}

fn field(name: &str, number: i32, r#type: Type) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(r#type.into()),
        ..Default::default()
    }
}

/// A service `S` with `rpc R(A) returns (B)`; A holds an enum E, and by way of C a message D.
fn small_api() -> FileDescriptorSet {
    let of = |name, number, r#type, type_name: &str| FieldDescriptorProto {
        type_name: Some(type_name.into()),
        ..field(name, number, r#type)
    };
    let message = |name: &str, field| DescriptorProto { name: Some(name.into()), field, ..Default::default() };
    let value = |name: &str, number| EnumValueDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        ..Default::default()
    };
    let mut a = message(
        "A",
        vec![
            field("x", 1, Type::Uint32),
            field("y", 2, Type::Bytes),
            of("e", 3, Type::Enum, ".p.E"),
            of("c", 4, Type::Message, ".p.C"),
        ],
    );
    a.oneof_decl = vec![OneofDescriptorProto { name: Some("either".into()), ..Default::default() }];
    a.reserved_range = vec![ReservedRange { start: Some(7), end: Some(8) }];
    a.reserved_name = vec!["old".into()];
    let (b, d) = (message("B", vec![]), message("D", vec![field("z", 1, Type::Bool)]));
    let c = message("C", vec![of("d", 1, Type::Message, ".p.D")]);
    let method = MethodDescriptorProto {
        name: Some("R".into()),
        input_type: Some(".p.A".into()),
        output_type: Some(".p.B".into()),
        options: method(&mut api(), "Get").options.clone(),
        ..Default::default()
    };
    let file = FileDescriptorProto {
        package: Some("p".into()),
        message_type: vec![a, b, c, d, message("Unused", vec![field("u", 1, Type::Bool)])],
        enum_type: vec![EnumDescriptorProto {
            name: Some("E".into()),
            value: vec![value("E_A", 0), value("E_B", 1)],
            ..Default::default()
        }],
        service: vec![ServiceDescriptorProto { name: Some("S".into()), method: vec![method], ..Default::default() }],
        ..Default::default()
    };
    FileDescriptorSet { file: vec![file] }
}

const BREAKING: [(&str, Change); 22] = [
    (".p.S: the service is gone", |set| set.file[0].service.clear()),
    (".p.S: the service is gone", |set| set.file[0].package = Some("q".into())),
    (".p.S.R: the RPC is gone", |set| set.file[0].service[0].method.clear()),
    (".p.S.R: takes another message", |set| method(set, "R").input_type = Some(".p.C".into())),
    (".p.S.R: returns another message", |set| method(set, "R").output_type = Some(".p.C".into())),
    (".p.S.R: streams requests", |set| method(set, "R").client_streaming = Some(true)),
    (".p.S.R: streams responses", |set| method(set, "R").server_streaming = Some(true)),
    (".p.S.R: is no read any more", |set| method(set, "R").options = None),
    (".p.A.x: the field is gone", |set| drop(message(set, "A").field.remove(0))),
    (".p.A.x: its number was 1 and is 9", |set| message(set, "A").field[0].number = Some(9)),
    (".p.A.x: is now called z", |set| message(set, "A").field[0].name = Some("z".into())),
    (".p.A.x: has another type", |set| message(set, "A").field[0].set_type(Type::Uint64)),
    (".p.A.c: has another type", |set| message(set, "A").field[3].type_name = Some(".p.D".into())),
    (".p.A.x: is repeated", |set| message(set, "A").field[0].set_label(Label::Repeated)),
    (".p.A.x: tells unset from zero", |set| message(set, "A").field[0].proto3_optional = Some(true)),
    (".p.A.x: is in another oneof", |set| message(set, "A").field[0].oneof_index = Some(0)),
    (".p.A.x: has another name in JSON", |set| message(set, "A").field[0].json_name = Some("z".into())),
    (".p.A.n: had been reserved", |set| message(set, "A").field.push(field("n", 7, Type::Bool))),
    (".p.A.old: had been reserved", |set| message(set, "A").field.push(field("old", 9, Type::Bool))),
    (".p.D.z: the field is gone", |set| message(set, "D").field.clear()),
    (".p.E.E_B: the value is gone", |set| drop(set.file[0].enum_type[0].value.pop())),
    (".p.E.E_B: its number was 1 and is 5", |set| set.file[0].enum_type[0].value[1].number = Some(5)),
];

const HARMLESS: [Change; 8] = [
    |_| {},
    |set| message(set, "A").field.push(field("n", 5, Type::Bool)),
    |set| message(set, "Unused").field.clear(),
    |set| set.file[0].message_type.push(DescriptorProto { name: Some("N".into()), ..Default::default() }),
    |set| {
        set.file[0].enum_type[0].value.push(EnumValueDescriptorProto {
            name: Some("E_C".into()),
            number: Some(2),
            ..Default::default()
        })
    },
    |set| set.file[0].service[0].method.push(MethodDescriptorProto { name: Some("N".into()), ..Default::default() }),
    |set| set.file[0].service.push(ServiceDescriptorProto { name: Some("N".into()), ..Default::default() }),
    |set| message(set, "A").field.swap(0, 1),
];

#[test]
fn what_breaks_clients_is_found() {
    for (expected, change) in BREAKING {
        let mut new = small_api();
        change(&mut new);
        let problems = breaking::broken(&small_api(), &new, &["S"]);
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:?}");
        assert_eq!(breaking::broken(&small_api(), &new, &["T"]), [""; 0], "a service that nobody asked about");
    }
}

#[test]
fn additions_break_nothing() {
    for (index, change) in HARMLESS.iter().enumerate() {
        let mut new = small_api();
        change(&mut new);
        assert_eq!(breaking::broken(&small_api(), &new, &["S"]), [""; 0], "change {index}");
    }
}
