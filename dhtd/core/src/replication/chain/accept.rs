//! What an elector answers to an attempt at a next view.

use super::{
    Body, Change, Output, State, Step, Timer,
    replica::{Accepting, Replica},
};
use crate::{
    ring::{PeerId, Slot},
    view::{Acceptor, Ballot, Promise, View},
};

impl State {
    /// Phase 1. Whoever promises serves the view in force no more.
    pub(super) fn prepare(&mut self, from: PeerId, slot: Slot, ballot: Ballot, view: View) {
        if !self.is_at(from, slot, ballot, view) {
            return;
        }
        self.promise(slot, ballot);
        let Some(replica) = self.replicas.get(&slot) else { return };
        let acceptor = replica.acceptor.clone();
        self.store(slot, Change::Acceptor(acceptor), Some(Step::Promised(slot, from, ballot)));
    }

    /// The promise is on disk, and with it everything that was appended before.
    pub(super) fn has_promised(&mut self, slot: Slot, to: PeerId, ballot: Ballot) {
        let Some(replica) = self.replicas.get(&slot) else { return };
        if replica.acceptor.promised != Some(ballot) || replica.installing {
            return;
        }
        let position = replica.log.as_ref().map(|log| log.last()).unwrap_or_default();
        let in_sync = replica.view().has(self.me.peer) && replica.log.is_some();
        let accepted = replica.acceptor.accepted.clone();
        let incarnation = self.me.incarnation;
        self.tell(to, slot, Body::Promise(ballot, Promise { incarnation, in_sync, position, accepted }));
    }

    /// Phase 2. Sealed first; then nothing is accepted before the leases have run out that this peer has granted to
    /// others than those who have promised to serve no more.
    pub(super) fn accept(
        &mut self,
        from: PeerId,
        slot: Slot,
        ballot: Ballot,
        view: View,
        target: View,
        quorum: Vec<PeerId>,
    ) {
        if !self.is_at(from, slot, ballot, view) {
            return;
        }
        if self.rules.accept_seals {
            self.seal(slot);
        }
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        replica.accepting = Some(Accepting { from, ballot, target, quorum });
        self.accept_if_free(slot);
    }

    /// Accepts what waits for it, unless a grant is still out.
    pub(super) fn accept_if_free(&mut self, slot: Slot) {
        let (now, rules) = (self.now, self.rules);
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        let Some(waiting) = replica.accepting.take() else { return };
        if !replica.acceptor.admits(waiting.ballot) {
            return;
        }
        let granted = self.leases.granted_to_others(now, slot, &waiting.quorum).filter(|_| rules.waits_out_grants);
        let until = granted.unwrap_or_default().max(self.accepts_from);
        if until > now {
            replica.accepting = Some(waiting);
            return self.outputs.push(Output::SetTimer(until - now, Timer::Grants(slot)));
        }
        let Accepting { from, ballot, target, .. } = waiting;
        replica.acceptor.promised = Some(ballot);
        replica.acceptor.accepted = Some((ballot, target));
        let acceptor = replica.acceptor.clone();
        self.store(slot, Change::Acceptor(acceptor), Some(Step::Accepted(slot, from, ballot)));
    }

    pub(super) fn has_accepted(&mut self, slot: Slot, to: PeerId, ballot: Ballot) {
        let Some(replica) = self.replicas.get(&slot) else { return };
        if replica.acceptor.accepted.as_ref().is_some_and(|(accepted, _)| *accepted == ballot) {
            self.tell(to, slot, Body::Accepted(ballot));
        }
    }

    /// Whether this peer stands at the view that the proposer goes by, after having caught up if need be, and may still
    /// follow the ballot. If not, the proposer hears why.
    pub(super) fn is_at(&mut self, from: PeerId, slot: Slot, ballot: Ballot, view: View) -> bool {
        let (known, rules) = (self.replicas.get(&slot).map(|replica| replica.view().epoch), self.rules);
        if known.is_some_and(|known| known.generation.rivals(view.epoch.generation)) {
            self.dispute(Some(from), slot, view.epoch.generation);
            return false;
        }
        if known.is_none_or(|known| view.epoch.is_newer(known, rules)) {
            let epoch = view.epoch;
            if self.rules.older_views_first {
                self.install(from, view);
                if self.view(slot).is_none_or(|view| view.epoch != epoch) {
                    return false; // It was not installed: what this peer could promise would be about another view.
                }
            } else if known.is_none() {
                self.replicas.insert(slot, Replica::new(Acceptor::new(view), None));
            }
        } else if known.is_some_and(|known| known.is_newer(view.epoch, rules)) && self.rules.accepts_at_view {
            self.tell_view(from, slot);
            return false;
        }
        let Some(replica) = self.replicas.get_mut(&slot) else { return false };
        replica.care.last_round = replica.care.last_round.max(ballot.round);
        if !replica.acceptor.admits(ballot) {
            let promised = replica.acceptor.promised;
            self.tell(from, slot, Body::Reject(ballot, promised));
            return false;
        }
        true
    }

    /// Seals, and admits no smaller ballot from now on. An attempt of somebody else that has just begun is left alone
    /// for a while: were everybody who sees a need to go on trying, none might ever get through.
    pub(super) fn promise(&mut self, slot: Slot, ballot: Ballot) {
        self.seal(slot);
        let (me, until) = (self.me, self.now.saturating_add(self.config.stuck_after));
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        if replica.acceptor.promised != Some(ballot) {
            replica.levelling = None;
            replica.accepting = None;
            if ballot.proposer != me {
                replica.care.not_before = replica.care.not_before.max(until);
            }
        }
        replica.acceptor.promise(ballot);
    }
}
