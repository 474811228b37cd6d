//! `import` and `export`: what is counted, what is kept, and what happens when something fails.

mod common;

use std::{fs, path::PathBuf, process::Stdio};

use common::{command, dhtctl, dhtctl_with, fake::Fake, finish};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tonic::Code;

fn file(directory: &TempDir, content: impl AsRef<[u8]>) -> String {
    let path: PathBuf = directory.path().join("input");
    fs::write(&path, content).expect("the file is written");
    path.to_str().expect("the path is text").to_owned()
}

fn numbered(count: usize) -> String {
    (0..count).map(|i| format!("{{\"key\":\"k{i}\",\"value\":\"v{i}\"}}\n")).collect()
}

fn counts(inserted: u64, replaced: u64, skipped: u64, failed: u64) -> [(&'static str, u64); 4] {
    [("inserted", inserted), ("replaced", replaced), ("skipped", skipped), ("failed", failed)]
}

fn assert_counts(report: &serde_json::Value, expected: [(&str, u64); 4]) {
    for (name, count) in expected {
        assert_eq!(report[name], json!(count), "{name} in {report}");
    }
}

#[tokio::test]
async fn export_and_import_reproduce_every_byte() {
    let (from, to) = (Fake::start().await, Fake::start().await);
    let every_byte: Vec<u8> = (0..=255).collect();
    from.put(b"text", "ümläut \"quoted\" \\ \u{0} \u{2028}\r\n".as_bytes());
    from.put(&every_byte, &every_byte);
    from.put(b"\xed\xa0\x80", b"");
    from.put(&[0], &vec![7; 1 << 20]);
    for i in 0..100_u32 {
        from.put(&i.to_be_bytes(), &i.to_le_bytes());
    }
    let dump = dhtctl(&from.address, &["export"]).await.expect_code(0);
    assert!(dump.stderr.starts_with("exported 104 keys, "), "{}", dump.stderr);
    let ran = dhtctl_with(&to.address, &["import", "-", "-ojson"], &dump.stdout).await.expect_code(0);
    assert_counts(&ran.json(), counts(104, 0, 0, 0));
    assert!(from.stored() == to.stored(), "the copy is identical");

    let directory = TempDir::new().expect("a directory");
    let path = file(&directory, "");
    let report = dhtctl(&to.address, &["export", &path, "-o", "json"]).await.expect_code(0).json();
    assert_eq!(report["exported"], json!(104));
    assert!(fs::read(&path).expect("it was written") == dump.stdout, "a file gets what stdout gets");
}

#[tokio::test]
async fn documents_are_kept_as_their_exact_lines() {
    let (from, to) = (Fake::start().await, Fake::start().await);
    let lines = [
        r#"{"_id":{"$oid":"573a1390f29313caabcd4135"},"title":"Blacksmith Scene", "n" : 1.0 }"#,
        r#"{"_id":"m2","title":"The Great Train Robbery"}"#,
        r#"{ "nested":{"_id":"no"},"_id":42 }"#,
    ];
    let documents = lines.join("\n");
    let arguments = ["import", "-", "--key-field", "_id"];
    dhtctl_with(&from.address, &arguments, documents.as_bytes()).await.expect_code(0);
    for (key, line) in ["573a1390f29313caabcd4135", "m2", "42"].iter().zip(lines) {
        assert_eq!(from.stored()[key.as_bytes()], line);
    }
    let values = dhtctl(&from.address, &["export", "--values-only"]).await.expect_code(0);
    dhtctl_with(&to.address, &arguments, &values.stdout).await.expect_code(0);
    assert!(from.stored() == to.stored());
}

#[tokio::test]
async fn duplicates_are_replaced_skipped_or_failed_and_counted() {
    let input = numbered(10);
    for (mode, code, expected) in
        [("replace", 0, counts(7, 3, 0, 0)), ("skip", 0, counts(7, 0, 3, 0)), ("fail", 4, counts(7, 0, 0, 3))]
    {
        let fake = Fake::start().await;
        for i in 0..3 {
            fake.put(format!("k{i}").as_bytes(), b"old");
        }
        let arguments = ["import", "-", "--on-duplicate", mode, "--on-error", "skip", "-ojson"];
        let ran = dhtctl_with(&fake.address, &arguments, input.as_bytes()).await.expect_code(code);
        assert_counts(&ran.json(), expected);
        let kept = if mode == "replace" { "v1" } else { "old" };
        assert_eq!(fake.stored()[b"k1".as_slice()], kept, "{mode}");
        assert_eq!(fake.stored().len(), 10);
    }
}

#[tokio::test]
async fn last_line_of_a_key_wins_although_many_are_in_flight() {
    let fake = Fake::start().await;
    let input: String = (0..500).map(|i| format!("{{\"key\":\"k{}\",\"value\":\"{i}\"}}\n", i % 3)).collect();
    let ran = dhtctl_with(&fake.address, &["import", "-", "-ojson"], input.as_bytes()).await.expect_code(0);
    assert_counts(&ran.json(), counts(3, 497, 0, 0));
    let last: Vec<_> = fake.stored().into_values().collect();
    assert_eq!(last, ["498", "499", "497"]);
}

#[tokio::test]
async fn malformed_line_is_named_and_stops_the_import() {
    let fake = Fake::start().await;
    let directory = TempDir::new().expect("a directory");
    let mut input = numbered(5);
    input.push_str("\n{\"key\":\"broken\"\n");
    input.push_str(&numbered(3));
    let path = file(&directory, &input);
    let ran = dhtctl(&fake.address, &["import", &path]).await.expect_code(1);
    assert!(ran.stderr.contains("5 inserted, 0 replaced, 0 skipped, 1 failed"), "{}", ran.stderr);
    assert!(ran.stderr.contains("everything up to line 6 is done"), "{}", ran.stderr);
    assert!(ran.stderr.contains("error: line 7: no JSON object: EOF"), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("tail -n +7 {path} | dhtctl import -")), "{}", ran.stderr);
    let ran = dhtctl(&fake.address, &["import", &path, "-o", "json"]).await.expect_code(1);
    assert_eq!(ran.json()["done_up_to_line"], json!(6));
    assert_eq!(ran.json()["complete"], json!(false));
    assert_eq!(ran.error()["kind"], json!("failure"));
}

