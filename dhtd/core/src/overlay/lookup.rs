//! Lookups: recursive, each hop confirmed to the one before, the last answering the asker.
//!
//! All tables are hints. The asked node checks that the identifier lies in its interval, and sends the lookup on if it
//! does not. A hop that is not confirmed in time is tried another way; the paper calls that a time-out.

use std::{collections::BTreeSet, time::Duration};

use super::{
    interface::{Event, Lookup, LookupFailed, Timer},
    message::{Body, Find, FindId, Found, Hop, HopReason, Purpose},
    node::NodeState,
    peer::{MAX_NODES, Node},
    state::State,
};
use crate::ring::{Id, PeerId, covers};

/// An own lookup on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    asker: Asker,
    target: Id,
    started: Duration,
    attempts: u32,
}

/// Who of this peer wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// The host.
    Host(u64),
    /// A finger of a node.
    Finger { index: usize, bit: u32 },
    /// A node that joins at its own identifier.
    Join { index: usize },
    /// Whether the node before this one has it as its successor.
    Reconcile { index: usize, through: PeerId },
}

/// A lookup that was passed on and is not confirmed yet.
#[derive(Clone, Debug)]
pub(super) struct Forward {
    find: Find,
    tried: BTreeSet<PeerId>,
}

impl State {
    pub(super) fn lookup_for_host(&mut self, token: u64, target: Id) {
        if self.ring.is_none() || self.gone {
            return self.event(Event::Lookup { token, result: Err(LookupFailed) });
        }
        self.start_lookup(Asker::Host(token), target);
    }

    /// Starts a lookup at this peer.
    pub(super) fn start_lookup(&mut self, asker: Asker, target: Id) {
        let number = self.next_number();
        self.asked.insert(number, Asked { asker, target, started: self.now, attempts: 0 });
        self.try_lookup(number);
    }

    fn try_lookup(&mut self, number: u64) {
        let Some(asked) = self.asked.get_mut(&number) else { return };
        asked.attempts += 1;
        let find = self.find(number);
        let wait = self.jittered(LOOKUP_TIME_OUT);
        self.set_timer(wait, Timer::Lookup(number));
        match find {
            Some(find) if find.hops.is_empty() => self.ask_seed(find),
            Some(find) => self.advance(find, BTreeSet::new()),
            None => {}
        }
    }

    /// The lookup as it sets out. A join begins elsewhere: it has no hop of this peer.
    fn find(&self, number: u64) -> Option<Find> {
        let Asked { asker, target, attempts, .. } = *self.asked.get(&number)?;
        let purpose = match asker {
            Asker::Join { .. } | Asker::Reconcile { .. } => Purpose::Predecessor,
            Asker::Host(_) | Asker::Finger { .. } => Purpose::Owner,
        };
        let hops = self.start_hop(target).into_iter().collect();
        let id = FindId { asker: self.me.id, number, attempt: attempts };
        Some(Find { id, asker: self.me.clone(), target, purpose, hops, timeouts: 0 })
    }

    /// Where a lookup begins that is made here: at the node of ours that is closest before the target.
    fn start_hop(&self, target: Id) -> Option<Hop> {
        let members = self.nodes.iter().filter(|node| node.member);
        let start = members.min_by_key(|node| node.node.id.distance_to(target))?;
        Some(Hop { node: start.node, reason: HopReason::Start, round_trip_us: 0 })
    }

    /// A join's lookup sets out from a seed.
    fn ask_seed(&mut self, find: Find) {
        if let Some(seed) = self.next_seed() {
            self.send_to_address(seed, Body::Find(find));
        }
    }

    /// Looks up who is before an own node as another peer sees the ring. Not the owner of its identifier: peers that have
    /// the node in their table would send that straight to it, whether or not the ring leads there.
    pub(super) fn start_lookup_at(&mut self, peer: PeerId, index: usize) {
        let number = self.next_number();
        let target = self.nodes[index].node.id;
        let asker = Asker::Reconcile { index, through: peer };
        self.asked.insert(number, Asked { asker, target, started: self.now, attempts: LOOKUP_ATTEMPTS });
        self.set_timer(LOOKUP_TIME_OUT, Timer::Lookup(number));
        if let Some(find) = self.find(number) {
            self.send(peer, Body::Find(Find { hops: Vec::new(), ..find }));
        }
    }

