//! What decides how a peer goes on, for whoever has to tell its states apart: a model checker.

use super::{
    directory::Health,
    message::{FindId, OpId},
    node::{NodeState, OpKind},
    peer::Node,
    state::State,
};
use crate::ring::PeerId;

/// What of a [`State`] decides which neighbours it will have, whatever comes, in a world where time stands still and no
/// lookups are made but those of joins. Two states with equal essences change alike and send alike.
///
/// Left out is
/// - what only the passing of time would bring to bear: the clock, round trips, when a peer was last heard;
/// - the generator: with [`Routing::Fingers`](super::Routing::Fingers) it decides nothing but how long timers take and
///   what is pinged;
/// - what is derived from the rest or serves the data path alone: home groups, the full table (there is none then);
/// - own lookups and those that wait for a confirmation: only their timers could tell;
/// - the numbers of operations, and who waits for one: numbers are names, which the checker has to compare with those in
///   messages on their way. [`NodeState::operation`] and [`NodeState::waiting`] tell them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Essence {
    nodes: Vec<NodeEssence>,
    known: Vec<(PeerId, u64, u32, bool, Health)>,
    passed_by: Vec<(FindId, usize)>,
    members: u32,
    in_ring: bool,
    joining: bool,
    leaving: bool,
    gone: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct NodeEssence {
    accepted: bool,
    predecessor: Option<Node>,
    stand_in: Option<Node>,
    successors: Vec<Node>,
    fingers: Vec<(u32, Node, Vec<Node>)>,
    operation: Option<(OpKind, Node, u32)>,
    candidate: Option<Node>,
    list_changed: bool,
}

impl State {
    /// What decides how this peer goes on, if time stands still.
    #[must_use]
    pub fn essence(&self) -> Essence {
        let known = self.directory.iter().map(|known| {
            let peer = &known.peer;
            (peer.id, peer.incarnation, peer.nodes, peer.leaving, known.health)
        });
        Essence {
            nodes: self.nodes.iter().map(NodeEssence::from).collect(),
            known: known.collect(),
            passed_by: self.seen.keys().copied().collect(),
            members: self.me.nodes,
            in_ring: self.ring.is_some(),
            joining: self.joining.is_some(),
            leaving: self.me.leaving,
            gone: self.gone,
        }
    }
}

impl From<&NodeState> for NodeEssence {
    fn from(state: &NodeState) -> Self {
        Self {
            accepted: state.accepted,
            predecessor: state.predecessor,
            stand_in: state.stand_in,
            successors: state.successors.clone(),
            fingers: state.fingers.lists().map(|(bit, node, list)| (bit, node, list.to_vec())).collect(),
            operation: state.op.map(|op| (op.kind, op.target, op.attempts)),
            candidate: state.candidate,
            list_changed: state.list_changed,
        }
    }
}

impl NodeState {
    /// The maintenance operation in flight.
    #[must_use]
    pub fn operation(&self) -> Option<OpId> {
        self.op.map(|op| OpId { node: self.node.index, number: op.number })
    }

    /// Who has asked during the operation in flight, each node once, and the operation that it asked for.
    #[must_use]
    pub fn waiting(&self) -> &[(Node, OpId)] {
        &self.waiting
    }
}
