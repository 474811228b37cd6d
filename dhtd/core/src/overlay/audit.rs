//! Whether the ring keeps its invariant, told from what its peers say of themselves while it goes on changing.
//!
//! A walk from peer to peer is no picture of one moment. So it is done twice (a double collect: Afek et al., *Atomic
//! snapshots of shared memory*, JACM 1993): if every peer says the same both times, and has not changed in between, all
//! of it was true at once at any moment between the two walks. Every testimony carries a count of changes, so that a
//! change that was taken back counts as one too.
//!
//! - *Holds* needs one such moment.
//! - *Violated* needs the picture to stand still for some rounds of maintenance. A newcomer that is not in all lists
//!   yet, a list with the nodes of a peer that has just died, a ring of one whose founder has just heard of the second
//!   peer look like violations for a moment; maintenance, which runs at every node once a round, changes all of these.
//!   What it has left alone for rounds it will not repair by itself soon.
//! - Otherwise, or if a list names a peer that does not answer, nobody *can tell*: whether such a peer is dead or only
//!   out of reach from here is unknown, and so are its lists.
//!
//! A peer that does not answer and that no list names is what the ring takes for dead: the others' invariant does not
//! depend on it, and it is only mentioned. If it lives behind a cut in the network it may be part of another ring that
//! can't be seen from here. A member that nobody remembers can't be found at all.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{
    directory::Health,
    invariant::{Census, View, Violation},
    peer::{Node, Peer},
    state::State,
};
use crate::ring::{Id, PeerId};

/// What a peer says of itself at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Testimony {
    /// Who speaks.
    pub peer: Peer,
    /// Grows with every change of what is said here, while the peer lives.
    pub revision: u64,
    /// Its nodes that are members.
    pub members: Vec<View>,
    /// Everyone else whom it knows to have been a member, the dead too, but for those who have said goodbye.
    pub remembered: Vec<Peer>,
}

impl State {
    /// What this peer says of itself, for an [`Audit`].
    #[must_use]
    pub fn testimony(&self) -> Testimony {
        let members = self.nodes().iter().filter(|node| node.member && !self.gone);
        let remembered = self.peers().filter(|known| known.health != Health::Gone && known.was_member());
        Testimony {
            peer: self.me().clone(),
            revision: self.revision(),
            members: members.map(View::from).collect(),
            remembered: remembered.map(|known| known.peer.clone()).collect(),
        }
    }
}

/// One walk: begin with one peer's testimony, then ask whoever [`Walk::next_to_ask`] names until it names nobody.
#[derive(Clone, Debug)]
pub struct Walk {
    answers: BTreeMap<PeerId, Testimony>,
    silent: BTreeMap<PeerId, Peer>,
    waiting: VecDeque<Peer>,
    /// Who was asked, and as which incarnation.
    asked: BTreeMap<PeerId, u64>,
}

impl Walk {
    /// A walk that begins at this peer.
    #[must_use]
    pub fn new(first: Testimony) -> Self {
        let mut walk = Self {
            answers: BTreeMap::new(),
            silent: BTreeMap::new(),
            waiting: VecDeque::new(),
            asked: BTreeMap::new(),
        };
        walk.take(&first.peer.clone(), Some(first));
        walk
    }

    /// Another peer to ask. Several may be asked at a time; when all have been taken in there may be more.
    pub fn next_to_ask(&mut self) -> Option<Peer> {
        while let Some(peer) = self.waiting.pop_front() {
            // An older description may have led to an address where the peer lives no longer.
            let asked = self.asked.get(&peer.id).is_some_and(|incarnation| *incarnation >= peer.incarnation);
            if !asked && !self.answers.contains_key(&peer.id) {
                self.asked.insert(peer.id, peer.incarnation);
                return Some(peer);
            }
        }
        None
    }

    /// What the asked peer said; `None` if it did not answer, or not as a peer of this ring.
    pub fn take(&mut self, asked: &Peer, answer: Option<Testimony>) {
        match answer.filter(|testimony| testimony.peer.id == asked.id) {
            Some(testimony) => {
                self.waiting.extend(testimony.remembered.iter().cloned());
                self.silent.remove(&asked.id);
                self.answers.insert(asked.id, testimony);
            }
            None if self.answers.contains_key(&asked.id) => {}
            None => drop(self.silent.insert(asked.id, asked.clone())),
        }
    }

