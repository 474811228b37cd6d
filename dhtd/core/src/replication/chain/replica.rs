//! What a peer has of one slot.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Config,
    entry::Outcome,
    interface::Token,
    log::{Kept, Log},
};
use crate::{
    Rules,
    record::RecordKey,
    ring::PeerId,
    view::{Acceptor, Ballot, Member, Position, Proposer, View},
};

/// One slot at one peer: what it knows of the slot's views, and the data if it holds them.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    pub(super) acceptor: Acceptor,
    /// `None` at a witness, and at who was a member once.
    pub(super) log: Option<Log>,
    /// A view was installed and is not yet on disk.
    pub(super) installing: bool,
    /// Since when it is sealed.
    pub(super) sealed_since: Option<Duration>,
    pub(super) flow: Flow,
    pub(super) clients: Clients,
    /// The attempt at a next view, if this peer makes one.
    pub(super) proposer: Option<Attempt>,
    /// A member that is being made level.
    pub(super) levelling: Option<Levelling>,
    /// A view to accept once the grants that were given to others have run out.
    pub(super) accepting: Option<Accepting>,
    pub(super) care: Care,
    /// It was in the view before and is not in this one: who of this one's electors knows that.
    pub(super) farewell: Option<BTreeSet<PeerId>>,
    /// This peer copies the slot.
    pub(super) learning: Option<Learning>,
    /// Those that copy it from here, and when they were last heard.
    pub(super) feeding: BTreeMap<PeerId, Duration>,
    /// Those that say they have copied the slot: up to where, and when they said so.
    pub(super) learned: BTreeMap<PeerId, (Member, u64, Duration)>,
}

/// How far entries have come along the chain.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Flow {
    /// On disk here.
    pub(super) durable: u64,
    /// Sent downstream.
    pub(super) sent: u64,
    /// Durable at all members further down.
    pub(super) acked: u64,
    /// Known to be so upstream.
    pub(super) ack_sent: u64,
    /// Durable at all members.
    pub(super) committed: u64,
    /// Everyone further down knows that this much is committed.
    pub(super) confirmed: u64,
    /// The frontier has moved, and downstream was not told.
    pub(super) commit_due: bool,
    /// `acked` at the last look.
    pub(super) acked_before: u64,
    /// Since when entries wait for their acks without any coming.
    pub(super) stuck_since: Option<Duration>,
}

/// Clients that wait.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Clients {
    /// For the commit of an entry.
    pub(super) writes: BTreeMap<u64, Vec<(Token, Outcome)>>,
    /// For the commit of an entry that decides an answer without one of its own; and for a lease.
    pub(super) answers: Vec<Answer>,
    /// Reads of keys that are dirty, by the number of the question to the head that they wait for.
    pub(super) reads: BTreeMap<u64, Vec<(Token, RecordKey)>>,
    /// The number of the question that is under way.
    pub(super) asking: Option<u64>,
    pub(super) last_question: u64,
}

/// An answer that makes no entry.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Answer {
    pub(super) token: Token,
    /// What it rests on.
    pub(super) seq: u64,
    pub(super) outcome: Outcome,
    /// It is that of an earlier attempt.
    pub(super) repeated: bool,
}

/// An attempt at a next view.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) proposer: Proposer,
    pub(super) began: Duration,
    /// When those were asked last that have not answered.
    pub(super) asked: Duration,
    /// When the next view was chosen.
    pub(super) chosen: Option<Duration>,
}

/// A member of a view that is to be decided fetches what it lacks.
#[derive(Clone, Debug, Hash)]
pub(super) struct Levelling {
    pub(super) from: PeerId,
    pub(super) ballot: Ballot,
    pub(super) frontier: Position,
    pub(super) source: PeerId,
}

/// What is to be accepted.
#[derive(Clone, Debug, Hash)]
pub(super) struct Accepting {
    pub(super) from: PeerId,
    pub(super) ballot: Ballot,
    pub(super) target: View,
    pub(super) quorum: Vec<PeerId>,
}