#[tokio::test]
async fn malformed_lines_can_be_left_out() {
    let fake = Fake::start().await;
    let input = format!("nonsense\n{}[1]\n{{\"key\":\"last\",\"value_b64\":\"AA==\"}}", numbered(5));
    let ran = dhtctl_with(&fake.address, &["import", "-", "--on-error", "skip"], input.as_bytes()).await;
    let ran = ran.expect_code(1);
    assert!(ran.stderr.contains("warning: line 1: ") && ran.stderr.contains("warning: line 7: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("6 inserted, 0 replaced, 0 skipped, 2 failed"), "{}", ran.stderr);
    assert!(ran.stderr.contains("error: 2 failed lines, the first of them line 1: "), "{}", ran.stderr);
    assert_eq!(fake.stored().len(), 6);
}

#[tokio::test]
async fn overload_and_unavailability_are_tried_again() {
    let fake = Fake::start().await;
    fake.refuse(20, Code::ResourceExhausted, "OVERLOADED");
    fake.refuse(20, Code::Unavailable, "VIEW_UNKNOWN");
    let ran = dhtctl_with(&fake.address, &["import", "-", "-ojson"], numbered(100).as_bytes()).await.expect_code(0);
    assert_counts(&ran.json(), counts(100, 0, 0, 0));
}

#[tokio::test]
async fn import_goes_on_at_another_peer_when_one_dies() {
    let (dying, other) = (Fake::start().await, Fake::start().await);
    dying.state.open.send_replace(false);
    let directory = TempDir::new().expect("a directory");
    let path = file(&directory, numbered(200));
    let both = format!("{},{}", dying.address, other.address);
    let arguments = ["import", &path, "--concurrency", "16", "-ojson"];
    let child = command(&both, &arguments).spawn().expect("the tool starts");
    dying.wait_for_puts(16).await;
    drop(dying);
    let ran = finish(child).await.expect_code(0);
    assert_counts(&ran.json(), counts(200, 0, 0, 0));
    assert_eq!(other.stored().len(), 200);
}

#[tokio::test]
async fn refusal_for_good_is_not_tried_again_and_its_code_decides_the_exit() {
    let fake = Fake::start().await;
    fake.refuse(1, Code::FailedPrecondition, "TOO_FEW_PEERS");
    let arguments = ["import", "-", "-ojson", "--concurrency", "1"];
    let ran = dhtctl_with(&fake.address, &arguments, numbered(100).as_bytes()).await.expect_code(4);
    assert_eq!(ran.error()["reason"], json!("TOO_FEW_PEERS"));
    assert_counts(&ran.json(), counts(0, 0, 0, 1));
    assert_eq!(ran.json()["done_up_to_line"], json!(0));
}

#[tokio::test]
async fn writes_wait_for_two_replicas_by_default() {
    let fake = Fake::start().await;
    dhtctl_with(&fake.address, &["import", "-"], numbered(1).as_bytes()).await.expect_code(0);
    assert_eq!(*common::fake::locked(&fake.state.last_min_durable), 2);
}

#[tokio::test]
async fn interrupted_import_finishes_what_it_sent_and_counts_it() {
    let fake = Fake::start().await;
    fake.state.open.send_replace(false);
    let directory = TempDir::new().expect("a directory");
    let path = file(&directory, numbered(1000));
    let arguments = ["import", &path, "--concurrency", "16"];
    let mut child = command(&fake.address, &arguments).stdin(Stdio::null()).spawn().expect("the tool starts");
    fake.wait_for_puts(16).await;
    let pid = child.id().expect("it runs").to_string();
    let killed = tokio::process::Command::new("kill").args(["-INT", &pid]).status().await;
    assert!(killed.expect("kill runs").success());
    let mut stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let mut text = String::new();
    stderr.read_line(&mut text).await.expect("it is read");
    assert!(text.starts_with("interrupted; waiting for 16 writes in flight"), "{text}");
    fake.state.open.send_replace(true);
    stderr.read_to_string(&mut text).await.expect("it is read");
    let ran = finish(child).await.expect_code(130);
    assert!(ran.stdout.is_empty());
    assert!(text.contains("16 inserted, 0 replaced, 0 skipped, 0 failed"), "{text}");
    assert!(text.contains("everything up to line 16 is done"), "{text}");
    assert_eq!(fake.stored().len(), 16);
}

#[tokio::test]
async fn missing_file_is_a_failure_and_nothing_is_written() {
    let fake = Fake::start().await;
    let ran = dhtctl(&fake.address, &["import", "/nonexistent/file"]).await.expect_code(1);
    assert!(ran.stderr.starts_with("error: can't read /nonexistent/file\ncause: "), "{}", ran.stderr);
}
