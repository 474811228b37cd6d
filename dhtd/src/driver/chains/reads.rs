//! Reads of clean keys in the tasks of those who ask, beside the groups' tasks: they wait for no queue.
//!
//! A group publishes, slot by slot, under which condition its keys may be read. Whoever reads samples the time, looks
//! whether the slot is served by this peer, has no pending entry, and whether enough electors' grants reach beyond that
//! time; reads the table; and looks whether that was the same slot's table all the while. So what is read is what was
//! committed at the sampled time or later: an entry that was committed before had been acknowledged here, for which it had to
//! be on disk, and the slot is marked before that and until the entry is in the table.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use dht_core::{
    record::{Mode, RecordKey, storage_key},
    replication::chain::{Readable, Record},
    ring::{PeerId, Slot, SlotBits},
};

use super::layout::decode_record;
use crate::{
    driver::KeyRange,
    storage::{Engine, Scan, Table},
};

/// Every slot of the ring.
pub(super) struct Reads(Vec<Door>);

struct Door {
    /// Unset while nobody may read here.
    open: ArcSwapOption<Open>,
    /// Some entry is pending.
    dirty: AtomicBool,
}

/// One view of a slot, with its leases as they are.
struct Open {
    needed: usize,
    granters: Vec<Arc<Until>>,
}

/// Until when a peer's grants hold, in nanoseconds of the clock.
#[derive(Default)]
struct Until(AtomicU64);

/// What one group publishes.
#[derive(Default)]
pub(super) struct Granters(HashMap<PeerId, Arc<Until>>);

impl Reads {
    pub(super) fn new(bits: SlotBits) -> Self {
        Self(bits.iter().map(|_| Door { open: ArcSwapOption::empty(), dirty: AtomicBool::new(true) }).collect())
    }

    /// What is committed under a key, if it can be read at once; `now` was sampled before.
    #[allow(clippy::option_option, reason = "whether it could be read, and whether there is one")]
    pub(super) fn read(
        &self,
        now: Duration,
        engine: &dyn Engine,
        slot: Slot,
        at: &RecordKey,
    ) -> Option<Option<Record>> {
        let stored = self.look(now, slot, || engine.get(Table::Records, &storage_key(Mode::Chain, slot, at)))?.ok()?;
        stored.map(|value| decode_record(&value)).transpose().ok()
    }

    /// What is committed under some keys, if they can be read at once; `now` was sampled before.
    pub(super) fn scan<'a>(
        &self,
        now: Duration,
        engine: &'a dyn Engine,
        slot: Slot,
        range: &KeyRange,
    ) -> Option<Scan<'a>> {
        self.look(now, slot, || range.scan(engine, Mode::Chain, slot))
    }

    /// Looks into the slot's table, if that is allowed.
    fn look<T>(&self, now: Duration, slot: Slot, look: impl FnOnce() -> T) -> Option<T> {
        let door = self.0.get(slot.0 as usize)?;
        let open = door.open.load_full()?;
        if door.dirty.load(Ordering::Acquire) {
            return None;
        }
        let now = nanoseconds(now);
        let granted = open.granters.iter().filter(|until| now < until.0.load(Ordering::Acquire)).count();
        if granted < open.needed {
            return None;
        }
        let seen = look();
        let same = door.open.load().as_ref().is_some_and(|now| Arc::ptr_eq(now, &open));
        same.then_some(seen)
    }

    /// Some slots may be read under other conditions from now on, or not at all; then some peers' grants hold for longer. In
    /// this order: a grant that comes after a cut prolongs what its granter stands by, and says by what it does not stand any
    /// more. Were it to count before that is known here, everything would be read as of before the cut.
    pub(super) fn publish(
        &self,
        standing: impl Iterator<Item = (Slot, Option<Readable>)>,
        granted: impl Iterator<Item = (PeerId, Duration)>,
        granters: &mut Granters,
    ) {
        standing.for_each(|(slot, readable)| self.set(slot, readable, granters));
        granted.for_each(|(peer, until)| granters.granted(peer, until));
    }

    /// The slot may be read under this condition from now on, or not at all.
    fn set(&self, slot: Slot, readable: Option<Readable>, granters: &mut Granters) {
        let Some(door) = self.0.get(slot.0 as usize) else { return };
        let open = readable.map(|readable| {
            let granters = readable.granters.iter().map(|peer| granters.0.entry(*peer).or_default().clone()).collect();
            Arc::new(Open { needed: readable.needed, granters })
        });
        door.open.store(open);
    }

    /// Nobody reads the slot's table any more as if it was the same: it is about to be another.
    pub(super) fn close(&self, slot: Slot) {
        if let Some(door) = self.0.get(slot.0 as usize) {
            door.open.store(None);
        }
    }

    /// Whether an entry of the slot is pending.
    pub(super) fn set_dirty(&self, slot: Slot, dirty: bool) {
        if let Some(door) = self.0.get(slot.0 as usize) {
            door.dirty.store(dirty, Ordering::Release);
        }
    }
}

