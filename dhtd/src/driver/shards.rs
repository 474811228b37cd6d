//! The data of the slots: a few shards, each one thread that owns the writes of its slots and is handed batches.
//!
//! A write is read, compared, put and counted by its shard alone, so the digests need no transaction; reads go straight
//! to the engine. The price: one slow batch delays the other slots of its shard. Nothing here waits for an fsync: a
//! caller that needs one takes a ticket after its write is visible, so that fsyncs are shared by all shards.

mod notes;
mod table;
mod worker;

use std::{
    sync::Arc,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use dht_core::{
    hlc::Timestamp,
    record::{Mode, Record, RecordKey, parse_storage_key, slot_prefix, storage_key},
    replication::digest::SlotDigest,
    ring::{Id, PeerId, Slot, SlotBits},
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

pub use table::SlotTable;

use self::worker::{Job, Worker};
use crate::storage::{Engine, EngineError, Syncer, Table, Ticket};

/// A write as it was carried out here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What is stored now, with its version.
    pub record: Record,
    /// The key had a value before.
    pub existed: bool,
}

/// What a write asks for.
pub type Change = dht_core::record::Content;

/// The shards could not carry something out. Nothing was changed.
#[derive(Clone, Debug, Error)]
pub enum ShardError {
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The peer is stopping.
    #[error("the peer is stopping")]
    Stopping,
}

/// All shards of a peer.
pub struct Shards {
    engine: Arc<dyn Engine>,
    syncer: Syncer,
    table: Arc<SlotTable>,
    bits: SlotBits,
    jobs: Vec<mpsc::Sender<Job>>,
}

impl Shards {
    /// How many there are. Two threads keep both the engine and a pair of cores busy; more only add batches. A guess.
    pub const COUNT: usize = 2;

    /// Which shard owns the writes of a slot.
    #[must_use]
    pub fn shard_of(slot: Slot) -> usize {
        slot.0 as usize % Self::COUNT
    }

    /// Opens the data of a peer: reads all of it once, to know its digests.
    ///
    /// # Errors
    /// If the engine can't be read or holds something that is no record.
    pub fn open(engine: Arc<dyn Engine>, syncer: Syncer, bits: SlotBits, me: PeerId) -> Result<Self, EngineError> {
        let table = Arc::new(SlotTable::new(bits));
        for entry in engine.scan(Table::Records, &[Mode::Eventual as u8], None) {
            let (key, value) = entry?;
            let (at, record) = decode(&key, &value)?;
            table.update(bits.slot_of(Id::of_key(&at.key)), |digest| digest.add(&at, &record));
        }
        for entry in engine.scan(Table::Meta, HORIZON, None) {
            let (key, value) = entry?;
            let slot = slot_in(&key, HORIZON).ok_or_else(|| not_a_record("a key"))?;
            let bits = value.first_chunk().ok_or_else(|| not_a_record("a value"))?;
            table.set_horizon(slot, Timestamp::from_bits(u64::from_be_bytes(*bits)));
        }
        let mut jobs = Vec::with_capacity(Self::COUNT);
        for shard in 0..Self::COUNT {
            let (sender, receiver) = mpsc::channel(QUEUE);
            let worker = Worker::new(engine.clone(), table.clone(), me);
            let name = format!("shard-{shard}");
            thread::Builder::new()
                .name(name)
                .spawn(move || worker.run(receiver))
                .map_err(|error| EngineError::from_io("start a shard", error))?;
            jobs.push(sender);
        }
        Ok(Self { engine, syncer, table, bits, jobs })
    }

    /// The slot of a key.
    #[must_use]
    pub fn slot_of(&self, key: &[u8]) -> Slot {
        self.bits.slot_of(Id::of_key(key))
    }

    /// What is held of each slot.
    #[must_use]
    pub fn table(&self) -> &Arc<SlotTable> {
        &self.table
    }

    /// Carries out writes of one shard, in their order, each with a new version; they are visible on return, and durable
    /// after a [`Shards::ticket`]. The results are in the order of the writes.
    ///
    /// # Errors
    /// If the engine refuses all or the peer is stopping. A result is an error if the engine refuses that one.
    pub async fn write(
        &self,
        writes: Vec<(Slot, RecordKey, Change)>,
    ) -> Result<Vec<Result<Written, EngineError>>, ShardError> {
        let Some((slot, ..)) = writes.first() else { return Ok(Vec::new()) };
        let (reply, answer) = oneshot::channel();
        self.hand_over(*slot, Job::Write { writes, reply }).await?;
        Ok(answer.await.map_err(|_| ShardError::Stopping)??)
    }

    /// Takes in records of other replicas: each replaces what is here if it is newer. Visible on return.
    ///
    /// # Errors
    /// If the engine refuses one or the peer is stopping; the others may be in.
    pub async fn merge(&self, records: Vec<(RecordKey, Record)>) -> Result<(), ShardError> {
        let mut by_shard: [Vec<(Slot, RecordKey, Record)>; Self::COUNT] = Default::default();
        for (at, record) in records {
            let slot = self.slot_of(&at.key);
            by_shard[Self::shard_of(slot)].push((slot, at, record));
        }
        let mut answers = Vec::new();
        for records in by_shard.into_iter().filter(|records| !records.is_empty()) {
            let (reply, answer) = oneshot::channel();
            self.hand_over(records[0].0, Job::Merge { records, reply }).await?;
            answers.push(answer);
        }
        for answer in answers {
            answer.await.map_err(|_| ShardError::Stopping)??;
        }
        Ok(())
    }

    /// Deletes all records of a slot if it still has this digest. Returns whether it did.
    ///
    /// # Errors
    /// If the engine refuses or the peer is stopping; some records may be gone.
    pub async fn drop_slot(&self, slot: Slot, digest: SlotDigest) -> Result<bool, ShardError> {
        let (reply, answer) = oneshot::channel();
        self.hand_over(slot, Job::Drop { slot, digest, reply }).await?;
        Ok(answer.await.map_err(|_| ShardError::Stopping)??)
    }

    /// Forgets the slot's deletions before the horizon, and takes none of them in any more.
    ///
    /// # Errors
    /// If the engine refuses or the peer is stopping; nothing is changed then.
    pub async fn reclaim(&self, slot: Slot, horizon: Timestamp) -> Result<(), ShardError> {
        let (reply, answer) = oneshot::channel();
        self.hand_over(slot, Job::Reclaim { slot, horizon, reply }).await?;
        Ok(answer.await.map_err(|_| ShardError::Stopping)??)
    }

    /// What is stored under a key, tombstones included.
    ///
    /// # Errors
    /// If the engine can't read it.
    pub fn read(&self, at: &RecordKey) -> Result<Option<Record>, EngineError> {
        let key = storage_key(Mode::Eventual, self.slot_of(&at.key), at);
        let stored = self.engine.get(Table::Records, &key)?;
        stored.map(|value| Record::decode(&value).map_err(|_| not_a_record("a value"))).transpose()
    }

    /// All records of a slot, tombstones included, as of now.
    pub fn scan(&self, slot: Slot) -> impl Iterator<Item = Result<(RecordKey, Record), EngineError>> {
        let prefix = slot_prefix(Mode::Eventual, slot);
        self.engine.scan(Table::Records, &prefix, None).map(|entry| {
            let (key, value) = entry?;
            decode(&key, &value)
        })
    }

    /// Resolves once everything that is visible now is on disk.
    pub fn ticket(&self) -> Ticket {
        self.syncer.ticket()
    }

    /// As [`Shards::ticket`], whatever the fsync policy says.
    pub fn durable_ticket(&self) -> Ticket {
        self.syncer.durable_ticket()
    }

    /// Resolves once everything that is visible now is on disk, whatever the fsync policy says.
    ///
    /// # Errors
    /// If it can't be put there.
    pub async fn flush(&self) -> Result<(), EngineError> {
        self.durable_ticket().await
    }

    /// Bytes on disk.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.engine.disk_bytes()
    }

    async fn hand_over(&self, slot: Slot, job: Job) -> Result<(), ShardError> {
        self.jobs[Self::shard_of(slot)].send(job).await.map_err(|_| ShardError::Stopping)
    }
}

