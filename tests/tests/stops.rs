//! Rings of real processes that are told to stop (SIGTERM): they give up their roles, keep their data, and are expected back.

use std::time::{Duration, Instant};

use dht_tests::process::{FEW_SLOTS, Ring};
use dhtctl::Client;
use dhtd_proto::v1::ExplainResponse;

const KEYS: u32 = 64;

async fn write_all(client: &Client, value: &str) {
    for key in 0..KEYS {
        client.put(format!("key {key}"), value.to_owned(), 1).await.expect("the ring takes writes");
    }
}

async fn read_all(client: &Client, value: &str) {
    for key in 0..KEYS {
        let read = client.get(format!("key {key}")).await.expect("the ring answers");
        assert_eq!(read.map(|read| read.value), Some(value.as_bytes().to_vec().into()), "key {key}");
    }
}

/// Whether the peer is a member of the key's chain, by the view that others go by.
fn has(explained: &ExplainResponse, id: &[u8]) -> bool {
    explained.view.as_ref().expect("the slot has a view").chain.iter().any(|member| member == id)
}

#[tokio::test(flavor = "multi_thread")]
async fn others_go_on_without_a_peer_that_stops_before_it_is_gone_and_it_comes_back() {
    let mut ring = Ring::start(4, FEW_SLOTS, &["--nodes", "4"]).await;
    write_all(&ring.client(), "one").await;
    let status = ring.peers[1].client().status().await.expect("it runs");
    let (id, others) = (status.peer.expect("it says who it is").id, ring.peers[0].client());
    ring.peers[1].terminate();
    ring.peers[1].wait_for().await;
    let said = ring.peers[1].said();
    assert!(said.iter().any(|line| line.contains("others go on without this peer")), "{said:?}");
    for key in 0..KEYS {
        let explained = others.explain(format!("key {key}")).await.expect("the others answer");
        assert!(!has(&explained, &id), "key {key}: {explained:?}");
    }
    write_all(&others, "two").await;
    ring.peers[1].start();
    ring.ideal(4).await;
    read_all(&ring.peers[1].client(), "two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_are_all_stopped_at_once_do_not_wait_for_each_other_and_come_back_with_everything() {
    let mut ring = Ring::start(5, FEW_SLOTS, &["--nodes", "4"]).await;
    write_all(&ring.client(), "one").await;
    let begun = Instant::now();
    ring.peers.iter_mut().for_each(|peer| peer.terminate());
    for peer in &mut ring.peers {
        peer.wait_for().await;
    }
    println!("all had stopped after {:?}", begun.elapsed());
    assert!(begun.elapsed() < STOP_WITHIN, "it took {:?}", begun.elapsed());
    ring.peers.iter_mut().for_each(|peer| peer.start());
    ring.ideal(5).await;
    read_all(&ring.client(), "one").await;
    write_all(&ring.client(), "two").await;
}

/// 3 s for others to go on without them, 1 s for what is under way, and as much for a busy machine.
const STOP_WITHIN: Duration = Duration::from_secs(8);
