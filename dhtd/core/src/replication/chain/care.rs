//! Seeing to it that each slot has the view that it needs.
//!
//! Those who are in the view in force see to it: they have the data, the leases and the contact that a change rests on.
//! The first of them that lives tries first, the others a little later each, so that as a rule one attempt is made. A
//! change is needed when a member or an elector is lost, was restarted or has a full disk, when the slot has been sealed
//! or has made no progress for some time; and, without haste, when the chain is not the slot's home group.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Body, Message, Output, State,
    replica::{Care, Replica},
};
use crate::{
    ring::{PeerId, Slot},
    view::{Epoch, Heartbeat, Plan, Round},
};

impl Care {
    /// What was found wrong, was found wrong with the view before.
    pub(super) fn new_view(&mut self) {
        self.needed_since = None;
        self.attempts = 0;
        self.lost.clear();
        self.not_before = Duration::ZERO;
        self.told = Duration::ZERO;
        self.content = None;
    }
}

/// What is wrong with a view.
enum Need {
    /// These have to be replaced or listed anew, at once.
    Repair(Vec<PeerId>),
    /// A majority of the electors must have lost the peer, too.
    Vote(PeerId),
    /// Two members that follow each other do not reach each other.
    Reorder,
    /// The chain should be another.
    Planned(Plan),
}

impl State {
    pub(super) fn tick(&mut self) {
        self.sampled = self.now;
        let contacts = self.leases.contacts(self.now);
        if self.contacts != contacts {
            self.contacts = contacts;
            self.revision += 1;
        }
        let awake = self.replicas.iter().filter(|(_, replica)| !self.is_at_rest(replica));
        let awake: Vec<Slot> = awake.map(|(slot, _)| *slot).collect();
        for slot in awake {
            self.resend(slot);
            self.repeat_question(slot);
            self.answer_waiting(slot);
            self.go_on_levelling(slot);
            self.go_on_learning(slot);
            self.continue_attempt(slot);
            self.say_farewell(slot);
            let Some(replica) = self.replicas.get(&slot) else { continue };
            if replica.view().peers().any(|peer| peer == self.me.peer) {
                self.look_after(slot);
                self.spread(slot);
            } else if replica.concerns(self.me.peer, self.rules) {
                self.find_home(slot);
                if self.routes.me.leaving { self.spread(slot) } else { self.ask_what_came_of_it(slot) }
            }
        }
    }

    /// Peers with which no round trip was completed for a while, as of the last tick.
    pub fn lost(&self) -> impl Iterator<Item = PeerId> {
        self.contacts.iter().filter(|contact| contact.lost).map(|contact| contact.peer)
    }

    /// Whether nothing is to be done about the slot as long as no message about it comes, and neither the ring nor whom
    /// this peer reaches changes. As a rule that is all slots but a few, so that a look at everything costs little.
    fn is_at_rest(&self, replica: &Replica) -> bool {
        let Replica { proposer, levelling, accepting, farewell, learning, feeding, learned, care, .. } = replica;
        let under_way = proposer.is_some() || levelling.is_some() || accepting.is_some() || learning.is_some();
        let others_wait = farewell.is_some() || !feeding.is_empty() || !learned.is_empty();
        let busy = under_way || others_wait || replica.installing || replica.acceptor.sealed;
        if busy || self.routes.me.leaving || !self.disk_ok || !replica.is_quiet() {
            return false;
        }
        let concerned = replica.view().peers().any(|peer| peer == self.me.peer);
        let fresh = |(seen, at): (u64, Duration)| seen == self.revision && self.now.saturating_sub(at) < LOOK_AGAIN;
        let told = care.told_by_routes || care.located.is_some_and(|at| self.now.saturating_sub(at) < LOCATE_EVERY);
        !concerned || (told && care.content.is_some_and(fresh))
    }

    fn continue_attempt(&mut self, slot: Slot) {
        let since = |at: Duration| self.now.saturating_sub(at);
        let Some(attempt) = self.replicas.get(&slot).and_then(|replica| replica.proposer.as_ref()) else { return };
        let levelling = attempt.chosen.filter(|_| attempt.proposer.round == Round::Levelling);
        if since(attempt.began) > self.config.give_up {
            self.give_up(slot);
        } else if levelling.is_some_and(|chosen| since(chosen) > self.config.level_within) {
            self.go_on_without_newcomers(slot);
        } else if since(attempt.asked) >= self.config.ask_again {
            self.ask_missing(slot);
        }
    }

