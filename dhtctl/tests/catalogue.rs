//! `keyspace` and `replicas`, and `--keyspace`.

mod common;

use common::{
    dhtctl,
    fake::{Fake, locked},
};
use serde_json::json;

#[tokio::test]
async fn keyspaces_are_created_listed_and_dropped() {
    let fake = Fake::start().await;
    let ran = dhtctl(&fake.address, &["keyspace", "create", "users", "--mode", "chain"]).await.expect_code(0);
    assert_eq!((ran.stdout.len(), ran.stderr.as_str()), (0, "created: keyspace users, chain mode\n"));
    let ran = dhtctl(&fake.address, &["keyspace", "create", "tmp", "--mode", "eventual", "-o", "json"]).await;
    assert_eq!(ran.expect_code(0).json(), json!({"created": {"name": "tmp", "mode": "eventual", "id": 3}}));
    let ran = dhtctl(&fake.address, &["keyspace", "list"]).await.expect_code(0);
    let lines: Vec<Vec<&str>> = ran.text().lines().map(|line| line.split_whitespace().collect()).collect();
    let rows = [["KEYSPACE", "MODE", "NUMBER"], ["default", "eventual", "1"], ["tmp", "eventual", "3"]];
    assert_eq!(lines[..3], rows);
    assert_eq!(lines[3..], [["users", "chain", "2"]], "also what is on the second page");
    let listed = dhtctl(&fake.address, &["keyspace", "list", "-o", "json"]).await.expect_code(0).json();
    assert_eq!(listed["keyspaces"][2], json!({"name": "users", "mode": "chain", "id": 2}));
    let ran = dhtctl(&fake.address, &["keyspace", "drop", "tmp", "--yes"]).await.expect_code(0);
    assert!(ran.stderr.starts_with("dropped: keyspace tmp;"), "{}", ran.stderr);
    let ran = dhtctl(&fake.address, &["keyspace", "drop", "users", "--yes", "-o", "json"]).await.expect_code(0);
    assert_eq!(ran.json()["dropped"]["name"], "users");
}

#[tokio::test]
async fn what_cannot_be_done_has_its_exit_code() {
    let fake = Fake::start().await;
    let ran = dhtctl(&fake.address, &["keyspace", "create", "default", "--mode", "chain"]).await.expect_code(4);
    assert!(ran.stderr.contains("can't create keyspace 'default'") && ran.stderr.contains("KEYSPACE_EXISTS"));
    dhtctl(&fake.address, &["keyspace", "create", "users"]).await.expect_code(2);
    let ran = dhtctl(&fake.address, &["keyspace", "drop", "users", "--yes"]).await.expect_code(3);
    assert!(ran.stderr.contains("KEYSPACE_NOT_FOUND"), "{}", ran.stderr);
    let ran = dhtctl(&fake.address, &["keyspace", "drop", "default"]).await.expect_code(2);
    assert!(ran.stderr.contains("hint: say --yes"), "nobody is there to ask: {}", ran.stderr);
    dhtctl(&fake.address, &["replicas", "set", "0"]).await.expect_code(2);
    dhtctl(&fake.address, &["replicas", "set", "17"]).await.expect_code(2);
}

#[tokio::test]
async fn commands_about_keys_say_in_which_keyspace() {
    let fake = Fake::start().await;
    for (arguments, keyspace) in [
        (&["insert", "k", "v"][..], "default"),
        (&["insert", "--keyspace", "users", "k", "v"], "users"),
        (&["put", "k", "v", "--keyspace=users-2"], "users-2"),
    ] {
        dhtctl(&fake.address, arguments).await.expect_code(0);
        assert_eq!(*locked(&fake.state.last_keyspace), keyspace);
    }
}

#[tokio::test]
async fn replicas_set_waits_until_every_slot_has_its_copies() {
    let fakes = Fake::ring(1).await;
    let fake = &fakes[0];
    *locked(&fake.state.slots_syncing) = 0;
    let ran = dhtctl(&fake.address, &["replicas", "set", "5"]).await.expect_code(0);
    assert_eq!(*locked(&fake.state.slots_changing), 0, "it has looked until none was left");
    let warning = "warning: the ring has 1 peer: 1 replica of each key until more join\n";
    assert_eq!(ran.stderr, format!("{warning}done: k = 5, it was 3\n"));
    let ran = dhtctl(&fake.address, &["replicas", "set", "3", "--no-wait", "-o", "json"]).await.expect_code(0);
    assert_eq!(ran.json(), json!({"replicas": 3, "previous": 5, "copies": 1, "complete": false}));
    assert_eq!(*locked(&fake.state.slots_changing), 3, "it has not looked");
}