fn not_a_record(what: &str) -> EngineError {
    EngineError::Corrupt { what: format!("the store holds {what} that no dhtd peer has written") }
}

fn decode(key: &Bytes, value: &Bytes) -> Result<(RecordKey, Record), EngineError> {
    let (_, at) = parse_storage_key(key).ok_or_else(|| not_a_record("a key"))?;
    let record = Record::decode(value).map_err(|_| not_a_record("a value"))?;
    Ok((at, record))
}

fn slot_key(kind: &[u8], slot: Slot) -> Vec<u8> {
    [kind, &slot.0.to_be_bytes()].concat()
}

fn slot_in(key: &[u8], kind: &[u8]) -> Option<Slot> {
    let slot = key.strip_prefix(kind)?.try_into().ok()?;
    Some(Slot(u32::from_be_bytes(slot)))
}

fn horizon_key(slot: Slot) -> Vec<u8> {
    slot_key(HORIZON, slot)
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What the keys of horizons begin with; the slot follows. A horizon is the 8 bytes of a timestamp.
const HORIZON: &[u8] = b"horizon";

/// Jobs that may wait for a shard before callers have to.
const QUEUE: usize = 4096;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use dht_core::{
        record::{Content, KeyspaceId},
        replication::eventual::Digests,
    };

    use super::*;
    use crate::storage::{FsyncPolicy, MemoryEngine};

    pub(super) fn shards(engine: &Arc<dyn Engine>, me: u8) -> Shards {
        let syncer = Syncer::start(engine.clone(), FsyncPolicy::Always).expect("a thread can be started");
        Shards::open(engine.clone(), syncer, SlotBits::DEFAULT, PeerId::new([me; 16])).expect("it was written here")
    }

    pub(super) fn memory() -> Arc<dyn Engine> {
        Arc::new(MemoryEngine::new())
    }

    fn at(key: &'static str) -> RecordKey {
        RecordKey { keyspace: KeyspaceId::DEFAULT, key: Bytes::from_static(key.as_bytes()) }
    }

    fn value(value: &'static str) -> Content {
        Content::Value(Bytes::from_static(value.as_bytes()))
    }

    async fn write(shards: &Shards, key: &'static str, change: Change) -> Written {
        let at = at(key);
        let written = shards.write(vec![(shards.slot_of(&at.key), at, change)]).await.expect("it is open");
        written.into_iter().next().expect("one for each write").expect("it takes writes")
    }

    #[tokio::test]
    async fn a_write_is_read_back_and_a_later_one_replaces_it() {
        let shards = shards(&memory(), 1);
        let first = write(&shards, "k", value("1")).await;
        let second = write(&shards, "k", value("2")).await;
        assert!(!first.existed && second.existed && second.record.version > first.record.version);
        assert_eq!(shards.read(&at("k")).unwrap(), Some(second.record));
    }

    #[tokio::test]
    async fn replicas_that_merge_each_others_records_in_any_order_have_equal_digests() {
        let (one, two) = (shards(&memory(), 1), shards(&memory(), 2));
        let a = write(&one, "k", value("a")).await.record;
        let b = write(&two, "k", Content::Tombstone).await.record;
        one.merge(vec![(at("k"), b.clone())]).await.unwrap();
        two.merge(vec![(at("k"), a.clone()), (at("k"), b)]).await.unwrap();
        let slot = one.slot_of(b"k");
        assert!(one.table().digest(slot).same(&two.table().digest(slot)));
        assert_eq!(one.read(&at("k")).unwrap(), two.read(&at("k")).unwrap());
    }

    #[tokio::test]
    async fn digests_are_the_same_after_the_store_is_opened_again() {
        let engine = memory();
        let before = shards(&engine, 1);
        write(&before, "k", value("1")).await;
        write(&before, "k", value("2")).await;
        let slot = before.slot_of(b"k");
        assert_eq!(shards(&engine, 1).table().digest(slot), before.table().digest(slot));
    }

    #[tokio::test]
    async fn deletions_before_the_horizon_are_forgotten_for_good() {
        let engine = memory();
        let before = shards(&engine, 1);
        let value = write(&before, "kept", value("v")).await.record;
        let deletion = write(&before, "gone", Content::Tombstone).await.record;
        let (slot, horizon) = (before.slot_of(b"gone"), deletion.version.time.later_by(Duration::from_millis(1)));
        before.reclaim(slot, deletion.version.time).await.unwrap();
        assert_eq!(before.read(&at("gone")).unwrap(), Some(deletion.clone()), "it is not before its own time");
        before.reclaim(slot, horizon).await.unwrap();
        for shards in [before, shards(&engine, 1)] {
            shards.merge(vec![(at("gone"), deletion.clone())]).await.unwrap();
            assert_eq!(shards.read(&at("gone")).unwrap(), None);
            assert_eq!(shards.table().digest(slot).records, 0);
            assert_eq!(shards.table().horizon(slot), horizon);
            assert_eq!(shards.read(&at("kept")).unwrap(), Some(value.clone()));
        }
    }

    #[tokio::test]
    async fn a_slot_is_dropped_only_as_it_was_compared() {
        let shards = shards(&memory(), 1);
        write(&shards, "k", value("1")).await;
        let slot = shards.slot_of(b"k");
        assert!(!shards.drop_slot(slot, SlotDigest::default()).await.unwrap());
        assert!(shards.drop_slot(slot, shards.table().digest(slot)).await.unwrap());
        assert_eq!(shards.read(&at("k")).unwrap(), None);
        assert!(shards.table().digest(slot).is_empty());
    }
}
