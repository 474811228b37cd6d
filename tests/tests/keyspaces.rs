//! Keyspaces of both modes, and k that changes, in rings of real processes.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dht_tests::process::{EVENTUAL, Peer, Ring, dhtctl, eventually};
use dhtctl::{Client, Error, proto::Mode};
use tokio::{task::spawn_blocking, time::interval};

const NODES: &[&str] = &["--nodes", "4"];

fn clients(ring: &Ring) -> Vec<Client> {
    ring.peers.iter().map(Peer::client).collect()
}

async fn names(client: &Client) -> Vec<(String, Mode)> {
    let keyspaces = client.keyspaces().await.expect("there is a copy if nothing else");
    keyspaces.into_iter().map(|keyspace| (keyspace.name.clone(), keyspace.mode())).collect()
}

fn reason<T: std::fmt::Debug>(answer: Result<T, Error>) -> String {
    answer.expect_err("it is refused").reason().expect("every error has one").to_owned()
}

/// What each peer finds under the key `k` of a keyspace, asked until all can tell.
async fn found(ring: &Ring, keyspace: &str) -> BTreeSet<Option<String>> {
    let mut found = BTreeSet::new();
    for client in clients(ring) {
        let client = client.in_keyspace(keyspace);
        eventually("the key can be read", async || match client.get("k").await {
            Ok(answer) => {
                found.insert(answer.map(|answer| String::from_utf8_lossy(&answer.value).into_owned()));
                true
            }
            Err(error) => {
                assert_ne!(error.reason(), Some("KEYSPACE_NOT_FOUND"), "{error}");
                false
            }
        })
        .await;
    }
    found
}

async fn put(client: &Client, keyspace: &str, value: &str) {
    let client = client.clone().in_keyspace(keyspace);
    eventually("three replicas take the write", async || {
        client.put("k", value.to_owned(), 3).await.is_ok_and(|answer| answer.durable == 3)
    })
    .await;
}

async fn replicas(client: &Client) -> u32 {
    client.status().await.expect("it is there").ring.expect("it is a member").replicas
}

