//! Reads, at any member.

use std::{collections::BTreeSet, mem, time::Duration};

use rand::{Rng, seq::SliceRandom};

use super::{Body, Output, State, entry::Refusal, interface::Token};
use crate::{
    record::RecordKey,
    ring::{PeerId, Slot},
    view::{Epoch, View},
};

/// Who answers reads in chain mode. Either way they are linearizable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// Every member, the nearest first (CRAQ: Terrace and Freedman, ATC 2009).
    #[default]
    Any,
    /// The tail alone (van Renesse and Schneider, OSDI 2004): one copy of each key is read, and kept in memory.
    Tail,
}

impl Reads {
    /// Which members of the chain `me` asks, the best first: itself, if it is one of them.
    pub fn order(self, view: &View, me: PeerId, random: &mut impl Rng) -> Vec<PeerId> {
        let mut members: Vec<PeerId> = view.chain.iter().map(|member| member.peer).collect();
        match self {
            Self::Any => {
                members.shuffle(random);
                members.sort_by_key(|peer| *peer != me);
                members
            }
            Self::Tail => members.split_off(members.len().saturating_sub(1)),
        }
    }
}

/// Under which condition a member reads a slot's clean keys by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readable {
    /// So many of `granters` must stand by the view in force when the read begins.
    pub needed: usize,
    /// Electors that stand by the view for as long as they have granted ([`State::granted_until`]).
    pub granters: Vec<PeerId>,
}

impl State {
    /// Under which condition clean keys of the slot may be read here, by whoever samples the time first, if at all.
    #[must_use]
    pub fn readable(&self, slot: Slot) -> Option<Readable> {
        let replica = self.replicas.get(&slot).filter(|replica| replica.serves(self.me.peer))?;
        let (view, me) = (replica.view(), self.me.peer);
        let others = view.electors.iter().copied().filter(|peer| *peer != me);
        let granters = others.filter(|peer| self.leases.stands_by(*peer, slot, view.epoch)).collect();
        let own = usize::from(view.electors.contains(&me));
        Some(Readable { needed: view.electors.len() / 2 + 1 - own, granters })
    }

    /// Until when the grants of this peer hold.
    #[must_use]
    pub fn granted_until(&self, granter: PeerId) -> Duration {
        self.leases.granted_until(granter)
    }

    /// Slots for which [`State::readable`] may say something else than when this was last asked.
    pub fn take_standing(&mut self) -> BTreeSet<Slot> {
        mem::take(&mut self.standing)
    }

    /// A client reads. `now` was sampled before anything is looked at; a majority of electors stands by the view then,
    /// so that nothing of a later view was acknowledged before.
    pub(super) fn read(&mut self, token: Token, slot: Slot, at: RecordKey) {
        let me = self.me;
        let Some(replica) = self.replicas.get(&slot).filter(|replica| replica.view().has(me.peer)) else {
            return self.refuse(token, Refusal::WrongView);
        };
        if !replica.serves(me.peer) || !self.leased(slot) {
            return self.refuse(token, Refusal::Unavailable);
        }
        let is_head = replica.view().head() == Some(me.peer);
        let dirty = replica.log.as_ref().is_some_and(|log| log.dirty(&at).is_some());
        if is_head || !dirty {
            // The head's table is the committed state: it is the first to know.
            return self.outputs.push(Output::Read(token, slot, at));
        }
        let fresh = self.rules.fresh_frontier;
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        let clients = &mut replica.clients;
        // The answer to a question that is under way may have left the head before this read began.
        let number = match clients.asking {
            Some(asking) if !fresh => asking,
            _ => clients.last_question + 1,
        };
        clients.reads.entry(number).or_default().push((token, at));
        self.ask_frontier(slot);
    }

    /// Asks the head what is committed, if somebody waits for it and no question is under way.
    fn ask_frontier(&mut self, slot: Slot) {
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        let clients = &mut replica.clients;
        if clients.asking.is_some() || clients.reads.is_empty() {
            return;
        }
        clients.last_question += 1;
        clients.asking = Some(clients.last_question);
        self.repeat_question(slot);
    }

    /// Sends the question that is under way, again if need be.
    pub(super) fn repeat_question(&mut self, slot: Slot) {
        let Some(replica) = self.replicas.get(&slot) else { return };
        let (epoch, head) = (replica.view().epoch, replica.view().head());
        if let (Some(number), Some(head)) = (replica.clients.asking, head) {
            self.tell(head, slot, Body::AskFrontier(epoch, number));
        }
    }

    /// A member asks the head. Also a head whose epoch has ended may answer: what it knows to be committed is.
    pub(super) fn asked_for_frontier(&mut self, from: PeerId, slot: Slot, epoch: Epoch, number: u64) {
        if !self.is_current(from, slot, epoch) {
            return;
        }
        let Some(replica) = self.replicas.get(&slot) else { return };
        if replica.view().chain.first() == Some(&self.me) {
            let committed = replica.flow.committed;
            self.tell(from, slot, Body::Frontier(epoch, number, committed));
        }
    }

    /// The head has answered.
    pub(super) fn frontier(&mut self, slot: Slot, epoch: Epoch, number: u64, committed: u64) {
        let me = self.me;
        let Some(replica) = self.replicas.get_mut(&slot).filter(|replica| replica.view().epoch == epoch) else {
            return;
        };
        if replica.clients.asking != Some(number) || !replica.serves(me.peer) {
            return;
        }
        let waiting = replica.clients.reads.split_off(&(number + 1));
        let due = mem::replace(&mut replica.clients.reads, waiting);
        replica.clients.asking = None;
        self.learn_commit(slot, committed);
        let reads = due.into_values().flatten().map(|(token, at)| Output::Read(token, slot, at));
        self.outputs.extend(reads);
        self.ask_frontier(slot);
    }
}
