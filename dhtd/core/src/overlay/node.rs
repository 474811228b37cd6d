//! One node of this peer: its neighbours and the operation that it has in flight.

use std::collections::BTreeSet;

use super::{fingers::Fingers, message::OpId, peer::Node};
use crate::ring::{Id, PeerId, between, covers};

/// One node of this peer.
#[derive(Clone, Debug)]
pub struct NodeState {
    /// Which one.
    pub node: Node,
    /// It has joined.
    pub member: bool,
    /// Its successor has accepted it as predecessor; it answers for its interval only then.
    pub accepted: bool,
    /// Its predecessor, unless unknown.
    pub predecessor: Option<Node>,
    /// Takes this node for its successor although it is behind the predecessor, which has not been heard since: it has
    /// given that up, and is to take its place if it is dead.
    pub(super) stand_in: Option<Node>,
    /// Its successors in ring order: `successors[i]` lies between `successors[i - 1]` and the node itself.
    pub successors: Vec<Node>,
    /// Far nodes, for lookups.
    pub(super) fingers: Fingers,
    /// The maintenance operation in flight.
    pub(super) op: Option<Op>,
    /// Who asked while an operation was in flight.
    pub(super) waiting: Vec<(Node, OpId)>,
    /// The closest node heard of that may be a better successor.
    pub(super) candidate: Option<Node>,
    /// The successor list has changed since the predecessor was told.
    pub(super) list_changed: bool,
    /// An extra round is due soon.
    pub(super) retry_set: bool,
}

/// A maintenance operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Op {
    pub(super) number: u64,
    pub(super) kind: OpKind,
    /// Who was asked.
    pub(super) target: Node,
    /// How often.
    pub(super) attempts: u32,
    /// The timer that counts; earlier ones are stale.
    pub(super) timer: u64,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum OpKind {
    /// The current successor's view of the ring.
    Successor,
    /// Whether a closer successor is there.
    Candidate,
}

impl NodeState {
    pub(super) fn new(node: Node) -> Self {
        Self {
            node,
            member: false,
            accepted: false,
            predecessor: None,
            stand_in: None,
            successors: Vec::new(),
            fingers: Fingers::default(),
            op: None,
            waiting: Vec::new(),
            candidate: None,
            list_changed: false,
            retry_set: false,
        }
    }

    /// The node that follows on the circle: the first successor, or the node itself in a ring of one.
    #[must_use]
    pub fn successor(&self) -> Node {
        self.successors.first().copied().unwrap_or(self.node)
    }

    /// The fingers, each distinct node once with the lowest bit that it serves, the farthest last.
    pub fn fingers(&self) -> impl Iterator<Item = (u32, Node)> {
        self.fingers.iter()
    }

    /// The id lies in (predecessor, me], and the ring knows that this node is there.
    #[must_use]
    pub fn owns(&self, id: Id) -> bool {
        self.accepted && self.predecessor.is_some_and(|before| covers(before.id, id, self.node.id))
    }

    /// `node` would be a better successor than the present one.
    pub(super) fn is_closer(&self, node: &Node) -> bool {
        node.id != self.node.id && self.successors.first().is_none_or(|first| between(self.node.id, node.id, first.id))
    }

    /// Another node is before this one.
    pub(super) fn set_predecessor(&mut self, before: Node) {
        self.predecessor = Some(before);
        self.stand_in = None;
    }

    /// A node has notified this one and does not become its predecessor (Zave 2017, rectify: it does if that is dead).
    pub(super) fn passed_over(&mut self, from: Node) {
        if self.predecessor == Some(from) {
            self.stand_in = None;
        } else if self.stand_in.is_none_or(|other| between(other.id, from.id, self.node.id)) {
            self.stand_in = Some(from);
        }
    }

    /// A peer was heard.
    pub(super) fn heard(&mut self, peer: PeerId) {
        if self.predecessor.is_some_and(|before| before.peer == peer) {
            self.stand_in = None;
        }
    }

    /// Takes a node's peer out of all tables.
    pub(super) fn forget(&mut self, gone: impl Fn(&Node) -> bool) {
        self.successors.retain(|node| !gone(node));
        self.fingers.retain(|node| !gone(node));
        self.stand_in = self.stand_in.filter(|node| !gone(node));
        self.predecessor = self.predecessor.filter(|node| !gone(node)).or_else(|| self.stand_in.take());
        self.candidate = self.candidate.filter(|node| !gone(node));
    }
}

/// `head + list` as a successor list of `me`: cut at `me`, at the first node that is out of order or there already, and
/// once it reaches over `limit` distinct other peers of which `counts` is true. Nodes that are not `usable` are left
/// out.
pub(super) fn successor_list(
    me: Node,
    nodes: impl IntoIterator<Item = Node>,
    limit: usize,
    usable: impl Fn(&Node) -> bool,
    counts: impl Fn(PeerId) -> bool,
) -> Vec<Node> {
    let mut list: Vec<Node> = Vec::new();
    let mut reached = BTreeSet::new();
    for node in nodes {
        if reached.len() >= limit {
            break;
        }
        let last = list.last().map_or(me.id, |node| node.id);
        if !between(last, node.id, me.id) {
            break;
        }
        if !usable(&node) {
            continue;
        }
        list.push(node);
        if node.peer != me.peer && counts(node.peer) {
            reached.insert(node.peer);
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(peer: u8, place: u8) -> Node {
        let mut id = [0; 20];
        id[0] = place;
        Node { id: Id::new(id), peer: PeerId::new([peer; 16]), index: 0 }
    }

    fn list(me: Node, nodes: &[Node], limit: usize) -> Vec<Node> {
        successor_list(me, nodes.iter().copied(), limit, |_| true, |_| true)
    }

    #[test]
    fn a_list_is_cut_at_me_and_where_order_ends() {
        let (me, a, b, c) = (node(1, 10), node(2, 20), node(3, 30), node(4, 40));
        assert_eq!(list(me, &[a, b, me, c], 9), [a, b]);
        assert_eq!(list(me, &[a, c, b], 9), [a, c]);
        assert_eq!(list(me, &[a, b, a], 9), [a, b]);
        assert_eq!(list(me, &[me, a], 9), []);
    }

    #[test]
    fn a_list_ends_when_it_reaches_over_enough_distinct_peers() {
        let (me, own) = (node(1, 10), node(1, 25));
        let (a, also_a, b, c) = (node(2, 20), node(2, 30), node(3, 40), node(4, 50));
        assert_eq!(list(me, &[a, own, also_a, b, c], 2), [a, own, also_a, b]);
        let a_leaves = |peer| peer != a.peer;
        let counted = successor_list(me, [a, own, also_a, b, c], 2, |_| true, a_leaves);
        assert_eq!(counted, [a, own, also_a, b, c]);
    }

    #[test]
    fn dead_nodes_are_left_out() {
        let (me, a, b) = (node(1, 10), node(2, 20), node(3, 30));
        assert_eq!(successor_list(me, [a, b], 9, |node| *node != a, |_| true), [b]);
    }
}
