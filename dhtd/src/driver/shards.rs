//! The data of the slots: a few shards, each one thread that owns the writes of its slots and is handed batches.
//!
//! A write is read, compared, put and counted by its shard alone, so the digests need no transaction; reads go straight
//! to the engine. The price: one slow batch delays the other slots of its shard. Nothing here waits for an fsync: a
//! caller that needs one takes a ticket after its write is visible, so that fsyncs are shared by all shards.

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
    record::{Record, RecordKey, StoredMode, parse_storage_key, slot_prefix, storage_key},
    replication::{
        digest::SlotDigest,
        eventual::{Memory, Note},
    },
    ring::{Id, PeerId, Slot, SlotBits},
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

pub use table::SlotTable;

use self::worker::{Job, Worker};
use crate::storage::{Batch, Engine, EngineError, Syncer, Table, Ticket};

/// A write as it was carried out here.
#[derive(Clone, Debug)]
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
    /// Opens the data of a peer: reads all of it once, to know its digests.
    ///
    /// # Errors
    /// If the engine can't be read or holds something that is no record.
    pub fn open(engine: Arc<dyn Engine>, syncer: Syncer, bits: SlotBits, me: PeerId) -> Result<Self, EngineError> {
        let table = Arc::new(SlotTable::new(bits));
        for entry in engine.scan(Table::Records, &[StoredMode::Eventual as u8], None) {
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
        let mut jobs = Vec::with_capacity(SHARDS);
        for shard in 0..SHARDS {
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

    /// Carries out a write with a new version; it is visible on return, and durable after a [`Shards::ticket`].
    ///
    /// # Errors
    /// If the engine refuses it or the peer is stopping.
    pub async fn write(&self, at: RecordKey, change: Change) -> Result<Written, ShardError> {
        let slot = self.slot_of(&at.key);
        let (reply, answer) = oneshot::channel();
        self.hand_over(slot, Job::Write { slot, at, change, reply }).await?;
        Ok(answer.await.map_err(|_| ShardError::Stopping)??)
    }

    /// Takes in records of other replicas: each replaces what is here if it is newer. Visible on return.
    ///
    /// # Errors
    /// If the engine refuses one or the peer is stopping; the others may be in.
    pub async fn merge(&self, records: Vec<(RecordKey, Record)>) -> Result<(), ShardError> {
        let mut by_shard: Vec<Vec<(Slot, RecordKey, Record)>> = vec![Vec::new(); self.jobs.len()];
        for (at, record) in records {
            let slot = self.slot_of(&at.key);
            by_shard[self.shard_of(slot)].push((slot, at, record));
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

    /// What was noted before the process stopped.
    ///
    /// # Errors
    /// If the engine can't read it or holds something that is no note.
    pub fn memory(&self) -> Result<Memory, EngineError> {
        let note = |key: &Bytes, value: &Bytes| {
            let (basis, holders) = value.split_first()?;
            let (holders, []) = holders.as_chunks() else { return None };
            let holders = holders.iter().map(|id| PeerId::new(*id)).collect();
            Some((slot_in(key, NOTE)?, Note { basis: *basis == 1, holders }))
        };
        let departed = |key: &Bytes| Some(PeerId::new(key.strip_prefix(DEPARTED)?.try_into().ok()?));
        let mut memory = Memory::default();
        for entry in self.engine.scan(Table::Meta, NOTE, None) {
            let (key, value) = entry?;
            memory.notes.push(note(&key, &value).ok_or_else(|| not_a_record("a note"))?);
        }
        for entry in self.engine.scan(Table::Meta, DEPARTED, None) {
            memory.departed.insert(departed(&entry?.0).ok_or_else(|| not_a_record("a peer id"))?);
        }
        Ok(memory)
    }

    /// Notes what has to be remembered of slots, and peers that have left for good.
    ///
    /// # Errors
    /// If the engine refuses it.
    pub fn remember(&self, memory: &Memory) -> Result<(), EngineError> {
        let mut batch = Batch::new();
        for (slot, note) in &memory.notes {
            let key = slot_key(NOTE, *slot);
            let holders = note.holders.iter().flat_map(|peer| *peer.as_bytes());
            let value: Vec<u8> = std::iter::once(u8::from(note.basis)).chain(holders).collect();
            if note.is_empty() { batch.delete(Table::Meta, key) } else { batch.put(Table::Meta, key, value) }
        }
        for peer in &memory.departed {
            batch.put(Table::Meta, [DEPARTED, &peer.as_bytes()[..]].concat(), Bytes::new());
        }
        if batch.is_empty() { Ok(()) } else { self.engine.put_batch(batch) }
    }

    /// What is stored under a key, tombstones included.
    ///
    /// # Errors
    /// If the engine can't read it.
    pub fn read(&self, at: &RecordKey) -> Result<Option<Record>, EngineError> {
        let key = storage_key(StoredMode::Eventual, self.slot_of(&at.key), at);
        let stored = self.engine.get(Table::Records, &key)?;
        stored.map(|value| Record::decode(&value).map_err(|_| not_a_record("a value"))).transpose()
    }

    /// All records of a slot, tombstones included, as of now.
    pub fn scan(&self, slot: Slot) -> impl Iterator<Item = Result<(RecordKey, Record), EngineError>> {
        let prefix = slot_prefix(StoredMode::Eventual, slot);
        self.engine.scan(Table::Records, &prefix, None).map(|entry| {
            let (key, value) = entry?;
            decode(&key, &value)
        })
    }

    /// Resolves once everything that is visible now is on disk.
    pub fn ticket(&self) -> Ticket {
        self.syncer.ticket()
    }

    /// Resolves once everything that is visible now is on disk, whatever the fsync policy says.
    ///
    /// # Errors
    /// If it can't be put there.
    pub async fn flush(&self) -> Result<(), EngineError> {
        self.syncer.durable_ticket().await
    }

    /// Bytes on disk.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.engine.disk_bytes()
    }

    fn shard_of(&self, slot: Slot) -> usize {
        slot.0 as usize % self.jobs.len()
    }

    async fn hand_over(&self, slot: Slot, job: Job) -> Result<(), ShardError> {
        self.jobs[self.shard_of(slot)].send(job).await.map_err(|_| ShardError::Stopping)
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

/// What the keys of notes begin with; the slot follows. A note is one byte, 1 for a copy with a basis, and the ids of
/// the holders, 16 bytes each.
const NOTE: &[u8] = b"note";

/// What the keys of peers that have left for good begin with; the id follows.
const DEPARTED: &[u8] = b"departed";

/// What the keys of horizons begin with; the slot follows. A horizon is the 8 bytes of a timestamp.
const HORIZON: &[u8] = b"horizon";

/// Two threads keep both the engine and a pair of cores busy; more only add batches. A guess.
const SHARDS: usize = 2;

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

    fn shards(engine: &Arc<dyn Engine>, me: u8) -> Shards {
        let syncer = Syncer::start(engine.clone(), FsyncPolicy::Always).expect("a thread can be started");
        Shards::open(engine.clone(), syncer, SlotBits::DEFAULT, PeerId::new([me; 16])).expect("it was written here")
    }

    fn memory() -> Arc<dyn Engine> {
        Arc::new(MemoryEngine::new())
    }

    fn at(key: &'static str) -> RecordKey {
        RecordKey { keyspace: KeyspaceId::DEFAULT, key: Bytes::from_static(key.as_bytes()) }
    }

    fn value(value: &'static str) -> Content {
        Content::Value(Bytes::from_static(value.as_bytes()))
    }

    #[tokio::test]
    async fn a_write_is_read_back_and_a_later_one_replaces_it() {
        let shards = shards(&memory(), 1);
        let first = shards.write(at("k"), value("1")).await.unwrap();
        let second = shards.write(at("k"), value("2")).await.unwrap();
        assert!(!first.existed && second.existed && second.record.version > first.record.version);
        assert_eq!(shards.read(&at("k")).unwrap(), Some(second.record));
    }

    #[tokio::test]
    async fn replicas_that_merge_each_others_records_in_any_order_have_equal_digests() {
        let (one, two) = (shards(&memory(), 1), shards(&memory(), 2));
        let a = one.write(at("k"), value("a")).await.unwrap().record;
        let b = two.write(at("k"), Content::Tombstone).await.unwrap().record;
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
        before.write(at("k"), value("1")).await.unwrap();
        before.write(at("k"), value("2")).await.unwrap();
        let slot = before.slot_of(b"k");
        assert_eq!(shards(&engine, 1).table().digest(slot), before.table().digest(slot));
    }

    #[test]
    fn what_was_noted_survives_a_restart() {
        let engine = memory();
        let peers = |ids: &[u8]| ids.iter().map(|id| PeerId::new([*id; 16])).collect();
        let note = |basis, holders: &[u8]| Note { basis, holders: peers(holders) };
        let notes = vec![(Slot(8), note(true, &[])), (Slot(300), note(false, &[2, 3]))];
        let kept = Memory { notes, departed: peers(&[4, 5]) };
        shards(&engine, 1).remember(&Memory::founder([Slot(7)])).unwrap();
        shards(&engine, 1).remember(&kept).unwrap();
        let forgotten = Memory { notes: vec![(Slot(7), Note::default())], ..Memory::default() };
        shards(&engine, 1).remember(&forgotten).unwrap();
        assert_eq!(shards(&engine, 1).memory().unwrap(), kept);
    }

    #[tokio::test]
    async fn deletions_before_the_horizon_are_forgotten_for_good() {
        let engine = memory();
        let before = shards(&engine, 1);
        let value = before.write(at("kept"), value("v")).await.unwrap().record;
        let deletion = before.write(at("gone"), Content::Tombstone).await.unwrap().record;
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
        shards.write(at("k"), value("1")).await.unwrap();
        let slot = shards.slot_of(b"k");
        assert!(!shards.drop_slot(slot, SlotDigest::default()).await.unwrap());
        assert!(shards.drop_slot(slot, shards.table().digest(slot)).await.unwrap());
        assert_eq!(shards.read(&at("k")).unwrap(), None);
        assert!(shards.table().digest(slot).is_empty());
    }
}
