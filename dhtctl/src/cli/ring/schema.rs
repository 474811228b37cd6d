//! The ring in JSON. Field names are frozen; ids are hex, shares and places run from 0 to 1.

use dhtctl::{
    id::{Id, hex},
    overlay::{Disagreement, PeerView, Place, RingView, Shape, mode_name, phase_name},
    proto::{Finger, Node, Peer, Ring},
};
use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct RingJson {
    id: String,
    replicas: u32,
    slot_bits: u32,
    slots: Option<u64>,
    mode: &'static str,
}

impl RingJson {
    pub(crate) fn new(ring: &Ring) -> Self {
        Self {
            id: hex(&ring.id),
            replicas: ring.replicas,
            slot_bits: ring.slot_bits,
            slots: 1_u64.checked_shl(ring.slot_bits),
            mode: mode_name(ring.mode()),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct PeerJson {
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) incarnation: u64,
    pub(crate) leaving: bool,
}

impl PeerJson {
    pub(crate) fn new(peer: &Peer) -> Self {
        Self { id: hex(&peer.id), address: peer.address.clone(), incarnation: peer.incarnation, leaving: peer.leaving }
    }
}

/// A node as others name it.
#[derive(Serialize)]
pub(crate) struct NodeJson {
    id: String,
    peer_id: String,
    index: u32,
    address: String,
}

impl NodeJson {
    pub(crate) fn new(node: &Node) -> Self {
        Self { id: hex(&node.id), peer_id: hex(&node.peer_id), index: node.index, address: node.address.clone() }
    }
}

#[derive(Serialize)]
pub(crate) struct OverlayJson {
    ring: Option<RingJson>,
    summary: SummaryJson,
    pub(crate) peers: Vec<PeerRowJson>,
    pub(crate) nodes: Vec<NodeRowJson>,
    unreachable: Vec<SilentJson>,
    taken_for_dead: Vec<PeerJson>,
}

impl OverlayJson {
    pub(crate) fn new(view: &RingView) -> Self {
        let known = view.dead.iter().filter_map(|known| known.peer.as_ref());
        let silent = view.unreachable.iter();
        Self {
            ring: view.ring.as_ref().map(RingJson::new),
            summary: SummaryJson::new(view),
            peers: view.peers.iter().map(PeerRowJson::new).collect(),
            nodes: view.places.iter().map(NodeRowJson::new).collect(),
            unreachable: silent.map(|silent| SilentJson::new(&silent.peer, &silent.message)).collect(),
            taken_for_dead: known.map(PeerJson::new).collect(),
        }
    }
}

#[derive(Serialize)]
struct SummaryJson {
    peers: usize,
    nodes: usize,
    unreachable: usize,
    /// `ideal`, `not_ideal` or `unknown`.
    shape: &'static str,
    disagreements: Vec<DisagreementJson>,
}

impl SummaryJson {
    fn new(view: &RingView) -> Self {
        let (shape, disagreements) = match view.shape() {
            Shape::Ideal => ("ideal", vec![]),
            Shape::Unknown => ("unknown", vec![]),
            Shape::NotIdeal(wrong) => ("not_ideal", wrong.iter().map(DisagreementJson::new).collect()),
        };
        let (peers, nodes, unreachable) = (view.peers.len(), view.places.len(), view.unreachable.len());
        Self { peers, nodes, unreachable, shape, disagreements }
    }
}

#[derive(Serialize)]
struct DisagreementJson {
    node: String,
    neighbour: &'static str,
    named: Option<String>,
    expected: String,
}

impl DisagreementJson {
    fn new(wrong: &Disagreement) -> Self {
        Self {
            node: wrong.node.to_string(),
            neighbour: wrong.neighbour,
            named: wrong.named.map(|id| id.to_string()),
            expected: wrong.expected.to_string(),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct PeerRowJson {
    #[serde(flatten)]
    peer: PeerJson,
    phase: &'static str,
    first_node: Option<String>,
    place: Option<f64>,
    nodes: usize,
    share: f64,
}

impl PeerRowJson {
    fn new(view: &PeerView) -> Self {
        Self {
            peer: PeerJson::new(&view.peer),
            phase: phase_name(view.phase),
            first_node: view.first.map(|id| id.to_string()),
            place: view.first.map(Id::as_fraction),
            nodes: view.joined,
            share: view.share,
        }
    }
}

#[derive(Serialize)]
pub(crate) struct NodeRowJson {
    #[serde(flatten)]
    node: NodeJson,
    place: f64,
    share: f64,
    predecessor: Option<NodeJson>,
    successors: Vec<NodeJson>,
    fingers: Vec<FingerJson>,
}

impl NodeRowJson {
    fn new(place: &Place) -> Self {
        Self {
            node: NodeJson::new(&place.node),
            place: place.id.as_fraction(),
            share: place.share,
            predecessor: place.predecessor.as_ref().map(NodeJson::new),
            successors: place.successors.iter().map(NodeJson::new).collect(),
            fingers: place.fingers.iter().map(FingerJson::new).collect(),
        }
    }
}

#[derive(Serialize)]
struct FingerJson {
    bit: u32,
    node: Option<NodeJson>,
}

impl FingerJson {
    fn new(finger: &Finger) -> Self {
        Self { bit: finger.bit, node: finger.node.as_ref().map(NodeJson::new) }
    }
}

/// A peer that did not answer.
#[derive(Serialize)]
pub(crate) struct SilentJson {
    id: String,
    address: String,
    message: String,
}

impl SilentJson {
    pub(crate) fn new(peer: &Peer, message: &str) -> Self {
        Self { id: hex(&peer.id), address: peer.address.clone(), message: message.to_owned() }
    }
}
