//! `insert`, `query`, `delete`: what is on which stream, and the exit codes.

mod common;

use std::{process::Stdio, time::Duration};

use common::{
    command, dead_address, dhtctl, dhtctl_with,
    fake::{Fake, locked},
    finish,
};
use serde_json::json;
use tonic::Code;

#[tokio::test]
async fn value_is_piped_byte_for_byte_in_both_directions() {
    let fake = Fake::start().await;
    let binary: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let ran = dhtctl_with(&fake.address, &["insert", "blob", "-"], &binary).await.expect_code(0);
    assert!(ran.stdout.is_empty(), "data only goes to stdout");
    assert!(ran.stderr.starts_with("inserted: version 2023-11-14T22:13:20.000Z+3/abababab, durable on 1 replica\n"));
    let ran = dhtctl(&fake.address, &["query", "blob"]).await.expect_code(0);
    assert!(ran.stdout == binary, "no byte is added or changed");
}

#[tokio::test]
async fn binary_keys_are_named_in_base64() {
    let fake = Fake::start().await;
    dhtctl(&fake.address, &["put", "--key-b64", "/wA=", "v"]).await.expect_code(0);
    assert_eq!(fake.stored()[b"\xff\0".as_slice()], "v");
    assert_eq!(dhtctl(&fake.address, &["get", "--key-b64", "/wA="]).await.expect_code(0).stdout, b"v");
    dhtctl(&fake.address, &["get", "--key-b64", "!"]).await.expect_code(2);
}

#[tokio::test]
async fn missing_key_is_exit_code_3() {
    let fake = Fake::start().await;
    let ran = dhtctl(&fake.address, &["query", "nope"]).await.expect_code(3);
    assert_eq!(ran.stderr, "error: no such key: 'nope'\n");
    let error = dhtctl(&fake.address, &["query", "nope", "-o", "json"]).await.expect_code(3).error();
    assert_eq!((&error["kind"], &error["exit_code"]), (&json!("not_found"), &json!(3)));
}

#[tokio::test]
async fn exit_codes_follow_the_grpc_code() {
    let fake = Fake::start().await;
    for (code, reason, exit) in [
        (Code::Internal, "BUG", 1),
        (Code::InvalidArgument, "KEY_TOO_LONG", 2),
        (Code::FailedPrecondition, "WRONG_TYPE", 4),
        (Code::Unavailable, "VIEW_UNKNOWN", 5),
        (Code::ResourceExhausted, "OVERLOADED", 5),
        (Code::PermissionDenied, "DENIED", 6),
        (Code::Unauthenticated, "WHO", 6),
    ] {
        fake.refuse(1, code, reason);
        let error = dhtctl(&fake.address, &["put", "k", "v", "-ojson"]).await.expect_code(exit).error();
        assert_eq!(error["reason"], json!(reason));
        assert_eq!(error["endpoint"], json!(fake.address));
    }
}

#[tokio::test]
async fn unreachable_peer_is_named_with_cause_and_hint() {
    let address = dead_address();
    let ran = dhtctl(&address, &["query", "k"]).await.expect_code(5);
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(lines[0], format!("error: can't read 'k' at {address}: UNAVAILABLE"));
    assert!(lines[1].starts_with("cause: Connection refused"), "{lines:?}");
    assert!(lines[2].starts_with("hint: ") && lines[2].contains("--peer"), "{lines:?}");
    let error = dhtctl(&address, &["put", "k", "v", "-o", "json"]).await.expect_code(5).error();
    assert_eq!((&error["code"], &error["may_have_executed"]), (&json!("UNAVAILABLE"), &json!(false)));
}

#[tokio::test]
async fn unanswered_write_is_exit_code_5_and_says_that_it_is_in_doubt() {
    let fake = Fake::start().await;
    fake.state.open.send_replace(false);
    let ran = dhtctl(&fake.address, &["put", "k", "v", "--timeout", "200ms", "-o", "json"]).await.expect_code(5);
    let error = ran.error();
    assert_eq!((&error["code"], &error["may_have_executed"]), (&json!("DEADLINE_EXCEEDED"), &json!(true)));
}

#[tokio::test]
async fn second_endpoint_serves_when_the_first_is_dead() {
    let fake = Fake::start().await;
    let both = format!("{},{}", dead_address(), fake.address);
    dhtctl(&both, &["put", "k", "v"]).await.expect_code(0);
    assert_eq!(dhtctl(&both, &["get", "k"]).await.expect_code(0).stdout, b"v");
    let repeated = ["get", "k", "--peer", &dead_address(), "--peer", &fake.address];
    assert_eq!(dhtctl("unused:1", &repeated).await.expect_code(0).stdout, b"v");
}

#[tokio::test]
async fn wrong_usage_is_exit_code_2() {
    for arguments in [
        &["frobnicate"][..],
        &["insert", "k"],
        &["query", ""],
        &["query", "k", "--timeout", "5"],
        &["query", "k", "--peer", "no-port"],
    ] {
        let ran = dhtctl("127.0.0.1:1", arguments).await.expect_code(2);
        assert!(ran.stdout.is_empty() && ran.stderr.starts_with("error: "), "{ran:?}");
    }
    let error = dhtctl("127.0.0.1:1", &["frobnicate", "-o", "json"]).await.expect_code(2).error();
    assert_eq!(error["kind"], json!("usage"));
}

