//! One attempt at deciding the next view of a slot: what was answered so far, and what follows from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::{
    Ballot, Member, Position, View,
    electors::{Choice, choose},
};
use crate::{Rules, ring::PeerId};

/// What the next view should be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Plan {
    /// The members that answer go on, without these.
    Repair(Vec<PeerId>),
    /// The members that answer go on in this order: two that follow each other may not reach each other.
    Reorder(Vec<PeerId>),
    /// This chain. Who is new has copied the slot.
    Become(Vec<Member>),
}

/// What there is besides the view that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Circumstances {
    /// Peers that answer and are not leaving, the better ones first.
    pub live: Vec<PeerId>,
    /// Peers of the ring that have not departed and are not about to, dead ones too.
    pub staying: Arc<BTreeSet<PeerId>>,
    /// Of how many members a chain should be at least to take writes.
    pub min_in_sync: usize,
}

impl Circumstances {
    /// Who decides after this chain has replaced the view's.
    #[must_use]
    pub fn electors(&self, view: &View, chain: &[PeerId], planned: bool) -> Vec<PeerId> {
        let counts = |peer: &PeerId| !planned || self.staying.contains(peer);
        let before: Vec<PeerId> = view.electors.iter().copied().filter(counts).collect();
        choose(&Choice { chain, before: &before, live: &self.live, peers: self.staying.len(), planned })
    }

    /// Of how many members a chain of this length has to be to take writes, after the view: it grows with the chain, and
    /// only a planned change lowers it.
    #[must_use]
    pub fn min_in_sync(&self, view: &View, members: usize, planned: bool) -> usize {
        let (wanted, before) = (self.min_in_sync, view.min_in_sync);
        if planned { wanted.min(members).max(before.min(wanted)) } else { before }
    }
}

/// The answer to a Prepare.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Promise {
    /// The process that answers.
    pub incarnation: u64,
    /// It is in the chain of the view in force and has all that it ever acknowledged.
    pub in_sync: bool,
    /// The end of its log, on disk.
    pub position: Position,
    /// What it has accepted before.
    pub accepted: Option<(Ballot, View)>,
}

/// How far an attempt has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Round {
    /// Waiting for promises.
    Preparing,
    /// Waiting until the members of the next view hold the data.
    Levelling,
    /// Waiting for the electors to accept.
    Accepting,
}

/// One attempt.
#[derive(Clone, Debug)]
pub struct Proposer {
    /// Its number.
    pub ballot: Ballot,
    /// The view in force.
    pub view: View,
    /// How far it has come.
    pub round: Round,
    /// The next view, from [`Round::Levelling`] on.
    pub target: Option<View>,
    /// Those that have promised when the next view was chosen: they serve nothing any more.
    pub quorum: Vec<PeerId>,
    /// Whose log is the longest among them.
    pub source: Option<PeerId>,
    plan: Plan,
    circumstances: Circumstances,
    promises: BTreeMap<PeerId, Promise>,
    ready: BTreeSet<PeerId>,
    accepted: BTreeSet<PeerId>,
}

impl Proposer {
    /// An attempt that nobody has answered yet.
    #[must_use]
    pub fn new(ballot: Ballot, view: View, plan: Plan, circumstances: Circumstances) -> Self {
        Self {
            ballot,
            view,
            round: Round::Preparing,
            target: None,
            quorum: Vec::new(),
            source: None,
            plan,
            circumstances,
            promises: BTreeMap::new(),
            ready: BTreeSet::new(),
            accepted: BTreeSet::new(),
        }
    }

    /// A peer has promised.
    pub fn promised(&mut self, from: PeerId, promise: Promise) {
        if self.round == Round::Preparing {
            self.promises.insert(from, promise);
        }
    }

    /// A member of the next view holds the data, or an elector of it has stored the view in force.
    pub fn is_ready(&mut self, from: PeerId) {
        self.ready.insert(from);
    }

    /// An elector has accepted.
    pub fn has_accepted(&mut self, from: PeerId) {
        self.accepted.insert(from);
    }

