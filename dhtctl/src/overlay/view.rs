//! The nodes of all peers in the order of the circle, and whether the peers agree on it.

use std::collections::BTreeMap;

use dhtd_proto::v1::{Finger, KnownPeer, Mode, Node, OverlayResponse, Peer, PeerPhase, Ring};

use crate::id::{Id, from_slice, share};

/// A ring as its peers described it.
#[derive(Clone, Debug, Default)]
pub struct RingView {
    /// What the ring was founded with; none if the asked peer belongs to no ring.
    pub ring: Option<Ring>,
    /// The peers that answered, in the order of their first node on the circle; those without a node come last.
    pub peers: Vec<PeerView>,
    /// Every node that has joined, in the order of the circle.
    pub places: Vec<Place>,
    /// Peers that should be there and did not answer.
    pub unreachable: Vec<Unreachable>,
    /// Peers that others remember and take for dead. They were not asked.
    pub dead: Vec<KnownPeer>,
}

/// One peer that answered.
#[derive(Clone, Debug)]
pub struct PeerView {
    /// Who it is.
    pub peer: Peer,
    /// Where it stands in its life.
    pub phase: PeerPhase,
    /// How many of its nodes have joined.
    pub joined: usize,
    /// The part of the circle that its nodes own together, from 0 to 1.
    pub share: f64,
    /// The place of its first node.
    pub first: Option<Id>,
}

/// One node on the circle.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where it is.
    pub id: Id,
    /// Who it is and who hosts it.
    pub node: Node,
    /// The part of the circle between its predecessor in order and itself, from 0 to 1.
    pub share: f64,
    /// The predecessor that it names.
    pub predecessor: Option<Node>,
    /// The successors that it names, nearest first.
    pub successors: Vec<Node>,
    /// The fingers that it names.
    pub fingers: Vec<Finger>,
}

/// A peer that did not answer.
#[derive(Clone, Debug)]
pub struct Unreachable {
    /// The peer, as others know it.
    pub peer: Peer,
    /// Why there is no answer.
    pub message: String,
}

/// Whether every node's neighbours are the ones that the order of all nodes gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// They are.
    Ideal,
    /// Some are not.
    NotIdeal(Vec<Disagreement>),
    /// None is wrong, but some peers did not answer, or there is no ring.
    Unknown,
}

/// A node that names another neighbour than the order of all nodes does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The node that names it.
    pub node: Id,
    /// `successor` or `predecessor`.
    pub neighbour: &'static str,
    /// The one that it names.
    pub named: Option<Id>,
    /// The one that the order gives.
    pub expected: Id,
}

impl RingView {
    /// Puts `answers` together. Of several answers of one peer the last counts.
    ///
    /// A peer that names a node id of a wrong length is counted as unreachable: its answer makes no sense.
    pub fn new(
        ring: Option<Ring>,
        answers: Vec<OverlayResponse>,
        mut unreachable: Vec<Unreachable>,
        dead: Vec<KnownPeer>,
    ) -> Self {
        let mut peers = BTreeMap::new();
        let mut places = Vec::new();
        for answer in answers {
            let peer = answer.peer.clone().unwrap_or_default();
            match joined_places(&answer) {
                Some(of_peer) => {
                    let phase = answer.phase();
                    let view = PeerView { peer: peer.clone(), phase, joined: of_peer.len(), share: 0.0, first: None };
                    places.extend(of_peer);
                    peers.insert(peer.id, view);
                }
                None => unreachable.push(Unreachable { peer, message: "it names a malformed node id".into() }),
            }
        }
        places.sort_by_key(|place| place.id);
        places.dedup_by_key(|place| place.id);
        for i in 0..places.len() {
            let before = places[(i + places.len() - 1) % places.len()].id;
            places[i].share = share(before, places[i].id);
            if let Some(peer) = peers.get_mut(&places[i].node.peer_id) {
                peer.share += places[i].share;
                peer.first.get_or_insert(places[i].id);
            }
        }
        let mut peers: Vec<PeerView> = peers.into_values().collect();
        peers.sort_by_key(|peer| (peer.first.is_none(), peer.first));
        unreachable.sort_by(|a, b| a.peer.address.cmp(&b.peer.address));
        Self { ring, peers, places, unreachable, dead }
    }

    /// How many slots the circle is divided into; none without a ring.
    pub fn slots(&self) -> Option<u64> {
        self.ring.as_ref().and_then(|ring| 1_u64.checked_shl(ring.slot_bits))
    }

    /// Whether the peers agree on the order.
    pub fn shape(&self) -> Shape {
        let count = self.places.len();
        let mut wrong = Vec::new();
        for (i, place) in self.places.iter().enumerate() {
            let after = self.places[(i + 1) % count].id;
            let before = self.places[(i + count - 1) % count].id;
            // A node alone on the circle may name itself or nobody.
            let alone = count == 1;
            let successor = place.successors.first();
            for (neighbour, named, expected) in
                [("successor", successor, after), ("predecessor", place.predecessor.as_ref(), before)]
            {
                let id = named.and_then(|node| from_slice(&node.id));
                let hidden = named.is_some_and(|node| self.is_silent(node));
                if id != Some(expected) && !hidden && !(alone && named.is_none()) {
                    wrong.push(Disagreement { node: place.id, neighbour, named: id, expected });
                }
            }
        }
        if !wrong.is_empty() {
            Shape::NotIdeal(wrong)
        } else if count == 0 || !self.unreachable.is_empty() {
            Shape::Unknown
        } else {
            Shape::Ideal
        }
    }

