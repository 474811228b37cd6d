//! Which members of a chain are asked to read.

use dht_core::{
    record::RecordKey,
    replication::chain::{Reads, Record},
    ring::{PeerId, Slot},
    view::View,
};

use super::Coordinator;
use crate::driver::chains::Chains;

impl Coordinator {
    /// What this peer can read without asking anybody. With `any_replica`, what it has, perhaps from before.
    #[allow(clippy::option_option, reason = "whether it can, and whether there is one")]
    pub(super) fn read_chain_here(
        &self,
        chains: &Chains,
        slot: Slot,
        at: &RecordKey,
        any_replica: bool,
    ) -> Option<Option<Record>> {
        if any_replica {
            return chains.read_any(slot, at);
        }
        let is_asked = self.0.reads == Reads::Any || self.readers(&*chains.view(slot)?, false).contains(&self.me());
        if is_asked { chains.read_clean(slot, at) } else { None }
    }

    /// Whom to ask, in this order.
    pub(super) fn readers(&self, view: &View, any_replica: bool) -> Vec<PeerId> {
        let reads = if any_replica { Reads::Any } else { self.0.reads };
        reads.order(view, self.me(), &mut rand::rng())
    }
}
