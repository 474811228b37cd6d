//! Finger tables (the paper, section IV-D): `finger[i] = successor(id + 2^i)`.

use std::collections::BTreeMap;

use super::{interface::Routing, lookup::Asker, peer::Node, state::State};
use crate::ring::{Id, between};

/// The distinct fingers of one node.
#[derive(Clone, Debug)]
pub(super) struct Fingers {
    /// By bit; only bits whose finger differs from that of the next higher bit in the table.
    by_bit: BTreeMap<u32, Finger>,
    /// The bit to look up next; they are renewed from the farthest to the nearest.
    next: u32,
    /// All were looked up once.
    complete: bool,
}

#[derive(Clone, Debug)]
struct Finger {
    node: Node,
    /// Its successors, as it named them when it was looked up: with them a lookup that ends not far behind the finger
    /// takes one hop less. (Not in the paper.)
    successors: Vec<Node>,
}

impl Default for Fingers {
    fn default() -> Self {
        Self { by_bit: BTreeMap::new(), next: Id::BITS - 1, complete: false }
    }
}

impl Fingers {
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Node)> {
        self.by_bit.iter().map(|(bit, finger)| (*bit, finger.node))
    }

    /// Each finger with its bit and its successors.
    pub(super) fn lists(&self) -> impl Iterator<Item = (u32, Node, &[Node])> {
        self.by_bit.iter().map(|(bit, finger)| (*bit, finger.node, finger.successors.as_slice()))
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Node) -> bool) {
        self.by_bit.retain(|_, finger| keep(&finger.node));
        self.by_bit.values_mut().for_each(|finger| finger.successors.retain(&keep));
    }

    /// All have been looked up.
    pub(super) fn complete(&mut self) {
        self.complete = true;
    }

    pub(super) fn set(&mut self, bit: u32, node: Node, successors: Vec<Node>) {
        self.by_bit.retain(|other, finger| *other == bit || finger.node != node);
        self.by_bit.insert(bit, Finger { node, successors });
    }
}

impl State {
    /// Looks up one finger; the successor list needs none for what it covers.
    pub(super) fn fix_fingers(&mut self, index: usize) {
        let state = &self.nodes[index];
        let bit = state.fingers.next;
        if !state.member || state.successors.is_empty() {
            return;
        }
        let target = state.node.id.plus_power(bit);
        self.start_lookup(Asker::Finger { index, bit }, target);
    }

    /// The finger that was looked up, and its successors.
    pub(super) fn finger_found(&mut self, index: usize, bit: u32, finger: Node, mut successors: Vec<Node>) {
        match self.config.routing {
            Routing::Fingers => successors.retain(|node| self.may_list(node)),
            // The table has them.
            Routing::Full => successors.clear(),
        }
        let state = &mut self.nodes[index];
        if finger != state.node {
            state.fingers.set(bit, finger, successors);
        }
        let last = state.successors.last().map_or(state.node.id, |node| node.id);
        let covered = |bit: u32| between(state.node.id, state.node.id.plus_power(bit), last);
        match bit.checked_sub(1).filter(|next| !covered(*next)) {
            Some(next) => state.fingers.next = next,
            None => {
                // Nearer ones are in the successor list.
                state.fingers.by_bit.retain(|other, _| *other >= bit);
                state.fingers.next = Id::BITS - 1;
                state.fingers.complete = true;
            }
        }
        // A newcomer does not wait a round for each. Where lookups need them, they are renewed in pairs: a finger that
        // has died unnoticed costs a lookup a time-out.
        let pair = self.config.routing == Routing::Fingers && !bit.is_multiple_of(2);
        if (pair || !state.fingers.complete) && state.fingers.next == bit.wrapping_sub(1) {
            self.fix_fingers(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::PeerId;

    #[test]
    fn only_distinct_fingers_are_stored() {
        let (a, b) = (Node::of(PeerId::new([1; 16]), 0), Node::of(PeerId::new([2; 16]), 0));
        let mut fingers = Fingers::default();
        fingers.set(159, a, Vec::new());
        fingers.set(158, b, Vec::new());
        fingers.set(157, b, Vec::new());
        assert_eq!(fingers.iter().collect::<Vec<_>>(), [(157, b), (159, a)]);
    }
}