    /// What is known of who should hold the slot.
    pub(super) fn set_home(&mut self, slot: Slot, group: Vec<PeerId>) {
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        if replica.care.home.as_ref().is_none_or(|(known, _)| *known != group) {
            replica.care.home = Some((group, now));
            replica.care.content = None;
        }
    }

    /// Learns who should hold the slot, from the own picture of the ring or by a lookup.
    fn find_home(&mut self, slot: Slot) {
        let (now, revision) = (self.now, self.revision);
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        if replica.care.looked_up != revision {
            let home = self.routes.home_of(slot).map(|home| home.group.clone());
            (replica.care.looked_up, replica.care.told_by_routes) = (revision, home.is_some());
            if let Some(group) = home {
                return self.set_home(slot, group);
            }
        }
        let Some(replica) = self.replicas.get_mut(&slot).filter(|replica| !replica.care.told_by_routes) else {
            return;
        };
        if replica.care.located.is_none_or(|located| now.saturating_sub(located) > LOCATE_EVERY) {
            replica.care.located = Some(now);
            self.outputs.push(Output::Locate(slot));
        }
    }

    pub(super) fn look_after(&mut self, slot: Slot) {
        if self.leases.stops() {
            return;
        }
        self.find_home(slot);
        let beyond_help = |replica: &Replica| replica.acceptor.rival.is_some() || self.claim.strands(replica.view());
        if self.replicas.get(&slot).is_some_and(beyond_help) {
            return;
        }
        let now = self.now;
        let need = self.need(slot).or_else(|| self.planned(slot).map(Need::Planned));
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        let Some(need) = need else {
            replica.care.needed_since = None;
            return;
        };
        let (rank, stagger) = (self.rank(slot), self.config.stagger);
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        let since = *replica.care.needed_since.get_or_insert(now);
        let busy = replica.proposer.is_some() || replica.installing || now < replica.care.not_before;
        if busy || now.saturating_sub(since) < stagger * rank {
            return;
        }
        match need {
            Need::Repair(without) => self.propose(slot, Plan::Repair(without)),
            Need::Planned(plan) => self.propose(slot, plan),
            Need::Reorder => {
                let plan = self.shuffled(slot);
                self.propose(slot, plan);
            }
            Need::Vote(peer) => self.ask_for_votes(slot, peer),
        }
    }

    /// How many of those who could see to the slot come before this peer.
    pub(super) fn rank(&self, slot: Slot) -> u32 {
        let Some(replica) = self.replicas.get(&slot) else { return 0 };
        let before = replica.view().peers().take_while(|peer| *peer != self.me.peer);
        let live = before.filter(|peer| self.leases.in_contact(self.now, *peer) && !self.stops(*peer));
        u32::try_from(live.count()).unwrap_or(u32::MAX)
    }

    /// What is wrong, besides that the chain may not be the one that is wanted.
    fn need(&self, slot: Slot) -> Option<Need> {
        let replica = self.replicas.get(&slot)?;
        let view = replica.view();
        let (now, me) = (self.now, self.me.peer);
        let since = |since: Option<Duration>| since.is_some_and(|it| now.saturating_sub(it) >= self.config.stuck_after);
        let restarted = view.chain.iter().any(|member| {
            let known =
                if member.peer == me { Some(self.me.incarnation) } else { self.leases.incarnation_of(member.peer) };
            known.is_some_and(|known| known > member.incarnation)
        });
        let full = |peer: PeerId| if peer == me { !self.disk_ok } else { !self.leases.disk_ok(peer) };
        let mut unfit: Vec<PeerId> = view.peers().filter(|peer| full(*peer)).collect();
        unfit.extend(self.let_go(view));
        if since(replica.sealed_since) || restarted || !unfit.is_empty() {
            return Some(Need::Repair(unfit));
        }
        let lost = view.peers().find(|peer| *peer != me && self.leases.has_lost(now, *peer));
        // First, since the others may well reach whom this peer has lost: then they never vote for it to go.
        if since(replica.flow.stuck_since) {
            return Some(Need::Reorder);
        }
        lost.filter(|peer| self.could_go(replica, *peer)).map(Need::Vote)
    }

