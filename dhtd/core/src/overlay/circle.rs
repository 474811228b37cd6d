//! Rings made as a whole, for simulations: nobody has to join, everyone knows its neighbours already.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    directory::Health,
    interface::{Config, Output, Routing},
    node::successor_list,
    peer::{Node, Peer, Ring},
    state::State,
};
use crate::{
    Rules,
    ring::{Id, PeerId},
};

/// The members of a ring in the order in which they follow each other.
#[derive(Clone, Debug)]
pub struct Circle {
    order: Vec<Node>,
    places: BTreeMap<Id, usize>,
    peers: BTreeMap<PeerId, Peer>,
    windings: usize,
}

impl Circle {
    /// The ideal ring of all nodes of these peers.
    #[must_use]
    pub fn ideal(peers: impl IntoIterator<Item = Peer>) -> Self {
        Self::winding(peers, 1)
    }

    /// A ring that winds around the circle so many times before it closes: each node agrees with its neighbours, and
    /// yet most of them are the wrong ones (Zave 2017 calls it loopy; the paper, section IV-E.3).
    ///
    /// # Panics
    /// If there are no windings.
    #[must_use]
    pub fn winding(peers: impl IntoIterator<Item = Peer>, windings: usize) -> Self {
        let peers: BTreeMap<PeerId, Peer> = peers.into_iter().map(|peer| (peer.id, peer)).collect();
        let nodes = peers.values().flat_map(|peer| (0..peer.nodes).map(|index| Node::of(peer.id, index)));
        let sorted: BTreeMap<Id, Node> = nodes.map(|node| (node.id, node)).collect();
        let every = |first: usize| sorted.values().skip(first).step_by(windings).copied();
        let order: Vec<Node> = (0..windings).flat_map(every).collect();
        let places = order.iter().enumerate().map(|(place, node)| (node.id, place)).collect();
        Self { order, places, peers, windings }
    }

    /// The node that owns an identifier if the ring is ideal: the first one at or after it.
    #[must_use]
    pub fn owner(&self, id: Id) -> Option<Node> {
        let place = self.places.range(id..).chain(self.places.range(..id)).map(|(_, place)| *place).next()?;
        Some(self.order[place])
    }

    /// All nodes, in the order in which they follow each other.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.order
    }

    fn before(&self, node: Node) -> Option<Node> {
        let place = *self.places.get(&node.id)?;
        Some(self.order[(place + self.order.len() - 1) % self.order.len()])
    }

    /// All other nodes as they follow.
    fn after(&self, node: Node) -> impl Iterator<Item = Node> {
        let place = self.places.get(&node.id).map_or(0, |place| place + 1);
        self.order[place..].iter().chain(&self.order[..place]).copied().take(self.order.len().saturating_sub(1))
    }
}

impl State {
    /// A member of a ring at rest, and what its host has to do first. The neighbours are those of the circle; the
    /// fingers are exact if the ring is ideal, and there are none otherwise. With [`Routing::Full`] a member of an
    /// ideal ring knows all others.
    ///
    /// # Panics
    /// If `me` is no peer of the circle.
    #[must_use]
    pub fn settled(
        config: Config,
        rules: Rules,
        circle: &Circle,
        me: PeerId,
        ring: Ring,
        seed: u64,
    ) -> (Self, Vec<Output>) {
        let peer = circle.peers[&me].clone();
        let config = Config { nodes: peer.nodes, ..config };
        let mut state = Self::new(config, rules, peer, seed);
        state.ring = Some(ring);
        for index in 0..state.nodes.len() {
            state.enlist(index);
        }
        for index in 0..state.nodes.len() {
            state.settle(index, circle);
        }
        if state.config.routing == Routing::Full && circle.windings == 1 {
            circle.peers.values().for_each(|peer| state.meet(peer));
        }
        state.start_timers();
        state.start_maintenance();
        let outputs = state.settle_outputs();
        (state, outputs)
    }

    fn settle(&mut self, index: usize, circle: &Circle) {
        let node = self.nodes[index].node;
        let reach = self.wanted_reach();
        let list_of = |node: Node| successor_list(node, circle.after(node), reach, |_| true, |_| true);
        let list = list_of(node);
        let mut bits = (0..Id::BITS).rev().map(|bit| (bit, node.id.plus_power(bit)));
        let far = list.last().map_or(node.id, |last| last.id);
        if circle.windings == 1 {
            while let Some((bit, start)) = bits.next().filter(|(_, start)| !crate::ring::between(node.id, *start, far))
            {
                let finger = circle.owner(start).filter(|finger| *finger != node);
                if let Some(finger) = finger {
                    let behind = if self.config.routing == Routing::Fingers { list_of(finger) } else { Vec::new() };
                    self.nodes[index].fingers.set(bit, finger, behind);
                }
            }
            self.nodes[index].fingers.complete();
        }
        self.nodes[index].predecessor = circle.before(node);
        self.nodes[index].successors = list;
        self.nodes[index].accepted = true;
        let state = &self.nodes[index];
        let fingers = state.fingers.lists().flat_map(|(_, finger, list)| list.iter().copied().chain([finger]));
        let listed: BTreeSet<PeerId> =
            fingers.chain(state.successors.iter().copied()).chain(state.predecessor).map(|node| node.peer).collect();
        listed.iter().filter_map(|id| circle.peers.get(id)).for_each(|peer| self.meet(peer));
    }

    fn meet(&mut self, peer: &Peer) {
        if peer.id != self.me.id {
            self.directory.learn(peer, self.now);
            self.directory.set_health(peer.id, Health::Alive);
            self.add_to_table(peer.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::invariant::{Census, View};

    fn peers(count: u8, nodes: u32) -> Vec<Peer> {
        let peer = |place| Peer {
            id: PeerId::new([place; 16]),
            address: format!("{place}:1").into(),
            incarnation: 1,
            nodes,
            leaving: false,
        };
        (0..count).map(peer).collect()
    }

    fn census(circle: &Circle) -> Census {
        let ring = Ring {
            id: crate::overlay::RingId([0; 16]),
            replicas: 3,
            slot_bits: crate::ring::SlotBits::DEFAULT,
            mode: crate::record::Mode::Eventual,
        };
        let mut census = Census::default();
        for peer in circle.peers.keys() {
            let (state, _) = State::settled(Config::default(), Rules::ALL, circle, *peer, ring, 1);
            state.nodes().iter().for_each(|node| census.update(node.node.id, Some(View::from(node))));
        }
        census
    }

    #[test]
    fn an_ideal_circle_makes_an_ideal_ring() {
        let census = census(&Circle::ideal(peers(12, 4)));
        assert_eq!(census.not_ideal(8), None);
        assert_eq!(census.members().count(), 48);
    }

    #[test]
    fn a_circle_that_winds_twice_makes_a_loopy_ring() {
        let circle = Circle::winding(peers(20, 1), 2);
        assert_eq!(circle.nodes().len(), 20);
        assert!(census(&circle).not_ideal(8).is_some());
    }
}
