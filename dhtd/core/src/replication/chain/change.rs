//! Changing a slot's view: Prepare, Level, Accept, Install.
//!
//! ```text
//! Prepare   electors and members promise to follow no smaller ballot, and end the epoch. Needed: a majority of the
//!           electors, and one member of the chain: somebody who has all that was acknowledged
//! Level     the members of the next view get the log of the longest among them. Needed: all of them, and that a majority
//!           of the next electors knows the view in force
//! Accept    electors accept the next view, once nobody else can hold a lease by them. Needed: a majority
//! Install   everyone concerned is told
//! ```

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rand::RngExt;

use super::{Body, Output, State, Timer, replica::Attempt};
use crate::{
    overlay::Routes,
    ring::{PeerId, Slot},
    view::{Ballot, Circumstances, Claim, Member, Plan, Promise, Proposer, Round, View},
};

impl State {
    /// Begins an attempt.
    pub(super) fn propose(&mut self, slot: Slot, plan: Plan) {
        let names_process = self.rules.ballot_names_process;
        let proposer = Member { incarnation: if names_process { self.me.incarnation } else { 0 }, ..self.me };
        let now = self.now;
        let circumstances = self.circumstances(slot);
        let Some(replica) = self.replicas.get_mut(&slot).filter(|replica| replica.acceptor.rival.is_none()) else {
            return;
        };
        let promised = replica.acceptor.promised.map_or(0, |ballot| ballot.round);
        let round = replica.care.last_round.max(promised) + 1;
        replica.care.last_round = round;
        let (ballot, view) = (Ballot { round, proposer }, replica.view().clone());
        let proposer = Proposer::new(ballot, view, plan, circumstances);
        replica.proposer = Some(Attempt { proposer, began: now, asked: now, chosen: None });
        self.outputs.push(Output::SetTimer(self.config.more_promises, Timer::Promises(slot, ballot)));
        self.ask_missing(slot);
    }

    /// Who is there to be chosen from: the home group first, then who is in the view, then so many of the others that
    /// there is a witness for any chain.
    pub(super) fn circumstances(&self, slot: Slot) -> Circumstances {
        let replica = self.replicas.get(&slot);
        let home = replica.and_then(|replica| replica.care.home.as_ref()).map(|(home, _)| home.clone());
        let mut concerned = home.unwrap_or_default();
        concerned.extend(replica.iter().flat_map(|replica| replica.view().peers()));
        let enough = 2 * concerned.len() + SMALLEST_ELECTORATE;
        let mut live = Vec::new();
        for peer in concerned.into_iter().chain(self.routes.peers().map(|peer| peer.id)) {
            let known = self.routes.peer(peer).is_some_and(|peer| !peer.leaving) && !self.claim.banned.contains(&peer);
            let answers = peer == self.me.peer || (known && !self.leases.has_lost(self.now, peer));
            if answers && !self.stops(peer) && !live.contains(&peer) {
                live.push(peer);
            }
            if live.len() >= enough {
                break;
            }
        }
        let (replicas, staying) = (self.routes.ring.map_or(1, |ring| ring.replicas), self.staying.clone());
        Circumstances { live, min_in_sync: (replicas / 2 + 1).min(staying.len()), staying }
    }

    /// The picture of the ring has changed.
    pub(super) fn set_routes(&mut self, routes: Arc<Routes>) {
        self.staying = staying(&routes, &self.claim);
        self.routes = routes;
        self.revision += 1;
        self.found_unknown();
    }

    /// Asks those that have not answered in this round, or not yet been asked.
    pub(super) fn ask_missing(&mut self, slot: Slot) {
        let now = self.now;
        let Some(attempt) = self.replicas.get_mut(&slot).and_then(|replica| replica.proposer.as_mut()) else { return };
        attempt.asked = now;
        let proposer = &attempt.proposer;
        let (ballot, view) = (proposer.ballot, proposer.view.clone());
        let (target, quorum) = (proposer.target.clone(), proposer.quorum.clone());
        let source = proposer.source.unwrap_or(self.me.peer);
        let body = match (proposer.round, target) {
            (Round::Preparing, _) => Body::Prepare(ballot, view),
            (Round::Levelling, Some(target)) => Body::Level { ballot, view, target, source },
            (Round::Accepting, Some(target)) => Body::Accept { ballot, view, target, quorum },
            (_, None) => return,
        };
        for peer in proposer.missing() {
            self.tell(peer, slot, body.clone());
        }
    }

    pub(super) fn promised(&mut self, from: PeerId, slot: Slot, ballot: Ballot, promise: Promise) {
        let rules = self.rules;
        let Some(proposer) = self.attempt(slot, ballot) else { return };
        proposer.promised(from, promise);
        if proposer.round == Round::Preparing && proposer.has_quorum(rules) && self.all_have_promised(slot) {
            self.choose_next(slot, ballot);
        }
    }

    /// Whether everyone in the view has promised who is not lost.
    fn all_have_promised(&self, slot: Slot) -> bool {
        let attempt = self.replicas.get(&slot).and_then(|replica| replica.proposer.as_ref());
        attempt.is_some_and(|Attempt { proposer, .. }| {
            let lost = |peer: &PeerId| *peer != self.me.peer && self.leases.has_lost(self.now, *peer);
            proposer.heard(proposer.view.peers().filter(|peer| !lost(peer)))
        })
    }

