//! Chain-mode data in the engine: changes become one batch, and what a batch leaves behind can be read before it is put.
//!
//! A crash keeps a prefix of the batches, so that what is not atomic (a table that is replaced) begins with taking
//! `applied` away and ends with putting it back.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use dht_core::{
    catalogue::Catalogue,
    record::{Expiry, KeyspaceId, Mode, RecordKey, slot_prefix, storage_key},
    replication::chain::{
        Change, Effect, Entry, Outcome, Record, Recorded, Snapshot, Stored, StoredLog, Table as Applied,
    },
    ring::Slot,
    view::{Acceptor, Position},
};
use dhtd_proto::v1;
use prost::Message;
use tokio::task::block_in_place;

use super::{
    layout::{
        APPLIED, EXPIRY, OUTCOME, PENDING, VIEW, damaged, decode_record, encode_record, expiry_key, key, place, read,
    },
    table::LOAD_BYTES,
};
use crate::{
    driver::sweep::leftovers,
    storage::{Batch, Engine, EngineError, Table},
    wire::{Malformed, chain as wire},
};

/// The data of some slots, for one task that writes them.
pub(super) struct Store {
    pub(super) engine: Arc<dyn Engine>,
    /// Nothing is taken into a table for a keyspace that was dropped.
    catalogue: Arc<ArcSwap<Catalogue>>,
    pub(super) held: HashMap<Slot, Held>,
    pub(super) batch: Batch,
    /// What the batch leaves behind in the tables.
    records: HashMap<Bytes, Option<Record>>,
    /// The first error. Nothing that was decided after it may be acted upon.
    failure: OnceLock<EngineError>,
}

/// What is in the engine about a slot, as far as it has to be known to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Where the table stands, if there is one.
    applied: Option<Position>,
    /// How many keys of clients the table has.
    keys: u64,
    /// The numbers of pending entries.
    pending: Range<u64>,
    /// The entries whose outcomes are remembered.
    outcomes: BTreeSet<u64>,
    /// Nothing that is noted to expire does so before.
    pub(super) first_expiry: Option<Expiry>,
}

impl Store {
    /// Reads what is there of the slots that `mine` names.
    ///
    /// # Errors
    /// If the engine can't be read or holds something else than what was written here.
    pub(super) fn open(
        engine: Arc<dyn Engine>,
        catalogue: Arc<ArcSwap<Catalogue>>,
        mine: impl Fn(Slot) -> bool,
    ) -> Result<(Self, Vec<(Slot, Stored)>), EngineError> {
        let mut store = Self {
            engine,
            catalogue,
            held: HashMap::new(),
            batch: Batch::new(),
            records: HashMap::new(),
            failure: OnceLock::new(),
        };
        let mut found: HashMap<Slot, StoredLog> = HashMap::new();
        for (slot, _, value) in store.entries(APPLIED, &mine)? {
            let v1::Applied { position, keys } = read(value)?;
            let applied = wire::decode_position(position.unwrap_or_default()).map_err(damaged)?;
            let held = store.held.entry(slot).or_default();
            (held.applied, held.keys) = (Some(applied), keys);
            found.entry(slot).or_default().applied = applied;
        }
        for (slot, seq, value) in store.entries(PENDING, &mine)? {
            let entry = wire::decode_entry(read(value)?).map_err(damaged)?;
            store.held.entry(slot).or_default().extend(seq);
            found.entry(slot).or_default().pending.push(entry);
        }
        for (slot, seq, value) in store.entries(OUTCOME, &mine)? {
            let recorded = wire::decode_recorded(read(value)?).map_err(damaged)?;
            store.held.entry(slot).or_default().outcomes.insert(seq);
            found.entry(slot).or_default().recorded.push(recorded);
        }
        store.find_expiries()?;
        let mut stored = Vec::new();
        for (slot, _, value) in store.entries(VIEW, &mine)? {
            let acceptor = wire::decode_acceptor(read(value)?).map_err(damaged)?;
            let holds = store.held.get(&slot).is_some_and(|held| held.applied.is_some());
            let log = found.remove(&slot).filter(|_| holds);
            stored.push((slot, Stored { acceptor, log }));
        }
        Ok((store, stored))
    }

    /// All of one kind, in order: of which slot, of which entry (0 where there is one for each slot), what.
    fn entries(&self, kind: &[u8], mine: impl Fn(Slot) -> bool) -> Result<Vec<(Slot, u64, Bytes)>, EngineError> {
        let mut entries = Vec::new();
        for entry in self.engine.scan(Table::Meta, kind, None) {
            let (key, value) = entry?;
            let (slot, seq) = place(&key, kind).ok_or_else(|| damaged(Malformed("a key of another kind")))?;
            if mine(slot) {
                entries.push((slot, seq, value));
            }
        }
        Ok(entries)
    }

    /// What a founding writes.
    pub(super) fn found(&mut self, slots: &[(Slot, Stored)]) {
        for (slot, Stored { acceptor, log }) in slots {
            self.put_acceptor(*slot, acceptor);
            if let Some(log) = log {
                self.put_applied(*slot, log.applied);
            }
        }
    }

