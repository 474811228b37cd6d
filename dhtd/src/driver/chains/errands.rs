//! What a group has other tasks do for it.

use dht_core::{
    replication::chain::Input,
    ring::{PeerId, Slot},
    view::Epoch,
};

use super::{job::Job, table::read_table, worker::Worker};
use crate::driver::transfer;

impl Worker {
    pub(super) fn send_snapshot(&mut self, slot: Slot, to: PeerId, epoch: Epoch) {
        let (Some(applied), Some(peer)) = (self.store.applied(slot), self.routes.peer(to).cloned()) else { return };
        if self.store.flush().is_ok() {
            let parts = read_table(self.shared.store.clone(), slot, None);
            tokio::spawn(transfer::send_table(self.shared.clone(), peer, slot, epoch, applied, parts));
        }
    }

    pub(super) fn locate(&self, slot: Slot) {
        let Some(bits) = self.routes.slot_bits() else { return };
        let (control, jobs) = (self.control.clone(), self.jobs.clone());
        tokio::spawn(async move {
            let found = control.lookup(bits.point(slot)).await;
            let home = found.ok().and_then(|found| found.home);
            if let Some((home, jobs)) = home.zip(jobs.upgrade()) {
                drop(jobs.send(Job::Input(Input::Located(slot, home.group))).await);
            }
        });
    }
}