/// What this peer does about the slot's view.
#[derive(Clone, Debug, Default)]
pub(super) struct Care {
    /// Who should hold the slot, and since when that is known.
    pub(super) home: Option<(Vec<PeerId>, Duration)>,
    pub(super) located: Option<Duration>,
    /// In which picture of the ring that was last looked up: its number. 0: in none.
    pub(super) looked_up: u64,
    /// Whether that picture says who should hold the slot.
    pub(super) told_by_routes: bool,
    /// In which picture of the ring, and when, the view was found to be as it should be.
    pub(super) content: Option<(u64, Duration)>,
    /// Since when a next view is needed.
    pub(super) needed_since: Option<Duration>,
    /// Do not try before.
    pub(super) not_before: Duration,
    pub(super) attempts: u32,
    /// Who agrees that a peer is lost.
    pub(super) lost: BTreeMap<PeerId, BTreeSet<PeerId>>,
    /// When others were last told of the view, and learners that they should copy the slot.
    pub(super) told: Duration,
    /// The highest ballot that was seen.
    pub(super) last_round: u64,
}

/// This peer copies the slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Learning {
    pub(super) source: PeerId,
    /// When it was last asked to.
    pub(super) asked: Duration,
    /// When it last asked for a snapshot.
    pub(super) attached: Duration,
}

impl Replica {
    pub(super) fn new(acceptor: Acceptor, log: Option<Log>) -> Self {
        let mut replica = Self {
            acceptor,
            log,
            installing: false,
            sealed_since: None,
            flow: Flow::default(),
            clients: Clients::default(),
            proposer: None,
            levelling: None,
            accepting: None,
            care: Care::default(),
            farewell: None,
            learning: None,
            feeding: BTreeMap::new(),
            learned: BTreeMap::new(),
        };
        replica.restart_flow();
        replica
    }

    /// What is applied is durable everywhere. That is the whole log at the beginning of an epoch; after a restart there
    /// may be more in it, and who else has that is not known.
    pub(super) fn restart_flow(&mut self) {
        let (last, applied) = self.log.as_ref().map_or((0, 0), |log| (log.last().seq, log.applied().seq));
        self.flow = Flow {
            durable: last,
            sent: applied,
            acked: applied,
            ack_sent: applied,
            committed: applied,
            confirmed: applied,
            acked_before: applied,
            ..Flow::default()
        };
    }

    pub(super) fn view(&self) -> &View {
        &self.acceptor.view
    }

    /// Whether the peer is a member by the view in force and nothing has ended that: also a restart seals.
    pub(super) fn serves(&self, me: PeerId) -> bool {
        self.view().has(me) && !self.acceptor.sealed && !self.installing && self.log.is_some()
    }

    /// Whether the peer is in the view in force as far as it knows, or may be in the next: it has a copy and is sealed, or
    /// has said that it is ready, as a witness too. It hears of that view in any case, if it asks.
    pub(super) fn concerns(&self, me: PeerId, rules: Rules) -> bool {
        let Acceptor { sealed, promised, .. } = &self.acceptor;
        let ready = self.log.is_some() || (promised.is_some() && rules.ready_witness_stays);
        self.view().peers().any(|peer| peer == me) || (*sealed && ready)
    }

    /// Whether the view is one of a later recovery.
    pub(super) fn is_recovered_by(&self, view: &View) -> bool {
        view.epoch.generation.counter > self.view().epoch.generation.counter
    }

    /// Whether no entry is under way, as far as this peer knows, and no client waits.
    pub(super) fn is_quiet(&self) -> bool {
        let Clients { writes, answers, reads, asking, .. } = &self.clients;
        let nobody_waits = writes.is_empty() && answers.is_empty() && reads.is_empty() && asking.is_none();
        let Flow { acked_before, acked, committed, confirmed, commit_due, stuck_since, .. } = &self.flow;
        let last = self.log.as_ref().map_or(*committed, |log| log.last().seq);
        let all_known = *committed == last && *confirmed == last && !commit_due && stuck_since.is_none();
        nobody_waits && all_known && acked == acked_before
    }

    /// How many entries are kept for those who copy the slot: also by who does not feed them, since what they lack in the
    /// end they get from whoever has the longest log.
    pub(super) fn kept(&self, config: &Config) -> Kept {
        let nobody_copies = self.feeding.is_empty() && self.learned.is_empty();
        if nobody_copies { Kept::NONE } else { Kept { entries: config.kept_entries, bytes: config.kept_bytes } }
    }
}