    /// Takes a change up; it is visible here at once, to others after [`Store::flush`].
    pub(super) fn store(&mut self, slot: Slot, change: Change) {
        match change {
            Change::Acceptor(acceptor) => self.put_acceptor(slot, &acceptor),
            Change::Append(entries) => self.append(slot, &entries),
            Change::Apply { entries, first_kept } => {
                self.apply(slot, entries);
                self.forget_outcomes(slot, first_kept);
            }
            Change::Install { acceptor, entries, keeps_log } => {
                self.put_acceptor(slot, &acceptor);
                self.apply(slot, entries);
                self.cut(slot);
                if !keeps_log {
                    self.scrap(slot);
                }
            }
            Change::Load(snapshot) => self.load(slot, snapshot),
            Change::Scrap => self.scrap(slot),
        }
    }

    /// Puts what has gathered into the engine.
    ///
    /// # Errors
    /// If the engine has refused anything since it was opened.
    pub(super) fn flush(&mut self) -> Result<(), EngineError> {
        self.put();
        self.failure.get().cloned().map_or(Ok(()), Err)
    }

    /// What the engine has refused first since it was opened.
    pub(super) fn failure(&self) -> Option<&EngineError> {
        self.failure.get()
    }

    /// Keys of clients in all tables.
    pub(super) fn keys(&self) -> u64 {
        self.held.values().filter(|held| held.applied.is_some()).map(|held| held.keys).sum()
    }

    /// Where the slot's table stands.
    pub(super) fn applied(&self, slot: Slot) -> Option<Position> {
        self.held.get(&slot)?.applied
    }

    /// What the table has under a key; `None` if the engine can't read it: then the store has failed.
    #[allow(clippy::option_option, reason = "whether it could be read, and whether there is one")]
    pub(super) fn record(&self, slot: Slot, at: &RecordKey) -> Option<Option<Record>> {
        let key = storage_key(Mode::Chain, slot, at);
        if let Some(record) = self.records.get(&key) {
            return Some(record.clone());
        }
        let stored = self.note(self.engine.get(Table::Records, &key))?;
        self.note(stored.map(|value| decode_record(&value)).transpose())
    }

    fn put_acceptor(&mut self, slot: Slot, acceptor: &Acceptor) {
        self.batch.put(Table::Meta, key(VIEW, slot, None), wire::acceptor(acceptor).encode_to_vec());
    }

    fn put_applied(&mut self, slot: Slot, applied: Position) {
        let held = self.held.entry(slot).or_default();
        held.applied = Some(applied);
        let stored = v1::Applied { position: Some(wire::position(applied)), keys: held.keys };
        self.batch.put(Table::Meta, key(APPLIED, slot, None), stored.encode_to_vec());
    }

    fn append(&mut self, slot: Slot, entries: &[Entry]) {
        let held = self.held.entry(slot).or_default();
        for entry in entries {
            held.extend(entry.position.seq);
            self.batch.put(
                Table::Meta,
                key(PENDING, slot, Some(entry.position.seq)),
                wire::entry(entry).encode_to_vec(),
            );
        }
    }

    fn apply(&mut self, slot: Slot, entries: Vec<Entry>) {
        let Some(last) = entries.last().map(|entry| entry.position) else { return };
        let catalogue = self.catalogue.load();
        let held = self.held.entry(slot).or_default();
        for seq in held.pending.start..held.pending.end.min(last.seq + 1) {
            self.batch.delete(Table::Meta, key(PENDING, slot, Some(seq)));
        }
        held.pending.start = held.pending.end.min(last.seq + 1).max(held.pending.start);
        for entry in entries {
            let seq = entry.position.seq;
            let at = storage_key(Mode::Chain, slot, &entry.at);
            if let Some(request) = entry.request {
                held.outcomes.insert(seq);
                let recorded = Recorded { request, seq, outcome: entry.outcome };
                self.batch.put(Table::Meta, key(OUTCOME, slot, Some(seq)), wire::recorded(recorded).encode_to_vec());
            }
            if entry.effect == Effect::Nothing || catalogue.is_dropped(entry.at.keyspace) {
                continue;
            }
            let record = entry.result(None); // Whatever was there before.
            let existed = matches!(entry.outcome, Outcome::Done { existed: true, .. });
            if entry.at.keyspace != KeyspaceId::SYSTEM {
                held.keys = (held.keys + u64::from(record.is_some())).saturating_sub(u64::from(existed));
            }
            match &record {
                Some(record) => self.batch.put(Table::Records, at.clone(), encode_record(record)),
                None => self.batch.delete(Table::Records, at.clone()),
            }
            if let Some(expiry) = record.as_ref().and_then(|record| record.expires) {
                held.expires(slot, expiry, &entry.at, &mut self.batch);
            }
            self.records.insert(at, record);
        }
        self.put_applied(slot, last);
    }

