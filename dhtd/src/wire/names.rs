//! The peers that one message names, by position.

use std::collections::BTreeMap;

use dht_core::{
    overlay::{Node, Peer},
    ring::PeerId,
};
use dhtd_proto::v1;

/// Collects the descriptions of peers while a message is encoded.
pub(super) struct Names {
    described: Vec<v1::Peer>,
    positions: BTreeMap<PeerId, u32>,
}

impl Names {
    pub(super) fn new<'a>(peers: impl IntoIterator<Item = &'a Peer>) -> Self {
        let mut names = Self { described: Vec::new(), positions: BTreeMap::new() };
        for peer in peers {
            let position = u32::try_from(names.described.len()).unwrap_or(u32::MAX);
            if names.positions.insert(peer.id, position).is_none() {
                names.described.push(super::peer(peer));
            }
        }
        names
    }

    /// A peer of which nothing is known has no position: whoever reads the message must leave it out.
    pub(super) fn position(&self, peer: PeerId) -> Option<u32> {
        self.positions.get(&peer).copied()
    }

    pub(super) fn node(&self, node: &Node) -> Option<v1::NodeRef> {
        self.position(node.peer).map(|peer| v1::NodeRef { peer, index: node.index })
    }

    pub(super) fn nodes(&self, nodes: &[Node]) -> Vec<v1::NodeRef> {
        nodes.iter().filter_map(|node| self.node(node)).collect()
    }

    pub(super) fn into_described(self) -> Vec<v1::Peer> {
        self.described
    }
}
