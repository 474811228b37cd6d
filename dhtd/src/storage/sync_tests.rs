use super::*;
use crate::storage::{Batch, MemoryEngine, Scan, Table};
use bytes::Bytes;
use std::sync::mpsc;

/// An engine whose syncs say when they start and wait for leave to end.
struct Gated {
    inner: MemoryEngine,
    started: mpsc::SyncSender<()>,
    leave: Mutex<mpsc::Receiver<()>>,
}

impl Gated {
    fn new() -> (Arc<Self>, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (started, starts) = mpsc::sync_channel(100);
        let (leaves, leave) = mpsc::channel();
        (Arc::new(Self { inner: MemoryEngine::new(), started, leave: Mutex::new(leave) }), starts, leaves)
    }
}

impl Engine for Gated {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.inner.get(table, key)
    }

    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>) -> Scan<'_> {
        self.inner.scan(table, prefix, after)
    }

    fn put_batch(&self, batch: Batch) -> Result<(), EngineError> {
        self.inner.put_batch(batch)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.started.send(()).expect("the test listens");
        // An error means that the test gives leave to all further syncs.
        let _ = self.leave.lock().expect("lock").recv();
        self.inner.sync()
    }

    fn failure(&self) -> Option<Arc<str>> {
        self.inner.failure()
    }

    fn disk_bytes(&self) -> u64 {
        self.inner.disk_bytes()
    }
}

fn put(engine: &dyn Engine) {
    let mut batch = Batch::new();
    batch.put(Table::Records, "a", "1");
    engine.put_batch(batch).expect("put");
}

#[tokio::test]
async fn a_ticket_resolves_only_after_a_sync_that_started_after_it() {
    let (engine, starts, leaves) = Gated::new();
    let syncer = Syncer::start(engine.clone(), FsyncPolicy::Always).expect("start");
    put(&*engine);
    let first = syncer.ticket();
    starts.recv().expect("the first sync runs");
    put(&*engine);
    let mut second = syncer.ticket();
    leaves.send(()).expect("leave");
    first.await.expect("first");
    starts.recv().expect("a second sync runs for the second ticket");
    let early = tokio::select! { biased; _ = &mut second => true, () = std::future::ready(()) => false };
    assert!(!early, "the sync that was running when the ticket was taken must not resolve it");
    leaves.send(()).expect("leave");
    second.await.expect("second");
    assert_eq!(engine.inner.unsynced(), 0);
    drop(leaves);
}

#[tokio::test]
async fn all_tickets_that_wait_when_a_sync_starts_share_it() {
    let (engine, starts, leaves) = Gated::new();
    let syncer = Syncer::start(engine, FsyncPolicy::Always).expect("start");
    let first = syncer.ticket();
    starts.recv().expect("sync");
    let group: Vec<Ticket> = (0..50).map(|_| syncer.ticket()).collect();
    leaves.send(()).expect("leave");
    leaves.send(()).expect("leave");
    first.await.expect("first");
    for ticket in group {
        ticket.await.expect("group");
    }
    assert_eq!((syncer.syncs(), syncer.tickets()), (2, 51));
    drop(leaves);
}

#[tokio::test]
async fn a_failed_sync_reaches_every_ticket_of_its_group() {
    let (engine, starts, leaves) = Gated::new();
    let syncer = Syncer::start(engine.clone(), FsyncPolicy::Always).expect("start");
    let first = syncer.ticket();
    starts.recv().expect("sync");
    let group = [syncer.ticket(), syncer.ticket()];
    leaves.send(()).expect("leave");
    first.await.expect("first");
    engine.inner.fail_next_sync();
    leaves.send(()).expect("leave");
    for ticket in group {
        assert!(matches!(ticket.await, Err(EngineError::Io { .. })));
    }
    drop(leaves);
    assert!(matches!(syncer.ticket().await, Err(EngineError::ReadOnly { .. })));
}

#[tokio::test]
async fn interval_tickets_resolve_at_once_and_a_sync_follows() {
    let (engine, starts, leaves) = Gated::new();
    let syncer = Syncer::start(engine.clone(), FsyncPolicy::Interval(Duration::from_millis(1))).expect("start");
    put(&*engine);
    syncer.ticket().await.expect("at once, while no sync has run");
    assert_eq!(engine.inner.unsynced(), 1);
    starts.recv().expect("a sync follows");
    leaves.send(()).expect("leave");
    put(&*engine);
    syncer.ticket().await.expect("at once");
    starts.recv().expect("another follows");
    drop(leaves);
    syncer.durable_ticket().await.expect("durable");
    assert_eq!(engine.inner.unsynced(), 0);
}

#[tokio::test]
async fn without_writes_no_interval_sync_runs() {
    let engine = Arc::new(MemoryEngine::new());
    let syncer = Syncer::start(engine, FsyncPolicy::Interval(Duration::from_millis(1))).expect("start");
    syncer.durable_ticket().await.expect("durable");
    let syncs = syncer.syncs();
    drop(syncer);
    assert_eq!(syncs, 1);
}

#[tokio::test]
async fn after_a_failed_interval_sync_tickets_fail() {
    let engine = Arc::new(MemoryEngine::new());
    let syncer = Syncer::start(engine.clone(), FsyncPolicy::Interval(Duration::from_secs(3_600))).expect("start");
    syncer.ticket().await.expect("nothing has failed yet");
    engine.fail_next_sync();
    assert!(syncer.durable_ticket().await.is_err());
    assert!(matches!(syncer.ticket().await, Err(EngineError::Io { .. })));
}

#[tokio::test]
async fn dropping_the_syncer_syncs_what_is_owed() {
    let engine = Arc::new(MemoryEngine::new());
    let syncer = Syncer::start(engine.clone(), FsyncPolicy::Interval(Duration::from_secs(3_600))).expect("start");
    syncer.durable_ticket().await.expect("the interval begins");
    put(&*engine);
    syncer.ticket().await.expect("at once");
    let waiting = syncer.durable_ticket();
    drop(syncer);
    waiting.await.expect("a ticket outlives the syncer");
    assert_eq!(engine.unsynced(), 0);
}

#[test]
fn policies_are_read_and_written_alike() {
    for (text, policy) in [
        ("always", FsyncPolicy::Always),
        ("interval=100ms", FsyncPolicy::Interval(Duration::from_millis(100))),
        ("interval=1500ms", FsyncPolicy::Interval(Duration::from_millis(1_500))),
        ("interval=2s", FsyncPolicy::Interval(Duration::from_secs(2))),
    ] {
        assert_eq!(text.parse(), Ok(policy));
        assert_eq!(policy.to_string(), text);
    }
    for text in [
        "",
        "never",
        "interval",
        "interval=",
        "interval=5",
        "interval=0ms",
        "interval=-1s",
        "interval=+1s",
        "interval=ms",
    ] {
        assert!(text.parse::<FsyncPolicy>().is_err(), "{text}");
    }
}
