//! Commands about the ring.

mod common;

use std::process::Stdio;

use common::{
    command, dead_address, dhtctl,
    fake::{Fake, known, locked, peer, refusal},
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command};
use tonic::Code;

#[tokio::test]
async fn overlay_lists_peers_in_ring_order_with_shares() {
    let ring = Fake::ring(3).await;
    let ran = dhtctl(&ring[1].address, &["overlay"]).await.expect_code(0);
    let lines: Vec<&str> = ran.text().lines().collect();
    let header: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(header, ["PLACE", "FIRST", "PEER", "ADDRESS", "NODES", "SHARE", "PHASE"]);
    let cells: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(cells, ["0.00%", "00000000", "00000000", &ring[0].address, "2", "75.00%", "member"]);
    assert!(lines[2].contains("01010101") && lines[3].contains("02020202"));
    assert_eq!(lines[4], "3 peers, 6 nodes, eventual mode, k = 3, 1024 slots; the ring is ideal");
}

#[tokio::test]
async fn overlay_shows_nodes_with_neighbours_and_fingers() {
    let ring = Fake::ring(2).await;
    let ran = dhtctl(&ring[0].address, &["overlay", "--successors", "--fingers"]).await.expect_code(0);
    assert_eq!(ran.text().lines().count(), 6, "{}", ran.text());
    assert!(ran.text().contains("10000000 20000000  2^156:10000000 2^157:20000000"), "{}", ran.text());
    assert_eq!(dhtctl(&ring[0].address, &["overlay", "--nodes"]).await.text().lines().count(), 6);
}

#[tokio::test]
async fn overlay_names_peers_that_do_not_answer() {
    let ring = Fake::ring(3).await;
    *locked(&ring[2].state.read_refusal) = Some(refusal(Code::Unavailable, "STARTING"));
    let ghost = peer(9, &dead_address());
    locked(&ring[0].state.overlay).peers.push(known(&ghost));
    let ran = dhtctl(&ring[0].address, &["overlay"]).await.expect_code(0);
    let refused = format!("unreachable: 02020202 {}: refused by the test (UNAVAILABLE, STARTING)", ring[2].address);
    assert!(ran.text().contains(&refused), "{}", ran.text());
    assert!(ran.text().contains(&format!("unreachable: 09090909 {}: ", ghost.address)), "{}", ran.text());
    assert!(ran.text().contains("can't tell whether the ring is ideal: 2 peers did not answer"), "{}", ran.text());
    let document = dhtctl(&ring[0].address, &["overlay", "-o", "json"]).await.expect_code(0).json();
    assert_eq!(document["summary"]["shape"], json!("unknown"));
    assert_eq!(document["unreachable"][0]["address"].as_str().map(str::is_empty), Some(false));
}

#[tokio::test]
async fn overlay_json_has_peers_nodes_and_summary() {
    let ring = Fake::ring(3).await;
    let document = dhtctl(&ring[0].address, &["overlay", "-o", "json"]).await.expect_code(0).json();
    assert_eq!(document["ring"]["slots"], json!(1024));
    assert_eq!(document["summary"]["shape"], json!("ideal"));
    assert_eq!(document["peers"].as_array().map(Vec::len), Some(3));
    assert_eq!(document["nodes"][1]["successors"][0]["id"], document["nodes"][2]["id"]);
    let ran = dhtctl(&ring[0].address, &["overlay", "--nodes", "-o", "jsonl"]).await.expect_code(0);
    let rows: Vec<Value> = ran.text().lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
    assert_eq!((rows.len(), &rows[5]["share"]), (6, &json!(0.0625)));
}

#[tokio::test]
async fn disagreeing_neighbour_is_shown() {
    let ring = Fake::ring(3).await;
    locked(&ring[1].state.overlay).nodes[0].successors.remove(0);
    let ran = dhtctl(&ring[0].address, &["overlay"]).await.expect_code(0);
    assert!(ran.text().contains("the ring is not ideal: 1 neighbour wrong"), "{}", ran.text());
    assert!(ran.text().contains("10000000 names 30000000 as its successor, not 20000000"), "{}", ran.text());
}

#[tokio::test]
async fn status_has_a_row_for_every_peer_or_only_for_the_asked_one() {
    let ring = Fake::ring(3).await;
    let ran = dhtctl(&ring[0].address, &["status"]).await.expect_code(0);
    assert_eq!(ran.text().lines().count(), 5, "{}", ran.text());
    assert!(ran.text().ends_with("k = 3; 0 slots not held by those that should hold them\n"), "{}", ran.text());
    assert!(ran.text().contains("117.7 MiB"), "{}", ran.text());
    let ran = dhtctl(&ring[1].address, &["status", "--this"]).await.expect_code(0);
    assert_eq!(ran.text().lines().count(), 3);
    assert!(ran.text().contains(&ring[1].address));
    let document = dhtctl(&ring[0].address, &["status", "-o", "json"]).await.expect_code(0).json();
    assert_eq!(document["peers"][2]["slots_held"], json!(1024));
    assert_eq!(document["peers"][0]["phase"], json!("member"));
    assert_eq!(document["unreachable"], json!([]));
}

