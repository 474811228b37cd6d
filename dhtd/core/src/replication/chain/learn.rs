//! Copying a slot: who is to become a member copies the table and then the log, while the others go on serving.

use super::{
    Body, Change, Log, Output, Snapshot, State,
    replica::{Learning, Replica},
};
use crate::{
    ring::{PeerId, Slot},
    view::{Epoch, Member, View},
};
use std::time::Duration;

impl State {
    /// Tells those who should become members to copy the slot, from the tail if it is there: it has the least to do.
    pub(super) fn teach(&mut self, slot: Slot) {
        let now = self.now;
        let Some(replica) = self.replicas.get(&slot) else { return };
        let Some((home, since)) = &replica.care.home else { return };
        let view = replica.view().clone();
        if now.saturating_sub(*since) < self.config.settle || !replica.serves(self.me.peer) || self.rank(slot) > 0 {
            return;
        }
        let answers = |peer: PeerId| peer == self.me.peer || self.leases.in_contact(now, peer);
        let source = view.chain.iter().rev().map(|member| member.peer).find(|peer| answers(*peer));
        let learners: Vec<PeerId> = home.iter().copied().filter(|peer| !view.has(*peer)).collect();
        for peer in learners {
            self.tell(peer, slot, Body::Learn(view.clone(), source.unwrap_or(self.me.peer)));
        }
    }

    /// This peer is to copy the slot.
    pub(super) fn learn(&mut self, from: PeerId, slot: Slot, view: View, source: PeerId) {
        let (epoch, now) = (view.epoch, self.now);
        self.install(from, view);
        if self.leases.stops() {
            return;
        }
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        if replica.view().epoch != epoch || replica.view().has(self.me.peer) || replica.acceptor.sealed {
            return;
        }
        match &mut replica.learning {
            Some(learning) if learning.source == source => learning.asked = now,
            learning => {
                *learning = Some(Learning { source, asked: now, attached: now });
                replica.log = None;
                self.tell(source, slot, Body::Attach(epoch));
            }
        }
    }

    /// A peer wants to copy the slot from here.
    pub(super) fn attach(&mut self, from: PeerId, slot: Slot, epoch: Epoch) {
        if !self.is_current(from, slot, epoch) {
            return;
        }
        let (me, now) = (self.me.peer, self.now);
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        if replica.log.is_some() && replica.view().has(me) {
            replica.feeding.insert(from, now);
            self.outputs.push(Output::SendSnapshot(slot, from, epoch));
        }
    }

    /// The table has come: it replaces what is here.
    pub(super) fn load(&mut self, from: PeerId, slot: Slot, snapshot: Snapshot) {
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        let wanted = replica.learning.is_some_and(|learning| learning.source == from);
        let newer = replica.log.as_ref().is_none_or(|log| log.last() < snapshot.applied);
        if !wanted || !newer || replica.view().epoch != snapshot.epoch || replica.acceptor.sealed {
            return;
        }
        let (epoch, next) = (snapshot.epoch, snapshot.applied.seq + 1);
        replica.log = Some(Log::new(snapshot.applied, snapshot.recorded.clone(), Vec::new()));
        replica.restart_flow();
        self.store(slot, Change::Load(snapshot), None);
        self.tell(from, slot, Body::Fetch(epoch, next));
    }

    /// Fetches what was appended since, and says how far the copy has come.
    pub(super) fn go_on_learning(&mut self, slot: Slot) {
        let (now, me) = (self.now, self.me);
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        replica.feeding.retain(|_, heard| now.saturating_sub(*heard) < FORGOTTEN_AFTER);
        replica.learned.retain(|_, (_, _, heard)| now.saturating_sub(*heard) < FORGOTTEN_AFTER);
        let Some(learning) = &mut replica.learning else { return };
        if now.saturating_sub(learning.asked) >= FORGOTTEN_AFTER {
            return self.give_copy_up(slot);
        }
        let (epoch, source) = (replica.acceptor.view.epoch, learning.source);
        match &replica.log {
            Some(log) => {
                let last = log.last().seq;
                let peers: Vec<PeerId> = replica.view().peers().collect();
                self.tell(source, slot, Body::Fetch(epoch, last + 1));
                peers.into_iter().for_each(|peer| self.tell(peer, slot, Body::Learned(epoch, me, last)));
            }
            None if now.saturating_sub(learning.attached) >= ATTACH_EVERY => {
                learning.attached = now;
                self.tell(source, slot, Body::Attach(epoch));
            }
            None => {}
        }
    }

    /// What was copied to become a member is not needed, it seems.
    pub(super) fn give_copy_up(&mut self, slot: Slot) {
        let learns = |replica: &&mut Replica| replica.learning.is_some();
        let Some(replica) = self.replicas.get_mut(&slot).filter(learns) else { return };
        (replica.learning, replica.log) = (None, None);
        self.store(slot, Change::Scrap, None);
    }

    /// A peer has copied the slot up to here.
    pub(super) fn learned(&mut self, slot: Slot, epoch: Epoch, member: Member, seq: u64) {
        let now = self.now;
        if let Some(replica) = self.replicas.get_mut(&slot).filter(|replica| replica.view().epoch == epoch) {
            replica.learned.insert(member.peer, (member, seq, now));
        }
    }

    /// The peer, if it has nearly copied the slot.
    pub(super) fn level_learner(&self, replica: &Replica, peer: PeerId) -> Option<Member> {
        let (member, seq, heard) = replica.learned.get(&peer)?;
        let recent = self.now.saturating_sub(*heard) < LEARNED_HOLDS;
        let last = replica.log.as_ref().map_or(replica.view().frontier.seq, |log| log.last().seq);
        (recent && seq + self.config.nearly_level >= last).then_some(*member)
    }

    /// Whether it is better to wait until more peers have copied the slot: some of the home group have not, and the
    /// chain is no shorter than it should be.
    pub(super) fn waits_for_learners(&self, replica: &Replica, home: &[PeerId]) -> bool {
        let view = replica.view();
        let missing: Vec<PeerId> = home.iter().copied().filter(|peer| !view.has(*peer)).collect();
        let level = missing.iter().filter(|peer| self.level_learner(replica, **peer).is_some()).count();
        let whole = view.chain.len() >= home.len();
        level < missing.len() && (level == 0 || whole)
    }
}

/// A copy that nobody asks for any more, and a peer that fetches no more, is forgotten after this time. A guess.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

/// How often a snapshot is asked for that does not come. A guess.
const ATTACH_EVERY: Duration = Duration::from_secs(1);

/// How long it counts that a peer has copied the slot. A guess.
const LEARNED_HOLDS: Duration = Duration::from_millis(500);
