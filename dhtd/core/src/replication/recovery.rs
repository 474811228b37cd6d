//! Recovering slots in chain mode by hand, when a majority of their electors is lost for good (DESIGN, section 8).
//!
//! ```text
//! survey   everyone who is left says how it stands in every slot: what could be done is known, and nothing has changed
//! claim    everyone who is left promises, on disk, to have no word with those that are given up, and to follow no earlier
//!          recovery; slots without a majority are sealed; how everyone stands is said anew
//! wait     until every lease has run out
//! recover  the members of each recovered view put it into force, of a new generation, if they still stand by this claim
//! ```
//!
//! Nobody may be missing: each peer that anybody left remembers as one of the ring has to answer or to be given up. So a
//! view that was decided is known, unless all that know it are given up; and of two recoveries at once only one gets the
//! word of everybody that both ask. If they ask different peers, on either side of a cut, they have the same counter, and
//! are told apart by who carries them out: whoever hears of both serves by neither ([`crate::view::Claim::hear`]).
//!
//! What may be missing is bounded. A write is acknowledged when all members of the view in force have it. So everything
//! acknowledged before a copy last had leases by a majority of its view's electors is in that copy. What was acknowledged
//! later may be missing, if a view was decided that nobody left knows of.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::chain::Report;
use crate::{
    ring::{PeerId, Slot, SlotBits},
    view::{Circumstances, Claim, Epoch, Generation, Member, Position, View},
};

/// How far the revisions of a recovered slot are ahead: further than any that may be missing (DESIGN, section 6).
pub const REVISION_JUMP: u64 = 1 << 32;

/// What a peer says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Which process of the peer.
    pub incarnation: u64,
    /// What it has promised.
    pub claim: Claim,
    /// The peers of the ring that have not departed, as far as it remembers.
    pub members: BTreeSet<PeerId>,
    /// It is about to depart.
    pub leaving: bool,
    /// How it stands in the slots that it knows anything of.
    pub reports: Vec<Report>,
}

/// Asking everyone who is left.
#[derive(Clone, Debug)]
pub struct Inquiry {
    members: BTreeSet<PeerId>,
    dead: BTreeSet<PeerId>,
    answers: BTreeMap<PeerId, Survey>,
}

/// What is to become of the slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Slots that have a majority of electors, and are left alone.
    pub served: usize,
    /// Slots to start again.
    pub recovered: Vec<Recovered>,
    /// Slots that two recoveries of one counter have started again, and which: neither is chosen.
    pub disputed: Vec<(Slot, Generation, Generation)>,
}

/// A slot to start again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The view to be put into force by its members.
    pub view: View,
    /// Nobody who is left has data of the slot: it begins empty, at its only member.
    pub begins_empty: bool,
    /// What may be missing.
    pub bound: Bound,
}

/// What may be missing in a recovered slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Everything that was ever written.
    All,
    /// What was acknowledged later than so long before the members were asked: until then the copy that is used is known to
    /// have had everything. By the clock of the peer that has it.
    Since(Duration),
    /// What was written after this revision. For how long that is, nobody knows: whoever has the copy was restarted since,
    /// or was not a member.
    After(u64),
}

impl Inquiry {
    /// Nobody was asked yet. `dead` are to be given up; `members` are those of the ring as far as the peer that asks
    /// remembers.
    #[must_use]
    pub fn new(members: BTreeSet<PeerId>, dead: BTreeSet<PeerId>) -> Self {
        Self { members, dead, answers: BTreeMap::new() }
    }

    /// A peer has answered; it may know of more.
    pub fn answered(&mut self, from: PeerId, survey: Survey) {
        self.members.extend(&survey.members);
        self.answers.insert(from, survey);
    }

    /// Who has still to answer.
    #[must_use]
    pub fn missing(&self) -> Vec<PeerId> {
        let banned = self.banned();
        let missing = self.members.iter().filter(|peer| !banned.contains(peer) && !self.answers.contains_key(peer));
        missing.copied().collect()
    }

    /// Those that have answered.
    pub fn survivors(&self) -> impl Iterator<Item = PeerId> {
        self.answers.keys().copied()
    }

    /// Those of the dead that nobody remembers as peers of the ring.
    #[must_use]
    pub fn strangers(&self) -> Vec<PeerId> {
        self.dead.iter().filter(|peer| !self.members.contains(peer)).copied().collect()
    }

    /// Those of the dead that are not.
    #[must_use]
    pub fn alive(&self) -> Vec<PeerId> {
        self.dead.iter().filter(|peer| self.answers.contains_key(peer)).copied().collect()
    }

    fn banned(&self) -> BTreeSet<PeerId> {
        self.dead.iter().chain(self.answers.values().flat_map(|survey| &survey.claim.banned)).copied().collect()
    }

    /// What to ask everyone to promise: a counter that none of them has seen.
    #[must_use]
    pub fn claim(&self, by: PeerId) -> Claim {
        let views = self.answers.values().flat_map(|survey| &survey.reports).map(|report| report.view.epoch.generation);
        let claims = self.answers.values().map(|survey| survey.claim.generation);
        let last = views.chain(claims).map(|generation| generation.counter).max().unwrap_or(0);
        Claim { generation: Generation { counter: last.saturating_add(1), by: Some(by) }, banned: self.banned() }
    }

