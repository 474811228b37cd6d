//! Descriptions of a small ring.

use dhtctl::proto::{Finger, KnownPeer, Mode, Node, NodeState, Peer, Ring};

pub(crate) fn known(peer: &Peer) -> KnownPeer {
    KnownPeer { peer: Some(peer.clone()), alive: true, round_trip_us: 250 }
}

pub(crate) fn peer(index: u8, address: &str) -> Peer {
    Peer { id: vec![index; 16].into(), address: address.into(), incarnation: 1, nodes: 2, leaving: false }
}

pub(super) fn ring() -> Ring {
    Ring { id: vec![7; 16].into(), replicas: 3, slot_bits: 10, mode: Mode::Eventual.into() }
}

/// Node `place` of the ring, 1/16 of the circle after the one before.
pub(super) fn node(place: u8, peer: u8, address: &str) -> Node {
    let mut id = vec![0; 20];
    id[0] = place * 16;
    Node { id: id.into(), peer_id: vec![peer; 16].into(), index: place.into(), address: address.to_owned() }
}

pub(super) fn state_of(index: usize, nodes: &[Node]) -> NodeState {
    let at = |offset: usize| nodes[(index + offset) % nodes.len()].clone();
    NodeState {
        node: Some(at(0)),
        member: true,
        predecessor: Some(at(nodes.len() - 1)),
        successors: vec![at(1), at(2)],
        fingers: vec![Finger { bit: 156, node: Some(at(1)) }, Finger { bit: 157, node: Some(at(2)) }],
    }
}
