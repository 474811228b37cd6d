//! How long a ring of real processes leaves keys unserved when a peer dies, is stopped, or joins and departs.
//!
//! Every 20 ms each of a few keys is written, and read, through peers that stay. An outage of a key is the longest time
//! between two answers to it while the fault goes on; what is asked later does not wait for what was asked before.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use dht_core::ring::{Id, Slot, SlotBits};
use dhtctl::{Client, Options};
use dhtd_proto::v1::lookup_request::Target;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use crate::process::{Peer, Ring};

/// What one fault did.
#[derive(Clone, Debug, Default)]
pub struct Outages {
    /// The longest time without an answered write, for each key whose replicas the fault is about.
    pub writes: Vec<Duration>,
    /// The slots that could not be written for longer than 800 ms, for how long, and how long after the change.
    pub long: Vec<Long>,
    /// The same for the other keys.
    pub writes_elsewhere: Vec<Duration>,
    /// The longest time without an answered read, for each key whose replicas the fault is about.
    pub reads: Vec<Duration>,
    /// How long reads of the other keys took that were answered.
    pub reads_elsewhere: Vec<Duration>,
    /// Reads of these that failed.
    pub failed_reads_elsewhere: usize,
}

/// A slot that could not be written.
#[derive(Clone, Debug)]
pub struct Long {
    /// Which.
    pub slot: Slot,
    /// The last answer before came so long after the change began.
    pub after: Duration,
    /// For how long.
    pub gap: Duration,
    /// What the peers have logged about it since then.
    pub log: Vec<String>,
}

/// What happens to the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The peer of this number is killed, and started again after [`DOWN`].
    Kill(usize),
    /// The peer of this number is told to stop, and started again after [`DOWN`].
    Stop(usize),
    /// One more peer joins and, once it holds its share, departs.
    JoinAndDepart,
}

/// Keys under probes.
pub struct Probes {
    shared: Arc<Shared>,
    keys: Vec<Vec<u8>>,
    tasks: JoinSet<()>,
}

struct Shared {
    peers: Vec<Client>,
    /// Not asked: it is about to die.
    victim: AtomicUsize,
    stop: AtomicBool,
    seen: Mutex<Vec<Seen>>,
}

/// What was seen of a key since it was last taken.
#[derive(Clone, Debug, Default)]
struct Seen {
    written: Vec<Instant>,
    read: Vec<Instant>,
    took: Vec<Duration>,
    failed_reads: usize,
}

impl Probes {
    /// Begins to write and read so many keys.
    #[must_use]
    pub fn start(ring: &Ring, keys: usize) -> Self {
        let options = Options { timeout: TIME_OUT, ..Options::default() };
        let client = |address: &String| Client::lazy([address], options.clone()).expect("an address of this machine");
        let shared = Arc::new(Shared {
            peers: ring.peers.iter().map(|peer| client(&peer.address)).collect(),
            victim: AtomicUsize::new(usize::MAX),
            stop: AtomicBool::new(false),
            seen: Mutex::new(vec![Seen::default(); keys]),
        });
        let keys: Vec<Vec<u8>> = (0..keys).map(|key| format!("probe {key}").into_bytes()).collect();
        let mut tasks = JoinSet::new();
        for (number, key) in keys.iter().enumerate() {
            tasks.spawn(shared.clone().probe(number, key.clone()));
        }
        Self { shared, keys, tasks }
    }

    /// Has something happen to the ring, and says what was seen meanwhile.
    ///
    /// # Panics
    /// If the ring does not come to rest again.
    pub async fn during(&self, ring: &mut Ring, change: Change) -> Outages {
        let (peers, keys) = (ring.peers.len(), self.keys.len());
        let concerned = match change {
            Change::Kill(victim) | Change::Stop(victim) => self.held_by(ring, victim).await,
            Change::JoinAndDepart => (0..keys).collect(),
        };
        self.take();
        ring.peers.iter().for_each(|peer| drop(peer.said()));
        let mut began = Instant::now();
        match change {
            Change::Kill(victim) | Change::Stop(victim) => {
                self.shared.victim.store(victim, Ordering::Relaxed);
                sleep(APPROACH).await;
                began = Instant::now();
                if matches!(change, Change::Kill(_)) {
                    ring.peers[victim].kill();
                } else {
                    ring.peers[victim].terminate();
                    ring.peers[victim].wait_for().await;
                }
                sleep(DOWN).await;
                ring.peers[victim].start();
            }
            Change::JoinAndDepart => {
                let seed = ring.peers[0].address.clone();
                let newcomer = ring.add(&["--join", &seed]).client();
                ring.ideal(peers + 1).await;
                sleep(REST).await;
                let mut progress = newcomer.depart().await.expect("it is a member");
                while progress.next().await.expect("it says how far it is").is_some_and(|step| !step.done) {}
                assert!(ring.peers.pop().is_some_and(|mut peer| peer.wait()), "it departed well");
            }
        }
        ring.ideal(peers).await;
        sleep(REST).await;
        self.shared.victim.store(usize::MAX, Ordering::Relaxed);
        let seen = self.take();
        let log: Vec<String> = ring.peers.iter().flat_map(Peer::said).collect();
        Outages { long: self.long(&seen, began, &log), ..outages(&seen, &concerned) }
    }

