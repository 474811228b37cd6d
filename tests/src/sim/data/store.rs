//! A simulated peer's disk: the daemon's storage keys and records in its engine that crashes.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use dht_core::{
    hlc::Clock,
    record::{Content, Record, RecordKey, StoredMode, Version, parse_storage_key, slot_prefix, storage_key},
    replication::{digest::SlotDigest, eventual::Digests},
    ring::{Id, PeerId, Slot, SlotBits},
};
use dhtd::storage::{Batch, Engine, EngineError, MemoryEngine, Table};

/// What a peer has on its disk, and the digests that it keeps of it.
#[derive(Clone, Debug)]
pub struct Store {
    engine: MemoryEngine,
    bits: SlotBits,
    me: PeerId,
    clock: Clock,
    digests: BTreeMap<Slot, SlotDigest>,
}

impl Store {
    pub(super) fn new(bits: SlotBits, me: PeerId) -> Self {
        let engine = MemoryEngine::new();
        Self { engine, bits, me, clock: Clock::default(), digests: BTreeMap::new() }
    }

    /// Writes that no fsync has covered.
    pub(in crate::sim) fn unsynced(&self) -> usize {
        self.engine.unsynced()
    }

    pub(super) fn crash(&mut self, kept: usize) {
        self.engine.crash(kept);
        let entries = self.engine.scan(Table::Records, &[StoredMode::Eventual as u8], None);
        let mut digests: BTreeMap<Slot, SlotDigest> = BTreeMap::new();
        for (slot, at, record) in entries.map(decoded) {
            digests.entry(slot).or_default().add(&at, &record);
        }
        (self.clock, self.digests) = (Clock::default(), digests);
    }

    pub(super) fn sync(&self) {
        self.engine.sync().expect(HEALTHY);
    }

    pub(super) fn slot_of(&self, key: &[u8]) -> Slot {
        self.bits.slot_of(Id::of_key(key))
    }

    /// What is stored under a key, tombstones included.
    #[must_use]
    pub fn read(&self, at: &RecordKey) -> Option<Record> {
        let key = storage_key(StoredMode::Eventual, self.slot_of(&at.key), at);
        let stored = self.engine.get(Table::Records, &key).expect(HEALTHY);
        stored.map(|value| Record::decode(&value).expect("it was written here"))
    }

    /// All records of a slot.
    pub fn scan(&self, slot: Slot) -> impl Iterator<Item = (RecordKey, Record)> {
        let entries = self.engine.scan(Table::Records, &slot_prefix(StoredMode::Eventual, slot), None);
        entries.map(decoded).map(|(_, at, record)| (at, record))
    }

    /// Carries out a write with a new version.
    pub(super) fn write(&mut self, at: &RecordKey, content: Content, wall: Duration) -> Record {
        let old = self.read(at);
        if let Some(old) = &old {
            self.clock.observe(old.version.time);
        }
        let millis = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        let version = Version { time: self.clock.tick(millis), peer: self.me };
        let record = Record { version, content };
        self.put(at, old, &record);
        record
    }

    /// Takes in records of other replicas: each replaces what is here if it is newer.
    pub(super) fn merge(&mut self, records: &[(RecordKey, Record)]) {
        for (at, record) in records {
            self.clock.observe(record.version.time);
            let old = self.read(at);
            if record.replaces(old.as_ref()) {
                self.put(at, old, record);
            }
        }
    }

    /// Deletes all records of a slot if it still has this digest.
    pub(super) fn drop_slot(&mut self, slot: Slot, digest: SlotDigest) {
        if self.digest(slot).same(&digest) {
            let prefix = slot_prefix(StoredMode::Eventual, slot);
            self.engine.delete_range(Table::Records, &prefix).expect(HEALTHY);
            self.digests.remove(&slot);
        }
    }

    pub(super) fn note_basis(&self, slot: Slot, basis: bool) {
        let (mut batch, key) = (Batch::new(), Bytes::copy_from_slice(&slot.0.to_be_bytes()));
        if basis {
            batch.put(Table::Meta, key, Bytes::new())
        } else {
            batch.delete(Table::Meta, key)
        }
        self.engine.put_batch(batch).expect(HEALTHY);
    }

    pub(super) fn bases(&self) -> Vec<Slot> {
        let notes = self.engine.scan(Table::Meta, &[], None).map(|note| note.expect(HEALTHY).0);
        notes.map(|key| Slot(u32::from_be_bytes(key[..].try_into().expect("a slot has four bytes")))).collect()
    }

    fn put(&mut self, at: &RecordKey, old: Option<Record>, new: &Record) {
        let slot = self.slot_of(&at.key);
        let mut batch = Batch::new();
        batch.put(Table::Records, storage_key(StoredMode::Eventual, slot, at), new.encode());
        self.engine.put_batch(batch).expect(HEALTHY);
        let digest = self.digests.entry(slot).or_default();
        if let Some(old) = old {
            digest.remove(at, &old);
        }
        digest.add(at, new);
    }
}

impl Digests for Store {
    fn digest(&self, slot: Slot) -> SlotDigest {
        self.digests.get(&slot).copied().unwrap_or_default()
    }

    fn held(&self) -> impl Iterator<Item = Slot> {
        self.digests.iter().filter(|(_, digest)| !digest.is_empty()).map(|(slot, _)| *slot)
    }
}

fn decoded(entry: Result<(Bytes, Bytes), EngineError>) -> (Slot, RecordKey, Record) {
    let (key, value) = entry.expect(HEALTHY);
    let (slot, at) = parse_storage_key(&key).expect("it was written here");
    (slot, at, Record::decode(&value).expect("it was written here"))
}

/// Why the engine cannot refuse.
const HEALTHY: &str = "nobody has broken the disk";
