//! A ring of real processes one of which runs out of disk.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
};

use dht_tests::process::{EVENTUAL, Ring, dhtctl, eventually};
use dhtctl::{Client, proto::Verdict};
use tokio::task::JoinSet;
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// A file system in memory of a limited size, gone with the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Self {
        std::fs::create_dir(at).expect("the place is new");
        let disk = Self(at.to_owned());
        disk.run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "dhtd-test"]);
        disk
    }

    fn enlarge(&self, size: &str) {
        self.run("mount", &["-o", &format!("remount,size={size}")]);
    }

    fn run(&self, program: &str, args: &[&str]) {
        let status = Command::new(program).args(args).arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "{program} {args:?}: this test needs root");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Detached at once, so that it goes even while a peer that is still ending has files open.
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

/// What is written until the disk is full.
#[derive(Clone, Copy)]
enum Filling {
    /// Nothing can be compressed: the journal is what finds no room.
    Noise,
    /// Compressed in the journal but not in memory: what finds no room is a write buffer on its way to a table.
    Text,
}

impl Filling {
    /// 16 KiB: large values fill the disk with few writes.
    fn value(self, key: u32) -> Vec<u8> {
        let mut state = u64::from(key) * 2 + 1;
        let mut noise = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[3]
        };
        match self {
            Self::Noise => (0..16 << 10).map(|_| noise()).collect(),
            Self::Text => format!("value {key} ").into_bytes().into_iter().cycle().take(16 << 10).collect(),
        }
    }

    /// Writes keys through a peer; every one must be acknowledged by two replicas.
    async fn write(self, client: &Client, keys: Range<u32>) {
        let mut writes = JoinSet::new();
        for key in keys {
            let client = client.clone();
            writes.spawn(async move { (key, client.put(format!("key {key}"), self.value(key), 2).await) });
        }
        for (key, written) in writes.join_all().await {
            assert!(written.as_ref().is_ok_and(|written| written.durable >= 2), "key {key}: {written:?}");
        }
    }

    async fn read_all(self, client: &Client, keys: u32) {
        for key in 0..keys {
            let read = client.get(format!("key {key}")).await.expect("some replica answers");
            assert!(read.is_some_and(|read| read.value == self.value(key)), "key {key}");
        }
    }
}

/// What the peer tells load balancers.
async fn is_ready(address: &str) -> bool {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let channel = endpoint.connect().await.expect("it serves");
    let answer =
        HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }).await.expect("it knows");
    answer.into_inner().status() == ServingStatus::Serving
}

/// Fills the disk of one peer of three, and looks at what it, the others and a restart make of it.
async fn fill(filling: Filling) {
    let scratch = tempfile::tempdir().expect("a place to mount at");
    let disk = SmallDisk::mount(&scratch.path().join("disk"), "16m");
    let mut ring = Ring::start(2, EVENTUAL, &["--nodes", "4"]).await;
    let seed = ring.peers[0].address.clone();
    ring.add_in(scratch.path().join("disk/peer"), &["--nodes", "4", "--join", &seed]);
    ring.ideal(3).await;
    ring.whole(0, 3).await;
    let (healthy, small) = (ring.peers[0].client(), ring.peers[2].client());

    let mut keys = 0;
    loop {
        filling.write(&healthy, keys..keys + 100).await;
        keys += 100;
        if !small.status().await.expect("it answers").store_failure.is_empty() {
            break;
        }
        assert!(keys < 10_000, "the disk does not get full");
    }
    println!("full after {keys} keys");
    let failure = small.status().await.expect("it answers").store_failure;
    assert!(failure.contains("the disk is full") && failure.contains("free some space"), "{failure}");
    small.delete("nothing", 1).await.expect("the others take what it is asked for");
    let log = ring.peers[2].said();
    assert!(log.iter().any(|line| line.contains("ERROR") && line.contains("read-only")), "{log:?}");

    eventually("the peer is not ready any more", async || !is_ready(&ring.peers[2].address).await).await;
    assert!(is_ready(&ring.peers[0].address).await);

    // The others go on, whichever of them is asked; what they acknowledge can be read through the full one.
    for through in 0..2 {
        filling.write(&ring.peers[through].client(), keys..keys + 100).await;
        keys += 100;
    }
    let refusal = healthy.put("on three disks", "", 3).await.expect_err("there are only two that can");
    assert_eq!(refusal.reason(), Some("NOT_DURABLE"));
    healthy.delete("on three disks", 2).await.expect("two can");
    filling.read_all(&small, keys).await;
    let report = small.verify().await.expect("it is a member still");
    assert_eq!((report.verdict(), report.peers), (Verdict::Holds, 3), "{report:?}");
    let exported = dhtctl(&ring.peers[2].address, &["export"]);
    assert_eq!(exported.iter().filter(|byte| **byte == b'\n').count(), keys as usize);

    ring.peers[2].kill();
    if let Filling::Noise = filling {
        // Not a byte is left, and it can't even note that this is its next life.
        let refusal = ring.peers[2].refuse_to_start();
        assert!(refusal.contains("error: ") && refusal.contains("No space left on device"), "{refusal}");
    }
    disk.enlarge("512m");
    ring.peers[2].start();
    ring.ideal(3).await;
    ring.whole(keys.into(), 3).await;
    let small = ring.peers[2].client();
    small.put("it writes again", "", 3).await.expect("all three can");
    ring.peers[0].kill();
    ring.peers[1].kill();
    filling.read_all(&small, keys).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "mounts a small file system, which takes root: cargo test -p dht-tests --test full_disk -- --ignored"]
async fn a_peer_whose_journal_finds_no_room_stops_writing_and_nothing_is_lost() {
    fill(Filling::Noise).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "mounts a small file system, which takes root: cargo test -p dht-tests --test full_disk -- --ignored"]
async fn a_peer_whose_tables_find_no_room_stops_writing_and_nothing_is_lost() {
    fill(Filling::Text).await;
}
