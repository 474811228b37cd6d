//! Clients, and what they saw.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dhtctl::{Client, Options};
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
    peers: Vec<Client>,
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
    pub(super) answered: usize,
    pub(super) refused: usize,
    pub(super) unknown: usize,
    pub(super) longest_gap: Duration,
    last_write: Duration,
}

impl Clients {
    pub(super) fn start(load: Load, addresses: &[String], seed: u64) -> Self {
        let options = Options { timeout: TIME_OUT, ..Options::default() };
        let client = |address: &String| Client::lazy([address], options.clone()).expect("an address of this machine");
        let world = Arc::new(World {
            load,
            peers: addresses.iter().map(client).collect(),
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

    /// Waits for the last answers and returns what was seen.
    pub(super) async fn stop(self) -> Seen {
        self.world.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        std::mem::take(&mut *self.world.seen())
    }
}

impl World {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One client: an operation at a time, at the pace that the load has.
    async fn client(self: Arc<Self>, number: usize, mut random: ChaCha8Rng) {
        let clients = self.load.writers + self.load.readers;
        let mut pace = interval(Duration::from_secs_f64(clients as f64 / self.load.rate));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.stop.load(Ordering::Relaxed) {
            pace.tick().await;
            let place = random.random_range(0..self.load.keys);
            let round = self.uses[place].fetch_add(1, Ordering::Relaxed) / self.load.retire_after;
            let key = Bytes::from(format!("key {place} {round}"));
            let peer = &self.peers[random.random_range(0..self.peers.len())];
            let action = if number >= self.load.writers {
                Action::Get
            } else if random.random_bool(0.1) {
                Action::Delete
            } else {
                Action::Put(self.values.fetch_add(1, Ordering::Relaxed).to_string().into())
            };
            let invoked = self.began.elapsed();
            let outcome = self.carry_out(peer, &key, &action).await;
            self.note(Operation { client: number as u64, key, action, invoked, outcome });
        }
    }

    async fn carry_out(&self, peer: &Client, key: &Bytes, action: &Action) -> Outcome {
        let answered = |reply, revision| Outcome::Answered { at: self.began.elapsed(), reply, revision };
        let failed = |error: &dhtctl::Error| match error.may_have_executed() {
            true => Outcome::Unknown,
            false => Outcome::NotExecuted,
        };
        match action {
            Action::Put(value) => match peer.put(key.clone(), value.clone(), 1).await {
                Ok(answer) => answered(Reply::Done, Some(answer.revision)),
                Err(error) => failed(&error),
            },
            Action::Delete => match peer.delete(key.clone(), 1).await {
                Ok(answer) => answered(Reply::Done, Some(answer.revision).filter(|revision| *revision > 0)),
                Err(error) => failed(&error),
            },
            _ => match peer.get(key.clone()).await {
                Ok(Some(answer)) => answered(Reply::Read(Some(Value::Bytes(answer.value))), Some(answer.revision)),
                Ok(None) => answered(Reply::Read(None), None),
                Err(_) => Outcome::NotExecuted,
            },
        }
    }

    fn note(&self, operation: Operation) {
        let mut seen = self.seen();
        match &operation.outcome {
            Outcome::Answered { at, .. } => {
                seen.answered += 1;
                if operation.action != Action::Get {
                    seen.longest_gap = seen.longest_gap.max(at.saturating_sub(seen.last_write));
                    seen.last_write = seen.last_write.max(*at);
                }
            }
            Outcome::Unknown => seen.unknown += 1,
            Outcome::NotExecuted => seen.refused += 1,
        }
        seen.history.push(operation);
    }
}

/// Longer than a peer tries by itself.
const TIME_OUT: Duration = Duration::from_secs(8);
