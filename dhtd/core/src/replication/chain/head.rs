//! Commands of clients: the head decides what comes of them, and answers once that holds.

use super::{
    Body, Change, State, Step,
    entry::{Command, Effect, Entry, Outcome, Refusal, Reply},
    interface::Token,
    log::Table,
    replica::Answer,
};
use crate::{
    ring::{PeerId, Slot},
    view::{Epoch, Position, View},
};

impl State {
    pub(super) fn write(&mut self, token: Token, slot: Slot, epoch: Epoch, command: Command, table: &impl Table) {
        if let Err(refusal) = self.may_write(slot, epoch) {
            return self.refuse(token, refusal);
        }
        let (rules, window) = (self.rules, self.config.window);
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        let Some(log) = &mut replica.log else { return };
        let last = log.last().seq;
        if let Some(request) = &command.request {
            if let Some(recorded) = log.find(request) {
                let (seq, outcome) = (recorded.seq, recorded.outcome);
                return self.answer(slot, Answer { token, seq, outcome, repeated: true });
            }
            if rules.refuses_old_requests && request.floor < last.saturating_sub(window) {
                return self.refuse(token, Refusal::TooOld(last));
            }
        }
        let current = log.newest(&command.at, || table.get(slot, &command.at));
        let seq = last + 1;
        let (effect, outcome) = command.evaluate(current.as_ref(), seq);
        let silent = effect == Effect::Nothing && (command.request.is_none() || !rules.records_failures);
        if silent {
            // It says what was last written: that must be committed.
            let seq = log.dirty(&command.at).unwrap_or(0);
            return self.answer(slot, Answer { token, seq, outcome, repeated: false });
        }
        let position = Position { epoch, seq };
        let entry = Entry { position, at: command.at, effect, request: command.request, outcome };
        replica.clients.writes.entry(seq).or_default().push((token, outcome));
        self.append(slot, vec![entry]);
    }

    fn may_write(&self, slot: Slot, epoch: Epoch) -> Result<(), Refusal> {
        let replica = self.replicas.get(&slot).ok_or(Refusal::WrongView)?;
        let view = replica.view();
        if view.epoch != epoch || view.head() != Some(self.me.peer) {
            return Err(Refusal::WrongView);
        }
        if !replica.serves(self.me.peer) || !self.disk_ok || self.is_cut_off(view) {
            return Err(Refusal::Unavailable);
        }
        if view.chain.len() < view.min_in_sync {
            return Err(Refusal::TooFewInSync);
        }
        let (most, most_bytes) = (self.config.most_pending, self.config.most_pending_bytes);
        let full = replica.log.as_ref().is_some_and(|it| it.pending() >= most || it.pending_bytes() >= most_bytes);
        if full { Err(Refusal::Busy) } else { Ok(()) }
    }

    /// Most electors are lost: what is taken now would wait until they are back, and whoever waits for it would not know
    /// what came of it. Nothing rests on this.
    fn is_cut_off(&self, view: &View) -> bool {
        let lost = |peer: &PeerId| *peer != self.me.peer && self.leases.has_lost(self.now, *peer);
        !view.majority(view.electors.iter().copied().filter(|peer| !lost(peer)))
    }

    /// Adds entries to the log here: on disk, and soon downstream.
    pub(super) fn append(&mut self, slot: Slot, entries: Vec<Entry>) {
        let (rules, me) = (self.rules, self.me.peer);
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        let (epoch, records) = (replica.view().epoch, rules.dedup_in_entry || replica.view().head() == Some(me));
        let Some(log) = &mut replica.log else { return };
        let Some(last) = entries.last().map(|entry| entry.position.seq) else { return };
        entries.iter().for_each(|entry| log.append(entry.clone(), records));
        self.flush.insert(slot);
        self.store(slot, Change::Append(entries), Some(Step::Appended(slot, epoch, last)));
        if !rules.pending_apart {
            self.apply(slot, last);
        }
    }

    /// An answer that makes no entry is a read: it goes out once what it rests on is committed, and with a lease that
    /// holds then.
    pub(super) fn answer(&mut self, slot: Slot, answer: Answer) {
        if !self.rules.answers_are_reads {
            return self.reply(answer.token, Reply::Written(answer.outcome));
        }
        if let Some(replica) = self.replicas.get_mut(&slot) {
            replica.clients.answers.push(answer);
        }
        self.answer_waiting(slot);
    }

