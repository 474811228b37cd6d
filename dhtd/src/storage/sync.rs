//! Group fsync: any number of writers share one [`Engine::sync`].
//!
//! A writer puts its batch, takes a [`Ticket`] and awaits it. One thread takes all tickets that are waiting, syncs once, and
//! resolves them; meanwhile the next group forms. So the disk is never idle while somebody waits, and a group grows with the load.

use super::engine::{Engine, EngineError};
use std::{
    fmt,
    pin::Pin,
    str::FromStr,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// When an acknowledged write is on stable storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FsyncPolicy {
    /// Before it is acknowledged. The default: anything less must be chosen knowingly.
    #[default]
    Always,
    /// At most this long (plus the sync itself) after it was acknowledged; a loss of power loses that much. More than zero.
    Interval(Duration),
}

/// A text that is no [`FsyncPolicy`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fsync policy {0:?} is not known: use `always`, or `interval=` and a time such as `100ms` or `1s`")]
pub struct UnknownFsyncPolicy(String);

impl FromStr for FsyncPolicy {
    type Err = UnknownFsyncPolicy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownFsyncPolicy(text.to_string());
        if text == "always" {
            return Ok(Self::Always);
        }
        let time = text.strip_prefix("interval=").ok_or_else(unknown)?;
        parse_time(time).map(Self::Interval).ok_or_else(unknown)
    }
}

/// A time as arguments have it, `100ms` or `2s`; `None` if it is none, or no time at all.
#[must_use]
pub fn parse_time(text: &str) -> Option<Duration> {
    let (digits, unit_ms) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => (text.strip_suffix('s')?, 1_000),
    };
    // `parse` alone would accept a sign.
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>().ok()).flatten();
    number?.checked_mul(unit_ms).filter(|ms| *ms > 0).map(Duration::from_millis)
}

impl fmt::Display for FsyncPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Interval(time) if time.subsec_nanos() == 0 => write!(f, "interval={}s", time.as_secs()),
            Self::Interval(time) => write!(f, "interval={}ms", time.as_millis()),
        }
    }
}

/// Owns the thread that syncs an engine. Dropping it syncs once more, resolves what is waiting, and joins the thread.
pub struct Syncer {
    shared: Arc<Shared>,
    policy: FsyncPolicy,
    thread: Option<JoinHandle<()>>,
}

/// Resolves when everything that was put before the ticket was taken has the durability it was taken for. Dropping it is fine: the
/// sync happens anyway.
#[derive(Debug)]
#[must_use = "a ticket says nothing until it is awaited"]
pub struct Ticket(State);

#[derive(Debug)]
enum State {
    Resolved(Result<(), EngineError>),
    Waiting(oneshot::Receiver<Result<(), EngineError>>),
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    syncs: AtomicU64,
    tickets: AtomicU64,
}

/// Whom to tell.
type Done = Box<dyn FnOnce(Result<(), EngineError>) + Send>;

#[derive(Default)]
struct Queue {
    waiting: Vec<Done>,
    /// A ticket was resolved at once and its sync is still owed.
    owed: bool,
    /// The last sync failed. The engine is read-only from then on, so it never turns back.
    failed: Option<EngineError>,
    stopping: bool,
    /// The thread has ended, as planned or by a panic.
    ended: bool,
}

impl Syncer {
    /// Starts the thread.
    ///
    /// # Errors
    /// `Io` if the operating system refuses a thread.
    pub fn start(engine: Arc<dyn Engine>, policy: FsyncPolicy) -> Result<Self, EngineError> {
        let shared = Arc::new(Shared::default());
        let interval = match policy {
            FsyncPolicy::Always => Duration::ZERO,
            FsyncPolicy::Interval(interval) => interval,
        };
        let worker = Worker { engine, shared: Arc::clone(&shared), interval };
        let thread = std::thread::Builder::new().name("sync".to_string()).spawn(move || worker.run());
        let thread = thread.map_err(|error| EngineError::from_io("starting the sync thread", error))?;
        Ok(Self { shared, policy, thread: Some(thread) })
    }

    /// A ticket for what was put before this call, under the policy: with `Always` it resolves after a sync that starts after this call;
    /// with `Interval` it is resolved at once, and a sync follows within the interval.
    ///
    /// # Errors
    /// (On awaiting.) What [`Engine::sync`] said, for every ticket of the group. Under `Interval`, once a sync has failed all later
    /// tickets fail.
    pub fn ticket(&self) -> Ticket {
        match self.policy {
            FsyncPolicy::Always => self.durable_ticket(),
            FsyncPolicy::Interval(_) => self.prompt_ticket(),
        }
    }