    /// Whether a view without the peer would be another one: a dead elector stays if nobody else lives.
    fn could_go(&self, replica: &Replica, peer: PeerId) -> bool {
        let view = replica.view();
        let in_view = |other: PeerId| view.peers().any(|member| member == other);
        let spare = |other: &crate::overlay::Peer| !other.leaving && !in_view(other.id);
        (view.has(peer) && view.chain.len() > 1) || (!view.has(peer) && self.routes.peers().any(spare))
    }

    /// The chain that is wanted, if it is another and everything for it is there. A view that is as it should be is not
    /// looked at again before something has changed, or some time has passed.
    fn planned(&mut self, slot: Slot) -> Option<Plan> {
        let (now, revision) = (self.now, self.revision);
        let replica = self.replicas.get(&slot)?;
        let (home, since) = replica.care.home.as_ref()?;
        let fresh = |at: Duration| now.saturating_sub(at) < LOOK_AGAIN;
        let content = replica.care.content.is_some_and(|(seen, at)| seen == revision && fresh(at));
        let settled = now.saturating_sub(*since) >= self.config.settle;
        if content || !settled || replica.acceptor.sealed || self.waits_for_learners(replica, home) {
            return None;
        }
        let plan = self.wanted(slot, replica, home);
        if plan.is_none() && home.iter().all(|peer| replica.view().has(*peer)) {
            self.replicas.get_mut(&slot)?.care.content = Some((revision, now));
        }
        plan
    }

    fn wanted(&self, slot: Slot, replica: &Replica, home: &[PeerId]) -> Option<Plan> {
        let view = replica.view();
        let known = |peer: &PeerId| {
            let listed = view.chain.iter().find(|member| member.peer == *peer).copied();
            listed.or_else(|| self.level_learner(replica, *peer))
        };
        let mut chain: Vec<_> = home.iter().filter_map(known).collect();
        let circumstances = self.circumstances(slot);
        let replicas = self.routes.ring.map_or(1, |ring| ring.replicas).min(circumstances.staying.len());
        if chain.len() < home.len() || home.len() < replicas {
            // Nobody goes before those who come have the data, nor as long as some of the ring are out of sight.
            let leaves = |peer: PeerId| self.routes.peer(peer).is_some_and(|peer| peer.leaving);
            let outside = view.chain.iter().filter(|member| !home.contains(&member.peer));
            let stays = outside.filter(|member| chain.len() < home.len() || !leaves(member.peer));
            chain.extend(stays.copied().collect::<Vec<_>>());
        }
        let peers: Vec<PeerId> = chain.iter().map(|member| member.peer).collect();
        let staying = &circumstances.staying;
        let electors = circumstances.electors(view, &peers, true);
        let left = |peer: &PeerId| !staying.contains(peer);
        let good_electors = electors.len() == view.electors.len() && !view.electors.iter().any(left);
        let good_minimum = circumstances.min_in_sync(view, peers.len(), true) == view.min_in_sync;
        let same = chain == view.chain && good_minimum && (good_electors || electors.iter().any(left));
        (!same && !chain.is_empty()).then_some(Plan::Become(chain))
    }

    fn shuffled(&mut self, slot: Slot) -> Plan {
        use rand::seq::SliceRandom;
        let replica = self.replicas.get(&slot);
        let mut order: Vec<PeerId> =
            replica.map(|replica| replica.view().chain.iter().map(|it| it.peer).collect()).unwrap_or_default();
        order.shuffle(&mut self.random);
        Plan::Reorder(order)
    }

    fn ask_for_votes(&mut self, slot: Slot, suspect: PeerId) {
        let Some(replica) = self.replicas.get(&slot) else { return };
        let (epoch, electors) = (replica.view().epoch, replica.view().electors.clone());
        for elector in electors.into_iter().filter(|elector| *elector != suspect) {
            self.tell(elector, slot, Body::PreVote(epoch, suspect));
        }
    }