#[tokio::test(flavor = "multi_thread")]
async fn keyspaces_of_both_modes_live_side_by_side_until_they_are_dropped() {
    let ring = Ring::start(3, EVENTUAL, NODES).await;
    let peers = clients(&ring);
    peers[0].create_keyspace("users", Mode::Chain).await.expect("the name is free");
    peers[1].create_keyspace("sessions", Mode::Eventual).await.expect("the name is free");
    let all = [("default", Mode::Eventual), ("sessions", Mode::Eventual), ("users", Mode::Chain)];
    for peer in &peers {
        assert_eq!(names(peer).await, all.map(|(name, mode)| (name.to_owned(), mode)));
    }
    for (name, _) in all {
        put(&peers[2], name, name).await;
        assert_eq!(found(&ring, name).await, [Some(name.to_owned())].into(), "what others write is another key");
    }
    let in_users = peers[0].clone().in_keyspace("users");
    assert_eq!(in_users.increment("visits", 2).await.expect("it is in chain mode").total, 2);
    let in_sessions = peers[0].clone().in_keyspace("sessions");
    assert_eq!(reason(in_sessions.increment("visits", 2).await), "NEEDS_CHAIN_KEYSPACE");
    for (keyspace, keys) in [("default", "k\tdefault\n"), ("sessions", "k\tsessions\n")] {
        let listed = dhtctl(&ring.peers[1].address, &["query", "*", "--keyspace", keyspace]);
        assert_eq!(String::from_utf8_lossy(&listed), keys);
    }
    assert_eq!(reason(peers[0].create_keyspace("users", Mode::Eventual).await), "KEYSPACE_EXISTS");
    assert_eq!(reason(peers[0].create_keyspace("_system", Mode::Chain).await), "BAD_KEYSPACE_NAME");
    assert_eq!(reason(peers[0].clone().in_keyspace("_system").get("catalogue").await), "KEYSPACE_NOT_FOUND");
    assert_eq!(reason(peers[0].drop_keyspace("default").await), "KEYSPACE_IS_DEFAULT");

    for (asked, name) in [(1, "users"), (2, "sessions")] {
        peers[asked].drop_keyspace(name).await.expect("it is there");
        for peer in &peers {
            assert_eq!(reason(peer.clone().in_keyspace(name).get("k").await), "KEYSPACE_NOT_FOUND");
            assert_eq!(reason(peer.clone().in_keyspace(name).put("k", "late", 1).await), "KEYSPACE_NOT_FOUND");
        }
        assert_eq!(reason(peers[asked].drop_keyspace(name).await), "KEYSPACE_NOT_FOUND");
    }
    // The same names, with the modes swapped: other keyspaces, without keys.
    peers[0].create_keyspace("users", Mode::Eventual).await.expect("the name is free again");
    peers[1].create_keyspace("sessions", Mode::Chain).await.expect("the name is free again");
    for name in ["users", "sessions"] {
        assert_eq!(found(&ring, name).await, [None].into());
    }
    // What is left of the old ones goes from every disk.
    ring.whole(1, 3).await;
    assert_eq!(found(&ring, "default").await, [Some("default".to_owned())].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_who_act_at_once_do_not_undo_each_other() {
    let ring = Ring::start(3, EVENTUAL, NODES).await;
    let peers = clients(&ring);
    let mut creating = Vec::new();
    for number in 0..12 {
        let (peer, name) = (peers[number % 3].clone(), format!("k{}", number % 9));
        creating.push(tokio::spawn(async move {
            let created = peer.create_keyspace(&name, Mode::Chain).await;
            created.map_err(|error| assert_eq!(error.reason(), Some("KEYSPACE_EXISTS"), "{error}"))
        }));
    }
    let mut created = Vec::new();
    for task in creating {
        created.extend(task.await.expect("it does not panic"));
    }
    let ids: BTreeSet<u32> = created.iter().map(|keyspace| keyspace.id).collect();
    assert_eq!((created.len(), ids.len()), (9, 9), "{created:?}");
    for peer in &peers {
        assert_eq!(names(peer).await.len(), 10, "those and default");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_peers_know_the_catalogue_and_a_joiner_learns_it() {
    let mut ring = Ring::start(3, EVENTUAL, NODES).await;
    let client = ring.client();
    client.create_keyspace("users", Mode::Chain).await.expect("the name is free");
    put(&client, "users", "kept").await;
    assert_eq!(client.set_replicas(2).await.expect("it is in range").previous, 3);
    assert_eq!(reason(client.set_replicas(17).await), "BAD_REPLICAS");
    let expected = names(&client).await;
    ring.peers.iter_mut().for_each(Peer::kill);
    ring.peers.iter_mut().for_each(Peer::start);
    for peer in clients(&ring) {
        // Before most of them are back nobody can read the record.
        assert_eq!((names(&peer).await, replicas(&peer).await), (expected.clone(), 2));
    }
    ring.ideal(3).await;
    let seed = ring.peers[0].address.clone();
    ring.add(&["--join", &seed, "--nodes", "4"]);
    let joiner = ring.peers[3].client();
    eventually("the joiner is told", async || {
        joiner.status().await.is_ok_and(|status| status.ring.is_some_and(|ring| ring.replicas == 2))
    })
    .await;
    ring.ideal(4).await;
    assert_eq!(names(&joiner).await, expected);
    assert_eq!(found(&ring, "users").await, [Some("kept".to_owned())].into());
}

/// Writes keys, one after another, until it is told to stop, and returns how many were acknowledged. A write may be
/// refused, but what came of it must be known.
async fn write_until(client: Client, stop: Arc<AtomicBool>) -> u32 {
    let mut ticks = interval(Duration::from_millis(20));
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        match client.put(format!("key {written}"), format!("value {written}"), 1).await {
            Ok(_) => written += 1,
            Err(error) => println!("key {written} was refused: {error}"),
        }
    }
    written
}

#[tokio::test(flavor = "multi_thread")]
async fn k_changes_under_a_writer_and_nothing_is_lost() {
    let ring = Ring::start(5, EVENTUAL, NODES).await;
    let client = ring.client();
    client.create_keyspace("users", Mode::Chain).await.expect("the name is free");
    let keyspaces = ["default", "users"].map(|name| client.clone().in_keyspace(name));
    let stop = Arc::new(AtomicBool::new(false));
    let writers = keyspaces.clone().map(|client| tokio::spawn(write_until(client, stop.clone())));
    for k in [5, 1, 3] {
        let address = ring.peers[k as usize - 1].address.clone();
        let set = move || dhtctl(&address, &["replicas", "set", &k.to_string(), "-o", "json"]);
        let answer: serde_json::Value = serde_json::from_slice(&spawn_blocking(set).await.unwrap()).unwrap();
        assert_eq!((&answer["replicas"], &answer["complete"]), (&k.into(), &true.into()), "{answer}");
        for peer in clients(&ring) {
            assert_eq!(replicas(&peer).await, k);
        }
        for key in 0..20 {
            let written = keyspaces[1].put(format!("probe {key}"), "x", 1).await.expect("the ring is at rest");
            assert_eq!(written.durable, k, "it is on the disks of all replicas");
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut keys = 20;
    for (writer, client) in writers.into_iter().zip(&keyspaces) {
        let written = writer.await.expect("it does not panic");
        assert!(written >= 100, "only {written} writes were taken");
        keys += u64::from(written);
        for key in 0..written {
            let mut held = None;
            eventually("a key can be read", async || match client.get(format!("key {key}")).await {
                Ok(answer) => {
                    held = answer;
                    true
                }
                Err(_) => false,
            })
            .await;
            assert_eq!(held.expect("it was acknowledged").value, format!("value {key}"));
        }
    }
    ring.whole(keys, 3).await;
}
