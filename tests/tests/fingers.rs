//! A ring of 32 processes with one node each that finds its way by fingers and successor lists alone.

use std::{collections::BTreeMap, time::Duration};

use dht_tests::process::{FEW_SLOTS, Ring, eventually};
use dhtctl::{
    id::{Id, from_slice},
    overlay::{CrawlOptions, RingView, crawl},
    proto::{HopReason, Verdict, lookup_request::Target},
};

const PEERS: usize = 32;

/// log2 of the number of nodes.
const LIMIT: usize = PEERS.ilog2() as usize;

const LOOKUPS: usize = 200;

/// Every finger of every node is the first node at or behind the place where it points, and every node has a finger
/// for the other side of the circle, which no list reaches.
fn fingers_are_right(view: &RingView) -> bool {
    let places: BTreeMap<Id, ()> = view.places.iter().map(|place| (place.id, ())).collect();
    let owner = |id: Id| places.range(id..).next().or_else(|| places.iter().next()).map(|(id, ())| *id);
    view.places.iter().all(|place| {
        let right = |bit: u32, node: &[u8]| from_slice(node) == owner(place.id.plus_power(bit));
        let mut fingers = place.fingers.iter().filter_map(|finger| Some((finger.bit, &finger.node.as_ref()?.id)));
        let far = owner(place.id.plus_power(Id::BITS - 1));
        let reaches_far = place.fingers.iter().any(|f| f.node.as_ref().and_then(|node| from_slice(&node.id)) == far);
        reaches_far && fingers.all(|(bit, node)| right(bit, node))
    })
}

/// A hop is one step from peer to peer; the asked peer itself is none, the owner's is the last. With one node for each
/// peer every hop is a message between two processes.
#[tokio::test(flavor = "multi_thread")]
async fn thirty_two_peers_answer_every_lookup_within_log_n_hops_and_keep_the_invariant() {
    // So many processes on two cores do not always answer within 0.6 s: what is shown here is not how deaths are noticed.
    let patient = ["--heartbeat-every", "1s", "--suspect-after", "10s"];
    let ring = Ring::start(PEERS, FEW_SLOTS, &[&["--nodes", "1", "--routing", "fingers"], &patient[..]].concat()).await;
    eventually("the fingers of all nodes are right", async || {
        crawl(&ring.client(), &CrawlOptions::default()).await.is_ok_and(|view| fingers_are_right(&view))
    })
    .await;
    let mut lengths = Vec::new();
    let mut by_finger = 0;
    for number in 0..LOOKUPS {
        let asked = &ring.peers[number % PEERS];
        let target = Target::Key(format!("key {number}").into());
        let found = asked.client().lookup(target).await.expect("the ring is at rest");
        let reasons: Vec<HopReason> = found.hops.iter().map(|hop| hop.reason()).collect();
        assert_eq!(reasons.first(), Some(&HopReason::Start));
        assert!(!reasons.contains(&HopReason::Table), "a table of all peers was used: {reasons:?}");
        by_finger += reasons.iter().filter(|it| matches!(it, HopReason::Finger | HopReason::FingerSuccessor)).count();
        assert_eq!(found.hops.last().and_then(|hop| hop.node.clone()), found.owner);
        assert_eq!(found.timeouts, 0);
        lengths.push(found.hops.len() - 1);
    }
    let (longest, total) = (lengths.iter().max().copied(), lengths.iter().sum::<usize>());
    println!("{LOOKUPS} lookups: {total} hops, {by_finger} by finger, the longest path {longest:?}");
    assert!(longest <= Some(LIMIT), "{lengths:?}");
    assert!(by_finger > 0);
    let report = ring.client().with_timeout(Duration::from_secs(20)).verify().await.expect("it is a member");
    assert_eq!((report.verdict(), report.ideal), (Verdict::Holds, true), "{report:?}");
    assert_eq!((report.peers, report.nodes, report.reach, report.principals), (32, 32, 8, 32));
}