    /// Whether the next view can be chosen: a majority of electors has promised, and with them somebody who has all that
    /// was ever acknowledged.
    #[must_use]
    pub fn has_quorum(&self, rules: Rules) -> bool {
        // What was accepted was chosen with such a member, and its own members have the data.
        let in_sync = self.promises.values().any(|it| it.in_sync || (it.accepted.is_some() && rules.adopts_accepted));
        let in_sync = in_sync || !rules.member_in_quorum;
        self.view.majority(self.promises.keys().copied()) && in_sync
    }

    /// Whether all of these have answered.
    #[must_use]
    pub fn heard(&self, mut peers: impl Iterator<Item = PeerId>) -> bool {
        peers.all(|peer| self.promises.contains_key(&peer))
    }

    /// Who has still to answer in this round.
    #[must_use]
    pub fn missing(&self) -> Vec<PeerId> {
        let target = self.target.iter().flat_map(View::peers);
        match self.round {
            Round::Preparing => self.view.peers().filter(|peer| !self.promises.contains_key(peer)).collect(),
            Round::Levelling => target.filter(|peer| !self.ready.contains(peer)).collect(),
            Round::Accepting => {
                self.view.electors.iter().copied().filter(|peer| !self.accepted.contains(peer)).collect()
            }
        }
    }

    /// Chooses the next view from the promises. What was accepted before must be chosen again: it may be decided. Its
    /// members were ready before it was accepted, so that it goes to the electors at once.
    ///
    /// Returns `None` if there is nobody who could go on.
    pub fn choose(&mut self, rules: Rules) -> Option<&View> {
        self.quorum = self.promises.keys().copied().collect();
        let accepted = self.promises.values().filter_map(|promise| promise.accepted.as_ref());
        let before = accepted.max_by_key(|(ballot, _)| *ballot).filter(|_| rules.adopts_accepted);
        if let Some((_, view)) = before {
            self.target = Some(view.clone());
            self.round = Round::Accepting;
            return self.target.as_ref();
        }
        let in_chain = self
            .promises
            .iter()
            .filter(|(peer, promise)| (self.view.has(**peer) && promise.in_sync) || !rules.member_in_quorum);
        // Of several whose logs are as long this peer, if it is one: it reaches all that have promised, and they may not all
        // reach each other.
        let me = self.ballot.proposer.peer;
        let ends = in_chain.map(|(peer, promise)| (*peer, promise.position));
        let (source, frontier) = ends.max_by_key(|(peer, end)| (*end, *peer == me))?;
        let (chain, planned) = self.next_chain()?;
        let peers: Vec<PeerId> = chain.iter().map(|member| member.peer).collect();
        let electors = if rules.electors_have_witnesses {
            self.circumstances.electors(&self.view, &peers, planned || !rules.electors_not_fewer)
        } else {
            peers.clone()
        };
        let min_in_sync = self.circumstances.min_in_sync(&self.view, peers.len(), planned);
        let epoch = self.view.epoch.next();
        self.target = Some(View { slot: self.view.slot, epoch, chain, electors, frontier, min_in_sync });
        self.source = Some(source);
        self.round = if rules.decide_after_levelling { Round::Levelling } else { Round::Accepting };
        self.target.as_ref()
    }

    /// The next chain, and whether it is what was planned.
    fn next_chain(&self) -> Option<(Vec<Member>, bool)> {
        let answering = |peer: PeerId| {
            let promise = self.promises.get(&peer).filter(|promise| promise.in_sync && self.view.has(peer))?;
            Some(Member { peer, incarnation: promise.incarnation })
        };
        if let Plan::Become(members) = &self.plan {
            let planned = |member: &Member| {
                if self.view.has(member.peer) { answering(member.peer) } else { Some(*member) }
            };
            let chain: Option<Vec<Member>> = members.iter().map(planned).collect();
            if let Some(chain) = chain {
                return Some((chain, true));
            }
        }
        let all: Vec<Member> = self.view.chain.iter().filter_map(|member| answering(member.peer)).collect();
        let chain = match &self.plan {
            Plan::Repair(without) => {
                let kept: Vec<Member> = all.iter().copied().filter(|member| !without.contains(&member.peer)).collect();
                if kept.is_empty() { all } else { kept }
            }
            Plan::Reorder(order) => order.iter().filter_map(|peer| answering(*peer)).collect(),
            Plan::Become(_) => all,
        };
        (!chain.is_empty()).then_some((chain, false))
    }