    pub(super) fn lookup_timed_out(&mut self, number: u64) {
        let Some(asked) = self.asked.get(&number) else { return };
        match asked.asker {
            Asker::Join { .. } => self.try_lookup(number),
            _ if asked.attempts < LOOKUP_ATTEMPTS => self.try_lookup(number),
            Asker::Host(token) => {
                self.asked.remove(&number);
                self.event(Event::Lookup { token, result: Err(LookupFailed) });
            }
            Asker::Finger { .. } => drop(self.asked.remove(&number)),
            Asker::Reconcile { through, .. } => {
                // Nobody else would find out that a peer is dead which is only remembered.
                self.asked.remove(&number);
                self.directory.missed(through, self.now);
            }
        }
    }

    /// A lookup arrives from another peer.
    pub(super) fn find_arrived(&mut self, from: PeerId, mut find: Find) {
        self.learn(&find.asker);
        if self.me.nodes == 0 || self.gone || find.hops.len() >= MAX_HOPS {
            return; // No confirmation: its sender looks for another way.
        }
        self.send(from, Body::FindAck { id: find.id, hop: find.hops.len() });
        if find.hops.is_empty() {
            find.hops.extend(self.start_hop(find.target));
        }
        if self.seen.insert((find.id, overshoots(&find)), self.now).is_none() {
            self.advance(find, BTreeSet::new());
        }
    }

    /// Forgets the lookups that have passed by long ago.
    pub(super) fn forget_lookups(&mut self) {
        let now = self.now;
        self.seen.retain(|_, passed| now.saturating_sub(*passed) < LOOKUP_TIME_OUT * 2);
    }

    /// Answers the lookup, or passes it on to the best peer that is not in `tried`.
    fn advance(&mut self, mut find: Find, tried: BTreeSet<PeerId>) {
        if let Some(index) = self.answers(&find, &tried) {
            return self.answer(index, find);
        }
        let Some((node, reason)) = self.next_hop(&find, &tried) else { return };
        let round_trip = self.directory.round_trip(node.peer).as_micros();
        find.hops.push(Hop { node, reason, round_trip_us: u64::try_from(round_trip).unwrap_or(u64::MAX) });
        let (id, hop) = (find.id, find.hops.len());
        self.set_timer(self.directory.time_out(node.peer), Timer::Hop(id, hop));
        self.forwards.insert((id, hop), Forward { find: find.clone(), tried });
        self.send(node.peer, Body::Find(find));
    }

    pub(super) fn hop_timed_out(&mut self, id: FindId, hop: usize) {
        let Some(Forward { mut find, mut tried }) = self.forwards.remove(&(id, hop)) else { return };
        let silent = find.hops.pop().map(|hop| hop.node.peer);
        if let Some(peer) = silent {
            self.directory.missed(peer, self.now);
            tried.insert(peer);
        }
        find.timeouts += 1;
        self.advance(find, tried);
    }

    /// The node of ours that ends the lookup.
    fn answers(&self, find: &Find, tried: &BTreeSet<PeerId>) -> Option<usize> {
        let is_heir = |state: &NodeState| {
            is_heir(state, find) && self.owner_before(find, |node| self.may_ask(node, tried)).is_none()
        };
        let ends = |state: &NodeState| {
            let me = state.node.id;
            state.member
                && match find.purpose {
                    Purpose::Owner => state.owns(find.target) || is_heir(state),
                    Purpose::Predecessor => find.target != me && covers(me, find.target, state.successor().id),
                }
        };
        self.nodes.iter().position(ends)
    }

    fn answer(&mut self, index: usize, find: Find) {
        let Some(ring) = self.ring else { return };
        let state = &self.nodes[index];
        let mut successors = state.successors.clone();
        if find.purpose == Purpose::Predecessor && successors.is_empty() {
            successors.push(state.node); // A ring of one is its own successor.
        }
        let Find { id, asker, hops, timeouts, purpose, target } = find;
        let home = (purpose == Purpose::Owner).then(|| self.home(target).cloned()).flatten();
        let found = Found { id, node: state.node, successors, home, ring, hops, timeouts };
        self.send(id.asker, Body::Found(found));
        if purpose == Purpose::Predecessor {
            // A member that looks for the node before it may belong between that and its successor.
            let nodes = (0..asker.nodes.min(MAX_NODES)).map(|index| Node::of(asker.id, index));
            nodes.filter(|node| node.id == target).for_each(|node| self.consider(node));
        }
    }