    /// The peers that answer only in one of two walks, or not the same.
    fn differences(&self, other: &Self) -> Vec<Peer> {
        let ids: BTreeSet<PeerId> = [self, other].iter().flat_map(|walk| walk.peers().map(|peer| peer.id)).collect();
        let differs = |id: &PeerId| {
            self.answers.get(id) != other.answers.get(id)
                || self.silent.contains_key(id) != other.silent.contains_key(id)
        };
        ids.into_iter().filter(differs).filter_map(|id| other.peer(id).or(self.peer(id)).cloned()).collect()
    }

    fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.answers.values().map(|testimony| &testimony.peer).chain(self.silent.values())
    }

    fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.answers.get(&id).map(|testimony| &testimony.peer).or_else(|| self.silent.get(&id))
    }

    fn members(&self) -> impl Iterator<Item = &View> {
        self.answers.values().flat_map(|testimony| &testimony.members)
    }
}

/// What can be said of the invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There was a moment at which all members kept it.
    Holds,
    /// It does not hold, and maintenance has left it so.
    Violated,
    /// The ring did not stand still for long enough, or a peer that matters did not answer.
    CannotTell,
}

/// One thing that an audit has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The invariant is broken.
    Violation(Violation),
    /// None of this peer's nodes is principal: this one is skipped by the extended list of the other.
    Skipped {
        /// The node that is left out.
        node: Node,
        /// Who leaves it out.
        by: Node,
    },
    /// The lists of a member name a peer that does not answer.
    Unreachable {
        /// Who does not answer.
        peer: Peer,
        /// Who names it.
        named_by: Node,
    },
    /// A peer's testimony changed from one walk to the next.
    Changing(Peer),
    /// A peer that the ring remembers does not answer; no list names it.
    Silent(Peer),
    /// The first node whose neighbours are not those of an ideal ring.
    NotIdeal(Node),
}

/// What an audit has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The answer.
    pub verdict: Verdict,
    /// Why, and what else was noticed.
    pub findings: Vec<Finding>,
    /// Every list is complete and every predecessor the right one. More than the invariant asks for.
    pub ideal: bool,
    /// Peers with a node that is a member.
    pub peers: usize,
    /// Nodes that are members.
    pub nodes: usize,
    /// r_eff: how many deaths at once the ring is to survive, `min(R, peers - 1)`.
    pub reach: usize,
    /// Peers with a node that no list skips; the invariant asks for r_eff + 1.
    pub principals: usize,
    /// How often the ring was walked.
    pub walks: usize,
    /// Everyone met, by id.
    pub described: BTreeMap<PeerId, Peer>,
}

/// Comes to a verdict from one walk after the other.
#[derive(Clone, Debug)]
pub struct Audit {
    reach: usize,
    walks: usize,
    last: Option<Walk>,
    /// The end of the first walk since which nothing has changed.
    unchanged_since: Duration,
    report: Report,
}

impl Audit {
    /// An audit of a ring whose lists reach over `reach` distinct other peers ([`State::wanted_reach`]).
    #[must_use]
    pub fn new(reach: usize) -> Self {
        let report = Report {
            verdict: Verdict::CannotTell,
            findings: Vec::new(),
            ideal: false,
            peers: 0,
            nodes: 0,
            reach: 0,
            principals: 0,
            walks: 0,
            described: BTreeMap::new(),
        };
        Self { reach, walks: 0, last: None, unchanged_since: Duration::ZERO, report }
    }

    /// Takes in a walk that was made from `begun` until `ended`, both since the beginning of the audit; walks must not
    /// overlap. Returns a report once there is something definite to say.
    pub fn take(&mut self, begun: Duration, ended: Duration, walk: Walk) -> Option<Report> {
        self.walks += 1;
        let changed = self.last.as_ref().map(|last| last.differences(&walk));
        self.report = Report { walks: self.walks, ..judge(&walk, self.reach) };
        self.last = Some(walk);
        match changed {
            Some(changed) if changed.is_empty() => {}
            changed => {
                self.unchanged_since = ended;
                self.report.findings.retain(|finding| matches!(finding, Finding::Unreachable { .. }));
                self.report.findings.extend(changed.into_iter().flatten().map(Finding::Changing));
                self.report.ideal = false;
                self.report.verdict = Verdict::CannotTell;
                return None;
            }
        }
        let definite = match self.report.verdict {
            Verdict::Holds => true,
            Verdict::Violated => begun.saturating_sub(self.unchanged_since) >= REST,
            Verdict::CannotTell => false,
        };
        definite.then(|| self.report.clone())
    }

