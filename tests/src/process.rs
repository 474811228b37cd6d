//! Rings of real processes: started, killed, restarted, asked.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use dht_core::ring::SlotBits;
use dhtctl::{
    Client,
    overlay::{CrawlOptions, Shape, crawl},
};
use dhtd_proto::v1::lookup_request::Target;
use tempfile::TempDir;
use tokio::time::interval;

/// One `dhtd` process and its data directory.
#[derive(Debug)]
pub struct Peer {
    /// Where it is reached; the system chose the port when it was first started.
    pub address: String,
    dir: PathBuf,
    child: Option<Child>,
    args: Vec<String>,
}

/// Some peers on this machine; all end with it.
#[derive(Debug)]
pub struct Ring {
    /// The peers in the order in which they were started.
    pub peers: Vec<Peer>,
    base: TempDir,
}

impl Ring {
    /// Starts a founder and `peers - 1` others that join through it, all with these arguments, and waits until the ring
    /// is ideal and writes find as many replicas as they will ever have.
    pub async fn start(peers: usize, founding: &[&str], args: &[&str]) -> Self {
        Self::start_in(&std::env::temp_dir(), peers, founding, args).await
    }

    /// As [`Ring::start`], with the peers' data somewhere below `dir`.
    pub async fn start_in(dir: &Path, peers: usize, founding: &[&str], args: &[&str]) -> Self {
        let base = tempfile::tempdir_in(dir).expect("a directory for the peers");
        let mut ring = Self { peers: Vec::new(), base };
        let first: Vec<&str> = [&["--bootstrap"], founding, args].concat();
        ring.add(&first);
        for _ in 1..peers {
            let seed = ring.peers[0].address.clone();
            ring.add(&[&["--join", seed.as_str()], args].concat());
        }
        ring.ideal(peers).await;
        ring.placed().await;
        ring
    }

    /// Starts one more peer.
    pub fn add(&mut self, args: &[&str]) -> &mut Peer {
        let dir = self.base.path().join(format!("peer-{}", self.peers.len()));
        let args = args.iter().map(ToString::to_string).collect();
        let mut peer = Peer { address: "127.0.0.1:0".to_owned(), dir, child: None, args };
        peer.start();
        self.peers.push(peer);
        self.peers.last_mut().expect("it was just pushed")
    }

    /// Waits until that many peers are in the ring and agree about it.
    ///
    /// # Panics
    /// If that takes more than a minute.
    pub async fn ideal(&self, peers: usize) {
        let begun = Instant::now();
        let mut ticks = interval(Duration::from_millis(100));
        while begun.elapsed() < LIMIT {
            ticks.tick().await;
            if self.is_ideal(peers).await {
                return;
            }
        }
        panic!("the ring of {peers} is not ideal after {LIMIT:?}");
    }

    /// Waits until every owner has put together whole home groups, which takes it a round of maintenance more than its
    /// place on the circle: until then a write that asks for several replicas is refused.
    ///
    /// # Panics
    /// If that takes more than a minute.
    async fn placed(&self) {
        let begun = Instant::now();
        let mut ticks = interval(Duration::from_millis(100));
        while begun.elapsed() < LIMIT {
            ticks.tick().await;
            if self.is_placed().await == Some(true) {
                return;
            }
        }
        panic!("home groups are too small after {LIMIT:?}");
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
        let running = self.peers.iter().filter(|peer| peer.child.is_some()).map(|peer| peer.address.as_str());
        Client::lazy(running, dhtctl::Options::default()).expect("addresses of this machine")
    }

    /// Waits until no peer is bringing slots up to date or sending any, and all replicas are there: every key is held
    /// `copies` times.
    ///
    /// # Panics
    /// If that takes more than a minute.
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
        for peer in self.peers.iter().filter(|peer| peer.child.is_some()) {
            let Ok(client) = Client::connect([&peer.address]).await else { return (0, u32::MAX) };
            let Ok(status) = client.status().await else { return (0, u32::MAX) };
            keys += status.keys;
            syncing += status.slots_syncing;
        }
        (keys, syncing)
    }

    async fn is_ideal(&self, peers: usize) -> bool {
        let Ok(view) = crawl(&self.client(), &CrawlOptions::default()).await else { return false };
        view.peers.len() == peers && view.shape() == Shape::Ideal
    }
}

impl Peer {
    /// Starts the process, with what is in its data directory if it ran before.
    ///
    /// # Panics
    /// If it does not serve: its log is in the message.
    pub fn start(&mut self) {
        let mut child = Command::new(binary("dhtd"))
            .args(["run", "--stop-with-stdin", "--listen", &self.address, "--data-dir"])
            .arg(&self.dir)
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("dhtd was built");
        let log = child.stderr.take().expect("it is piped");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut said = Vec::new();
        let served = loop {
            match lines.recv_timeout(LIMIT) {
                Ok(line) => match line.split_once("serving address=") {
                    Some((_, address)) => break address.trim().to_owned(),
                    None => said.push(line),
                },
                Err(_) => panic!("a peer does not serve:\n{}", said.join("\n")),
            }
        };
        self.address = served;
        self.child = Some(child);
        // What made it a member the first time is on disk now.
        self.args.retain(|arg| arg != "--bootstrap");
    }

    /// Ends the process without a chance to do anything (`kill -9`).
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
    }

    /// Waits until the process ends by itself; returns whether it was content.
    pub fn wait(&mut self) -> bool {
        let mut child = self.child.take().expect("it runs");
        child.wait().expect("it is ours").success()
    }

    /// A client of this peer.
    pub fn client(&self) -> Client {
        Client::lazy([&self.address], dhtctl::Options::default()).expect("an address of this machine")
    }

    /// The process's id; none while it does not run.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
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

/// A binary of the workspace, built if need be: cargo builds only libraries for the programs of another package.
fn binary(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let program = std::env::current_exe().expect("it runs");
        let beside = program.parent().expect("target/PROFILE/PROGRAM or target/PROFILE/deps/TEST");
        let folder =
            if beside.ends_with("deps") { beside.parent().expect("target/PROFILE") } else { beside }.to_owned();
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build
            .args(["build", "--quiet", "--locked", "--workspace", "--bin", "dhtd", "--bin", "dhtctl"])
            .env("CARGO_TARGET_DIR", folder.parent().expect("target"));
        if folder.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().is_ok_and(|status| status.success()), "the binaries can't be built");
        folder
    });
    folder.join(name)
}

/// Far more than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
