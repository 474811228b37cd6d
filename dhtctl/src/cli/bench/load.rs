//! Loops that ask and time what they ask.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dhtctl::{Client, Error, Pipeline, Write};
use hdrhistogram::Histogram;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::draw::Draw;
use crate::cli::args::{Bench, BenchWay, Workload};

/// What a loop has seen since it was last looked at.
pub(super) struct Seen {
    /// Of each call, in microseconds, of operations that were answered.
    pub(super) latency: Histogram<u64>,
    /// Operations that were answered.
    pub(super) operations: u64,
    /// Reads of keys that have no value: answered as well.
    pub(super) missing: u64,
    /// Operations that failed.
    pub(super) failed: u64,
    /// One of the failures.
    pub(super) failure: Option<Error>,
}

/// All loops of a load.
pub(super) struct Load {
    seen: Vec<Arc<Mutex<Seen>>>,
    loops: JoinSet<()>,
}

/// Where a loop's operations go.
#[derive(Clone)]
enum Way {
    Unary(Client),
    Batch(Client, usize),
    Pipeline(Pipeline),
}

/// When operations are due, if not as soon as the last one is done.
struct Schedule {
    begun: Instant,
    /// Operations of all loops together, per second.
    rate: Option<f64>,
    next: AtomicU64,
    end: Instant,
}

enum Action {
    Read(Bytes),
    Put(Bytes, Bytes),
    Increment(Bytes),
}

impl Default for Seen {
    fn default() -> Self {
        // Three digits, and as long as it takes.
        let latency = Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits are allowed"));
        Self { latency, operations: 0, missing: 0, failed: 0, failure: None }
    }
}

impl Seen {
    /// Adds what another loop has seen.
    pub(super) fn add(&mut self, other: Self) {
        // Cannot fail: both grow as needed.
        let added = self.latency.add(&other.latency);
        debug_assert!(added.is_ok(), "histograms that grow take everything");
        self.operations += other.operations;
        self.missing += other.missing;
        self.failed += other.failed;
        self.failure = self.failure.take().or(other.failure);
    }
}

impl Load {
    /// Starts the loops, over these endpoints in turn. They end by themselves.
    pub(super) fn start(plan: &Bench, endpoints: &[Client]) -> Self {
        let begun = Instant::now();
        let end = begun + Duration::from_secs_f64(plan.seconds);
        let schedule = Arc::new(Schedule { begun, rate: plan.rate, next: AtomicU64::new(0), end });
        let way = |client: &Client| match plan.way {
            BenchWay::Unary => Way::Unary(client.clone()),
            BenchWay::Batch => Way::Batch(client.clone(), plan.batch_size as usize),
            BenchWay::Pipeline => Way::Pipeline(client.pipeline()),
        };
        let ways: Vec<Way> = endpoints.iter().map(way).collect();
        let (mut seen, mut loops) = (Vec::new(), JoinSet::new());
        for (number, way) in (0..u64::from(plan.in_flight)).zip(ways.into_iter().cycle()) {
            let mine = Arc::new(Mutex::new(Seen::default()));
            seen.push(mine.clone());
            let draw = Draw::new(plan, number);
            let (workload, min_durable) = (plan.workload, plan.min_durable);
            loops.spawn(one_loop(way, draw, workload, min_durable, schedule.clone(), mine));
        }
        Self { seen, loops }
    }

    /// What was seen since this was last called.
    pub(super) fn take(&self) -> Seen {
        let mut all = Seen::default();
        self.seen.iter().for_each(|seen| all.add(std::mem::take(&mut *lock(seen))));
        all
    }

    /// Waits until all loops have ended.
    pub(super) async fn ended(&mut self) {
        while self.loops.join_next().await.is_some() {}
    }
}

