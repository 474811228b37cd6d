//! One shard: takes whatever waits, decides, and puts it into the engine as one batch.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use dht_core::{
    catalogue::Catalogue,
    hlc::Timestamp,
    record::{Mode, Record, RecordKey, slot_prefix, storage_key},
    replication::{
        digest::SlotDigest,
        eventual::{Arbiter, Digests},
    },
    ring::{PeerId, Slot},
};
use tokio::sync::{mpsc, oneshot};

use super::{Change, ShardError, SlotTable, Written, horizon_key, not_a_record};
use crate::{
    driver::sweep::leftovers,
    storage::{Batch, Engine, EngineError, Table},
};

/// What becomes of writes that are carried out together.
type Writes = Vec<Result<Written, ShardError>>;

type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

/// What a shard is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    Write { writes: Vec<(Slot, RecordKey, Change)>, reply: Reply<Writes> },
    Merge { records: Vec<(Slot, RecordKey, Record)>, reply: Reply<()> },
    Drop { slot: Slot, digest: SlotDigest, reply: Reply<bool> },
    Reclaim { slot: Slot, horizon: Timestamp, reply: Reply<()> },
    Sweep { slot: Slot, catalogue: Arc<Catalogue>, reply: Reply<bool> },
}

pub(super) struct Worker {
    engine: Arc<dyn Engine>,
    table: Arc<SlotTable>,
    catalogue: Arc<ArcSwap<Catalogue>>,
    arbiter: Arbiter,
}

/// A batch that is being made.
#[derive(Default)]
struct Group {
    batch: Batch,
    /// What the batch leaves behind under the keys that it touches.
    records: HashMap<Bytes, Record>,
    /// What it changes in digests: the slot, what goes, what comes.
    changes: Vec<(Slot, RecordKey, Option<Record>, Record)>,
    answers: Vec<Answer>,
}

/// An answer that holds once the batch is in.
enum Answer {
    Written(Reply<Writes>, Writes),
    Merged(Reply<()>),
}

impl Worker {
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        table: Arc<SlotTable>,
        catalogue: Arc<ArcSwap<Catalogue>>,
        me: PeerId,
    ) -> Self {
        Self { engine, table, catalogue, arbiter: Arbiter::new(me) }
    }

    /// Works until all senders are gone.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut waiting = Vec::with_capacity(GROUP);
        while jobs.blocking_recv_many(&mut waiting, GROUP) > 0 {
            let mut group = Group::default();
            for job in waiting.drain(..) {
                self.take(job, &mut group);
                if group.changes.len() >= RECORDS {
                    self.commit(std::mem::take(&mut group));
                }
            }
            self.commit(group);
        }
    }

    fn take(&mut self, job: Job, group: &mut Group) {
        match job {
            Job::Write { writes, reply } => {
                let write = |(slot, at, change)| self.write(slot, at, change, group);
                let written = writes.into_iter().map(write).collect();
                group.answers.push(Answer::Written(reply, written));
            }
            Job::Merge { records, reply } => {
                let merged = records.into_iter().try_for_each(|(slot, at, record)| self.merge(slot, at, record, group));
                match merged {
                    Ok(()) => group.answers.push(Answer::Merged(reply)),
                    Err(error) => answer(reply, Err(error)),
                }
            }
            Job::Drop { slot, digest, reply } => {
                self.commit(std::mem::take(group));
                answer(reply, self.drop_slot(slot, digest));
            }
            Job::Reclaim { slot, horizon, reply } => {
                self.commit(std::mem::take(group));
                answer(reply, self.reclaim(slot, horizon));
            }
            Job::Sweep { slot, catalogue, reply } => {
                self.commit(std::mem::take(group));
                answer(reply, self.sweep(slot, &catalogue));
            }
        }
    }

    fn write(&mut self, slot: Slot, at: RecordKey, content: Change, group: &mut Group) -> Result<Written, ShardError> {
        // Asked by whoever writes: a sweep that this thread has done must stay done.
        if self.catalogue.load().is_dropped(at.keyspace) {
            return Err(ShardError::Dropped);
        }
        let key = storage_key(Mode::Eventual, slot, &at);
        let old = self.current(&key, group)?;
        let now = self.table.wall_clock().millis();
        let record = self.arbiter.write(old.as_ref(), content, now);
        let existed = old.as_ref().is_some_and(|old| old.value_at(now).is_some());
        group.put(slot, at, key, old, record.clone());
        Ok(Written { record, existed })
    }

    fn merge(&mut self, slot: Slot, at: RecordKey, record: Record, group: &mut Group) -> Result<(), EngineError> {
        if self.catalogue.load().is_dropped(at.keyspace) {
            return Ok(()); // Whoever sends it has not heard of that yet.
        }
        let key = storage_key(Mode::Eventual, slot, &at);
        let old = self.current(&key, group)?;
        let before = self.arbiter.discarded();
        if self.arbiter.takes_in(old.as_ref(), &record, self.table.horizon(slot)) {
            self.table.add_discarded(self.arbiter.discarded() - before);
            group.put(slot, at, key, old, record);
        }
        Ok(())
    }

    fn current(&self, key: &Bytes, group: &Group) -> Result<Option<Record>, EngineError> {
        if let Some(record) = group.records.get(key) {
            return Ok(Some(record.clone()));
        }
        let stored = self.engine.get(Table::Records, key)?;
        stored.map(|value| Record::decode(&value).map_err(|_| not_a_record("a value"))).transpose()
    }

    fn commit(&self, group: Group) {
        let result = if group.batch.is_empty() { Ok(()) } else { self.engine.put_batch(group.batch) };
        if result.is_ok() {
            for (slot, at, old, new) in group.changes {
                self.table.update(slot, |digest| {
                    if let Some(old) = old {
                        digest.remove(&at, &old);
                    }
                    digest.add(&at, &new);
                });
            }
        }
        for waiting in group.answers {
            match waiting {
                Answer::Written(reply, written) => answer(reply, result.clone().map(|()| written)),
                Answer::Merged(reply) => answer(reply, result.clone()),
            }
        }
    }

    fn drop_slot(&self, slot: Slot, digest: SlotDigest) -> Result<bool, EngineError> {
        if !self.table.digest(slot).same(&digest) {
            return Ok(false);
        }
        self.engine.delete_range(Table::Records, &slot_prefix(Mode::Eventual, slot))?;
        self.table.update(slot, |digest| *digest = SlotDigest::default());
        Ok(true)
    }
}

