//! `scan`, `mget` and `mput`, batches and pipelines of the library, against a fake peer.

mod common;

use common::{
    dhtctl, dhtctl_with,
    fake::{Fake, locked},
};
use dhtctl::{Client, Options, Write, proto::Mode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::Code;

async fn numbered(count: usize) -> Fake {
    let fake = Fake::start().await;
    (0..count).for_each(|number| fake.put(format!("k{number:02}").as_bytes(), format!("v{number}").as_bytes()));
    fake
}

fn lines(stdout: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(stdout).expect("it is text");
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

#[tokio::test]
async fn scan_lists_all_pages_up_to_its_limit() {
    let fake = numbered(12).await;
    fake.put(b"other", b"\n");
    let all = dhtctl(&fake.address, &["scan"]).await.expect_code(0);
    assert_eq!(all.text().lines().count(), 13);
    assert!(all.text().starts_with("k00\tv0\n") && all.text().ends_with("other\t\\n\n"), "{}", all.text());
    let some = dhtctl(&fake.address, &["scan", "--prefix", "k1", "--keys-only"]).await.expect_code(0);
    assert_eq!(some.text(), "k10\nk11\n");
    let prefix = ["scan", "--prefix", "azE=", "--prefix-b64", "--keys-only"];
    assert_eq!(dhtctl(&fake.address, &prefix).await.expect_code(0).text(), "k10\nk11\n");
    let seven = dhtctl(&fake.address, &["scan", "--limit", "7", "-o", "jsonl"]).await.expect_code(0);
    let seven = lines(&seven.stdout);
    assert_eq!(seven.len(), 7);
    assert_eq!((&seven[6]["key"], &seven[6]["value"]), (&json!("k06"), &json!("v6")));
    assert!(seven[6]["version"]["clock"].is_string());
    let keys = dhtctl(&fake.address, &["scan", "--limit", "1", "--keys-only", "-ojson"]).await.expect_code(0);
    assert_eq!((&lines(&keys.stdout)[0]["key"], &lines(&keys.stdout)[0]["value"]), (&json!("k00"), &Value::Null));
    assert_eq!(dhtctl(&fake.address, &["scan", "--prefix", "none"]).await.expect_code(0).text(), "");
}

#[tokio::test]
async fn mget_prints_what_there_is_and_names_what_is_missing() {
    let fake = numbered(2).await;
    let both = dhtctl(&fake.address, &["mget", "k01", "k00"]).await.expect_code(0);
    assert_eq!(both.text(), "k01\tv1\nk00\tv0\n");
    let some = dhtctl(&fake.address, &["mget", "k01", "nope", "k00"]).await.expect_code(3);
    assert_eq!(some.text(), "k01\tv1\nk00\tv0\n");
    assert_eq!(some.stderr, "no such key: 'nope'\nerror: no such key: 'nope'\n");
    let json = dhtctl(&fake.address, &["mget", "k01", "nope", "-ojson"]).await.expect_code(3);
    let rows = json.json();
    assert_eq!((&rows[0]["value"], &rows[1]), (&json!("v1"), &json!({ "key": "nope", "missing": true })));
    *locked(&fake.state.read_refusal) = Some(common::fake::refusal(Code::Unavailable, "VIEW_UNKNOWN"));
    let refused = dhtctl(&fake.address, &["mget", "k01", "-ojson"]).await.expect_code(5);
    assert_eq!(refused.error()["reason"], json!("VIEW_UNKNOWN"));
}

#[tokio::test]
async fn mput_writes_pairs_and_lines_and_says_which_failed() {
    let fake = Fake::start().await;
    fake.put(b"a", b"old");
    let ran = dhtctl(&fake.address, &["mput", "a", "1", "b", "2", "--min-durable", "2"]).await.expect_code(0);
    assert_eq!(ran.stderr, "1 inserted, 1 replaced, 0 failed\n");
    assert_eq!(*locked(&fake.state.last_min_durable), 2);
    let input = b"{\"key\":\"c\",\"value\":\"3\"}\n\n{\"key_b64\":\"/w==\",\"value\":\"4\"}";
    dhtctl_with(&fake.address, &["mput", "-"], input).await.expect_code(0);
    assert_eq!(fake.stored().len(), 4);
    assert_eq!(fake.stored()[b"\xff".as_slice()], "4");

    fake.refuse(1, Code::FailedPrecondition, "TOO_FEW_PEERS");
    let ran = dhtctl(&fake.address, &["mput", "d", "1", "e", "2", "-ojson"]).await.expect_code(4);
    let rows = ran.json();
    assert_eq!(rows[0]["error"]["reason"], json!("TOO_FEW_PEERS"));
    assert_eq!((&rows[1]["key"], &rows[1]["durable"]), (&json!("e"), &json!(1)));
    assert_eq!(ran.error()["exit_code"], json!(4));
    for wrong in [&["mput", "a"][..], &["mput", "a", "1", "a", "2"], &["mput", "", "1"]] {
        dhtctl(&fake.address, wrong).await.expect_code(2);
    }
    let malformed = dhtctl_with(&fake.address, &["mput", "-"], b"{}\n").await.expect_code(2);
    assert!(malformed.stderr.starts_with("error: line 1: it has neither 'key'"), "{}", malformed.stderr);
}

#[tokio::test]
async fn import_leaves_keys_alone_by_conditional_writes_where_the_keyspace_knows_them() {
    for (mode, code, skipped, failed) in [("skip", 0, 3, 0), ("fail", 4, 0, 3)] {
        let fake = numbered(3).await;
        locked(&fake.state.keyspaces)[0].mode = Mode::Chain.into();
        // What is read would not be there: nothing is read.
        *locked(&fake.state.read_refusal) = Some(common::fake::refusal(Code::Internal, "READ"));
        let input: String = (0..10).map(|number| format!("{{\"key\":\"k{number:02}\",\"value\":\"new\"}}\n")).collect();
        let arguments = ["import", "-", "--on-duplicate", mode, "--on-error", "skip", "-ojson"];
        let ran = dhtctl_with(&fake.address, &arguments, input.as_bytes()).await.expect_code(code);
        let counts = ["inserted", "replaced", "skipped", "failed"].map(|name| ran.json()[name].as_u64());
        assert_eq!(counts, [7, 0, skipped, failed].map(Some), "{mode}");
        assert_eq!((fake.stored().len(), &fake.stored()[b"k01".as_slice()]), (10, &"v1".into()));
    }
}

#[tokio::test]
async fn operations_of_a_pipeline_are_answered_each_by_itself_and_it_survives_a_peer() {
    let (dying, other) = (Fake::start().await, Fake::start().await);
    let client = Client::lazy([&dying.address, &other.address], Options::default()).expect("addresses");
    let pipeline = client.pipeline();
    pipeline.write(Write::put("held", "1")).await.expect("it is served");
    dying.refuse(1, Code::FailedPrecondition, "WRONG_TYPE");
    let refused = pipeline.write(Write::put("k", "v")).await.expect_err("it is refused");
    assert_eq!((refused.reason(), refused.endpoint()), (Some("WRONG_TYPE"), Some(dying.address.as_str())));
    assert_eq!(pipeline.get("held").await.expect("it is served").expect("it is there").value, "1");
    assert_eq!(pipeline.get("k").await.expect("it is served"), None);

    dying.state.open.send_replace(false);
    let mut writes = JoinSet::new();
    for number in 0..100 {
        let pipeline = pipeline.clone();
        writes.spawn(async move { pipeline.write(Write::put(format!("{number}"), "v")).await });
    }
    dying.wait_for_puts(102).await;
    drop(dying);
    for broken in writes.join_all().await {
        let error = broken.expect_err("it was not answered");
        assert!(error.is_transient() && error.may_have_executed(), "{error}");
    }
    pipeline.write(Write::put("k", "v")).await.expect("the other peer serves");
    assert_eq!(other.stored().len(), 1);
}
