//! Rings of real processes: started, killed, restarted, asked.

mod network;
mod peer;

use std::{
    collections::BTreeSet,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use dht_core::ring::SlotBits;
use dhtctl::{
    Client,
    overlay::{CrawlOptions, crawl},
};
use dhtd_proto::v1::{Verdict, lookup_request::Target};
use tempfile::TempDir;
use tokio::time::interval;

use self::peer::binary;
pub use self::{network::Network, peer::Peer};

/// Some peers on this machine; all end with it.
#[derive(Debug)]
pub struct Ring {
    /// The peers in the order in which they were started.
    pub peers: Vec<Peer>,
    /// The network that they are in, unless all are on the loopback interface. Gone after them.
    pub network: Option<Network>,
    /// What all of them are started with.
    args: Vec<String>,
    base: TempDir,
}

/// What to found a ring with that need not be large: most of what a ring costs at rest goes by its slots, and debug builds
/// are slow.
pub const FEW_SLOTS: &[&str] = &["--slot-bits", "6"];

/// The same, with keys in eventual mode.
pub const EVENTUAL: &[&str] = &["--slot-bits", "6", "--mode", "eventual"];

impl Ring {
    /// Starts a founder and `peers - 1` others that join through it, all with these arguments, and waits until the ring
    /// is ideal and writes find as many replicas as they will ever have.
    pub async fn start(peers: usize, founding: &[&str], args: &[&str]) -> Self {
        Self::start_in(&std::env::temp_dir(), peers, founding, args).await
    }

    /// As [`Ring::start`], with the peers' data somewhere below `dir`.
    pub async fn start_in(dir: &Path, peers: usize, founding: &[&str], args: &[&str]) -> Self {
        Self::start_anywhere(dir, None, peers, founding, args).await
    }

    /// As [`Ring::start`], with a peer on each host of a network.
    pub async fn start_apart(network: Network, founding: &[&str], args: &[&str]) -> Self {
        let peers = network.hosts();
        Self::start_anywhere(&std::env::temp_dir(), Some(network), peers, founding, args).await
    }

    /// Peers that are to found a ring together, each told of all, none of them started.
    pub fn expect(peers: usize, founding: &[&str], args: &[&str]) -> Self {
        let base = tempfile::tempdir().expect("a directory for the peers");
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let mut ring = Self { peers: Vec::new(), network: None, args, base };
        // All at once, so that they differ.
        let ports: Vec<TcpListener> =
            (0..peers).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port is free")).collect();
        let addresses = ports.iter().map(|port| port.local_addr().expect("it is bound").to_string());
        let addresses: Vec<String> = addresses.collect();
        let (expected, seeds) = (peers.to_string(), addresses.join(","));
        for address in addresses {
            let mut peer = ring.make(&[&["--expect", &expected, "--join", &seeds], founding].concat());
            peer.address = address;
            ring.peers.push(peer);
        }
        ring
    }

    async fn start_anywhere(
        dir: &Path,
        network: Option<Network>,
        peers: usize,
        founding: &[&str],
        args: &[&str],
    ) -> Self {
        let base = tempfile::tempdir_in(dir).expect("a directory for the peers");
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let mut ring = Self { peers: Vec::new(), network, args, base };
        let mut founder = ring.make(&[&["--bootstrap"], founding].concat());
        founder.start();
        let seed = founder.address.clone();
        ring.peers.push(founder);
        for _ in 1..peers {
            let peer = ring.make(&["--join", &seed]);
            ring.peers.push(peer);
        }
        for group in ring.peers[1..].chunks_mut(STARTED_AT_ONCE) {
            group.iter_mut().for_each(Peer::launch);
            group.iter_mut().for_each(Peer::await_service);
        }
        ring.ideal(peers).await;
        ring.placed().await;
        ring
    }

    /// The next peer, where it is to be, with what all are started with.
    fn make(&self, args: &[&str]) -> Peer {
        let number = self.peers.len();
        let args: Vec<&str> = args.iter().copied().chain(self.args.iter().map(String::as_str)).collect();
        let peer = Peer::new(self.base.path().join(format!("peer-{number}")), &args);
        match &self.network {
            Some(network) => peer.on(network, number),
            None => peer,
        }
    }

    /// Starts one more peer, as the others were, which joins through the first of them.
    pub fn join(&mut self) -> &mut Peer {
        let seed = self.peers[0].address.clone();
        let args: Vec<String> = ["--join".to_owned(), seed].into_iter().chain(self.args.clone()).collect();
        self.add(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Starts one more peer.
    pub fn add(&mut self, args: &[&str]) -> &mut Peer {
        let used = |number: &usize| self.base.path().join(format!("peer-{number}")).exists();
        let number = (self.peers.len()..).find(|number| !used(number)).unwrap_or_default();
        self.add_in(self.base.path().join(format!("peer-{number}")), args)
    }

    /// Starts one more peer with its data in this directory.
    pub fn add_in(&mut self, dir: PathBuf, args: &[&str]) -> &mut Peer {
        let mut peer = Peer::new(dir, args);
        peer.start();
        self.peers.push(peer);
        self.peers.last_mut().expect("it was just pushed")
    }

    /// Waits until that many peers are in the ring and agree about it.
    ///
    /// # Panics
    /// If that takes more than three minutes.
    pub async fn ideal(&self, peers: usize) {
        eventually(&format!("the ring of {peers} is ideal"), async || self.is_ideal(peers).await).await;
    }

    /// Waits until every owner has put together whole home groups, which takes it a round of maintenance more than its
    /// place on the circle: until then a write that asks for several replicas is refused.
    ///
    /// # Panics
    /// If that takes more than three minutes.
    async fn placed(&self) {
        eventually("home groups are whole", async || self.is_placed().await == Some(true)).await;
    }

    /// Asks for one slot of each owner; none if somebody does not answer.
    async fn is_placed(&self) -> Option<bool> {
        let client = self.client();
        let view = crawl(&client, &CrawlOptions::default()).await.ok()?;
        let ring = view.ring.as_ref()?;
        let bits = SlotBits::new(ring.slot_bits).ok()?;
        let whole = view.peers.len().min(ring.replicas as usize);
        let mut owners = BTreeSet::new();
        for point in bits.iter().map(|slot| bits.point(slot)) {
            let owner = view.places.iter().find(|place| place.id >= point).or(view.places.first())?;
            if owners.insert(owner.id) {
                let target = Target::Id(point.as_bytes().to_vec().into());
                if client.lookup(target).await.ok()?.home_group.len() < whole {
                    return Some(false);
                }
            }
        }
        Some(true)
    }

    /// The processes that run.
    pub fn pids(&self) -> Vec<u32> {
        self.peers.iter().filter_map(Peer::pid).collect()
    }

    /// A client of the first peer that runs.
    pub fn client(&self) -> Client {
        let running = self.peers.iter().filter(|peer| peer.pid().is_some()).map(|peer| peer.address.as_str());
        Client::lazy(running, dhtctl::Options::default()).expect("addresses of this machine")
    }

    /// Waits until no peer is bringing slots up to date or sending any, and all replicas are there: every key is held
    /// `copies` times.
    ///
    /// # Panics
    /// If that takes more than three minutes.
    pub async fn whole(&self, keys: u64, copies: u64) {
        let begun = Instant::now();
        let mut ticks = interval(Duration::from_millis(100));
        let mut last = (0, 0);
        while begun.elapsed() < LIMIT {
            ticks.tick().await;
            last = self.held().await;
            if last == (keys * copies, 0) {
                return;
            }
        }
        panic!("{} copies of {keys} keys and {} slots that are not synced after {LIMIT:?}", last.0, last.1);
    }

    /// Keys held, over all peers that run, and slots that are not synced.
    async fn held(&self) -> (u64, u32) {
        let (mut keys, mut syncing) = (0, 0);
        for peer in self.peers.iter().filter(|peer| peer.pid().is_some()) {
            let Ok(client) = Client::connect([&peer.address]).await else { return (0, u32::MAX) };
            let Ok(status) = client.status().await else { return (0, u32::MAX) };
            keys += status.keys;
            syncing += status.slots_syncing;
        }
        (keys, syncing)
    }

    async fn is_ideal(&self, peers: usize) -> bool {
        let Ok(report) = self.client().verify().await else { return false };
        let nodes: u32 = self.peers.iter().filter(|peer| peer.pid().is_some()).map(Peer::nodes).sum();
        let everyone = (report.peers as usize, report.nodes) == (peers, nodes);
        report.verdict() == Verdict::Holds && report.ideal && everyone
    }
}

/// Looks again and again whether it is so.
///
/// # Panics
/// If it is not within three minutes.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    let mut ticks = interval(Duration::from_millis(100));
    while begun.elapsed() < LIMIT {
        ticks.tick().await;
        if is_so().await {
            return;
        }
    }
    panic!("after {LIMIT:?} it is not so that {what}");
}

/// Runs `dhtctl` against a peer and returns what it printed on standard output.
///
/// # Panics
/// If it fails: its messages are in the panic's.
pub fn dhtctl(peer: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(binary("dhtctl")).args(["--peer", peer]).args(args).output().expect("dhtctl was built");
    assert!(output.status.success(), "dhtctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A peer that starts has half a second of work to do, in a debug build. Side by side that goes quicker, but if many did
/// it at once, those that run already would not get to answer and be taken for dead.
const STARTED_AT_ONCE: usize = 4;

/// Far more than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);
