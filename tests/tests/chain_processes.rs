//! Chain mode in rings of real processes.

use std::time::{Duration, Instant};

use dht_tests::{
    process::{FEW_SLOTS, Ring, dhtctl, eventually},
    torture::{Fault, Load, torture},
};
use dhtctl::{Client, proto::PlacementReason};
use tokio::time::sleep;

const NODES: &[&str] = &["--nodes", "4"];

/// Writes a key until so many replicas have it, which is so once its slot's chain is whole.
async fn written_to(client: &Client, key: &str, value: &str, replicas: u32) {
    let begun = Instant::now();
    loop {
        match client.put(key.to_owned(), value.to_owned(), 1).await {
            Ok(answer) if answer.durable == replicas => return,
            other => assert!(begun.elapsed() < LIMIT, "{key} is not on {replicas} replicas: {other:?}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn value(client: &Client, key: &str) -> Option<String> {
    let begun = Instant::now();
    loop {
        match client.get(key.to_owned()).await {
            Ok(answer) => return answer.map(|answer| String::from_utf8_lossy(&answer.value).into_owned()),
            Err(error) => assert!(begun.elapsed() < LIMIT, "{key} can't be read: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_see_while_peers_are_killed_and_come_back_is_linearizable() {
    let mut ring = Ring::start(5, FEW_SLOTS, NODES).await;
    let load = Load { writers: 8, readers: 8, keys: 40, rate: 400.0, ..Load::default() };
    let report = torture(&mut ring, load, Fault::Kill, Duration::from_secs(12), 1).await;
    println!("{report}");
    assert!(report.is_good(), "{report}");
    assert!(report.faults.len() >= 2 && report.answered() >= 300, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_see_while_peers_join_and_depart_is_linearizable() {
    let mut ring = Ring::start(5, FEW_SLOTS, NODES).await;
    let load = Load { writers: 8, readers: 8, keys: 40, rate: 400.0, ..Load::default() };
    let report = torture(&mut ring, load, Fault::Members, Duration::from_secs(12), 1).await;
    println!("{report}");
    assert!(report.is_good(), "{report}");
    assert!(report.faults.len() >= 2 && report.answered() >= 300, "{report:?}");
    assert!(report.view_changes >= 64, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn conditional_writes_and_counters_are_carried_out_by_whomever_is_asked() {
    let ring = Ring::start(3, FEW_SLOTS, NODES).await;
    let clients: Vec<Client> =
        ring.peers.iter().map(|peer| Client::lazy([&peer.address], dhtctl::Options::default()).unwrap()).collect();
    for (number, client) in clients.iter().enumerate() {
        let total = client.increment("counter", 5).await.expect("it is served").total;
        assert_eq!(total, 5 * (number as i64 + 1));
        let cas = client.compare_and_set("once", None, format!("peer {number}")).await;
        assert_eq!(cas.is_ok(), number == 0, "{cas:?}");
        if let Err(error) = cas {
            assert!(error.condition_failed() && !error.may_have_executed(), "{error}");
        }
    }
    let held = clients[1].get("once").await.unwrap().expect("it was written");
    assert_eq!(held.value, "peer 0");
    let later = clients[2].put_if("once", "later", held.revision).await.expect("nobody else writes");
    assert!(later.revision > held.revision);
    assert!(clients[0].put_if("once", "never", held.revision).await.is_err_and(|error| error.condition_failed()));
    let counter = clients[1].get("counter").await.unwrap().expect("it was counted");
    assert_eq!((counter.counter, counter.value.as_ref()), (Some(15), b"15".as_ref()));
    let wrong = clients[0].increment("once", 1).await.expect_err("it is no counter");
    assert_eq!(wrong.reason(), Some("WRONG_TYPE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_departures_and_after_all_were_killed() {
    let mut ring = Ring::start(4, FEW_SLOTS, NODES).await;
    let client = ring.client();
    for key in 0..50 {
        written_to(&client, &format!("key {key}"), &format!("value {key}"), 3).await;
    }
    let address = ring.peers[3].address.clone();
    dhtctl(&ring.peers[0].address, &["depart", &address, "--yes"]);
    ring.peers.pop();
    ring.ideal(3).await;
    for key in 0..50 {
        assert_eq!(value(&client, &format!("key {key}")).await, Some(format!("value {key}")));
    }
    ring.peers.iter_mut().for_each(dht_tests::process::Peer::kill);
    ring.peers.iter_mut().for_each(dht_tests::process::Peer::start);
    for key in 0..50 {
        assert_eq!(value(&client, &format!("key {key}")).await, Some(format!("value {key}")));
    }
    written_to(&client, "after", "all", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_alone_refuses_and_says_so() {
    // Those who hold a slot know by their leases that the others are gone, however long the ring takes to find out.
    let patient = [NODES, &["--suspect-after", "20s"]].concat();
    let mut ring = Ring::start(3, FEW_SLOTS, &patient).await;
    let client = ring.peers[0].client();
    for key in 0..3 {
        written_to(&client, &format!("key {key}"), "before", 3).await;
    }
    ring.peers[1].pause();
    ring.peers[2].pause();
    sleep(Duration::from_secs(1)).await; // Longer than a lease, which is what is tried here.
    for key in 0..3 {
        let asked = Instant::now();
        let read = client.get(format!("key {key}")).await.expect_err("it can't know what others write");
        assert_eq!(read.reason(), Some("NO_QUORUM"), "{read}");
        let write = client.put(format!("key {key}"), "alone", 1).await.expect_err("nobody else has it");
        assert_eq!(write.reason(), Some("NO_QUORUM"), "{write}");
        assert!(asked.elapsed() < Duration::from_millis(4500), "each takes the 2 s for which a peer tries");
    }
    ring.peers[1].unpause();
    ring.peers[2].unpause();
    for key in 0..3 {
        written_to(&client, &format!("key {key}"), "after", 3).await;
        assert_eq!(value(&ring.peers[2].client(), &format!("key {key}")).await.as_deref(), Some("after"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_where_a_key_is_and_what_stops_it() {
    let mut ring = Ring::start(3, FEW_SLOTS, NODES).await;
    let client = ring.peers[0].client();
    written_to(&client, "key", "value", 3).await;
    eventually("the key is at home", async || {
        let explained = client.explain("key").await.expect("everyone is there");
        let whole = explained.copies.len() == 3 && explained.copies.iter().all(|it| it.in_sync && it.revision > 0);
        explained.reason() == PlacementReason::AtHome && whole
    })
    .await;
    ring.peers[1].kill();
    ring.peers[2].kill();
    eventually("two are missed", async || {
        let Ok(explained) = client.explain("key").await else { return false };
        let here = explained.copies.iter().filter(|copy| copy.answered).collect::<Vec<_>>();
        let missed = explained.reason() == PlacementReason::NoMajority && explained.about.len() == 2;
        missed && here.len() == 1 && here[0].holds && here[0].revision > 0
    })
    .await;
}

const LIMIT: Duration = Duration::from_secs(60);