#[tokio::test]
async fn status_tells_whose_store_takes_no_writes_and_why() {
    let ring = Fake::ring(2).await;
    assert!(!dhtctl(&ring[0].address, &["status"]).await.text().contains("read-only"));
    *locked(&ring[1].state.store_failure) = "the disk is full".into();
    let ran = dhtctl(&ring[0].address, &["status"]).await.expect_code(0);
    let line = format!("read-only: 01010101 {}: the disk is full\n", ring[1].address);
    assert!(ran.text().ends_with(&line), "{}", ran.text());
    let document = dhtctl(&ring[0].address, &["status", "-o", "json"]).await.expect_code(0).json();
    assert_eq!(document["peers"][1]["store_failure"], json!("the disk is full"));
    assert_eq!(document["peers"][0]["store_failure"], Value::Null);
}

#[tokio::test]
async fn status_of_an_idle_peer_needs_no_ring() {
    let fake = Fake::start().await;
    let ran = dhtctl(&fake.address, &["status"]).await.expect_code(0);
    assert!(ran.text().contains("idle"), "{}", ran.text());
    let ran = dhtctl(&fake.address, &["overlay"]).await.expect_code(0);
    assert!(ran.text().contains("1 peer, 0 nodes, in no ring"), "{}", ran.text());
}

#[tokio::test]
async fn lookup_shows_every_hop_and_the_home_group() {
    let ring = Fake::ring(2).await;
    let ran = dhtctl(&ring[0].address, &["lookup", "greeting"]).await.expect_code(0);
    for part in ["key 'greeting' has id aaaa", "slot 682", "finger 2^157", "310 us", "1 hop, 1 time-out", "home group:"]
    {
        assert!(ran.text().contains(part), "{part} in {}", ran.text());
    }
    let id = "0b".repeat(20);
    let document = dhtctl(&ring[0].address, &["lookup", "--id", &id, "-o", "json"]).await.expect_code(0).json();
    assert_eq!(document["id"], json!(id));
    assert_eq!(document["hops"][1]["finger_bit"], json!(157));
    assert_eq!(document["hops"][0]["finger_bit"], Value::Null);
    dhtctl(&ring[0].address, &["lookup", "--id", "0b"]).await.expect_code(2);
}

#[tokio::test]
async fn join_passes_the_seeds_on() {
    let fake = Fake::start().await;
    let ran = dhtctl(&fake.address, &["join", "10.0.0.1:7400", "10.0.0.2:7400"]).await.expect_code(0);
    assert_eq!(ran.stderr, "joined ring 07070707: eventual mode, k = 3\n");
    assert_eq!(*locked(&fake.state.joined_through), ["10.0.0.1:7400", "10.0.0.2:7400"]);
    let document = dhtctl(&fake.address, &["join", "-o", "json"]).await.expect_code(0).json();
    assert_eq!(document["ring"]["mode"], json!("eventual"));
    let two = format!("{},{}", fake.address, dead_address());
    dhtctl(&two, &["join"]).await.expect_code(2);
}

#[tokio::test]
async fn depart_without_a_terminal_needs_yes() {
    let ring = Fake::ring(2).await;
    let ran = dhtctl(&ring[0].address, &["depart"]).await.expect_code(2);
    assert!(ran.stderr.contains("hint: say --yes"), "{}", ran.stderr);
    assert!(!*locked(&ring[0].state.departed));
    let ran = dhtctl(&ring[0].address, &["depart", &ring[1].address, "--yes"]).await.expect_code(0);
    assert!(ran.stderr.ends_with("has left the ring\n"), "{}", ran.stderr);
    assert!(*locked(&ring[1].state.departed) && !*locked(&ring[0].state.departed));
    let document = dhtctl(&ring[0].address, &["depart", "--yes", "-o", "json"]).await.expect_code(0).json();
    assert_eq!(document["departed"]["address"], json!(ring[0].address));
}

/// `script` runs the tool on a terminal of its own and types what it reads.
#[tokio::test]
async fn depart_on_a_terminal_asks_first() {
    for (typed, code, departs) in [("y\n", 0, true), ("n\n", 1, false), ("\n", 1, false)] {
        let ring = Fake::ring(2).await;
        let tool = format!("{} depart {}", env!("CARGO_BIN_EXE_dhtctl"), ring[1].address);
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &tool, "/dev/null"])
            .env("DHTCTL_PEER", &ring[0].address)
            .env("TERM", "dumb")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("script (util-linux) is installed");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        stdin.write_all(typed.as_bytes()).await.expect("it is typed");
        let ran = child.wait_with_output().await.expect("it ends");
        drop(stdin);
        let text = String::from_utf8_lossy(&ran.stdout);
        assert_eq!(common::code(ran.status), code, "{text}");
        assert!(text.contains("holds 1,024 slots with 0 keys") && text.contains("Go on? [y/N]"), "{text}");
        assert_eq!(*locked(&ring[1].state.departed), departs, "{typed:?}: {text}");
    }
}

#[tokio::test]
async fn no_colour_and_no_animation_off_a_terminal() {
    let ring = Fake::ring(2).await;
    for arguments in [&["overlay"][..], &["depart", "--yes"], &["query", "nope"]] {
        let child = command(&ring[0].address, arguments).spawn().expect("the tool starts");
        let ran = common::finish(child).await;
        assert!(!ran.stdout.contains(&0x1b) && !ran.stderr.contains('\x1b'), "{ran:?}");
    }
}
