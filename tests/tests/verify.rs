//! `verify` on rings of real processes.

use std::time::Duration;

use dht_tests::process::{FEW_SLOTS, Peer, Ring, eventually};
use dhtctl::{
    Client, Error,
    proto::{FindingKind, Verdict, VerifyResponse},
};

/// More than the peer takes for its longest answer.
const PATIENCE: Duration = Duration::from_secs(20);

async fn verify(client: Client) -> VerifyResponse {
    client.with_timeout(PATIENCE).verify().await.expect("a member answers")
}

/// The addresses of the peers that are said not to answer.
fn silent(report: &VerifyResponse) -> Vec<&str> {
    let silent = report.findings.iter().filter(|finding| finding.kind() == FindingKind::Silent);
    silent.filter_map(|finding| finding.peer.as_ref()).map(|peer| peer.address.as_str()).collect()
}

fn members(report: &VerifyResponse) -> (Verdict, u32, u32, u32) {
    (report.verdict(), report.peers, report.nodes, report.reach)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_at_rest_holds_from_whichever_peer_it_is_asked() {
    let ring = Ring::start(5, FEW_SLOTS, &["--nodes", "4"]).await;
    for peer in &ring.peers {
        let report = verify(peer.client()).await;
        assert_eq!(members(&report), (Verdict::Holds, 5, 20, 4), "{report:?}");
        assert_eq!((report.ideal, report.principals), (true, 5), "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_death_it_holds_as_soon_as_no_list_names_the_dead_peer() {
    let mut ring = Ring::start(5, FEW_SLOTS, &["--nodes", "4"]).await;
    ring.peers[3].kill();
    // It waits by itself: until the failure detectors have spoken, lists name a peer that does not answer.
    let report = verify(ring.peers[0].client()).await;
    assert_eq!(members(&report), (Verdict::Holds, 4, 16, 3), "{report:?}");
    assert_eq!(silent(&report), [ring.peers[3].address.as_str()]);
    ring.peers[3].start();
    eventually("all nodes are back and the ring is ideal", async || {
        let report = ring.peers[0].client().with_timeout(PATIENCE).verify().await;
        report.is_ok_and(|report| report.ideal && members(&report) == (Verdict::Holds, 5, 20, 4))
    })
    .await;
    assert_eq!(silent(&verify(ring.peers[3].client()).await), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_tell_in_less_time_than_a_silent_peer_is_given() {
    let mut ring = Ring::start(3, FEW_SLOTS, &["--nodes", "2"]).await;
    ring.peers[2].pause();
    let hurried = ring.peers[0].client().with_timeout(Duration::from_millis(500));
    let report = hurried.verify().await.expect("it answers before the deadline");
    assert_eq!(report.verdict(), Verdict::CannotTell, "{report:?}");
    let report = verify(ring.peers[0].client()).await;
    assert_eq!(members(&report), (Verdict::Holds, 2, 4, 1), "{report:?}");
    ring.peers[2].unpause();
    ring.ideal(3).await;
    assert_eq!(members(&verify(ring.peers[2].client()).await), (Verdict::Holds, 3, 6, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_in_no_ring_says_so() {
    let mut ring = Ring::start(1, FEW_SLOTS, &[]).await;
    let idle: &mut Peer = ring.add(&["--idle"]);
    let refusal = idle.client().verify().await.expect_err("it has no ring");
    assert_eq!(Error::reason(&refusal), Some("NOT_A_MEMBER"));
    assert_eq!(members(&verify(ring.peers[0].client()).await), (Verdict::Holds, 1, 16, 0));
}