    /// There is no more time: what is known. A violation that has not stood for long enough is among the findings.
    #[must_use]
    pub fn give_up(self) -> Report {
        Report { verdict: Verdict::CannotTell, ..self.report }
    }
}

/// Judges a walk as if all of it had been true at once.
fn judge(walk: &Walk, reach: usize) -> Report {
    let mut census = Census::default();
    walk.members().for_each(|view| census.update(view.node.id, Some(view.clone())));
    let peers: BTreeSet<PeerId> = census.members().map(|view| view.node.peer).collect();
    let others = |peers: usize| reach.min(peers.saturating_sub(1));
    let leaves = |id: &PeerId| walk.peer(*id).is_some_and(|peer| peer.leaving);
    let staying = peers.iter().filter(|id| !leaves(id)).count();
    // Lists need not reach over those who are leaving.
    let not_ideal = census.not_ideal(others(staying).max(1));
    let unreachable = unreachable(walk);
    let violations = violations(&census, others(peers.len()) + 1);
    let named = |id: &PeerId| {
        unreachable.iter().any(|found| matches!(found, Finding::Unreachable { peer, .. } if peer.id == *id))
    };
    let silent: Vec<Finding> =
        walk.silent.values().filter(|peer| !named(&peer.id)).cloned().map(Finding::Silent).collect();
    let (verdict, mut findings) = match (unreachable.is_empty(), violations.is_empty()) {
        (false, _) => (Verdict::CannotTell, unreachable),
        (true, false) => (Verdict::Violated, violations),
        (true, true) => (Verdict::Holds, not_ideal.map(|view| Finding::NotIdeal(view.node)).into_iter().collect()),
    };
    findings.extend(silent);
    Report {
        verdict,
        findings,
        ideal: verdict == Verdict::Holds && not_ideal.is_none(),
        peers: peers.len(),
        nodes: census.members().count(),
        reach: others(peers.len()),
        principals: census.principals().len(),
        walks: 0,
        described: walk.peers().map(|peer| (peer.id, peer.clone())).collect(),
    }
}

/// The silent peers that somebody's lists name, each once.
fn unreachable(walk: &Walk) -> Vec<Finding> {
    let mut named: BTreeMap<PeerId, Node> = BTreeMap::new();
    for view in walk.members() {
        for node in view.predecessor.iter().chain(&view.successors) {
            named.entry(node.peer).or_insert(view.node);
        }
    }
    let finding = |peer: &Peer| {
        named.get(&peer.id).map(|named_by| Finding::Unreachable { peer: peer.clone(), named_by: *named_by })
    };
    walk.silent.values().filter_map(finding).collect()
}

/// Every way in which the ring breaks the invariant, and who is skipped if too many are.
fn violations(census: &Census, needed: usize) -> Vec<Finding> {
    let members: Vec<Id> = census.members().map(|view| view.node.id).collect();
    let alone = members.iter().filter_map(|id| census.check_member(*id).err());
    let mut findings: Vec<Finding> = alone.map(Finding::Violation).collect();
    if let Err(violation) = census.check_principals(needed) {
        findings.push(Finding::Violation(violation));
        let principals = census.principals();
        let mut named = BTreeSet::new();
        for node in census.members().map(|view| view.node).filter(|node| !principals.contains(&node.peer)) {
            if named.insert(node.peer) {
                findings.extend(census.skipped_by(node.id).map(|by| Finding::Skipped { node, by: by.node }));
            }
        }
    }
    findings
}

/// How long a violation must stand still: three rounds of the longest that a node's maintenance takes (1.2 s,
/// DESIGN section 2), and the time-outs of the operations in them. A guess, on the patient side.
pub const REST: Duration = Duration::from_secs(4);

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