    /// The node belongs to a peer that did not answer, so that its place in the order is not known.
    fn is_silent(&self, node: &Node) -> bool {
        self.unreachable.iter().any(|silent| silent.peer.id == node.peer_id)
    }
}

/// The name of a mode, as the command line and JSON have it.
pub const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Chain => "chain",
        Mode::Eventual => "eventual",
        Mode::Unspecified => "unknown",
    }
}

/// The name of a phase, as the command line and JSON have it.
pub const fn phase_name(phase: PeerPhase) -> &'static str {
    match phase {
        PeerPhase::Idle => "idle",
        PeerPhase::Joining => "joining",
        PeerPhase::Member => "member",
        PeerPhase::Island => "island",
        PeerPhase::Leaving => "leaving",
        PeerPhase::Left => "left",
        PeerPhase::Unspecified => "unknown",
    }
}

/// The nodes in the answer that have joined; none if one of them is malformed.
fn joined_places(answer: &OverlayResponse) -> Option<Vec<Place>> {
    let joined = answer.nodes.iter().filter(|state| state.member);
    joined
        .map(|state| {
            let node = state.node.clone()?;
            Some(Place {
                id: from_slice(&node.id)?,
                node,
                share: 0.0,
                predecessor: state.predecessor.clone(),
                successors: state.successors.clone(),
                fingers: state.fingers.clone(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use dhtd_proto::v1::NodeState;

    use super::*;

    fn node(place: u8, peer: u8) -> Node {
        let mut id = vec![0; 20];
        id[0] = place;
        Node { id: id.into(), peer_id: vec![peer; 16].into(), index: 0, address: format!("peer{peer}:1") }
    }

    fn peer(peer: u8) -> Peer {
        Peer { id: vec![peer; 16].into(), address: format!("peer{peer}:1"), ..Peer::default() }
    }

    /// A peer whose nodes name the neighbours in `order`, which lists (place, peer) of the whole ring.
    fn answer(of: u8, order: &[(u8, u8)]) -> OverlayResponse {
        let count = order.len();
        let nodes = (0..count).filter(|&i| order[i].1 == of).map(|i| {
            let (before, after) = (order[(i + count - 1) % count], order[(i + 1) % count]);
            NodeState {
                node: Some(node(order[i].0, of)),
                member: true,
                predecessor: Some(node(before.0, before.1)),
                successors: vec![node(after.0, after.1)],
                fingers: vec![],
            }
        });
        OverlayResponse { peer: Some(peer(of)), nodes: nodes.collect(), ..OverlayResponse::default() }
    }

    const ORDER: [(u8, u8); 4] = [(10, 1), (60, 2), (128, 1), (200, 3)];

    #[test]
    fn peers_are_ordered_by_first_node_and_shares_are_summed() {
        let answers = [3, 2, 1].map(|of| answer(of, &ORDER)).to_vec();
        let view = RingView::new(None, answers, vec![], vec![]);
        let addresses: Vec<&str> = view.peers.iter().map(|peer| peer.peer.address.as_str()).collect();
        assert_eq!(addresses, ["peer1:1", "peer2:1", "peer3:1"]);
        assert!((view.peers[0].share - (66.0 + 68.0) / 256.0).abs() < 1e-9);
        assert!((view.peers.iter().map(|peer| peer.share).sum::<f64>() - 1.0).abs() < 1e-9);
        assert_eq!(view.shape(), Shape::Ideal);
    }

    #[test]
    fn wrong_neighbour_makes_the_ring_not_ideal() {
        let mut answers = [1, 2, 3].map(|of| answer(of, &ORDER)).to_vec();
        answers[1].nodes[0].successors = vec![node(200, 3)];
        let view = RingView::new(None, answers, vec![], vec![]);
        let Shape::NotIdeal(wrong) = view.shape() else { panic!("{:?}", view.shape()) };
        assert_eq!(wrong.len(), 1);
        assert_eq!((wrong[0].neighbour, wrong[0].expected.as_fraction()), ("successor", 0.5));
    }

    #[test]
    fn silent_peer_leaves_the_shape_unknown() {
        let answers = [1, 2].map(|of| answer(of, &ORDER)).to_vec();
        let silent = Unreachable { peer: peer(3), message: "gone".into() };
        let view = RingView::new(None, answers, vec![silent], vec![]);
        assert_eq!(view.shape(), Shape::Unknown);
    }

    #[test]
    fn single_node_may_name_itself_or_nobody() {
        let mut single = answer(1, &[(9, 1)]);
        assert_eq!(RingView::new(None, vec![single.clone()], vec![], vec![]).shape(), Shape::Ideal);
        single.nodes[0].successors.clear();
        single.nodes[0].predecessor = None;
        assert_eq!(RingView::new(None, vec![single], vec![], vec![]).shape(), Shape::Ideal);
    }
}