    pub(super) fn asked_for_vote(&mut self, from: PeerId, slot: Slot, epoch: Epoch, suspect: PeerId) {
        if self.is_current(from, slot, epoch) && self.leases.has_lost(self.now, suspect) {
            self.tell(from, slot, Body::Lost(epoch, suspect));
        }
    }

    /// An elector has lost the peer. If most have, a stray silence between two peers does not stop a healthy slot.
    pub(super) fn vote(&mut self, from: PeerId, slot: Slot, epoch: Epoch, suspect: PeerId) {
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(&slot).filter(|replica| replica.view().epoch == epoch) else {
            return;
        };
        replica.care.lost.entry(suspect).or_default().insert(from);
        let voters = replica.care.lost.get(&suspect).into_iter().flatten().copied();
        if !replica.view().majority(voters) || replica.proposer.is_some() || now < replica.care.not_before {
            return;
        }
        replica.care.lost.clear();
        if self.leases.has_lost(now, suspect) {
            let view = self.replicas.get(&slot).map(|replica| replica.view().clone());
            let lost = view.iter().flat_map(|view| view.peers()).filter(|peer| self.leases.has_lost(now, *peer));
            let lost: Vec<PeerId> = lost.collect();
            self.propose(slot, Plan::Repair(lost));
        }
    }

    /// A holder of leases asks. If it goes by an older view than this peer, or a newer one, one of them is told.
    pub(super) fn heartbeat(&mut self, from: PeerId, heartbeat: Heartbeat) {
        let (now, disk_ok) = (self.now, self.disk_ok);
        let stops = heartbeat.stopping && !self.leases.is_stopping(from);
        let replicas = &self.replicas;
        let standing = |slot: Slot| {
            let replica = replicas.get(&slot)?;
            (!replica.acceptor.sealed && !replica.installing).then_some(replica.view().epoch)
        };
        let grant = self.leases.asked(now, from, heartbeat, disk_ok, standing);
        self.outputs.push(Output::SendSoon(from, Message::Grant(grant)));
        let uncovered: Vec<(Slot, Epoch)> = self.leases.uncovered(from).collect();
        for (slot, epoch) in uncovered {
            self.is_current(from, slot, epoch);
        }
        if stops {
            self.go_on_without(from);
        }
    }

    /// A newcomer that was made level is sealed until it hears of the next view. If that was lost, and nobody writes, nobody
    /// notices that it is not there.
    fn ask_what_came_of_it(&mut self, slot: Slot) {
        let (now, me) = (self.now, self.me.peer);
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        if now.saturating_sub(replica.care.told) < TELL_EVERY {
            return;
        }
        replica.care.told = now;
        // Whoever is in the view that is known here may have departed since.
        let home = replica.care.home.as_ref().map(|(home, _)| home.clone()).unwrap_or_default();
        let peers: BTreeSet<PeerId> = replica.view().peers().chain(home).filter(|peer| *peer != me).collect();
        peers.into_iter().for_each(|peer| self.tell(peer, slot, Body::AskView));
    }

    /// Now and then those who should hold the slot hear who does: they are asked for it. A peer that is about to leave
    /// tells also those that are in the view as it knows it: somebody in it who holds no data may have missed that it was
    /// let go, and nobody else would notice.
    fn spread(&mut self, slot: Slot) {
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        if now.saturating_sub(replica.care.told) < TELL_EVERY {
            return;
        }
        replica.care.told = now;
        let view = replica.view().clone();
        let home = replica.care.home.as_ref().map(|(home, _)| home.clone()).unwrap_or_default();
        let mut concerned: Vec<PeerId> =
            home.into_iter().filter(|peer| !view.peers().any(|other| other == *peer)).collect();
        if self.routes.me.leaving {
            concerned.extend(view.peers().filter(|peer| *peer != self.me.peer));
        }
        for peer in concerned {
            self.tell(peer, slot, Body::Install(view.clone()));
        }
        self.teach(slot);
    }
}

/// How often a view is looked at with which nothing was wrong: whom this peer reaches may have changed, of which the
/// picture of the ring says nothing. A guess.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How often a slot's home group is looked up where the ring does not tell. A guess.
const LOCATE_EVERY: Duration = Duration::from_secs(2);

/// How often those concerned are told of a view. A guess.
const TELL_EVERY: Duration = Duration::from_secs(1);
