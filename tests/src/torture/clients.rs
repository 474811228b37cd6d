//! Clients, and what they saw.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dhtctl::{Client, Error, Options};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::linearizability::{Action, History, Operation, Outcome, Reply, Value};

/// How much clients do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Clients that write.
    pub writers: usize,
    /// Clients that read.
    pub readers: usize,
    /// Keys that are in use at a time.
    pub keys: usize,
    /// After so many operations a key makes room for a new one: its history can be checked.
    pub retire_after: u64,
    /// Operations per second, over all clients.
    pub rate: f64,
}

impl Default for Load {
    fn default() -> Self {
        Self { writers: 16, readers: 16, keys: 200, retire_after: 500, rate: 2000.0 }
    }
}

/// Clients at work.
pub(super) struct Clients {
    world: Arc<World>,
    tasks: JoinSet<()>,
}

/// What all clients share.
struct World {
    load: Load,
    /// Whom they ask.
    peers: RwLock<Vec<Client>>,
    began: Instant,
    stop: AtomicBool,
    /// How often each key was used; which key it is follows from it.
    uses: Vec<AtomicU64>,
    values: AtomicU64,
    seen: Mutex<Seen>,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) history: History,
    pub(super) written: usize,
    pub(super) read: usize,
    /// What was not carried out: how often, by reason.
    pub(super) refused: BTreeMap<String, usize>,
    pub(super) unknown: usize,
    pub(super) longest_gap: Duration,
    last_write: Duration,
}

impl Clients {
    pub(super) fn start(load: Load, addresses: &[String], seed: u64) -> Self {
        let world = Arc::new(World {
            load,
            peers: RwLock::new(addresses.iter().map(|address| client_of(address)).collect()),
            began: Instant::now(),
            stop: AtomicBool::new(false),
            uses: (0..load.keys).map(|_| AtomicU64::new(0)).collect(),
            values: AtomicU64::new(0),
            seen: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for number in 0..load.writers + load.readers {
            let random = ChaCha8Rng::seed_from_u64(seed ^ ((number as u64) << 32));
            tasks.spawn(world.clone().client(number, random));
        }
        Self { world, tasks }
    }

    /// From now on these peers are asked.
    pub(super) fn ask(&self, addresses: &[String]) {
        let peers = addresses.iter().map(|address| client_of(address)).collect();
        *self.world.peers.write().unwrap_or_else(PoisonError::into_inner) = peers;
    }

    /// The keys that are in use.
    pub(super) fn keys(&self) -> Vec<Bytes> {
        (0..self.world.load.keys)
            .map(|place| self.world.key(place, self.world.uses[place].load(Ordering::Relaxed)))
            .collect()
    }

    /// Waits for the last answers and returns what was seen.
    pub(super) async fn stop(self) -> Seen {
        self.world.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        std::mem::take(&mut *self.world.seen())
    }
}

impl World {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this place's key is called after so many uses.
    fn key(&self, place: usize, uses: u64) -> Bytes {
        format!("key {place} {}", uses / self.load.retire_after).into()
    }

    fn any_peer(&self, random: &mut ChaCha8Rng) -> Client {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers[random.random_range(0..peers.len())].clone()
    }

    /// One client: an operation at a time, at the pace that the load has.
    async fn client(self: Arc<Self>, number: usize, mut random: ChaCha8Rng) {
        let clients = self.load.writers + self.load.readers;
        let mut pace = interval(Duration::from_secs_f64(clients as f64 / self.load.rate));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.stop.load(Ordering::Relaxed) {
            pace.tick().await;
            let place = random.random_range(0..self.load.keys);
            let key = self.key(place, self.uses[place].fetch_add(1, Ordering::Relaxed));
            let peer = self.any_peer(&mut random);
            let action = if number >= self.load.writers {
                Action::Get
            } else if random.random_bool(0.1) {
                Action::Delete
            } else {
                Action::Put(self.values.fetch_add(1, Ordering::Relaxed).to_string().into())
            };
            let invoked = self.began.elapsed();
            let (outcome, refusal) = match self.carry_out(&peer, &key, &action).await {
                Ok((reply, revision)) => (Outcome::Answered { at: self.began.elapsed(), reply, revision }, None),
                Err(error) if error.may_have_executed() => (Outcome::Unknown, None),
                Err(error) => (Outcome::NotExecuted, Some(reason(&error))),
            };
            self.note(Operation { client: number as u64, key, action, invoked, outcome }, refusal);
        }
    }

    async fn carry_out(&self, peer: &Client, key: &Bytes, action: &Action) -> Result<(Reply, Option<u64>), Error> {
        Ok(match action {
            Action::Put(value) => (Reply::Done, Some(peer.put(key.clone(), value.clone(), 1).await?.revision)),
            Action::Delete => {
                let revision = peer.delete(key.clone(), 1).await?.revision;
                (Reply::Done, Some(revision).filter(|revision| *revision > 0))
            }
            _ => match peer.get(key.clone()).await? {
                Some(answer) => (Reply::Read(Some(Value::Bytes(answer.value))), Some(answer.revision)),
                None => (Reply::Read(None), None),
            },
        })
    }

    fn note(&self, operation: Operation, refusal: Option<String>) {
        let mut seen = self.seen();
        match &operation.outcome {
            Outcome::Answered { .. } if operation.action == Action::Get => seen.read += 1,
            Outcome::Answered { at, .. } => {
                seen.written += 1;
                seen.longest_gap = seen.longest_gap.max(at.saturating_sub(seen.last_write));
                seen.last_write = seen.last_write.max(*at);
            }
            Outcome::Unknown => seen.unknown += 1,
            Outcome::NotExecuted => *seen.refused.entry(refusal.unwrap_or_default()).or_default() += 1,
        }
        seen.history.push(operation);
    }
}

/// Of one peer only.
pub(super) fn client_of(address: &str) -> Client {
    let options = Options { timeout: TIME_OUT, ..Options::default() };
    Client::lazy([address], options).expect("an address of this machine")
}

/// What a request failed for, in a word.
pub(super) fn reason(error: &Error) -> String {
    match (error.reason(), error.code()) {
        (Some(reason), _) => reason.to_owned(),
        (None, Some(code)) => format!("{code:?}"),
        (None, None) => "NOT_SENT".to_owned(),
    }
}

/// Longer than a peer tries by itself.
const TIME_OUT: Duration = Duration::from_secs(8);