    fn forget_outcomes(&mut self, slot: Slot, first_kept: u64) {
        let held = self.held.entry(slot).or_default();
        let kept = held.outcomes.split_off(&first_kept);
        for seq in std::mem::replace(&mut held.outcomes, kept) {
            self.batch.delete(Table::Meta, key(OUTCOME, slot, Some(seq)));
        }
    }

    /// Pending entries never happened.
    fn cut(&mut self, slot: Slot) {
        let held = self.held.entry(slot).or_default();
        for seq in std::mem::take(&mut held.pending) {
            self.batch.delete(Table::Meta, key(PENDING, slot, Some(seq)));
        }
    }

    fn scrap(&mut self, slot: Slot) {
        self.cut(slot);
        self.forget_outcomes(slot, u64::MAX);
        let held = self.held.remove(&slot).unwrap_or_default();
        if held.applied.is_some() {
            self.batch.delete(Table::Meta, key(APPLIED, slot, None));
            // From here on the slot has no data, whatever is left of it; then that goes, too.
            self.put();
            let deleted = self.engine.delete_range(Table::Records, &slot_prefix(Mode::Chain, slot));
            self.note(deleted);
            if held.first_expiry.is_some() {
                let deleted = self.engine.delete_range(Table::Meta, &key(EXPIRY, slot, None));
                self.note(deleted);
            }
        }
    }

    fn load(&mut self, slot: Slot, snapshot: Snapshot) {
        self.scrap(slot);
        self.put();
        // What an earlier attempt has left behind.
        let deleted = self.engine.delete_range(Table::Records, &slot_prefix(Mode::Chain, slot));
        self.note(deleted);
        let catalogue = self.catalogue.load_full();
        let mut snapshot = snapshot;
        snapshot.records.retain(|(at, _)| !catalogue.is_dropped(at.keyspace));
        let clients = snapshot.records.iter().filter(|(at, _)| at.keyspace != KeyspaceId::SYSTEM);
        self.held.entry(slot).or_default().keys = clients.count() as u64;
        let mut bytes = 0;
        for (at, record) in snapshot.records {
            let value = encode_record(&record);
            bytes += value.len();
            self.batch.put(Table::Records, storage_key(Mode::Chain, slot, &at), value);
            if let Some(expiry) = record.expires {
                self.held.entry(slot).or_default().expires(slot, expiry, &at, &mut self.batch);
            }
            if bytes >= LOAD_BYTES {
                bytes = 0;
                self.put();
            }
        }
        for recorded in snapshot.recorded {
            self.held.entry(slot).or_default().outcomes.insert(recorded.seq);
            let key = key(OUTCOME, slot, Some(recorded.seq));
            self.batch.put(Table::Meta, key, wire::recorded(recorded).encode_to_vec());
        }
        self.put_applied(slot, snapshot.applied);
        self.put();
    }

    /// Deletes a page of what is left of keyspaces that were dropped according to this catalogue. Returns whether there may
    /// be more.
    pub(super) fn sweep(&mut self, slot: Slot, catalogue: &Catalogue) -> bool {
        self.put();
        let Some(applied) = self.applied(slot) else { return false };
        let Some(page) = self.note(leftovers(&*self.engine, Mode::Chain, slot, catalogue)) else { return false };
        let held = self.held.entry(slot).or_default();
        held.keys = held.keys.saturating_sub(page.len() as u64);
        if !page.is_empty() {
            // With the count that goes with it.
            self.put_applied(slot, applied);
        }
        let more = !page.is_empty();
        page.into_iter().for_each(|(key, _)| self.batch.delete(Table::Records, key));
        self.put();
        more && self.failure.get().is_none()
    }

    pub(super) fn put(&mut self) {
        self.records.clear();
        let batch = std::mem::take(&mut self.batch);
        if !batch.is_empty() && self.failure.get().is_none() {
            let put = || self.engine.put_batch(batch);
            // What waits for long must not hold up what shares the thread: heartbeats, for one.
            let put = if self.engine.is_behind() { block_in_place(put) } else { put() };
            self.note(put);
        }
    }

    pub(super) fn note<T>(&self, result: Result<T, EngineError>) -> Option<T> {
        result.map_err(|error| self.failure.get_or_init(|| error)).ok()
    }
}

impl Applied for Store {
    /// Nothing, if the engine can't be read: whoever acts upon it must look at [`Store::failure`] first.
    fn get(&self, slot: Slot, at: &RecordKey) -> Option<Record> {
        self.record(slot, at).flatten()
    }
}

impl Held {
    /// One more entry at the end.
    fn extend(&mut self, seq: u64) {
        if self.pending.is_empty() {
            self.pending.start = seq;
        }
        self.pending.end = seq + 1;
    }

    /// A record expires.
    fn expires(&mut self, slot: Slot, expiry: Expiry, at: &RecordKey, batch: &mut Batch) {
        batch.put(Table::Meta, expiry_key(slot, expiry, at), Bytes::new());
        self.first_expiry = Some(self.first_expiry.map_or(expiry, |first| first.min(expiry)));
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