    /// An own lookup has ended.
    pub(super) fn found(&mut self, found: Found) {
        if found.id.asker != self.me.id {
            return;
        }
        let Some(Asked { asker, started, .. }) = self.asked.remove(&found.id.number) else { return };
        match asker {
            Asker::Host(token) => {
                let peers = self.describe(&found);
                let Found { node: owner, home, hops, timeouts, .. } = found;
                let elapsed = self.now.saturating_sub(started);
                let lookup = Lookup { owner, home, peers, hops, timeouts, elapsed };
                self.event(Event::Lookup { token, result: Ok(lookup) });
            }
            Asker::Finger { index, bit } if self.may_list(&found.node) => {
                self.finger_found(index, bit, found.node, found.successors)
            }
            Asker::Finger { .. } => {}
            Asker::Join { index } => self.predecessor_found(index, found),
            Asker::Reconcile { index, .. } => self.found_from_elsewhere(index, &found),
        }
    }

    /// The best peer to ask next. A suspected one is only taken if there is no other.
    fn next_hop(&self, find: &Find, tried: &BTreeSet<PeerId>) -> Option<(Node, HopReason)> {
        let trusted = |node: &Node| self.may_ask(node, tried);
        let suspected = |node: &Node| self.directory.get(node.peer).is_some_and(|known| known.health.suspected());
        self.best_hop(find, tried, |node| trusted(node) && !suspected(node))
            .or_else(|| self.best_hop(find, tried, trusted))
    }

    fn may_ask(&self, node: &Node, tried: &BTreeSet<PeerId>) -> bool {
        node.peer != self.me.id && self.directory.usable_node(node) && !tried.contains(&node.peer)
    }

    fn best_hop(
        &self,
        find: &Find,
        tried: &BTreeSet<PeerId>,
        may: impl Fn(&Node) -> bool,
    ) -> Option<(Node, HopReason)> {
        let target = find.target;
        match find.purpose {
            Purpose::Owner => self
                .listed_successor(target, &may)
                .or_else(|| self.owner_before(find, &may))
                // Also if it is suspected: all other ways lead around the ring and back here.
                .or_else(|| self.owner_before(find, |node| self.may_ask(node, tried)))
                .or_else(|| first(self.table_from(target), &may, HopReason::Table))
                .or_else(|| if tried.is_empty() { self.finger_successor(find, &may) } else { None })
                .or_else(|| self.closest_preceding(target, &may)),
            Purpose::Predecessor => first(self.table_before(target), &may, HopReason::Table)
                .filter(|(node, _)| self.is_progress(node, target))
                .or_else(|| self.closest_preceding(target, &may)),
        }
    }

    /// The first node at or after the target in a successor list that reaches over it.
    fn listed_successor(&self, target: Id, may: &impl Fn(&Node) -> bool) -> Option<(Node, HopReason)> {
        let mut found: Option<Node> = None;
        for state in self.nodes.iter().filter(|state| state.member) {
            let after = |node: &&Node| covers(state.node.id, target, node.id) && may(node);
            if let Some(node) = state.successors.iter().find(after)
                && found.is_none_or(|other| target.distance_to(node.id) < target.distance_to(other.id))
            {
                found = Some(*node);
            }
        }
        found.map(|node| (node, HopReason::Successor))
    }

    /// The first node at or after the target in the successor list of a finger that reaches over it. Such a list may be
    /// old: who was asked already because of one is not asked again, so that no lookup goes in circles; and if somebody is
    /// silent, who inherits is left to the node before, which knows better.
    fn finger_successor(&self, find: &Find, may: &impl Fn(&Node) -> bool) -> Option<(Node, HopReason)> {
        let target = find.target;
        let after = |(bit, finger, list): (u32, Node, &[Node])| {
            let own = |node: &Node| node.peer == self.me.id;
            let node = list.iter().find(|node| covers(finger.id, target, node.id) && (own(node) || may(node)))?;
            let new = find.hops.iter().all(|hop| hop.node != *node);
            (new && !own(node)).then_some((*node, HopReason::FingerSuccessor(bit)))
        };
        let members = self.nodes.iter().filter(|state| state.member);
        let found = members.flat_map(|state| state.fingers.lists()).filter_map(after);
        found.min_by_key(|(node, _)| target.distance_to(node.id))
    }

    /// Somebody at the target or after it, if the last hop took a node of ours for the owner: the predecessor, or, if that
    /// has died, the first that has announced itself.
    fn owner_before(&self, find: &Find, may: impl Fn(&Node) -> bool) -> Option<(Node, HopReason)> {
        let (_, taken) = taken_for_owner(find)?;
        let before = match self.nodes[self.own_member(&taken)?].predecessor {
            Some(before) => Some(before).filter(may),
            None => self.homes.owners_from(find.target).find(may),
        };
        let behind = |node: &Node| node.id == find.target || covers(find.target, node.id, taken.id);
        before.filter(behind).map(|node| (node, HopReason::Predecessor))
    }

