//! The newest view of each slot, for everyone to read.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use dht_core::{
    ring::{Slot, SlotBits},
    view::View,
};

/// One entry per slot of the ring: what this peer goes by, or has heard from others.
pub(super) struct Views(Vec<ArcSwapOption<View>>);

impl Views {
    pub(super) fn new(bits: SlotBits) -> Self {
        Self(bits.iter().map(|_| ArcSwapOption::empty()).collect())
    }

    /// Whether it is a slot of the ring.
    pub(super) fn has(&self, slot: Slot) -> bool {
        (slot.0 as usize) < self.0.len()
    }

    pub(super) fn newest(&self, slot: Slot) -> Option<Arc<View>> {
        self.0.get(slot.0 as usize)?.load_full()
    }

    /// Keeps the view if it is newer than what is known.
    pub(super) fn learn(&self, view: View) {
        let Some(entry) = self.0.get(view.slot.0 as usize) else { return };
        let view = Arc::new(view);
        entry.rcu(|known| match known {
            Some(known) if known.epoch >= view.epoch => Some(known.clone()),
            _ => Some(view.clone()),
        });
    }
}