    /// A ticket that resolves only after a sync that starts after this call, whatever the policy: for promises and views, whose
    /// loss would break more than the write itself.
    ///
    /// # Errors
    /// (On awaiting.) What [`Engine::sync`] said, for every ticket of the group.
    pub fn durable_ticket(&self) -> Ticket {
        let (sender, receiver) = oneshot::channel();
        // The waiting side may have gone.
        self.then(move |result| _ = sender.send(result));
        Ticket(State::Waiting(receiver))
    }

    /// As [`Syncer::durable_ticket`], for who need not wait: calls `done` from the thread that syncs, which it must not block, or
    /// at once if that has ended.
    pub fn then(&self, done: impl FnOnce(Result<(), EngineError>) + Send + 'static) {
        self.shared.tickets.fetch_add(1, Ordering::Relaxed);
        let mut queue = self.shared.lock();
        if queue.ended {
            drop(queue);
            return done(Err(ended()));
        }
        queue.waiting.push(Box::new(done));
        drop(queue);
        self.shared.wake.notify_one();
    }

    /// Syncs done or tried since the start, for metrics.
    pub fn syncs(&self) -> u64 {
        self.shared.syncs.load(Ordering::Relaxed)
    }

    /// Tickets taken since the start, for metrics; divided by [`Syncer::syncs`] it is the size of a group.
    pub fn tickets(&self) -> u64 {
        self.shared.tickets.load(Ordering::Relaxed)
    }

    fn prompt_ticket(&self) -> Ticket {
        self.shared.tickets.fetch_add(1, Ordering::Relaxed);
        let mut queue = self.shared.lock();
        if queue.ended {
            return Ticket(State::Resolved(Err(queue.failed.clone().unwrap_or_else(ended))));
        }
        if let Some(error) = &queue.failed {
            return Ticket(State::Resolved(Err(error.clone())));
        }
        let first = !std::mem::replace(&mut queue.owed, true);
        drop(queue);
        if first {
            self.shared.wake.notify_one();
        }
        Ticket(State::Resolved(Ok(())))
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the sync thread panicked");
        }
    }
}

impl Future for Ticket {
    type Output = Result<(), EngineError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Resolved(result) => Poll::Ready(result.clone()),
            State::Waiting(receiver) => {
                Pin::new(receiver).poll(context).map(|sent| sent.unwrap_or_else(|_| Err(ended())))
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while the queue is half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's side.
struct Worker {
    engine: Arc<dyn Engine>,
    shared: Arc<Shared>,
    interval: Duration,
}

impl Worker {
    fn run(self) {
        let mut last_start: Option<Instant> = None;
        loop {
            let stopping = self.wait(last_start);
            last_start = Some(Instant::now());
            self.sync_group();
            if stopping {
                return;
            }
        }
    }

    /// Waits until a sync is due; `true` if it is the last one.
    fn wait(&self, last_start: Option<Instant>) -> bool {
        let mut queue = self.shared.lock();
        loop {
            if queue.stopping || !queue.waiting.is_empty() {
                return queue.stopping;
            }
            let elapsed = last_start.map_or(self.interval, |start| start.elapsed());
            queue = match (queue.owed, self.interval.checked_sub(elapsed)) {
                (true, None | Some(Duration::ZERO)) => return false,
                (true, Some(left)) => {
                    self.shared.wake.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0
                }
                (false, _) => self.shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn sync_group(&self) {
        let mut queue = self.shared.lock();
        let group = std::mem::take(&mut queue.waiting);
        queue.owed = false;
        drop(queue);
        let result = self.engine.sync();
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = &result {
            let mut queue = self.shared.lock();
            if queue.failed.is_none() {
                tracing::error!(error = error.chain(), "a sync failed");
                queue.failed = Some(error.clone());
            }
        }
        group.into_iter().for_each(|done| done(result.clone()));
    }
}

impl Drop for Worker {
    /// Also after a panic of the engine: nobody may wait for a thread that is gone.
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.ended = true;
        let left = std::mem::take(&mut queue.waiting);
        drop(queue);
        left.into_iter().for_each(|done| done(Err(ended())));
    }
}

fn ended() -> EngineError {
    EngineError::ReadOnly { cause: "the sync thread has ended".into() }
}

#[cfg(test)]
#[path = "sync_tests.rs"]
mod tests;
