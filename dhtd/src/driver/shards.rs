//! The data of the slots: a few shards, each one thread that owns the writes of its slots and is handed batches.
//!
//! A write is read, compared, put and counted by its shard alone, so the digests need no transaction; reads go straight
//! to the engine. The price: one slow batch delays the other slots of its shard. Nothing here waits for an fsync: a
//! caller that needs one takes a ticket after its write is visible, so that fsyncs are shared by all shards.

mod notes;
mod table;
mod worker;

use std::{sync::Arc, thread};

use arc_swap::ArcSwap;
use bytes::Bytes;
use dht_core::{
    catalogue::Catalogue,
    hlc::Timestamp,
    record::{Mode, Record, RecordKey, parse_storage_key, slot_prefix, storage_key},
    replication::digest::SlotDigest,
    ring::{Id, PeerId, Slot, SlotBits},
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

pub use table::SlotTable;

use self::worker::{Job, Worker};
use super::KeyRange;
use crate::{
    clock::WallClock,
    storage::{Engine, EngineError, Syncer, Table, Ticket},
};

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
    /// The keyspace was dropped.
    #[error("the keyspace was dropped")]
    Dropped,
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

    /// Opens the data of a peer: reads all of it once, to know its digests. Nothing is taken in for a keyspace that was
    /// dropped according to the catalogue; writes are dated by `clock`.
    ///
    /// # Errors
    /// If the engine can't be read or holds something that is no record.
    pub fn open(
        engine: Arc<dyn Engine>,
        syncer: Syncer,
        catalogue: Arc<ArcSwap<Catalogue>>,
        clock: Arc<WallClock>,
        bits: SlotBits,
        me: PeerId,
    ) -> Result<Self, EngineError> {
        let table = Arc::new(SlotTable::new(bits, clock));
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
            let worker = Worker::new(engine.clone(), table.clone(), catalogue.clone(), me);
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
    /// If the engine refuses all or the peer is stopping. A result is an error if that one is refused.
    pub async fn write(
        &self,
        writes: Vec<(Slot, RecordKey, Change)>,
    ) -> Result<Vec<Result<Written, ShardError>>, ShardError> {
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

    /// Deletes some of the slot's records whose keyspace was dropped according to this catalogue. Returns whether there may
    /// be more.
    ///
    /// # Errors
    /// If the engine refuses or the peer is stopping; nothing is changed then.
    pub async fn sweep(&self, slot: Slot, catalogue: Arc<Catalogue>) -> Result<bool, ShardError> {
        let (reply, answer) = oneshot::channel();
        self.hand_over(slot, Job::Sweep { slot, catalogue, reply }).await?;
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

    /// Records of a slot, tombstones included, as of now.
    pub fn scan_range(
        &self,
        slot: Slot,
        range: &KeyRange,
    ) -> impl Iterator<Item = Result<(RecordKey, Record), EngineError>> {
        range.scan(&*self.engine, Mode::Eventual, slot).map(|entry| {
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

    /// Calls `done` once everything that is visible now is on disk, whatever the fsync policy says. It must not block.
    pub fn when_durable(&self, done: impl FnOnce(Result<(), EngineError>) + Send + 'static) {
        self.syncer.then(done);
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

/// What the keys of horizons begin with; the slot follows. A horizon is the 8 bytes of a timestamp.
const HORIZON: &[u8] = b"horizon";

/// Jobs that may wait for a shard before callers have to.
const QUEUE: usize = 4096;

#[cfg(test)]
#[path = "shards/tests.rs"]
mod tests;
