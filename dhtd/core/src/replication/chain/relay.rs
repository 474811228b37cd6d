//! Entries on their way down the chain, and acknowledgements on their way up.

use super::{Body, State, entry::Entry};
use crate::{
    ring::{PeerId, Slot},
    view::Epoch,
};

impl State {
    /// Entries come from upstream.
    pub(super) fn appended(&mut self, from: PeerId, slot: Slot, epoch: Epoch, entries: Vec<Entry>, committed: u64) {
        if !self.is_current(from, slot, epoch) {
            return;
        }
        let me = self.me;
        // The head bounds what is pending, and with its entries comes how much of them is no more: whoever takes that in
        // first never has more pending than the head had, and need not refuse anything.
        let held = self.replicas.get(&slot);
        if held.is_some_and(|replica| replica.view().upstream(me.peer) == Some(from) && replica.serves(me.peer)) {
            self.learn_commit(slot, committed);
        }
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        let takes = replica.serves(me.peer) || (!self.rules.sealed_appends_nothing && replica.acceptor.sealed);
        if replica.view().upstream(me.peer) != Some(from) || !takes {
            return;
        }
        let Some(log) = &replica.log else { return };
        let mut last = log.last().seq;
        let mut gap = None;
        let known = entries.first().is_some_and(|entry| entry.position.seq <= last);
        let mut fresh = Vec::new();
        for entry in entries {
            let seq = entry.position.seq;
            if seq == last + 1 {
                last = seq;
                fresh.push(entry);
            } else if seq > last {
                gap = Some(last + 1);
                break;
            }
        }
        let nothing_new = fresh.is_empty();
        self.append(slot, fresh);
        if let Some(next) = gap {
            self.tell(from, slot, Body::Gap(epoch, next));
        }
        self.learn_commit(slot, committed);
        if known || nothing_new {
            self.acknowledge(slot, true);
        }
    }

    /// What upstream or the head knows to be committed.
    pub(super) fn learn_commit(&mut self, slot: Slot, committed: u64) {
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        let Some(log) = &replica.log else { return };
        let committed = committed.min(log.last().seq);
        if committed <= replica.flow.committed {
            return;
        }
        replica.flow.committed = committed;
        match replica.view().downstream(self.me.peer) {
            Some(_) => replica.flow.commit_due = true,
            None => replica.flow.confirmed = committed,
        }
        self.flush.insert(slot);
        self.apply(slot, committed);
    }

    /// Entries up to this one are on disk here.
    pub(super) fn durable(&mut self, slot: Slot, epoch: Epoch, seq: u64) {
        let Some(replica) = self.replicas.get_mut(&slot).filter(|replica| replica.view().epoch == epoch) else {
            return;
        };
        replica.flow.durable = replica.flow.durable.max(seq);
        self.acknowledge(slot, false);
        self.commit(slot);
    }

    /// Tells upstream how much is durable from here on down, if that is news. A sealed member acknowledges nothing: it
    /// has told, or will tell, a proposer where its log ends.
    fn acknowledge(&mut self, slot: Slot, again: bool) {
        let (me, rules) = (self.me, self.rules);
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        let serves = replica.serves(me.peer) || (!rules.sealed_acks_nothing && replica.acceptor.sealed);
        let Some(to) = replica.view().upstream(me.peer).filter(|_| serves) else { return };
        let epoch = replica.view().epoch;
        let is_tail = replica.view().downstream(me.peer).is_none();
        let flow = &mut replica.flow;
        let seq = match (is_tail, rules.commit_on_all) {
            (true, _) => flow.durable,
            (false, true) => flow.durable.min(flow.acked),
            (false, false) => flow.acked,
        };
        if seq > flow.ack_sent || again {
            let news = seq > flow.ack_sent;
            flow.ack_sent = flow.ack_sent.max(seq);
            let committed = if is_tail { flow.committed } else { flow.committed.min(flow.confirmed) };
            let ack = Body::Ack { epoch, seq, committed };
            if news { self.tell(to, slot, ack) } else { self.tell_soon(to, slot, ack) }
        }
    }

