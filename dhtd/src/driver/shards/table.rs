//! What is held of each slot, for everyone to read.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use dht_core::{
    replication::{digest::SlotDigest, eventual::Digests},
    ring::{Slot, SlotBits},
};

/// One entry per slot of the ring. A slot's shard writes its digest, the control loop its flag.
#[derive(Debug)]
pub struct SlotTable {
    slots: Vec<(Mutex<SlotDigest>, AtomicBool)>,
}

impl SlotTable {
    pub(super) fn new(bits: SlotBits) -> Self {
        Self { slots: bits.iter().map(|_| (Mutex::default(), AtomicBool::new(false))).collect() }
    }

    /// Whether reads of the slot may be answered from here alone.
    #[must_use]
    pub fn synced(&self, slot: Slot) -> bool {
        self.slots.get(slot.0 as usize).is_some_and(|(_, synced)| synced.load(Ordering::Acquire))
    }

    /// Says whether reads of the slot may be answered from here alone.
    pub fn set_synced(&self, slot: Slot, synced: bool) {
        if let Some((_, flag)) = self.slots.get(slot.0 as usize) {
            flag.store(synced, Ordering::Release);
        }
    }

    pub(super) fn update(&self, slot: Slot, change: impl FnOnce(&mut SlotDigest)) {
        if let Some((digest, _)) = self.slots.get(slot.0 as usize) {
            change(&mut digest.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl Digests for SlotTable {
    fn digest(&self, slot: Slot) -> SlotDigest {
        self.slots.get(slot.0 as usize).map_or_else(SlotDigest::default, |(digest, _)| lock(digest))
    }

    fn held(&self) -> impl Iterator<Item = Slot> {
        let all = (0u32..).map(Slot).zip(&self.slots);
        all.filter(|(_, (digest, _))| !lock(digest).is_empty()).map(|(slot, _)| slot)
    }
}

fn lock(digest: &Mutex<SlotDigest>) -> SlotDigest {
    *digest.lock().unwrap_or_else(PoisonError::into_inner)
}
