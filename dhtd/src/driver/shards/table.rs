//! What is held of each slot, for everyone to read.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use dht_core::{
    hlc::Timestamp,
    replication::{digest::SlotDigest, eventual::Digests},
    ring::{Slot, SlotBits},
};

use crate::clock::WallClock;

/// One entry per slot of the ring. A slot's shard writes its digest and its horizon, the control loop its flag.
#[derive(Debug)]
pub struct SlotTable {
    slots: Vec<Entry>,
    clock: Arc<WallClock>,
    discarded: AtomicU64,
}

#[derive(Debug, Default)]
struct Entry {
    digest: Mutex<SlotDigest>,
    synced: AtomicBool,
    horizon: AtomicU64,
}

impl SlotTable {
    pub(super) fn new(bits: SlotBits, clock: Arc<WallClock>) -> Self {
        Self { slots: bits.iter().map(|_| Entry::default()).collect(), clock, discarded: AtomicU64::new(0) }
    }

    /// Values written at this peer, since it started, that a concurrent write of their key has replaced.
    #[must_use]
    pub fn discarded(&self) -> u64 {
        self.discarded.load(Ordering::Relaxed)
    }

    pub(super) fn add_discarded(&self, more: u64) {
        self.discarded.fetch_add(more, Ordering::Relaxed);
    }

    /// Whether reads of the slot may be answered from here alone.
    #[must_use]
    pub fn synced(&self, slot: Slot) -> bool {
        self.entry(slot).is_some_and(|entry| entry.synced.load(Ordering::Acquire))
    }

    /// Says whether reads of the slot may be answered from here alone.
    pub fn set_synced(&self, slot: Slot, synced: bool) {
        if let Some(entry) = self.entry(slot) {
            entry.synced.store(synced, Ordering::Release);
        }
    }

    pub(super) fn set_horizon(&self, slot: Slot, horizon: Timestamp) {
        if let Some(entry) = self.entry(slot) {
            entry.horizon.store(horizon.to_bits(), Ordering::Release);
        }
    }

    pub(super) fn update(&self, slot: Slot, change: impl FnOnce(&mut SlotDigest)) {
        if let Some(entry) = self.entry(slot) {
            change(&mut entry.digest.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn entry(&self, slot: Slot) -> Option<&Entry> {
        self.slots.get(slot.0 as usize)
    }
}

impl Digests for SlotTable {
    fn digest(&self, slot: Slot) -> SlotDigest {
        self.entry(slot).map_or_else(SlotDigest::default, Entry::digest)
    }

    fn held(&self) -> impl Iterator<Item = Slot> {
        let all = (0u32..).map(Slot).zip(&self.slots);
        all.filter(|(_, entry)| !entry.digest().is_empty()).map(|(slot, _)| slot)
    }

    fn horizon(&self, slot: Slot) -> Timestamp {
        let bits = self.entry(slot).map_or(0, |entry| entry.horizon.load(Ordering::Acquire));
        Timestamp::from_bits(bits)
    }

    fn wall_clock(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.millis())
    }
}

impl Entry {
    fn digest(&self) -> SlotDigest {
        *self.digest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