impl Worker {
    /// Forgets the slot's deletions before the horizon.
    fn reclaim(&self, slot: Slot, horizon: Timestamp) -> Result<(), EngineError> {
        if horizon <= self.table.horizon(slot) {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.put(Table::Meta, horizon_key(slot), horizon.to_bits().to_be_bytes().to_vec());
        let mut forgotten = Vec::new();
        for entry in self.engine.scan(Table::Records, &slot_prefix(Mode::Eventual, slot), None) {
            let (key, value) = entry?;
            let (at, record) = super::decode(&key, &value)?;
            if record.is_forgotten(horizon) {
                batch.delete(Table::Records, key);
                forgotten.push((at, record));
            }
        }
        self.engine.put_batch(batch)?;
        self.table.set_horizon(slot, horizon);
        self.table.update(slot, |digest| forgotten.iter().for_each(|(at, record)| digest.remove(at, record)));
        Ok(())
    }
}

impl Worker {
    /// Deletes a page of what is left of dropped keyspaces. Returns whether there may be more.
    fn sweep(&self, slot: Slot, catalogue: &Catalogue) -> Result<bool, EngineError> {
        let page = leftovers(&*self.engine, Mode::Eventual, slot, catalogue)?;
        let (mut batch, mut deleted) = (Batch::new(), Vec::with_capacity(page.len()));
        for (key, value) in page {
            deleted.push(super::decode(&key, &value)?);
            batch.delete(Table::Records, key);
        }
        if deleted.is_empty() {
            return Ok(false);
        }
        self.engine.put_batch(batch)?;
        self.table.update(slot, |digest| deleted.iter().for_each(|(at, record)| digest.remove(at, record)));
        Ok(true)
    }
}

impl Group {
    fn put(&mut self, slot: Slot, at: RecordKey, key: Bytes, old: Option<Record>, new: Record) {
        self.batch.put(Table::Records, key.clone(), new.encode());
        self.records.insert(key, new.clone());
        self.changes.push((slot, at, old, new));
    }
}

/// Whoever asked may have stopped waiting.
fn answer<T>(reply: Reply<T>, result: Result<T, EngineError>) {
    drop(reply.send(result));
}

/// Records in one batch, after which no other job is added. A guess: the engine's figures (DESIGN, section 6) gain little
/// beyond 256.
const RECORDS: usize = 1024;

/// Jobs that are taken at once.
const GROUP: usize = 1024;