    /// Gives those answers that may be given now.
    pub(super) fn answer_waiting(&mut self, slot: Slot) {
        if self.replicas.get(&slot).is_none_or(|replica| replica.clients.answers.is_empty()) || !self.leased(slot) {
            return;
        }
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        if !replica.serves(self.me.peer) {
            return;
        }
        let committed = replica.flow.committed;
        let (due, wait) = std::mem::take(&mut replica.clients.answers).into_iter().partition(|it| it.seq <= committed);
        replica.clients.answers = wait;
        let due: Vec<Answer> = due;
        due.into_iter().for_each(|answer| self.reply(answer.token, Reply::Written(answer.outcome)));
    }

    /// Everything up to this entry is durable at all members.
    pub(super) fn commit(&mut self, slot: Slot) {
        let rules = self.rules;
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        if replica.view().head() != Some(self.me.peer) {
            return;
        }
        let alone = replica.view().chain.len() == 1;
        let flow = &mut replica.flow;
        let everywhere = match (alone, rules.commit_on_all) {
            (true, _) => flow.durable,
            (false, true) => flow.durable.min(flow.acked),
            (false, false) => flow.acked,
        };
        if everywhere <= flow.committed {
            return;
        }
        flow.committed = everywhere;
        if alone {
            flow.confirmed = everywhere;
        } else {
            flow.commit_due = true;
        }
        let waiting = replica.clients.writes.split_off(&(everywhere + 1));
        let done = std::mem::replace(&mut replica.clients.writes, waiting);
        self.flush.insert(slot);
        self.apply(slot, everywhere);
        for (token, outcome) in done.into_values().flatten() {
            self.reply(token, Reply::Written(outcome));
        }
        self.answer_waiting(slot);
    }

    /// Committed entries leave the log for the table.
    pub(super) fn apply(&mut self, slot: Slot, upto: u64) {
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        let kept = replica.kept(&self.config);
        let window = self.config.window;
        let Some(log) = &mut replica.log else { return };
        let entries = log.apply(upto, kept, window);
        let first_kept = log.applied().seq.saturating_sub(window) + 1;
        if !entries.is_empty() {
            self.store(slot, Change::Apply { entries, first_kept }, None);
        }
    }

    /// The epoch is over here: nothing more is answered by right of it. Who waits for a commit goes on waiting, until the
    /// next view says what became of it.
    pub(super) fn release_clients(&mut self, slot: Slot) {
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        let answers = std::mem::take(&mut replica.clients.answers);
        let reads = std::mem::take(&mut replica.clients.reads);
        replica.clients.asking = None;
        for answer in answers {
            let refusal = if answer.repeated { Refusal::OutcomeUnknown } else { Refusal::Unavailable };
            self.refuse(answer.token, refusal);
        }
        for (token, _) in reads.into_values().flatten() {
            self.refuse(token, Refusal::Unavailable);
        }
    }

    /// What became of the commands that waited for their commit when their epoch ended: the next view's frontier says
    /// it. If only a later view is known, nobody knows.
    pub(super) fn settle_writes(&mut self, slot: Slot, frontier: Option<u64>) {
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        let writes = std::mem::take(&mut replica.clients.writes);
        let outcome_of = |seq: u64, outcome: Outcome| match frontier {
            Some(frontier) if seq <= frontier => Reply::Written(outcome),
            Some(_) => Reply::Refused(Refusal::Unavailable),
            None => Reply::Refused(Refusal::OutcomeUnknown),
        };
        for (seq, waiting) in writes {
            for (token, outcome) in waiting {
                self.reply(token, outcome_of(seq, outcome));
            }
        }
    }

    /// Sends downstream what has not been sent, with the commit frontier; the frontier alone goes a little later.
    pub(super) fn send_entries(&mut self, slot: Slot) {
        let (me, batch, batch_bytes) = (self.me, self.config.batch, self.config.batch_bytes);
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        if !replica.serves(me.peer) {
            return;
        }
        let Some(to) = replica.view().downstream(me.peer) else { return };
        let (epoch, committed) = (replica.view().epoch, replica.flow.committed);
        let Some(log) = &replica.log else { return };
        let entries = log.from(replica.flow.sent + 1, batch, batch_bytes).unwrap_or_default();
        let Some(last) = entries.last().map(|entry| entry.position.seq) else {
            if replica.flow.commit_due {
                if self.commits.is_empty() {
                    self.outputs.push(super::Output::SetTimer(self.config.commit_delay, super::Timer::Commits));
                }
                self.commits.insert(slot);
            }
            return;
        };
        let more = last < log.last().seq;
        replica.flow.sent = last;
        replica.flow.commit_due = false;
        self.tell(to, slot, Body::Append { epoch, entries, committed });
        if more {
            self.send_entries(slot);
        }
    }
}