    /// The node of all tables that is closest before the target, if it is closer than all of ours.
    fn closest_preceding(&self, target: Id, may: &impl Fn(&Node) -> bool) -> Option<(Node, HopReason)> {
        let known = self.nodes.iter().filter(|state| state.member).flat_map(|state| {
            let fingers = state.fingers().map(|(bit, node)| (node, HopReason::Finger(bit)));
            let successors = state.successors.iter().map(|node| (*node, HopReason::Successor));
            let before = state.predecessor.map(|node| (node, HopReason::Predecessor));
            let behind_fingers = state
                .fingers
                .lists()
                .flat_map(|(bit, _, list)| list.iter().map(move |node| (*node, HopReason::FingerSuccessor(bit))));
            fingers.chain(successors).chain(before).chain(behind_fingers)
        });
        let table = first(self.table_before(target), may, HopReason::Table);
        known
            .chain(table)
            .filter(|(node, _)| node.id != target && may(node))
            .min_by_key(|(node, _)| node.id.distance_to(target))
            .filter(|(node, _)| self.is_progress(node, target))
    }

    /// Closer before the target than any node of ours: so no lookup goes in circles.
    fn is_progress(&self, node: &Node, target: Id) -> bool {
        let own = self.nodes.iter().filter(|state| state.member && state.node.id != target);
        let nearest = own.map(|state| state.node.id.distance_to(target)).min();
        nearest.is_none_or(|nearest| node.id.distance_to(target) < nearest)
    }

    /// All nodes of the table from the target on, clockwise.
    fn table_from(&self, target: Id) -> impl Iterator<Item = &Node> {
        self.table.range(target..).chain(self.table.range(..target)).map(|(_, node)| node)
    }

    /// All nodes of the table before the target, anticlockwise.
    fn table_before(&self, target: Id) -> impl Iterator<Item = &Node> {
        self.table.range(..target).rev().chain(self.table.range(target..).rev()).map(|(_, node)| node)
    }
}

/// The node's predecessor has died, and the asker knows nobody alive between the target and this node: as in the paper
/// (section IV-D), its word decides. The next round of maintenance finds the new predecessor.
///
/// It is a guess, made so that a death leaves no interval without an answer; those that have announced themselves are
/// asked first. It is wrong, until the true owner's next round at most, if the dead predecessor had accepted a newcomer
/// of which neither has heard; or if it is alive after all, and both have been waiting for it in vain. The answer then
/// names an owner, but no home group: that needs a predecessor.
fn is_heir(state: &NodeState, find: &Find) -> bool {
    let by_list = find.hops.last().is_some_and(|hop| hop.reason == HopReason::Successor);
    let named = taken_for_owner(find).is_some_and(|(_, taken)| taken == state.node);
    state.accepted && state.predecessor.is_none() && by_list && named
}

/// The last two nodes of the way, if the first sent the lookup to the second as the owner: the target lies between
/// them. Otherwise the second was a step towards the target.
fn taken_for_owner(find: &Find) -> Option<(Node, Node)> {
    let [.., asker, taken] = find.hops.as_slice() else { return None };
    covers(asker.node.id, find.target, taken.node.id).then_some((asker.node, taken.node))
}

/// How often the lookup has come back from behind its target, where the old list of a finger had sent it. So often each peer
/// passes it on once more.
fn overshoots(find: &Find) -> usize {
    let before = &find.hops[..find.hops.len().saturating_sub(1)];
    let overshot = |pair: &&[Hop]| {
        let [asker, taken] = pair else { return false };
        let by_old_list = matches!(taken.reason, HopReason::FingerSuccessor(_));
        by_old_list && covers(asker.node.id, find.target, taken.node.id)
    };
    before.windows(2).filter(overshot).count()
}

fn first<'a>(
    mut nodes: impl Iterator<Item = &'a Node>,
    may: &impl Fn(&Node) -> bool,
    reason: HopReason,
) -> Option<(Node, HopReason)> {
    nodes.find(|node| may(node)).map(|node| (*node, reason))
}

/// An own lookup is sent again after this time; a guess, well above a handful of round trips.
const LOOKUP_TIME_OUT: Duration = Duration::from_secs(1);

/// Attempts before a lookup is given up. A guess.
const LOOKUP_ATTEMPTS: u32 = 5;

/// More than any sane way is long: a lookup that goes around in circles ends here and is tried again by its asker.
const MAX_HOPS: usize = 64;

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
