//! A peer that is about to stop, and is expected back: as soon as it says so, its slots go on without it. Nobody has to
//! find out that it is gone, and as it still answers, it serves no more before the next view is decided: no lease has to be
//! waited out. Who stays sees to it; whoever is to be let go does not try itself, for it may be gone in the middle.

use super::{Message, Output, State};
use crate::{
    ring::{PeerId, Slot},
    view::View,
};

impl State {
    /// Says so at once; heartbeats go on saying it.
    pub(super) fn stop(&mut self) {
        self.leases.stop();
        for (peer, heartbeat) in self.leases.heartbeats(self.now) {
            self.outputs.push(Output::Send(peer, Message::Heartbeat(heartbeat)));
        }
        // What it copies it would not finish.
        let learning = self.replicas.iter().filter(|(_, replica)| replica.learning.is_some());
        let learning: Vec<Slot> = learning.map(|(slot, _)| *slot).collect();
        learning.into_iter().for_each(|slot| self.give_copy_up(slot));
    }

    /// Slots that others are about to go on with without this peer, as far as it knows.
    #[must_use]
    pub fn handing_over(&self) -> usize {
        self.replicas.values().filter(|replica| self.let_go(replica.view()).contains(&self.me.peer)).count()
    }

    /// Members that are about to stop, as far as the slot can do without them: enough to take writes stay, one of them for
    /// longer. If too few would, all stay members, so that those who come back first have the data.
    pub(super) fn let_go(&self, view: &View) -> Vec<PeerId> {
        let there = |peer: PeerId| peer == self.me.peer || !self.leases.has_lost(self.now, peer);
        let live: Vec<PeerId> = view.chain.iter().map(|member| member.peer).filter(|peer| there(*peer)).collect();
        let going: Vec<PeerId> = live.iter().copied().filter(|peer| self.stops(*peer)).collect();
        let spare = if going.len() < live.len() { live.len().saturating_sub(view.min_in_sync.max(1)) } else { 0 };
        going.into_iter().take(spare).collect()
    }

    /// Whether the peer is about to stop.
    pub(super) fn stops(&self, peer: PeerId) -> bool {
        if peer == self.me.peer { self.leases.stops() } else { self.leases.is_stopping(peer) }
    }

    /// The peer has just said that it is about to stop.
    pub(super) fn go_on_without(&mut self, peer: PeerId) {
        let concerned = |view: &View| view.has(peer) && view.peers().any(|it| it == self.me.peer);
        let slots = self.replicas.iter().filter(|(_, replica)| concerned(replica.view()));
        let slots: Vec<Slot> = slots.map(|(slot, _)| *slot).collect();
        slots.into_iter().for_each(|slot| self.look_after(slot));
    }
}
