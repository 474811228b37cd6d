//! An engine in memory that behaves like a disk on a bad day: it can crash, run full, fail an fsync, or lie about one.
//!
//! Deterministic: the same calls give the same state. Every decision that chance would take on a real machine is an argument, so
//! a simulator draws it from its own seeded generator.

use super::engine::{Batch, Engine, EngineError, Operation, Scan, Table, end_of_prefix};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    io,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

type Map = BTreeMap<Bytes, Bytes>;

/// An [`Engine`] without a disk. Share it by `Arc`, crash it in place; a clone is a second disk with the same content.
///
/// A simulated restart after a loss of power is `engine.crash(rng.random_range(0..=engine.unsynced()))`; after `kill -9`, which
/// loses nothing that was handed to the operating system, it is `engine.crash(engine.unsynced())`.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// What readers see: `durable` plus every accepted batch of `unsynced`.
    visible: Tables,
    /// What survives any crash.
    durable: Tables,
    /// Batches that a crash may lose, oldest first. A batch whose write failed is among them, since a crash may keep it.
    unsynced: Vec<Vec<Operation>>,
    read_only: Option<Arc<str>>,
    full: bool,
    fail_next_sync: bool,
    fail_next_put: bool,
    lose_syncs: bool,
}

#[derive(Clone, Debug, Default)]
struct Tables {
    records: Arc<Map>,
    meta: Arc<Map>,
}

impl MemoryEngine {
    /// An empty store on a healthy disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many batches the next crash may lose.
    pub fn unsynced(&self) -> usize {
        self.lock().unsynced.len()
    }

    /// The machine stops, and the store is opened again: of the unsynced batches the `keep` oldest survive (all, if there are
    /// fewer), each whole. What made the engine read-only is forgotten; the faults of the disk (`set_full`, `lose_syncs`) remain,
    /// pending failures do not.
    pub fn crash(&self, keep: usize) {
        let mut state = self.lock();
        let mut kept = std::mem::take(&mut state.unsynced);
        kept.truncate(keep);
        kept.into_iter().for_each(|batch| state.durable.apply(batch));
        state.visible = state.durable.clone();
        state.read_only = None;
        state.fail_next_sync = false;
        state.fail_next_put = false;
    }

    /// The next `sync` fails with an I/O error, as a dying disk would make it; from then on the engine is read-only.
    pub fn fail_next_sync(&self) {
        self.lock().fail_next_sync = true;
    }

    /// The next `put_batch` fails with an I/O error half-way: the batch is not visible, but a crash may keep it; from then on the
    /// engine is read-only.
    pub fn fail_next_put(&self) {
        self.lock().fail_next_put = true;
    }

    /// While true, the disk has no room: the next `put_batch` fails as with `fail_next_put`, but with [`EngineError::Full`].
    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// While true, `sync` says `Ok` and writes nothing: a disk that lies about its write cache. When it has become honest
    /// again, the next `sync` covers everything.
    pub fn lose_syncs(&self, lose: bool) {
        self.lock().lose_syncs = lose;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No method can panic half-way through a change, so a poisoned lock holds a valid state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for MemoryEngine {
    fn clone(&self) -> Self {
        Self { state: Mutex::new(self.lock().clone()) }
    }
}

impl Engine for MemoryEngine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.lock().visible.map(table).get(key).cloned())
    }

    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>) -> Scan<'_> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(Bytes::copy_from_slice(after)),
            _ => Bound::Included(Bytes::copy_from_slice(prefix)),
        };
        Box::new(Cursor {
            map: Arc::clone(self.lock().visible.map(table)),
            from,
            end: end_of_prefix(prefix).map(Bytes::from),
        })
    }

    fn put_batch(&self, batch: Batch) -> Result<(), EngineError> {
        let operations = batch.into_checked()?;
        let mut state = self.lock();
        state.check_writable()?;
        if operations.is_empty() {
            return Ok(());
        }
        let failing = std::mem::take(&mut state.fail_next_put);
        state.unsynced.push(operations.clone());
        if state.full {
            return Err(state.stop(EngineError::Full { doing: "simulated write", source: None }));
        }
        if failing {
            return Err(state.stop(EngineError::from_io("simulated write", io::Error::other("injected"))));
        }
        state.visible.apply(operations);
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        let mut state = self.lock();
        state.check_writable()?;
        if std::mem::take(&mut state.fail_next_sync) {
            return Err(state.stop(EngineError::from_io("simulated fsync", io::Error::other("injected"))));
        }
        if !state.lose_syncs {
            state.unsynced.clear();
            state.durable = state.visible.clone();
        }
        Ok(())
    }

    fn failure(&self) -> Option<Arc<str>> {
        self.lock().read_only.clone()
    }

    /// Bytes of all visible keys and values.
    fn disk_bytes(&self) -> u64 {
        let state = self.lock();
        let entries = Table::ALL.into_iter().flat_map(|table| state.visible.map(table).iter());
        entries.map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }
}

impl State {
    fn check_writable(&self) -> Result<(), EngineError> {
        match &self.read_only {
            Some(cause) => Err(EngineError::ReadOnly { cause: Arc::clone(cause) }),
            None => Ok(()),
        }
    }