    /// Everything up to here is durable further down.
    pub(super) fn acked(&mut self, from: PeerId, slot: Slot, epoch: Epoch, seq: u64, committed: u64) {
        let me = self.me.peer;
        let Some(replica) = self.replicas.get_mut(&slot).filter(|replica| replica.view().epoch == epoch) else {
            return;
        };
        if replica.view().downstream(me) != Some(from) {
            return;
        }
        let flow = &mut replica.flow;
        flow.acked = flow.acked.max(seq);
        flow.confirmed = flow.confirmed.max(committed);
        self.acknowledge(slot, false);
        self.commit(slot);
    }

    /// Downstream lacks entries.
    pub(super) fn gap(&mut self, from: PeerId, slot: Slot, epoch: Epoch, next: u64) {
        let me = self.me.peer;
        let Some(replica) = self.replicas.get_mut(&slot).filter(|replica| replica.view().epoch == epoch) else {
            return;
        };
        if replica.view().downstream(me) == Some(from) {
            replica.flow.sent = replica.flow.sent.min(next.saturating_sub(1)).max(replica.flow.acked);
            self.flush.insert(slot);
        }
    }

    /// Commit frontiers that no entry has taken along.
    pub(super) fn send_commits(&mut self) {
        for slot in std::mem::take(&mut self.commits) {
            if self.replicas.get(&slot).is_some_and(|replica| replica.flow.commit_due) {
                self.send_commit(slot);
            }
        }
    }

    fn send_commit(&mut self, slot: Slot) {
        let me = self.me;
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        replica.flow.commit_due = false;
        if !replica.serves(me.peer) {
            return;
        }
        let (epoch, committed) = (replica.view().epoch, replica.flow.committed);
        if let Some(to) = replica.view().downstream(me.peer) {
            self.tell_soon(to, slot, Body::Append { epoch, entries: Vec::new(), committed });
        }
    }

    /// Now and then: what was not acknowledged since the last look is sent again.
    pub(super) fn resend(&mut self, slot: Slot) {
        let (me, now) = (self.me, self.now);
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        if !replica.serves(me.peer) || replica.view().downstream(me.peer).is_none() {
            replica.flow.stuck_since = None;
            return;
        }
        let last = replica.log.as_ref().map_or(0, |log| log.last().seq);
        let flow = &mut replica.flow;
        let waits = flow.acked < last;
        if !waits || flow.acked > flow.acked_before {
            flow.stuck_since = None;
        } else {
            flow.stuck_since.get_or_insert(now);
            if flow.sent > flow.acked {
                flow.sent = flow.acked;
                self.flush.insert(slot);
            }
        }
        flow.acked_before = flow.acked;
        if flow.confirmed < flow.committed && !waits {
            self.send_commit(slot);
        }
    }

    /// Whether the sender goes by the view that is known here. If not, whoever knows the older one hears of the newer.
    pub(super) fn is_current(&mut self, from: PeerId, slot: Slot, epoch: Epoch) -> bool {
        let rules = self.rules;
        match self.replicas.get(&slot) {
            Some(replica) if replica.view().epoch == epoch => true,
            Some(replica) if replica.view().epoch.generation.rivals(epoch.generation) => {
                self.dispute(Some(from), slot, epoch.generation);
                false
            }
            Some(replica) if replica.view().epoch.is_newer(epoch, rules) => {
                let view = replica.view().clone();
                self.tell(from, slot, Body::Install(view));
                false
            }
            _ => {
                self.tell(from, slot, Body::AskView);
                false
            }
        }
    }

    pub(super) fn tell_view(&mut self, from: PeerId, slot: Slot) {
        if let Some(replica) = self.replicas.get(&slot) {
            let view = replica.view().clone();
            self.tell(from, slot, Body::Install(view));
        }
    }
}
