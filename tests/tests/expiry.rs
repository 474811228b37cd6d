//! Values that expire, in rings of real processes.

use std::time::Duration;

use dht_tests::process::{FEW_SLOTS, Peer, Ring, eventually};
use dhtctl::{Client, Write, proto::Mode};

const NODES: &[&str] = &["--nodes", "4"];

/// That a value is still there before this has passed is not asked here, only that it goes.
const SHORT: Duration = Duration::from_secs(2);

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

/// Whether the key has a value, as each peer says.
async fn is_there(clients: &[Client], key: &str) -> Vec<bool> {
    let mut there = Vec::new();
    for client in clients {
        eventually("the key can be read", async || match client.get(key.to_owned()).await {
            Ok(found) => {
                there.push(found.is_some());
                true
            }
            Err(_) => false,
        })
        .await;
    }
    there
}

async fn is_gone(clients: &[Client], key: &str) {
    eventually("the key has expired", async || is_there(clients, key).await == [false; 3]).await;
}

/// Until all peers are in sync.
async fn put(client: &Client, key: &str) {
    eventually("three replicas take the write", async || {
        client.put(key.to_owned(), "v", 3).await.is_ok_and(|answer| answer.durable == 3)
    })
    .await;
}

async fn in_mode(mode: Mode) {
    let mut ring = Ring::start(3, FEW_SLOTS, NODES).await;
    let clients = |ring: &Ring| -> Vec<Client> {
        ring.peers.iter().map(|peer: &Peer| peer.client().in_keyspace("of_the_mode")).collect()
    };
    ring.peers[0].client().create_keyspace("of_the_mode", mode).await.expect("the name is free");
    let peers = clients(&ring);
    let (short, long) = (peers[1].clone().expiring_after(SHORT), peers[1].clone().expiring_after(LONG));
    put(&long, "late").await;
    let found = peers[2].get("late").await.expect("it can be read").expect("it is there");
    assert!(found.expires_at_ms > 0);
    for key in ["goes", "stays"] {
        put(&short, key).await;
    }
    // Written again, it does not expire any more.
    put(&peers[0], "stays").await;
    assert_eq!(peers[1].get("stays").await.unwrap().unwrap().expires_at_ms, 0);
    // One of many, too.
    let written = peers[0].batch_write([Write::put("of many", "v").expires_after(Duration::from_millis(1))]).await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
    is_gone(&peers, "of many").await;
    is_gone(&peers, "goes").await;
    for key in ["late", "stays"] {
        assert_eq!(is_there(&peers, key).await, [true; 3], "{key}");
    }
    let listed = peers[0].scan("").next_page().await.expect("all slots can be read").unwrap_or_default();
    assert!(listed.iter().all(|item| item.key != "goes"), "{listed:?}");
    // What is on disk expires as well.
    put(&short, "restarted").await;
    ring.peers.iter_mut().for_each(Peer::kill);
    ring.peers.iter_mut().for_each(Peer::start);
    ring.ideal(3).await;
    let peers = clients(&ring);
    is_gone(&peers, "restarted").await;
    for key in ["late", "stays"] {
        assert_eq!(is_there(&peers, key).await, [true; 3], "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_expire_in_chain_mode() {
    in_mode(Mode::Chain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_expire_in_eventual_mode() {
    in_mode(Mode::Eventual).await;
}