impl Schedule {
    /// When the next operation of whoever asks is due, and whether that is the time to measure it from: with a fixed rate,
    /// an operation that could not be begun in time has waited since then (Tene, *How not to measure latency*).
    async fn next(&self, count: usize) -> Option<Instant> {
        let due = match self.rate {
            None => Instant::now(),
            Some(rate) => {
                let number = self.next.fetch_add(count as u64, Ordering::Relaxed);
                let due = self.begun + Duration::from_secs_f64(number as f64 / rate);
                if due < self.end {
                    sleep_until(due).await;
                }
                due
            }
        };
        (due < self.end && Instant::now() < self.end).then_some(due)
    }
}

async fn one_loop(
    way: Way,
    mut draw: Draw,
    workload: Workload,
    min_durable: u32,
    schedule: Arc<Schedule>,
    seen: Arc<Mutex<Seen>>,
) {
    let count = if let Way::Batch(_, size) = &way { *size } else { 1 };
    while let Some(begun) = schedule.next(count).await {
        // No key may be in a batch twice.
        let mut keys = HashSet::new();
        let actions =
            (0..count).map(|_| action(&mut draw, workload)).filter(|it| keys.insert(it.key().clone())).collect();
        let results = way.carry_out(actions, min_durable).await;
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut seen = lock(&seen);
        let mut answered = false;
        for result in results {
            match result {
                Ok(found) => {
                    answered = true;
                    seen.operations += 1;
                    seen.missing += u64::from(!found);
                }
                Err(error) => {
                    seen.failed += 1;
                    seen.failure.get_or_insert(error);
                }
            }
        }
        if answered {
            // Cannot fail: it grows as needed. (What saturates does not grow.)
            let recorded = seen.latency.record(micros);
            debug_assert!(recorded.is_ok(), "histograms that grow take everything");
        }
    }
}

fn action(draw: &mut Draw, workload: Workload) -> Action {
    let key = draw.key();
    match workload {
        Workload::Query => Action::Read(key),
        Workload::Mixed if draw.reads() => Action::Read(key),
        Workload::Insert | Workload::Mixed => Action::Put(key, draw.value()),
        Workload::Increment => Action::Increment(key),
    }
}

impl Action {
    fn key(&self) -> &Bytes {
        let (Self::Read(key) | Self::Put(key, _) | Self::Increment(key)) = self;
        key
    }
}

impl Way {
    /// What came of each, in no order: of a read, whether there is a value.
    async fn carry_out(&self, mut actions: Vec<Action>, min_durable: u32) -> Vec<Result<bool, Error>> {
        let put = |key, value| Write::put(key, value).min_durable(min_durable);
        match self {
            Self::Batch(client, _) => {
                let (mut keys, mut writes) = (Vec::new(), Vec::new());
                for action in actions {
                    match action {
                        Action::Read(key) => keys.push(key),
                        Action::Put(key, value) => writes.push(put(key, value)),
                        Action::Increment(key) => writes.push(Write::increment(key, 1)),
                    }
                }
                let (read, written) = tokio::join!(client.batch_get(keys), client.batch_write(writes));
                let read = read.into_iter().map(|result| result.map(|found| found.is_some()));
                read.chain(written.into_iter().map(|result| result.map(|_| true))).collect()
            }
            Self::Unary(client) => match actions.pop() {
                Some(Action::Read(key)) => vec![client.get(key).await.map(|found| found.is_some())],
                Some(Action::Put(key, value)) => vec![client.put(key, value, min_durable).await.map(|_| true)],
                Some(Action::Increment(key)) => vec![client.increment(key, 1).await.map(|_| true)],
                None => Vec::new(),
            },
            Self::Pipeline(pipeline) => match actions.pop() {
                Some(Action::Read(key)) => vec![pipeline.get(key).await.map(|found| found.is_some())],
                Some(Action::Put(key, value)) => vec![pipeline.write(put(key, value)).await.map(|_| true)],
                Some(Action::Increment(key)) => vec![pipeline.write(Write::increment(key, 1)).await.map(|_| true)],
                None => Vec::new(),
            },
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
