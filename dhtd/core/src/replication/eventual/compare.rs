//! Finding out whether two replicas hold the same, and what follows from it.

use std::{collections::BTreeSet, ops::Bound, time::Duration};

use super::{Digests, Holding, Message, Output, State, replica::Replica};
use crate::ring::{PeerId, Slot};

impl State {
    /// Another peer wants to know whether we hold the same.
    pub(super) fn compare(&mut self, from: PeerId, theirs: &[Holding], digests: &impl Digests) {
        let mut ours = Vec::with_capacity(theirs.len());
        for their in theirs {
            let slot = their.slot;
            if !self.is_slot(slot) {
                continue;
            }
            let own = self.holding(slot, digests);
            let group = self.slots.get(&slot).and_then(|replica| replica.group.as_ref());
            // Who is not of the group hands over; it does not want anything.
            let wants = group.is_none_or(|group| group.contains(&from));
            self.heard_of_holders(from, their);
            let comparable = self.same_horizon(their, &own);
            if comparable && own.digest.same(&their.digest) {
                self.equal(their, from);
            } else if comparable {
                if their.digest.is_empty() {
                    self.took_in(slot, from, their.basis);
                }
                if wants && !own.digest.is_empty() {
                    self.enqueue(slot, from, their.digest);
                }
            }
            ours.push(own);
        }
        let holders: BTreeSet<PeerId> = theirs.iter().flat_map(|their| &their.holders).copied().collect();
        let mut departed: BTreeSet<PeerId> = holders.intersection(&self.departed).copied().collect();
        departed.extend(self.some_departed());
        let departed = departed.into_iter().collect();
        self.outputs.push(Output::Send(from, Message::Compared { slots: ours, departed }));
    }

    /// The answer to a comparison of ours.
    pub(super) fn compared(&mut self, now: Duration, from: PeerId, theirs: &[Holding], digests: &impl Digests) {
        for their in theirs {
            let slot = their.slot;
            if !self.is_slot(slot) {
                continue;
            }
            let own = self.holding(slot, digests);
            self.heard_of_holders(from, their);
            let Some(replica) = self.slots.get_mut(&slot) else { continue };
            replica.level.remove(&from);
            if replica.asked.contains_key(&from) {
                replica.told.insert(from);
            }
            if own.horizon != their.horizon {
                // They are compared again when both have forgotten the same.
                replica.asked.remove(&from);
                self.same_horizon(their, &own);
                continue;
            }
            if own.digest.same(&their.digest) {
                let group = replica.group.as_deref().unwrap_or_default();
                if their.holders.iter().all(|peer| group.contains(peer)) {
                    let asked = replica.asked.get(&from).copied().unwrap_or(now);
                    replica.level.insert(from, asked);
                }
                self.equal(their, from);
                continue;
            }
            let wants = replica.group.as_ref().is_none_or(|group| group.contains(&from));
            if their.digest.is_empty() {
                self.took_in(slot, from, their.basis);
            }
            if own.digest.is_empty() {
                if let Some(replica) = self.slots.get_mut(&slot) {
                    replica.handed.insert(from, own.digest);
                }
            } else if wants {
                self.enqueue(slot, from, their.digest);
            }
        }
    }

    /// A peer outside the group has told what it holds, and whom it knows to hold something.
    fn heard_of_holders(&mut self, from: PeerId, their: &Holding) {
        let me = self.me;
        let Some(replica) = self.slots.get_mut(&their.slot).filter(|replica| replica.is_member(me)) else { return };
        if replica.is_member(from) {
            return;
        }
        let holders = their.holders.iter().filter(|peer| !self.departed.contains(*peer));
        if their.digest.is_empty() {
            replica.add_holders(their.slot, holders, me, &mut self.outputs);
            replica.remove_holder(their.slot, from, &mut self.outputs);
        } else {
            replica.add_holders(their.slot, holders.chain([&from]), me, &mut self.outputs);
        }
    }

    /// Whether both have forgotten the same deletions: otherwise what they hold cannot be compared. Whoever has
    /// forgotten less forgets what the other has: that was decided when all holders were level.
    fn same_horizon(&mut self, their: &Holding, own: &Holding) -> bool {
        if their.horizon > own.horizon {
            self.outputs.push(Output::Reclaim(their.slot, their.horizon));
        }
        their.horizon == own.horizon
    }

    /// A few of those that have departed, in turn: who knows of a goodbye may be gone before somebody comes back who has
    /// missed it and takes the departed one for a holder.
    fn some_departed(&mut self) -> Vec<PeerId> {
        let last = self.last_departed.map_or(Bound::Unbounded, Bound::Excluded);
        let mut some: Vec<PeerId> =
            self.departed.range((last, Bound::Unbounded)).take(DEPARTED_AT_ONCE).copied().collect();
        if some.len() < DEPARTED_AT_ONCE {
            let rest = DEPARTED_AT_ONCE - some.len();
            some.extend(
                self.departed.iter().filter(|peer| self.last_departed.is_none_or(|last| **peer <= last)).take(rest),
            );
        }
        self.last_departed = some.last().copied();
        some
    }

    /// The peer has handed everything over, and does not come back.
    pub(super) fn left(&mut self, peer: PeerId) {
        if self.departed.insert(peer) {
            self.outputs.push(Output::Departed(peer));
        }
        for (slot, replica) in &mut self.slots {
            replica.remove_holder(*slot, peer, &mut self.outputs);
        }
    }

    fn equal(&mut self, their: &Holding, with: PeerId) {
        self.took_in(their.slot, with, their.basis);
        if let Some(replica) = self.slots.get_mut(&their.slot) {
            replica.asked.remove(&with);
            replica.handed.insert(with, their.digest);
        }
    }

    /// Everything that a peer held of the slot is here.
    fn took_in(&mut self, slot: Slot, from: PeerId, basis: bool) {
        if let Some(replica) = self.slots.get_mut(&slot) {
            replica.merged.insert(from);
            replica.set_basis(slot, replica.basis || basis, &mut self.outputs);
        }
    }

    pub(super) fn pushed(&mut self, now: Duration, from: PeerId, slot: Slot, basis: bool) {
        if !self.is_slot(slot) {
            return;
        }
        self.replica(now, slot).asked.remove(&from);
        self.took_in(slot, from, basis);
    }

    fn holding(&self, slot: Slot, digests: &impl Digests) -> Holding {
        self.slots.get(&slot).unwrap_or(&Replica::default()).holding(slot, digests)
    }
}

/// Of how many departures an answer tells unasked: everyone hears of a hundred within a dozen comparisons.
const DEPARTED_AT_ONCE: usize = 8;