    fn long(&self, seen: &[Seen], began: Instant, log: &[String]) -> Vec<Long> {
        let bits = SlotBits::DEFAULT;
        let long = |(key, seen): (&Vec<u8>, &Seen)| {
            let (from, gap) = longest_gap(&seen.written)?;
            let slot = bits.slot_of(Id::of_key(key));
            let about = format!("slot={slot} ");
            let mut log: Vec<String> = log.iter().filter(|line| line.contains(&about)).cloned().collect();
            log.sort_unstable();
            (gap >= LONG).then_some(Long { slot, after: from.saturating_duration_since(began), gap, log })
        };
        self.keys.iter().zip(seen).filter_map(long).collect()
    }

    /// Waits for the last answers.
    pub async fn stop(self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
    }

    fn take(&self) -> Vec<Seen> {
        let mut seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = vec![Seen::default(); seen.len()];
        std::mem::replace(&mut seen, empty)
    }

    /// The keys that should be at this peer. At rest they are there.
    async fn held_by(&self, ring: &Ring, peer: usize) -> BTreeSet<usize> {
        let address = &ring.peers[peer].address;
        let client = ring.client();
        let mut held = BTreeSet::new();
        for (number, key) in self.keys.iter().enumerate() {
            let found = client.lookup(Target::Key(key.clone().into())).await.expect("the ring is at rest");
            if found.home_group.iter().any(|peer| peer.address == *address) {
                held.insert(number);
            }
        }
        held
    }
}

fn outages(seen: &[Seen], concerned: &BTreeSet<usize>) -> Outages {
    let mut outages = Outages::default();
    for (number, seen) in seen.iter().enumerate() {
        let gap = |answers| longest_gap(answers).map_or(Duration::MAX, |(_, gap)| gap);
        let (written, read) = (gap(&seen.written), gap(&seen.read));
        if concerned.contains(&number) {
            outages.writes.push(written);
            outages.reads.push(read);
        } else {
            outages.writes_elsewhere.push(written);
            outages.reads_elsewhere.extend(&seen.took);
            outages.failed_reads_elsewhere += seen.failed_reads;
        }
    }
    outages
}

/// When the longest time without an answer began, and how long it was. Answers come in another order than they were asked
/// for.
fn longest_gap(answers: &[Instant]) -> Option<(Instant, Duration)> {
    let mut answers = answers.to_vec();
    answers.sort_unstable();
    answers.windows(2).map(|pair| (pair[0], pair[1] - pair[0])).max_by_key(|(_, gap)| *gap)
}

impl Shared {
    async fn probe(self: Arc<Self>, number: usize, key: Vec<u8>) {
        let mut pace = interval(EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next = number;
        let mut asked = JoinSet::new();
        while !self.stop.load(Ordering::Relaxed) {
            pace.tick().await;
            while asked.try_join_next().is_some() {}
            next = (next + 1) % self.peers.len();
            if next == self.victim.load(Ordering::Relaxed) {
                next = (next + 1) % self.peers.len();
            }
            let (client, shared, at) = (self.peers[next].clone(), self.clone(), key.clone());
            asked.spawn(async move {
                if client.put(at, VALUE, 1).await.is_ok() {
                    shared.note(number, |seen| seen.written.push(Instant::now()));
                }
            });
            let (client, shared, at) = (self.peers[next].clone(), self.clone(), key.clone());
            asked.spawn(async move {
                let asked = Instant::now();
                let answered = client.get(at).await.is_ok();
                let now = Instant::now();
                shared.note(number, |seen| match answered {
                    true => {
                        seen.read.push(now);
                        seen.took.push(now - asked);
                    }
                    false => seen.failed_reads += 1,
                });
            });
        }
        asked.join_all().await;
    }

    fn note(&self, key: usize, what: impl FnOnce(&mut Seen)) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        what(&mut seen[key]);
    }
}

/// From there on an outage is looked into.
const LONG: Duration = Duration::from_millis(800);

/// How often each key is written, and read.
const EVERY: Duration = Duration::from_millis(20);

/// For how long the victim is not asked any more before it dies: longer than an answer takes.
const APPROACH: Duration = Duration::from_secs(1);

/// For how long a killed or stopped peer is away: its slots go on without it, and are made whole elsewhere.
pub const DOWN: Duration = Duration::from_secs(8);

/// How long the ring has to move slots once it is ideal.
const REST: Duration = Duration::from_secs(8);

/// Longer than a peer tries by itself.
const TIME_OUT: Duration = Duration::from_secs(8);

/// What is written.
const VALUE: &[u8] = b"probe";
