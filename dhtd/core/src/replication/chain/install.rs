//! A next view comes into force.

use std::collections::BTreeSet;

use super::{Body, Change, State, Step, entry::Entry, log::Kept, replica::Replica};
use crate::{
    replication::recovery::REVISION_JUMP,
    ring::{PeerId, Slot},
    view::{Acceptor, Epoch, View},
};

impl State {
    /// A view that was decided. The word of whoever says so is enough: nobody sends a view that was not.
    pub(super) fn install(&mut self, from: PeerId, view: View) {
        let (slot, rules) = (view.slot, self.rules);
        match self.replicas.get(&slot) {
            Some(replica) if replica.view().epoch.generation.rivals(view.epoch.generation) => {
                self.dispute(Some(from), slot, view.epoch.generation);
            }
            Some(replica) if replica.view().epoch.is_newer(view.epoch, rules) => {
                let newer = replica.view().clone();
                self.tell(from, slot, Body::Install(newer));
            }
            Some(replica) if replica.view().epoch == view.epoch => {
                let known = !replica.installing && view.peers().all(|peer| peer != from);
                if known {
                    self.tell(from, slot, Body::Installed(view.epoch));
                }
            }
            // What follows a view that is disputed is disputed, too.
            Some(replica) if replica.acceptor.rival.is_some() && !replica.is_recovered_by(&view) => {}
            Some(replica) if !view.epoch.is_newer(replica.view().epoch, rules) => {}
            // A recovery is under way that knows of this view, and may count on the copy that is here.
            Some(replica) if replica.log.is_some() && self.is_given_up(&view) && rules.claimed_copies_kept => {}
            _ => self.bring_into_force(view),
        }
    }

    pub(super) fn bring_into_force(&mut self, view: View) {
        let (slot, me, rules) = (view.slot, self.me, self.rules);
        self.leave(slot);
        let mut acceptor = Acceptor::new(view.clone());
        acceptor.sealed = view.has(me.peer) && !view.chain.contains(&me) && rules.unseals_listed_only;
        acceptor.rival = self.rival_of(&view);
        acceptor.sealed |= acceptor.rival.is_some() || self.claim.strands(&view);
        let replica = match self.replicas.get_mut(&slot) {
            Some(replica) => replica,
            None => self.replicas.entry(slot).or_insert_with(|| Replica::new(acceptor.clone(), None)),
        };
        let follows = replica.view().epoch.next() == view.epoch;
        let recovers = replica.is_recovered_by(&view);
        let was_in = replica.view().peers().any(|peer| peer == me.peer);
        let goes = was_in && view.peers().all(|peer| peer != me.peer);
        replica.farewell = goes.then(BTreeSet::new);
        let keeps = view.has(me.peer) && replica.log.is_some();
        let log = replica.log.take().filter(|_| keeps);
        let frontier =
            if rules.frontier_in_view { view.frontier.seq } else { log.as_ref().map_or(0, |log| log.last().seq) };
        replica.acceptor = acceptor.clone();
        replica.sealed_since = acceptor.sealed.then_some(self.now);
        replica.installing = true;
        (replica.proposer, replica.levelling, replica.accepting, replica.learning) = (None, None, None, None);
        (replica.feeding, replica.learned) = Default::default();
        replica.care.new_view();
        let mut entries = Vec::new();
        if let Some(mut log) = log {
            if recovers && log.last().seq + REVISION_JUMP == view.frontier.seq {
                log.append(Entry::of_recovery(view.frontier), false);
            }
            log.cut(frontier);
            entries = log.apply(frontier, Kept::NONE, self.config.window);
            // Whoever was made level covers the frontier. What does not is no copy of this history.
            replica.log = Some(log).filter(|log| log.last().seq == frontier);
        }
        replica.restart_flow();
        let keeps_log = replica.log.is_some();
        let then = Step::Installed(slot, view.epoch);
        self.store(slot, Change::Install { acceptor, entries, keeps_log }, Some(then));
        self.settle_writes(slot, (follows || !rules.only_next_view_settles).then_some(frontier));
        self.release_clients(slot);
        if !rules.install_before_use {
            self.installed(slot, view.epoch);
        }
        if goes && !rules.view_records_kept {
            self.replicas.remove(&slot);
        }
    }

    /// Whoever is in the slot's view no more sees to it that a majority of the new electors knows: it may have been the
    /// only one to know, and be about to leave.
    pub(super) fn say_farewell(&mut self, slot: Slot) {
        let Some(replica) = self.replicas.get(&slot) else { return };
        let Some(heard) = &replica.farewell else { return };
        let view = replica.view().clone();
        let others: Vec<PeerId> = view.peers().filter(|peer| !heard.contains(peer)).collect();
        others.into_iter().for_each(|peer| self.tell(peer, slot, Body::Install(view.clone())));
    }

    pub(super) fn farewell_heard(&mut self, from: PeerId, slot: Slot, epoch: Epoch) {
        let Some(replica) = self.replicas.get_mut(&slot).filter(|replica| replica.view().epoch == epoch) else {
            return;
        };
        if let Some(heard) = &mut replica.farewell {
            heard.insert(from);
            let heard = heard.clone();
            if replica.view().majority(heard) {
                replica.farewell = None;
            }
        }
    }

    /// The view is on disk.
    pub(super) fn installed(&mut self, slot: Slot, epoch: Epoch) {
        let Some(replica) = self.replicas.get_mut(&slot).filter(|replica| replica.view().epoch == epoch) else {
            return;
        };
        if std::mem::replace(&mut replica.installing, false) {
            self.enter(slot);
            // A chain of one has nobody to wait for.
            self.commit(slot);
        }
    }

    /// The electors are asked for leases and hear whom this peer stands by.
    pub(super) fn enter(&mut self, slot: Slot) {
        let (me, now) = (self.me, self.now);
        let Some(replica) = self.replicas.get(&slot) else { return };
        let (view, epoch) = (replica.view().clone(), replica.view().epoch);
        let serves = replica.serves(me.peer);
        let stands = (!replica.acceptor.sealed && !replica.installing).then_some(epoch);
        if view.peers().any(|peer| peer == me.peer) {
            for peer in view.peers().filter(|peer| *peer != me.peer) {
                self.leases.share(now, peer);
            }
        }
        if serves {
            for elector in view.electors.iter().filter(|peer| **peer != me.peer) {
                self.leases.register(now, *elector, slot, Some(epoch));
            }
        }
        self.leases.stands(now, slot, stands);
        self.standing.insert(slot);
    }

    /// The view is not in force any more. One that the next has overtaken on its way to the disk never was: its peers were
    /// not counted among those that slots are shared with.
    fn leave(&mut self, slot: Slot) {
        let (me, now) = (self.me, self.now);
        let entered = self.replicas.get(&slot).filter(|replica| !replica.installing);
        let Some(view) = entered.map(|replica| replica.view().clone()) else { return };
        self.leases.stands(now, slot, None);
        self.standing.insert(slot);
        if view.peers().any(|peer| peer == me.peer) {
            for peer in view.peers().filter(|peer| *peer != me.peer) {
                self.leases.unshare(peer);
                self.leases.register(now, peer, slot, None);
            }
        }
    }

    /// The epoch is over here: no more appends, reads, grants or acknowledgements. In memory first.
    pub(super) fn seal(&mut self, slot: Slot) {
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        replica.acceptor.sealed = true;
        replica.sealed_since.get_or_insert(now);
        self.leases.stands(now, slot, None);
        self.standing.insert(slot);
        self.release_clients(slot);
        if !self.rules.seal_keeps_waiting {
            self.settle_writes(slot, Some(0));
        }
    }
}
