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
    overlay::{CrawlOptions, crawl},
};
use dhtd_proto::v1::{Verdict, lookup_request::Target};
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
    /// What it writes to its log.
    log: Option<mpsc::Receiver<String>>,
}

/// Some peers on this machine; all end with it.
#[derive(Debug)]
pub struct Ring {
    /// The peers in the order in which they were started.
    pub peers: Vec<Peer>,
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
        let base = tempfile::tempdir_in(dir).expect("a directory for the peers");
        let mut ring = Self { peers: Vec::new(), base };
        let first: Vec<&str> = [&["--bootstrap"], founding, args].concat();
        let seed = ring.add(&first).address.clone();
        let joining: Vec<&str> = [&["--join", seed.as_str()], args].concat();
        let dirs = (1..peers).map(|number| ring.base.path().join(format!("peer-{number}")));
        ring.peers.extend(dirs.map(|dir| Peer::new(dir, &joining)));
        for group in ring.peers[1..].chunks_mut(STARTED_AT_ONCE) {
            group.iter_mut().for_each(Peer::launch);
            group.iter_mut().for_each(Peer::await_service);
        }
        ring.ideal(peers).await;
        ring.placed().await;
        ring
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
        let running = self.peers.iter().filter(|peer| peer.child.is_some()).map(|peer| peer.address.as_str());
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
        for peer in self.peers.iter().filter(|peer| peer.child.is_some()) {
            let Ok(client) = Client::connect([&peer.address]).await else { return (0, u32::MAX) };
            let Ok(status) = client.status().await else { return (0, u32::MAX) };
            keys += status.keys;
            syncing += status.slots_syncing;
        }
        (keys, syncing)
    }

    async fn is_ideal(&self, peers: usize) -> bool {
        let Ok(report) = self.client().verify().await else { return false };
        let nodes: u32 = self.peers.iter().filter(|peer| peer.child.is_some()).map(Peer::nodes).sum();
        let everyone = (report.peers as usize, report.nodes) == (peers, nodes);
        report.verdict() == Verdict::Holds && report.ideal && everyone
    }
}

impl Peer {
    fn new(dir: PathBuf, args: &[&str]) -> Self {
        let args = args.iter().map(ToString::to_string).collect();
        Self { address: "127.0.0.1:0".to_owned(), dir, child: None, args, log: None }
    }

    /// v, as its arguments have it.
    fn nodes(&self) -> u32 {
        let given = self.args.iter().skip_while(|arg| *arg != "--nodes").nth(1);
        given.map_or(16, |nodes| nodes.parse().expect("--nodes takes a number"))
    }

    /// Starts the process, with what is in its data directory if it ran before.
    ///
    /// # Panics
    /// If it does not serve: its log is in the message.
    pub fn start(&mut self) {
        self.launch();
        self.await_service();
    }

    fn launch(&mut self) {
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
        self.child = Some(child);
        self.log = Some(lines);
    }

    fn await_service(&mut self) {
        let lines = self.log.as_ref().expect("it was launched");
        let mut said = Vec::new();
        self.address = loop {
            match lines.recv_timeout(LIMIT) {
                Ok(line) => match line.split_once("serving address=") {
                    Some((_, address)) => break address.trim().to_owned(),
                    None => said.push(line),
                },
                Err(_) => panic!("a peer does not serve:\n{}", said.join("\n")),
            }
        };
        // What made it a member the first time is on disk now.
        self.args.retain(|arg| arg != "--bootstrap");
    }

    /// Starts the process although it will refuse to run, and returns what it says about that.
    ///
    /// # Panics
    /// If it ends well.
    pub fn refuse_to_start(&mut self) -> String {
        self.launch();
        // Left open, since it is to end by itself, which may take it a moment.
        let _stdin = self.child.as_mut().and_then(|child| child.stdin.take());
        assert!(!self.wait(), "it ended well");
        self.log.iter().flat_map(mpsc::Receiver::iter).collect::<Vec<_>>().join("\n")
    }

    /// What it has written to its log since it began to serve, or since this was last asked.
    pub fn said(&self) -> Vec<String> {
        self.log.iter().flat_map(mpsc::Receiver::try_iter).collect()
    }

    /// Ends the process without a chance to do anything (`kill -9`).
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
    }

    /// Stops the process where it is (`kill -STOP`): it is there, but does nothing.
    pub fn pause(&mut self) {
        self.signal("-STOP");
    }

    /// Lets a paused process go on.
    pub fn unpause(&mut self) {
        self.signal("-CONT");
    }

    fn signal(&mut self, signal: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().is_ok_and(|status| status.success()));
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

/// A peer that starts has half a second of work to do, in a debug build. Side by side that goes quicker, but if many did
/// it at once, those that run already would not get to answer and be taken for dead.
const STARTED_AT_ONCE: usize = 4;

/// Far more than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);