impl Granters {
    /// The peer's grants hold until then.
    fn granted(&mut self, peer: PeerId, until: Duration) {
        self.0.entry(peer).or_default().0.store(nanoseconds(until), Ordering::Release);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{iter, sync::Arc, time::Duration};

    use bytes::Bytes;
    use dht_core::{
        record::{KeyspaceId, Mode, RecordKey, storage_key},
        replication::chain::{Readable, Record, Value},
        ring::{PeerId, Slot, SlotBits},
    };

    use super::{Granters, Reads};
    use crate::{
        driver::chains::layout::encode_record,
        storage::{Batch, Engine, EngineError, Scan, Table, memory::MemoryEngine},
    };

    const SLOT: Slot = Slot(3);

    /// Whoever reads here is slow: meanwhile the slot's table becomes another.
    struct Overtaken {
        inner: MemoryEngine,
        reads: Arc<Reads>,
    }

    impl Engine for Overtaken {
        fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
            self.reads.close(SLOT);
            let readable = Readable { needed: 0, granters: Vec::new() };
            self.reads.set(SLOT, Some(readable), &mut Granters::default());
            self.inner.get(table, key)
        }

        fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>) -> Scan<'_> {
            self.inner.scan(table, prefix, after)
        }

        fn put_batch(&self, batch: Batch) -> Result<(), EngineError> {
            self.inner.put_batch(batch)
        }

        fn sync(&self) -> Result<(), EngineError> {
            self.inner.sync()
        }

        fn failure(&self) -> Option<Arc<str>> {
            self.inner.failure()
        }

        fn disk_bytes(&self) -> u64 {
            self.inner.disk_bytes()
        }
    }

    #[test]
    fn what_was_read_while_the_table_became_another_is_no_answer() {
        let reads = Arc::new(Reads::new(SlotBits::DEFAULT));
        let at = RecordKey { keyspace: KeyspaceId::DEFAULT, key: Bytes::from_static(b"key") };
        reads.set(SLOT, Some(Readable { needed: 0, granters: Vec::new() }), &mut Granters::default());
        reads.set_dirty(SLOT, false);
        assert_eq!(reads.read(Duration::ZERO, &MemoryEngine::new(), SLOT, &at), Some(None));
        let engine = Overtaken { inner: MemoryEngine::new(), reads: reads.clone() };
        assert_eq!(reads.read(Duration::ZERO, &engine, SLOT, &at), None);
    }

    #[test]
    fn a_clean_key_is_read_only_under_leases_of_a_majority() {
        let (a, b) = (PeerId::new([1; 16]), PeerId::new([2; 16]));
        let (reads, mut granters, engine) = (Reads::new(SlotBits::DEFAULT), Granters::default(), MemoryEngine::new());
        let at = RecordKey { keyspace: KeyspaceId::DEFAULT, key: Bytes::from_static(b"key") };
        let record = Record { revision: 7, value: Value::Bytes(Bytes::from_static(b"value")), expires: None };
        let mut batch = Batch::new();
        batch.put(Table::Records, storage_key(Mode::Chain, SLOT, &at), encode_record(&record));
        engine.put_batch(batch).expect("it is in memory");
        let read = |now: u64| reads.read(Duration::from_millis(now), &engine, SLOT, &at);

        assert_eq!(read(0), None, "nobody has opened it");
        reads.set(SLOT, Some(Readable { needed: 1, granters: vec![a, b] }), &mut granters);
        reads.set_dirty(SLOT, false);
        assert_eq!(read(0), None, "nobody has granted anything");
        granters.granted(b, Duration::from_millis(500));
        assert_eq!(read(499), Some(Some(record.clone())));
        assert_eq!(read(500), None, "the grant has run out");
        reads.set_dirty(SLOT, true);
        assert_eq!(read(499), None, "an entry is pending");
        reads.set_dirty(SLOT, false);
        reads.close(SLOT);
        assert_eq!(read(499), None, "the table is about to be another");
        reads.set(SLOT, Some(Readable { needed: 2, granters: vec![a, b] }), &mut granters);
        assert_eq!(read(499), None, "one of two is no majority");
        granters.granted(a, Duration::from_millis(400));
        assert_eq!(read(399), Some(Some(record)));
    }

    #[test]
    fn what_a_grant_takes_away_is_gone_before_what_it_gives_is_there() {
        let granter = PeerId::new([1; 16]);
        let (reads, mut granters, engine) = (Reads::new(SlotBits::DEFAULT), Granters::default(), MemoryEngine::new());
        let at = RecordKey { keyspace: KeyspaceId::DEFAULT, key: Bytes::from_static(b"key") };
        let read = || reads.read(Duration::from_millis(1), &engine, SLOT, &at);
        let until = |time: u64| (granter, Duration::from_millis(time));
        let stands_by = |granters| Some(Readable { needed: 1, granters });

        reads.set_dirty(SLOT, false);
        reads.publish(iter::once((SLOT, stands_by(vec![granter]))), iter::once(until(2)), &mut granters);
        assert_eq!(read(), Some(None), "it may be read");
        let granted = iter::once_with(|| {
            assert_eq!(read(), None, "the granter does not stand by the slot any more");
            until(502)
        });
        reads.publish(iter::once((SLOT, stands_by(Vec::new()))), granted, &mut granters);
        assert_eq!(read(), None);
    }
}