    /// The promises that are there have to do, if they are enough. Whoever is in contact is waited for until its silence
    /// would count as a loss: it is not dropped because its disk is slow.
    pub(super) fn waited_for_promises(&mut self, slot: Slot, ballot: Ballot) {
        let (now, rules, again) = (self.now, self.rules, self.config.more_promises);
        let Some(attempt) = self.replicas.get(&slot).and_then(|replica| replica.proposer.as_ref()) else { return };
        if attempt.proposer.ballot != ballot || attempt.proposer.round != Round::Preparing {
            return;
        }
        let waited = now.saturating_sub(attempt.began) >= self.config.all_promises;
        if attempt.proposer.has_quorum(rules) && (waited || self.all_have_promised(slot)) {
            return self.choose_next(slot, ballot);
        }
        self.outputs.push(Output::SetTimer(again, Timer::Promises(slot, ballot)));
    }

    fn choose_next(&mut self, slot: Slot, ballot: Ballot) {
        let rules = self.rules;
        let Some(proposer) = self.attempt(slot, ballot) else { return };
        if proposer.choose(rules).is_none() {
            return self.give_up(slot);
        }
        let now = self.now;
        if let Some(attempt) = self.replicas.get_mut(&slot).and_then(|replica| replica.proposer.as_mut()) {
            attempt.chosen = Some(now);
        }
        if !rules.electors_from_view {
            let home = self.replicas.get(&slot).and_then(|replica| replica.care.home.clone());
            if let (Some((home, _)), Some(proposer)) = (home, self.attempt(slot, ballot)) {
                proposer.view.electors = home;
            }
        }
        self.ask_missing(slot);
    }

    pub(super) fn ready(&mut self, from: PeerId, slot: Slot, ballot: Ballot) {
        let rules = self.rules;
        let Some(proposer) = self.attempt(slot, ballot) else { return };
        proposer.is_ready(from);
        if proposer.round == Round::Levelling && proposer.is_level(rules) {
            proposer.round = Round::Accepting;
            self.ask_missing(slot);
        }
    }

    pub(super) fn accepted(&mut self, from: PeerId, slot: Slot, ballot: Ballot) {
        let Some(proposer) = self.attempt(slot, ballot) else { return };
        proposer.has_accepted(from);
        if proposer.is_decided()
            && let Some(target) = proposer.target.clone()
        {
            let before = proposer.view.clone();
            self.announce(&before, target);
        }
    }

    /// A view is decided: all that it concerns hear of it, this peer last.
    fn announce(&mut self, before: &View, view: View) {
        let slot = view.slot;
        let mut concerned: Vec<PeerId> = view.peers().collect();
        concerned.extend(before.peers().filter(|peer| !concerned.contains(peer)).collect::<Vec<_>>());
        concerned.retain(|peer| *peer != self.me.peer);
        for peer in concerned {
            self.tell(peer, slot, Body::Install(view.clone()));
        }
        self.install(self.me.peer, view);
    }

    /// Somebody follows a higher ballot, or cannot be made level.
    pub(super) fn rejected(&mut self, slot: Slot, ballot: Ballot, other: Option<Ballot>) {
        if let Some(replica) = self.replicas.get_mut(&slot) {
            let seen = other.map_or(0, |other| other.round);
            replica.care.last_round = replica.care.last_round.max(seen);
        }
        match (self.attempt(slot, ballot), other) {
            (Some(_), Some(_)) => self.give_up(slot),
            (Some(_), None) => self.go_on_without_newcomers(slot),
            (None, _) => {}
        }
    }

    /// Somebody who should be a member cannot be made level, or not soon. The slot is sealed and serves nobody, so that
    /// those who were members before go on at once, without newcomers.
    pub(super) fn go_on_without_newcomers(&mut self, slot: Slot) {
        let Some(attempt) = self.replicas.get(&slot).and_then(|replica| replica.proposer.as_ref()) else { return };
        let Proposer { view, target, .. } = &attempt.proposer;
        let newcomer = |member: &Member| !view.has(member.peer);
        if target.as_ref().is_some_and(|target| target.chain.iter().any(newcomer)) {
            self.propose(slot, Plan::Repair(Vec::new()));
        } else {
            self.give_up(slot);
        }
    }

    /// Lets others try, for a random time that grows with the attempts.
    pub(super) fn give_up(&mut self, slot: Slot) {
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        replica.proposer = None;
        replica.care.attempts += 1;
        let most = BACK_OFF * replica.care.attempts.min(MOST_BACK_OFFS);
        let wait = self.random.random_range(Duration::ZERO..=most);
        if let Some(replica) = self.replicas.get_mut(&slot) {
            replica.care.not_before = replica.care.not_before.max(now + wait);
        }
    }

    fn attempt(&mut self, slot: Slot, ballot: Ballot) -> Option<&mut Proposer> {
        let attempt = self.replicas.get_mut(&slot)?.proposer.as_mut()?;
        (attempt.proposer.ballot == ballot).then_some(&mut attempt.proposer)
    }
}

/// The peers of the ring that have not departed, are not about to, and were not given up.
pub(super) fn staying(routes: &Routes, claim: &Claim) -> Arc<BTreeSet<PeerId>> {
    let goes = |peer: &PeerId| routes.peer(*peer).is_some_and(|peer| peer.leaving) || claim.banned.contains(peer);
    Arc::new(routes.members().iter().copied().filter(|peer| !goes(peer)).collect())
}

/// More than enough of those that could be witnesses: an electorate is made odd, and at least three.
const SMALLEST_ELECTORATE: usize = 3;

/// After a first failed attempt, the next is made within this time: about as long as one takes. A guess.
const BACK_OFF: Duration = Duration::from_millis(100);

/// No more than so many times that. A guess.
const MOST_BACK_OFFS: u32 = 8;
