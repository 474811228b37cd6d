//! Rings of real processes that nobody has put in charge of the founding.

use dht_tests::process::{FEW_SLOTS, Ring, dhtctl};

/// What `dhtctl overlay` prints last: how many peers there are, and how they fare.
fn overlay(ring: &Ring) -> String {
    let printed = dhtctl(&ring.peers[0].address, &["overlay"]);
    String::from_utf8_lossy(&printed).lines().last().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_peers_that_are_started_at_once_found_one_ring_whoever_of_them_is_killed_in_the_middle() {
    for victim in 0..3 {
        let mut ring = Ring::expect(3, FEW_SLOTS, &["--nodes", "4"]);
        ring.peers.iter_mut().for_each(|peer| peer.start());
        // From here on the peers do not change any more: one of the three is about to found the ring, or does.
        ring.peers[victim].says("it is settled which peers found the ring");
        ring.peers[victim].kill();
        ring.peers[victim].start();
        ring.ideal(3).await;
        assert!(overlay(&ring).starts_with("3 peers, 12 nodes, chain mode, k = 3, 64 slots"), "{}", overlay(&ring));
        let client = ring.peers[victim].client();
        client.put("key", "value", 1).await.expect("the ring takes writes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_wait_for_the_last_one_and_say_so_and_one_that_comes_later_joins() {
    let mut ring = Ring::expect(4, FEW_SLOTS, &["--nodes", "4"]);
    let third = ring.peers[2].address.clone();
    ring.peers[0].start();
    ring.peers[1].start();
    ring.peers[0].says("waiting for 4 peers: know 2");
    ring.peers[1].kill();
    ring.peers[1].start();
    ring.peers[0].says(&third);
    ring.peers[2].start();
    ring.peers[3].start();
    ring.ideal(4).await;
    // Flags as the others' are: it finds their ring.
    let seeds = ring.peers.iter().map(|peer| peer.address.clone()).collect::<Vec<_>>().join(",");
    let flags = [&["--expect", "4", "--join", &seeds, "--nodes", "4"], FEW_SLOTS].concat();
    ring.add(&flags);
    ring.ideal(5).await;
    // What is there already is not founded again, and needs nobody.
    ring.peers[4].kill();
    ring.peers[4].start();
    ring.ideal(5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_with_other_flags_say_which() {
    let mut ring = Ring::expect(2, FEW_SLOTS, &[]);
    ring.peers[0].start();
    let seed = ring.peers[0].address.clone();
    let other = [&["--expect", "2", "--join", &seed, "--replicas", "2"], FEW_SLOTS].concat();
    ring.add(&other);
    ring.peers[0]
        .says("was started with --expect 2 --replicas 2 --slot-bits 6 --mode chain, this peer with --expect 2");
    ring.peers[2]
        .says("was started with --expect 2 --replicas 3 --slot-bits 6 --mode chain, this peer with --expect 2");
}