    /// What a recovery by this claim makes of the slots, once everyone has answered, with k replicas.
    #[must_use]
    pub fn plan(&self, claim: &Claim, bits: SlotBits, replicas: usize) -> Plan {
        let mut plan = Plan::default();
        let mut reports: BTreeMap<Slot, Vec<(PeerId, &Report)>> = bits.iter().map(|slot| (slot, Vec::new())).collect();
        for (peer, survey) in &self.answers {
            for report in &survey.reports {
                reports.entry(report.view.slot).or_default().push((*peer, report));
            }
        }
        for (slot, reports) in reports {
            let newest = reports.iter().map(|(_, report)| report).max_by_key(|report| report.view.epoch);
            let Some(newest) = newest.map(|report| &report.view) else {
                plan.recovered.push(self.begin_empty(claim, slot, None, replicas));
                continue;
            };
            let generation = newest.epoch.generation;
            let rival = reports.iter().map(|it| it.1.view.epoch.generation).find(|other| other.rivals(generation));
            let disputed = reports.iter().any(|(_, report)| report.disputed && report.view.epoch == newest.epoch);
            match rival {
                Some(rival) => plan.disputed.push((slot, generation, rival)),
                None if !disputed && !claim.strands(newest) => plan.served += 1,
                None => plan.recovered.push(self.go_on(claim, newest, &reports, replicas)),
            }
        }
        plan
    }

    /// Goes on with the longest copy: of those that are in the newest view if there are any, otherwise of all.
    fn go_on(&self, claim: &Claim, newest: &View, reports: &[(PeerId, &Report)], replicas: usize) -> Recovered {
        let in_view = |peer: PeerId, report: &Report| report.view == *newest && newest.has(peer);
        let copies = || reports.iter().filter_map(|(peer, report)| Some((*peer, *report, report.log?.last)));
        let longest = copies().max_by_key(|(peer, report, last)| (in_view(*peer, report), *last));
        let Some((source, held, last)) = longest else {
            return self.begin_empty(claim, newest.slot, Some(newest), replicas);
        };
        let same = |(peer, report, end): &(PeerId, &Report, Position)| {
            *peer == source || (in_view(source, held) && in_view(*peer, report) && *end == last)
        };
        let mut members: Vec<(PeerId, &Report)> = copies().filter(same).map(|it| (it.0, it.1)).collect();
        members.sort_by_key(|(peer, _)| newest.place(*peer));
        let certain = members.iter().filter_map(|(_, report)| report.certain_for).min();
        let bound = certain.map_or(Bound::After(last.seq), Bound::Since);
        let frontier = Position { seq: last.seq + REVISION_JUMP, ..last };
        let chain = members.into_iter().map(|(peer, _)| peer).collect();
        Recovered { view: self.view(claim, newest, chain, frontier, replicas), begins_empty: false, bound }
    }

    /// Somebody begins anew; not always the same. Numbers go on where nobody can have been.
    fn begin_empty(&self, claim: &Claim, slot: Slot, known: Option<&View>, replicas: usize) -> Recovered {
        let place = slot.0 as usize % self.answers.len().max(1);
        let chosen = self.survivors().nth(place).into_iter().collect::<Vec<_>>();
        let nobody = View {
            epoch: Epoch::default(),
            chain: Vec::new(),
            electors: Vec::new(),
            slot,
            frontier: Position::default(),
            min_in_sync: 1,
        };
        let before = known.cloned().unwrap_or(nobody);
        let seq = before.frontier.seq + REVISION_JUMP * u64::from(claim.generation.counter);
        let frontier = Position { epoch: before.epoch, seq };
        let view = self.view(claim, &before, chosen, frontier, replicas);
        Recovered { view, begins_empty: true, bound: Bound::All }
    }

    fn view(&self, claim: &Claim, before: &View, chain: Vec<PeerId>, frontier: Position, replicas: usize) -> View {
        let left = |leaves: bool| {
            let counts = move |it: &(&PeerId, &Survey)| !claim.banned.contains(it.0) && (leaves || !it.1.leaving);
            self.answers.iter().filter(counts).map(|(peer, _)| *peer).collect::<BTreeSet<PeerId>>()
        };
        // Who is about to depart decides nothing any more, unless nobody else is there.
        let staying = Some(left(false)).filter(|staying| !staying.is_empty()).unwrap_or_else(|| left(true));
        let min_in_sync = (replicas / 2 + 1).min(staying.len());
        let live = staying.iter().copied().collect();
        let circumstances = Circumstances { live, staying: Arc::new(staying), min_in_sync };
        let electors = circumstances.electors(before, &chain, true);
        let incarnation = |peer: &PeerId| self.answers.get(peer).map_or(0, |survey| survey.incarnation);
        let member = |peer: PeerId| Member { peer, incarnation: incarnation(&peer) };
        let epoch = Epoch { generation: claim.generation, number: before.epoch.number + 1 };
        let chain = chain.into_iter().map(member).collect();
        View { slot: before.slot, epoch, chain, electors, frontier, min_in_sync }
    }
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