    /// Makes the engine read-only because of `error`.
    fn stop(&mut self, error: EngineError) -> EngineError {
        self.read_only = Some(error.chain().into());
        error
    }
}

impl Tables {
    fn map(&self, table: Table) -> &Arc<Map> {
        match table {
            Table::Records => &self.records,
            Table::Meta => &self.meta,
        }
    }

    /// Copies a table first if a scan (or the durable state) still looks at it.
    fn map_mut(&mut self, table: Table) -> &mut Map {
        Arc::make_mut(match table {
            Table::Records => &mut self.records,
            Table::Meta => &mut self.meta,
        })
    }

    fn apply(&mut self, operations: Vec<Operation>) {
        for operation in operations {
            match operation {
                Operation::Put { table, key, value } => self.map_mut(table).insert(key, value),
                Operation::Delete { table, key } => self.map_mut(table).remove(&key),
            };
        }
    }
}

/// A scan that owns its snapshot.
struct Cursor {
    map: Arc<Map>,
    from: Bound<Bytes>,
    end: Option<Bytes>,
}

impl Iterator for Cursor {
    type Item = Result<(Bytes, Bytes), EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = self.map.range((self.from.clone(), Bound::Unbounded)).next()?;
        if self.end.as_ref().is_some_and(|end| key >= end) {
            return None;
        }
        self.from = Bound::Excluded(key.clone());
        Some(Ok((key.clone(), value.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(engine: &MemoryEngine, key: &'static str) -> Result<(), EngineError> {
        let mut batch = Batch::new();
        batch.put(Table::Records, key, "v");
        batch.put(Table::Meta, key, "v");
        engine.put_batch(batch)
    }

    fn keys(engine: &MemoryEngine, table: Table) -> Vec<Bytes> {
        engine.scan(table, b"", None).map(|entry| entry.expect("memory").0).collect()
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_a_prefix_of_whole_batches() {
        for keep in 0..=4 {
            let engine = MemoryEngine::new();
            put(&engine, "0").expect("put");
            engine.sync().expect("sync");
            for key in ["1", "2", "3"] {
                put(&engine, key).expect("put");
            }
            assert_eq!(engine.unsynced(), 3);
            engine.crash(keep);
            let expected: Vec<Bytes> = ["0", "1", "2", "3"].into_iter().take(keep + 1).map(Bytes::from).collect();
            assert_eq!(keys(&engine, Table::Records), expected);
            assert_eq!(keys(&engine, Table::Meta), expected);
            assert_eq!(engine.unsynced(), 0);
        }
    }

    #[test]
    fn after_a_failed_sync_writes_are_refused_until_reopened_and_reads_go_on() {
        let engine = MemoryEngine::new();
        put(&engine, "a").expect("put");
        engine.fail_next_sync();
        assert!(matches!(engine.sync(), Err(EngineError::Io { .. })));
        assert!(matches!(put(&engine, "b"), Err(EngineError::ReadOnly { .. })));
        assert!(
            matches!(engine.sync(), Err(EngineError::ReadOnly { .. })),
            "a failed fsync must not succeed when repeated"
        );
        assert_eq!(keys(&engine, Table::Records), ["a"]);
        engine.crash(0);
        assert!(keys(&engine, Table::Records).is_empty());
        put(&engine, "b").expect("reopened");
    }

    #[test]
    fn a_full_disk_refuses_the_batch_but_a_crash_may_bring_it_back_whole() {
        let engine = MemoryEngine::new();
        put(&engine, "a").expect("put");
        engine.set_full(true);
        assert_eq!(engine.failure(), None);
        assert!(matches!(put(&engine, "b"), Err(EngineError::Full { .. })));
        assert!(engine.failure().is_some_and(|cause| cause.contains("the disk is full")));
        assert!(matches!(put(&engine, "c"), Err(EngineError::ReadOnly { .. })));
        assert_eq!(keys(&engine, Table::Records), ["a"]);
        engine.set_full(false);
        assert!(matches!(put(&engine, "c"), Err(EngineError::ReadOnly { .. })), "space alone does not mend the engine");
        engine.crash(engine.unsynced());
        assert_eq!(keys(&engine, Table::Records), ["a", "b"]);
        assert_eq!(keys(&engine, Table::Meta), ["a", "b"]);
    }

    #[test]
    fn a_failed_put_makes_the_engine_read_only() {
        let engine = MemoryEngine::new();
        engine.fail_next_put();
        assert!(matches!(put(&engine, "a"), Err(EngineError::Io { .. })));
        assert!(matches!(put(&engine, "b"), Err(EngineError::ReadOnly { .. })));
        engine.crash(0);
        assert!(keys(&engine, Table::Records).is_empty());
    }

    #[test]
    fn a_lying_disk_loses_what_it_claimed_to_have_synced() {
        let engine = MemoryEngine::new();
        engine.lose_syncs(true);
        put(&engine, "a").expect("put");
        engine.sync().expect("lie");
        assert_eq!(engine.unsynced(), 1);
        engine.crash(0);
        assert!(keys(&engine, Table::Records).is_empty());
        engine.lose_syncs(false);
        put(&engine, "b").expect("put");
        engine.sync().expect("sync");
        engine.crash(0);
        assert_eq!(keys(&engine, Table::Records), ["b"]);
    }
}
