//! Rings of real processes that are killed, restarted and told to go.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use dht_tests::process::{EVENTUAL, Ring, dhtctl};
use dhtctl::Client;
use tokio::{sync::Semaphore, task::JoinSet};

/// Writes `keys`, 32 at a time, and returns those that were acknowledged.
async fn write(client: &Client, keys: impl Iterator<Item = u32>, min_durable: u32) -> BTreeSet<u32> {
    let (slots, mut tasks) = (Arc::new(Semaphore::new(32)), JoinSet::new());
    for key in keys {
        let (client, permit) = (client.clone(), slots.clone().acquire_owned().await.expect("it is never closed"));
        tasks.spawn(async move {
            let written = client.put(format!("key {key}"), format!("value {key}"), min_durable).await;
            drop(permit);
            written.inspect_err(|error| println!("key {key} was not written: {error}")).is_ok().then_some(key)
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

async fn read_all(client: &Client, keys: &BTreeSet<u32>) {
    for key in keys {
        assert_eq!(read(client, *key).await, Ok(true), "key {key}");
    }
}

/// Whether the key has its value.
async fn read(client: &Client, key: u32) -> Result<bool, String> {
    let read = client.get(format!("key {key}")).await.map_err(|error| error.to_string())?;
    Ok(read.is_some_and(|read| read.value == format!("value {key}")))
}

/// Reads all keys again and again until each was there at least once since `killed`: a replica that was not told of a
/// dead peer's last writes may answer until the death is known.
async fn read_all_within(client: &Client, keys: &BTreeSet<u32>, killed: Instant, limit: Duration) {
    let mut missing = keys.clone();
    let mut last_missing = Duration::ZERO;
    while !missing.is_empty() {
        for key in std::mem::take(&mut missing) {
            let asked = killed.elapsed();
            if read(client, key).await != Ok(true) {
                last_missing = last_missing.max(asked);
                missing.insert(key);
            }
        }
        assert!(killed.elapsed() < Duration::from_secs(60), "keys are lost: {missing:?}");
    }
    println!("the last acknowledged key that could not be read was asked for {last_missing:?} after the kill");
    assert!(last_missing < limit, "a key was unreadable {last_missing:?} after the kill");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_key_is_lost_when_a_peer_is_killed_amid_writes_and_it_comes_back() {
    let mut ring = Ring::start(5, EVENTUAL, &["--nodes", "4"]).await;
    let client = ring.client();
    let before = write(&client, 0..1000, 2).await;
    assert_eq!(before.len(), 1000);
    let writing = tokio::spawn({
        let client = client.clone();
        async move { write(&client, 1000..3000, 2).await }
    });
    ring.peers[3].kill();
    let killed = Instant::now();
    let after = writing.await.expect("it does not panic");
    let acknowledged: BTreeSet<u32> = before.union(&after).copied().collect();
    println!("{} of 3000 acknowledged", acknowledged.len());
    read_all_within(&client, &acknowledged, killed, Duration::from_secs(2)).await;
    ring.ideal(4).await;
    read_all(&client, &acknowledged).await;
    ring.peers[3].start();
    ring.ideal(5).await;
    read_all(&ring.peers[3].client(), &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_whose_peers_are_all_killed_comes_back_with_everything_from_its_data_directories() {
    let mut ring = Ring::start(5, EVENTUAL, &["--nodes", "4"]).await;
    let keys = write(&ring.client(), 0..1000, 3).await;
    assert_eq!(keys.len(), 1000);
    ring.peers.iter_mut().for_each(|peer| peer.kill());
    ring.peers.iter_mut().for_each(|peer| peer.start());
    ring.ideal(5).await;
    ring.whole(1000, 3).await;
    for peer in &ring.peers {
        read_all(&peer.client(), &keys).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_departs_hands_everything_over_and_ends() {
    let mut ring = Ring::start(4, &[EVENTUAL, &["--replicas", "1"]].concat(), &["--nodes", "4"]).await;
    let client = ring.peers[0].client();
    let keys = write(&client, 0..1000, 1).await;
    assert_eq!(keys.len(), 1000);
    let mut progress = ring.peers[2].client().depart().await.expect("it is a member");
    let mut done = false;
    while let Some(step) = progress.next().await.expect("it reports until it is done") {
        done = step.done;
    }
    assert!(done);
    assert!(ring.peers[2].wait());
    assert!(ring.peers[2].refuse_to_start().contains("has departed for good"));
    read_all(&client, &keys).await;
    ring.ideal(3).await;
    ring.whole(1000, 1).await;
    read_all(&client, &keys).await;
}

/// All that it knew have gone while it was down.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_comes_back_after_all_that_it_knew_finds_the_ring_by_a_seed() {
    let nodes = ["--nodes", "4"];
    let mut ring = Ring::start(2, EVENTUAL, &nodes).await;
    ring.peers[1].kill();
    let seed = ring.join().address.clone();
    ring.ideal(2).await;
    let mut progress = ring.peers[0].client().depart().await.expect("there is another one");
    while progress.next().await.expect("it reports until it is done").is_some() {}
    assert!(ring.peers[0].wait());
    let dir = ring.peers[1].dir().to_path_buf();
    ring.peers.drain(..2);
    ring.add_in(dir, &[&["--join", &seed], &nodes[..]].concat());
    ring.ideal(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_documents_come_out_byte_for_byte_as_they_went_in() {
    let ring = Ring::start(5, EVENTUAL, &["--nodes", "4"]).await;
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/data/debian-packages.jsonl");
    let sorted = |text: &[u8]| {
        let mut lines: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        lines.sort_unstable();
        lines
    };
    let documents = sorted(&std::fs::read(sample).expect("it is checked in"));
    dhtctl(&ring.peers[0].address, &["import", sample, "--key-field", "_id"]);
    for peer in &ring.peers {
        assert_eq!(sorted(&dhtctl(&peer.address, &["export", "--values-only"])), documents);
    }
}
