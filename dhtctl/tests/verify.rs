//! The report of `verify`.

mod common;

use common::{
    dhtctl,
    fake::{Fake, locked, peer, refusal},
};
use dhtctl::proto::{Finding, FindingKind, Node, Verdict, VerifyResponse};
use serde_json::{Value, json};
use tonic::Code;

fn node(place: u8) -> Option<Node> {
    let id = vec![place; 20].into();
    Some(Node { id, peer_id: vec![place; 16].into(), index: 0, address: format!("10.0.0.{place}:7400") })
}

fn finding(kind: FindingKind, node: Option<Node>) -> Finding {
    Finding { kind: kind.into(), node, ..Finding::default() }
}

async fn reporting(verdict: Verdict, findings: Vec<Finding>) -> Fake {
    let fake = Fake::start().await;
    *locked(&fake.state.report) = VerifyResponse {
        verdict: verdict.into(),
        findings,
        ideal: verdict == Verdict::Holds,
        peers: 5,
        nodes: 80,
        reach: 4,
        principals: 3,
        walks: 2,
        elapsed_us: 12_340,
    };
    fake
}

#[tokio::test]
async fn a_ring_that_holds_is_told_in_two_lines_and_silent_peers_are_mentioned() {
    let fake = reporting(Verdict::Holds, vec![]).await;
    let ran = dhtctl(&fake.address, &["verify"]).await.expect_code(0);
    assert_eq!(
        ran.text(),
        "holds: the ring keeps its invariant and is ideal\n\
         5 peers, 80 nodes, r_eff = 4, 3 principals; 2 walks in 12.34 ms\n"
    );
    assert_eq!(ran.stderr, "");
    let silent = Finding { peer: Some(peer(9, "10.0.0.9:7400")), ..finding(FindingKind::Silent, None) };
    let fake = reporting(Verdict::Holds, vec![silent, finding(FindingKind::NotIdeal, node(2))]).await;
    locked(&fake.state.report).ideal = false;
    let ran = dhtctl(&fake.address, &["verify"]).await.expect_code(0);
    for part in ["it is not ideal yet", "peer 09090909 10.0.0.9:7400 does not answer; ", "node 02020202 (peer "] {
        assert!(ran.text().contains(part), "{part} in {}", ran.text());
    }
}

#[tokio::test]
async fn a_violation_says_what_and_where_and_fails() {
    let skipped = Finding { by: node(3), ..finding(FindingKind::Skipped, node(2)) };
    let disorder = finding(FindingKind::OutOfOrder, node(1));
    let alone = finding(FindingKind::NoLiveSuccessor, node(4));
    let few = finding(FindingKind::TooFewPrincipals, None);
    let fake = reporting(Verdict::Violated, vec![disorder, alone, few, skipped]).await;
    let ran = dhtctl(&fake.address, &["verify"]).await.expect_code(1);
    let lines: Vec<&str> = ran.text().lines().collect();
    assert_eq!(lines[0], "violated: the ring does not keep its invariant");
    let first = "  the list of node 01010101 (peer 01010101 10.0.0.1:7400) is not in the order of the circle";
    assert_eq!(lines[1], first);
    assert!(lines[2].ends_with("10.0.0.4:7400) has no live node of another peer"), "{lines:?}");
    assert_eq!(lines[3], "  only 3 of the 5 peers needed have a node that no list skips");
    assert!(lines[4].contains("10.0.0.2:7400) is skipped by the list of node 03030303"), "{lines:?}");
    assert!(ran.stderr.starts_with("error: the ring violates its invariant\nhint: "), "{}", ran.stderr);
}

#[tokio::test]
async fn what_nobody_can_tell_says_why_and_is_worth_another_try() {
    let unreachable = Finding { peer: Some(peer(9, "10.0.0.9:7400")), ..finding(FindingKind::Unreachable, node(1)) };
    let changing = Finding { peer: Some(peer(8, "10.0.0.8:7400")), ..finding(FindingKind::Changing, None) };
    let few = finding(FindingKind::TooFewPrincipals, None);
    for (finding, reason) in [
        (unreachable, "a peer that matters does not answer\n  peer 09090909 10.0.0.9:7400 does not answer, but"),
        (changing, "the ring does not stand still\n  peer 08080808 10.0.0.8:7400 was changing"),
        (few, "it looks violated, but not for long enough"),
    ] {
        let fake = reporting(Verdict::CannotTell, vec![finding]).await;
        let ran = dhtctl(&fake.address, &["verify"]).await.expect_code(5);
        assert!(ran.text().starts_with(&format!("can't tell: {reason}")), "{}", ran.text());
        assert!(ran.stderr.contains("hint: try again later"), "{}", ran.stderr);
    }
    let fake = reporting(Verdict::CannotTell, vec![]).await;
    locked(&fake.state.report).walks = 1;
    let ran = dhtctl(&fake.address, &["verify"]).await.expect_code(5);
    assert!(ran.text().starts_with("can't tell: there was no time"), "{}", ran.text());
}

#[tokio::test]
async fn the_report_is_a_document_and_the_exit_code_tells_as_well() {
    let skipped = Finding { by: node(3), ..finding(FindingKind::Skipped, node(2)) };
    let fake = reporting(Verdict::Violated, vec![skipped]).await;
    let ran = dhtctl(&fake.address, &["verify", "-o", "json"]).await.expect_code(1);
    let document = ran.json();
    assert_eq!(document["verdict"], json!("violated"));
    assert_eq!((&document["ideal"], &document["r_eff"], &document["principals"]), (&Value::Null, &json!(4), &json!(3)));
    assert_eq!(document["findings"][0]["kind"], json!("skipped"));
    assert_eq!(document["findings"][0]["by"]["address"], json!("10.0.0.3:7400"));
    assert_eq!(ran.error()["exit_code"], json!(1));
    let fake = reporting(Verdict::Holds, vec![]).await;
    let document = dhtctl(&fake.address, &["verify", "-o", "json"]).await.expect_code(0).json();
    assert_eq!((&document["verdict"], &document["ideal"]), (&json!("holds"), &json!(true)));
}

#[tokio::test]
async fn a_peer_that_refuses_is_an_error_of_the_call() {
    let fake = Fake::start().await;
    *locked(&fake.state.read_refusal) = Some(refusal(Code::Unavailable, "NOT_A_MEMBER"));
    let ran = dhtctl(&fake.address, &["verify"]).await.expect_code(5);
    assert!(ran.stderr.contains("can't verify the ring at ") && ran.stderr.contains("NOT_A_MEMBER"), "{}", ran.stderr);
}