#[tokio::test]
async fn help_goes_to_stdout_and_begins_with_examples() {
    let ran = dhtctl("127.0.0.1:1", &["--help"]).await.expect_code(0);
    assert!(ran.text().starts_with("Examples:\n"), "{}", ran.text());
    let ran = dhtctl("127.0.0.1:1", &["import", "--help"]).await.expect_code(0);
    assert!(ran.text().starts_with("Examples:\n"), "{}", ran.text());
}

#[tokio::test]
async fn delete_prints_how_many_keys_there_were() {
    let fake = Fake::start().await;
    fake.put(b"a", b"1");
    fake.put(b"b", b"2");
    assert_eq!(dhtctl(&fake.address, &["delete", "a", "nope", "b"]).await.expect_code(0).stdout, b"2\n");
    assert_eq!(dhtctl(&fake.address, &["delete", "a"]).await.expect_code(0).stdout, b"0\n");
    fake.put(b"a", b"1");
    let deleted = dhtctl(&fake.address, &["delete", "a", "b", "-o", "json"]).await.expect_code(0).json();
    assert_eq!((&deleted["deleted"], &deleted["keys"][1]["existed"]), (&json!(1), &json!(false)));
}

#[tokio::test]
async fn cas_writes_what_is_as_expected_and_exits_with_4_if_not() {
    let fake = Fake::start().await;
    let cas = async |arguments: &[&str]| dhtctl(&fake.address, &[&["cas", "k"], arguments].concat()).await;
    let written = cas(&["1", "--absent", "-o", "json"]).await.expect_code(0).json();
    assert_eq!(written, json!({ "key": "k", "revision": 7, "durable": 3 }));
    cas(&["2", "--value", "1"]).await.expect_code(0);
    let error = cas(&["3", "--value", "1", "-o", "json"]).await.expect_code(4).error();
    assert_eq!((&error["reason"], &error["may_have_executed"]), (&json!("CONDITION_FAILED"), &json!(false)));
    assert_eq!(dhtctl(&fake.address, &["query", "k"]).await.expect_code(0).stdout, b"2");
    cas(&["3"]).await.expect_code(2);
    cas(&["3", "--absent", "--value", "2"]).await.expect_code(2);
}

#[tokio::test]
async fn incr_prints_the_total() {
    let fake = Fake::start().await;
    assert_eq!(dhtctl(&fake.address, &["incr", "n"]).await.expect_code(0).stdout, b"1\n");
    assert_eq!(dhtctl(&fake.address, &["incr", "n", "-5"]).await.expect_code(0).stdout, b"-4\n");
    let changed = dhtctl(&fake.address, &["incr", "n", "2", "-o", "json"]).await.expect_code(0).json();
    assert_eq!(changed, json!({ "key": "n", "total": -2, "revision": 8, "durable": 3 }));
    fake.put(b"text", b"abc");
    dhtctl(&fake.address, &["incr", "text"]).await.expect_code(4);
}

#[tokio::test]
async fn star_lists_all_keys_and_literal_star_is_a_key() {
    let fake = Fake::start().await;
    fake.put(b"*", b"star");
    fake.put(b"a\tb", b"line\nbreak");
    fake.put(b"plain", "grüße".as_bytes());
    fake.put(b"\xff", b"\x00");
    let ran = dhtctl(&fake.address, &["query", "*"]).await.expect_code(0);
    let expected = "*\tstar\na\\tb\tline\\nbreak\nplain\tgrüße\n\\xff\t\\u{0}\n";
    assert_eq!(ran.text(), expected);
    let ran = dhtctl(&fake.address, &["query", "*", "-o", "json"]).await.expect_code(0);
    let lines: Vec<serde_json::Value> =
        ran.text().lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
    assert_eq!(lines[1], json!({ "key": "a\tb", "value": "line\nbreak" }));
    assert_eq!(lines[3], json!({ "key_b64": "/w==", "value": "\0" }));
    assert_eq!(dhtctl(&fake.address, &["query", "--literal", "*"]).await.expect_code(0).stdout, b"star");
}

#[tokio::test]
async fn json_of_single_keys_is_stable() {
    let fake = Fake::start().await;
    let written = dhtctl(&fake.address, &["put", "k", "v", "--min-durable", "3", "-o", "json"]).await.json();
    let version = json!({
        "clock": ((1_700_000_000_000_u64 << 16) | 3).to_string(),
        "unix_ms": 1_700_000_000_000_u64,
        "counter": 3,
        "peer_id": "ab".repeat(16),
    });
    assert_eq!(written, json!({ "key": "k", "version": version, "durable": 3, "existed": false }));
    assert_eq!(*locked(&fake.state.last_min_durable), 3);
    let ran = dhtctl(&fake.address, &["get", "k", "-o", "jsonl"]).await;
    assert_eq!(ran.text().lines().count(), 1);
    assert_eq!(ran.json(), json!({ "key": "k", "value": "v", "version": version }));
}

#[tokio::test]
async fn closed_stdout_is_no_error() {
    let fake = Fake::start().await;
    for i in 0..5_000 {
        fake.put(format!("key{i}").as_bytes(), &[b'x'; 100]);
    }
    for arguments in [&["query", "*"][..], &["export"], &["status"], &["overlay", "-o", "json"], &["--help"]] {
        let mut command = command(&fake.address, arguments);
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        drop(reader);
        let child = command.stdout(Stdio::from(writer)).spawn().expect("the tool starts");
        let ran = tokio::time::timeout(Duration::from_secs(30), finish(child)).await.expect("it ends").expect_code(0);
        assert!(!ran.stderr.contains("panicked"), "{ran:?}");
    }
}
