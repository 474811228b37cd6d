//! A view is decided only after its members hold the data: the entries that some of them lack are fetched.

use super::{Body, Change, State, Step, entry::Entry, replica::Levelling};
use crate::{
    ring::{PeerId, Slot},
    view::{Ballot, Epoch, View},
};

impl State {
    /// A member or an elector of the view that is to be decided hears of it.
    pub(super) fn level(&mut self, from: PeerId, slot: Slot, ballot: Ballot, view: View, target: View, source: PeerId) {
        if !self.is_at(from, slot, ballot, view) {
            return;
        }
        self.promise(slot, ballot);
        let me = self.me.peer;
        let rules = self.rules;
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        if !target.has(me) {
            let acceptor = replica.acceptor.clone();
            return self.store(slot, Change::Acceptor(acceptor), Some(Step::Ready(slot, from, ballot)));
        }
        let Some(log) = &mut replica.log else {
            // Nothing was copied yet, or it was given up.
            return self.tell(from, slot, Body::Reject(ballot, None));
        };
        if rules.ready_not_given_up {
            // From here on the copy is counted on: it is not given up because nobody asks for it any more.
            replica.learning = None;
        }
        let frontier = target.frontier.seq;
        if !rules.ready_not_shortened && log.last().seq > frontier && log.applied().seq <= frontier {
            log.cut(frontier);
        }
        replica.levelling = Some(Levelling { from, ballot, frontier: target.frontier, source });
        let acceptor = replica.acceptor.clone();
        self.store(slot, Change::Acceptor(acceptor), None);
        self.go_on_levelling(slot);
    }

    /// Fetches what is lacking, or reports that nothing is.
    pub(super) fn go_on_levelling(&mut self, slot: Slot) {
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        let (Some(levelling), Some(log)) = (replica.levelling.clone(), &replica.log) else { return };
        let (epoch, last) = (replica.view().epoch, log.last());
        if last.seq < levelling.frontier.seq {
            return self.tell(levelling.source, slot, Body::Fetch(epoch, last.seq + 1));
        }
        replica.levelling = None;
        let acceptor = replica.acceptor.clone();
        let then = Step::Ready(slot, levelling.from, levelling.ballot);
        self.store(slot, Change::Acceptor(acceptor), Some(then));
    }

    pub(super) fn has_levelled(&mut self, slot: Slot, to: PeerId, ballot: Ballot) {
        if self.replicas.get(&slot).is_some_and(|replica| replica.acceptor.promised == Some(ballot)) {
            self.tell(to, slot, Body::Ready(ballot));
        }
    }

    /// Somebody lacks the entries from this one on.
    pub(super) fn fetch(&mut self, from: PeerId, slot: Slot, epoch: Epoch, next: u64) {
        if !self.is_current(from, slot, epoch) {
            return;
        }
        let (now, batch, batch_bytes) = (self.now, self.config.batch, self.config.batch_bytes);
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        if let Some(heard) = replica.feeding.get_mut(&from) {
            *heard = now;
        }
        let Some(log) = &replica.log else { return };
        let body = match log.from(next, batch, batch_bytes) {
            Some(entries) => Body::Entries { epoch, entries, last: log.last().seq, committed: replica.flow.committed },
            None => Body::TooFarBehind(epoch),
        };
        self.tell(from, slot, body);
    }

    /// Entries that this peer has asked for.
    pub(super) fn entries(
        &mut self,
        from: PeerId,
        slot: Slot,
        epoch: Epoch,
        entries: Vec<Entry>,
        last: u64,
        committed: u64,
    ) {
        let Some(replica) = self.replicas.get_mut(&slot).filter(|replica| replica.view().epoch == epoch) else {
            return;
        };
        let levels = replica.levelling.as_ref().filter(|levelling| levelling.source == from);
        let upto = levels.map(|levelling| levelling.frontier.seq);
        let learns = replica.learning.is_some_and(|learning| learning.source == from) && !replica.acceptor.sealed;
        let (Some(log), true) = (&mut replica.log, upto.is_some() || learns) else { return };
        let mut next = log.last().seq + 1;
        let mut fresh = Vec::new();
        for entry in entries {
            if entry.position.seq == next && upto.is_none_or(|upto| next <= upto) {
                next += 1;
                fresh.push(entry);
            }
        }
        fresh.iter().for_each(|entry| log.append(entry.clone(), true));
        let any = !fresh.is_empty();
        if any {
            self.store(slot, Change::Append(fresh), None);
        }
        if upto.is_some() {
            self.go_on_levelling(slot);
        } else {
            self.learn_commit(slot, committed);
            if any && next <= last {
                self.tell(from, slot, Body::Fetch(epoch, next));
            }
        }
    }

    /// The entries that this peer needs are not kept any more.
    pub(super) fn too_far_behind(&mut self, from: PeerId, slot: Slot, epoch: Epoch) {
        let Some(replica) = self.replicas.get_mut(&slot).filter(|replica| replica.view().epoch == epoch) else {
            return;
        };
        if let Some(levelling) = replica.levelling.take_if(|levelling| levelling.source == from) {
            return self.tell(levelling.from, slot, Body::Reject(levelling.ballot, None));
        }
        if replica.learning.is_some_and(|learning| learning.source == from) {
            self.tell(from, slot, Body::Attach(epoch));
        }
    }
}