    /// Whether all members of the next view hold the data, and enough of its electors know the view in force.
    #[must_use]
    pub fn is_level(&self, rules: Rules) -> bool {
        let Some(target) = &self.target else { return false };
        target.chain.iter().all(|member| self.ready.contains(&member.peer))
            && (target.majority(self.ready.iter().copied()) || !rules.next_electors_ready)
    }

    /// Whether the next view is decided.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.round == Round::Accepting && self.view.majority(self.accepted.iter().copied())
    }
}

/// What decides how the attempt goes on: of the answers only those to the question that is open.
impl Hash for Proposer {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Self { ballot, view, round, target, quorum, source, .. } = self;
        (ballot, view, round, target, quorum, source).hash(hasher);
        match round {
            Round::Preparing => (&self.plan, &self.circumstances, &self.promises).hash(hasher),
            Round::Levelling => self.ready.hash(hasher),
            Round::Accepting => self.accepted.hash(hasher),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use super::{Circumstances, Plan, Promise, Proposer};
    use crate::{
        Rules,
        ring::{PeerId, Slot},
        view::{Ballot, Epoch, Member, Position, View},
    };

    #[test]
    fn of_logs_that_are_as_long_that_of_the_proposer_is_what_others_are_made_level_with() {
        let member = |name: u8| Member { peer: PeerId::new([name; 16]), incarnation: 1 };
        let chain: Vec<Member> = [1, 2, 3].map(member).to_vec();
        let electors: Vec<PeerId> = chain.iter().map(|member| member.peer).collect();
        let view = View { chain, electors: electors.clone(), ..View::founding(Slot(0), member(1)) };
        let source = |proposer: u8, lengths: [u64; 3]| {
            let staying = Arc::new(electors.iter().copied().collect());
            let circumstances = Circumstances { live: electors.clone(), staying, min_in_sync: 2 };
            let ballot = Ballot { round: 1, proposer: member(proposer) };
            let mut proposer = Proposer::new(ballot, view.clone(), Plan::Repair(Vec::new()), circumstances);
            for (peer, seq) in electors.iter().zip(lengths) {
                let position = Position { epoch: Epoch::FIRST, seq };
                proposer.promised(*peer, Promise { incarnation: 1, in_sync: true, position, accepted: None });
            }
            proposer.choose(Rules::ALL).expect("all have promised");
            proposer.source.expect("one was chosen")
        };
        assert_eq!(source(1, [7, 7, 6]), electors[0]);
        assert_eq!(source(2, [7, 7, 7]), electors[1]);
        assert_eq!(source(1, [6, 7, 6]), electors[1]);
    }

    #[test]
    fn a_chain_that_takes_writes_grows_with_it_and_shrinks_only_by_plan() {
        let founder = Member { peer: PeerId::new([1; 16]), incarnation: 1 };
        let view = |min_in_sync| View { min_in_sync, ..View::founding(Slot(0), founder) };
        let wanted = |min_in_sync| Circumstances { live: Vec::new(), staying: Arc::new(BTreeSet::new()), min_in_sync };
        // k is 3 or 5: 2 or 3 are wanted.
        assert_eq!(wanted(2).min_in_sync(&view(1), 1, true), 1);
        assert_eq!(wanted(2).min_in_sync(&view(1), 2, true), 2);
        assert_eq!(wanted(3).min_in_sync(&view(2), 5, true), 3);
        assert_eq!(wanted(3).min_in_sync(&view(3), 1, false), 3);
        assert_eq!(wanted(2).min_in_sync(&view(3), 3, false), 3);
        assert_eq!(wanted(2).min_in_sync(&view(3), 3, true), 2);
    }
}
