//! A simulated peer's disk: the daemon's storage keys and records in its engine that crashes.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use dht_core::{
    hlc::Timestamp,
    record::{Content, Mode, Record, RecordKey, parse_storage_key, slot_prefix, storage_key},
    replication::{
        digest::SlotDigest,
        eventual::{Arbiter, Digests, Memory, Note},
    },
    ring::{Id, PeerId, Slot, SlotBits},
};
use dhtd::storage::{Batch, Engine, EngineError, MemoryEngine, Table};

/// What a peer has on its disk, and the digests that it keeps of it.
#[derive(Clone, Debug)]
pub struct Store {
    engine: MemoryEngine,
    bits: SlotBits,
    me: PeerId,
    arbiter: Arbiter,
    digests: BTreeMap<Slot, SlotDigest>,
    /// The time of day, as it was when the process was last given something to do.
    pub(super) wall: Duration,
}

impl Store {
    pub(super) fn new(bits: SlotBits, me: PeerId) -> Self {
        let engine = MemoryEngine::new();
        Self { engine, bits, me, arbiter: Arbiter::new(me), digests: BTreeMap::new(), wall: Duration::ZERO }
    }

    /// Writes that no fsync has covered.
    pub(in crate::sim) fn unsynced(&self) -> usize {
        self.engine.unsynced()
    }

    pub(super) fn crash(&mut self, kept: usize) {
        self.engine.crash(kept);
        let entries = self.engine.scan(Table::Records, &[Mode::Eventual as u8], None);
        let mut digests: BTreeMap<Slot, SlotDigest> = BTreeMap::new();
        for (slot, at, record) in entries.map(decoded) {
            digests.entry(slot).or_default().add(&at, &record);
        }
        (self.arbiter, self.digests) = (Arbiter::new(self.me), digests);
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
        let key = storage_key(Mode::Eventual, self.slot_of(&at.key), at);
        let stored = self.engine.get(Table::Records, &key).expect(HEALTHY);
        stored.map(|value| Record::decode(&value).expect("it was written here"))
    }

    /// All records of a slot.
    pub fn scan(&self, slot: Slot) -> impl Iterator<Item = (RecordKey, Record)> {
        let entries = self.engine.scan(Table::Records, &slot_prefix(Mode::Eventual, slot), None);
        entries.map(decoded).map(|(_, at, record)| (at, record))
    }

    /// Carries out a write with a new version.
    pub(super) fn write(&mut self, at: &RecordKey, content: Content) -> Record {
        let old = self.read(at);
        let record = self.arbiter.write(old.as_ref(), content, self.wall_clock().millis());
        self.put(at, old, &record);
        record
    }

    /// Takes in records of other replicas: each replaces what is here if it is newer.
    pub(super) fn merge(&mut self, records: &[(RecordKey, Record)]) {
        for (at, record) in records {
            let old = self.read(at);
            let horizon = self.horizon(self.slot_of(&at.key));
            if self.arbiter.takes_in(old.as_ref(), record, horizon) {
                self.put(at, old, record);
            }
        }
    }

    /// Deletes all records of a slot if it still has this digest.
    pub(super) fn drop_slot(&mut self, slot: Slot, digest: SlotDigest) {
        if self.digest(slot).same(&digest) {
            let prefix = slot_prefix(Mode::Eventual, slot);
            self.engine.delete_range(Table::Records, &prefix).expect(HEALTHY);
            self.digests.remove(&slot);
        }
    }

    /// Forgets the deletions of a slot before the horizon.
    pub(super) fn reclaim(&mut self, slot: Slot, horizon: Timestamp) {
        let forgotten = self.scan(slot).filter(|(_, record)| record.is_forgotten(horizon)).collect::<Vec<_>>();
        let mut batch = Batch::new();
        batch.put(Table::Meta, meta_key(HORIZON, slot), horizon.to_bits().to_be_bytes().to_vec());
        for (at, record) in forgotten {
            batch.delete(Table::Records, storage_key(Mode::Eventual, slot, &at));
            self.digests.entry(slot).or_default().remove(&at, &record);
        }
        self.engine.put_batch(batch).expect(HEALTHY);
    }

    pub(super) fn note(&self, slot: Slot, note: &Note) {
        let (mut batch, key) = (Batch::new(), meta_key(NOTE, slot));
        let holders = note.holders.iter().flat_map(|peer| *peer.as_bytes());
        let value: Vec<u8> = std::iter::once(u8::from(note.basis)).chain(holders).collect();
        if note.is_empty() {
            batch.delete(Table::Meta, key)
        } else {
            batch.put(Table::Meta, key, value)
        }
        self.engine.put_batch(batch).expect(HEALTHY);
    }

    pub(super) fn note_departed(&self, peer: PeerId) {
        let mut batch = Batch::new();
        batch.put(Table::Meta, [&[DEPARTED], &peer.as_bytes()[..]].concat(), Bytes::new());
        self.engine.put_batch(batch).expect(HEALTHY);
    }

    pub(super) fn memory(&self) -> Memory {
        let entries = |kind| self.engine.scan(Table::Meta, &[kind], None).map(|entry| entry.expect(HEALTHY));
        let peer = |bytes: &[u8]| PeerId::new(bytes.try_into().expect("it was written here"));
        let note = |(key, value): (Bytes, Bytes)| {
            let slot = Slot(u32::from_be_bytes(key[1..].try_into().expect("a slot has four bytes")));
            (slot, Note { basis: value[0] == 1, holders: value[1..].chunks(16).map(peer).collect() })
        };
        let departed = entries(DEPARTED).map(|(key, _)| peer(&key[1..])).collect();
        Memory { notes: entries(NOTE).map(note).collect(), departed }
    }

    fn put(&mut self, at: &RecordKey, old: Option<Record>, new: &Record) {
        let slot = self.slot_of(&at.key);
        let mut batch = Batch::new();
        batch.put(Table::Records, storage_key(Mode::Eventual, slot, at), new.encode());
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

    fn horizon(&self, slot: Slot) -> Timestamp {
        let stored = self.engine.get(Table::Meta, &meta_key(HORIZON, slot)).expect(HEALTHY);
        let bits = stored.map(|bits| u64::from_be_bytes(bits[..].try_into().expect("it was written here")));
        Timestamp::from_bits(bits.unwrap_or(0))
    }

    fn wall_clock(&self) -> Timestamp {
        Timestamp::from_millis(u64::try_from(self.wall.as_millis()).unwrap_or(u64::MAX))
    }
}

fn decoded(entry: Result<(Bytes, Bytes), EngineError>) -> (Slot, RecordKey, Record) {
    let (key, value) = entry.expect(HEALTHY);
    let (slot, at) = parse_storage_key(&key).expect("it was written here");
    (slot, at, Record::decode(&value).expect("it was written here"))
}

fn meta_key(kind: u8, slot: Slot) -> Bytes {
    let [a, b, c, d] = slot.0.to_be_bytes();
    Bytes::copy_from_slice(&[kind, a, b, c, d])
}

/// What keys of the notes, of the horizons, and of the departed peers begin with.
const NOTE: u8 = b'n';
const HORIZON: u8 = b'h';
const DEPARTED: u8 = b'd';

/// Why the engine cannot refuse.
const HEALTHY: &str = "nobody has broken the disk";
