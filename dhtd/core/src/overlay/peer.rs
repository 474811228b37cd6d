//! What is said of peers, nodes and rings.

use std::sync::Arc;

use crate::{
    record::Mode,
    ring::{Id, PeerId, SlotBits},
};

/// One `dhtd` process as others describe it. Of two descriptions the one of the later incarnation holds; within an
/// incarnation `nodes` only grows and `leaving` only becomes true.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its name for life.
    pub id: PeerId,
    /// HOST:PORT under which it is reached.
    pub address: Arc<str>,
    /// Grows at every start.
    pub incarnation: u64,
    /// How many of its v nodes are members by now: those with indices `0..nodes`. They join in this order.
    pub nodes: u32,
    /// It is handing over its data and will go: home groups are made without it.
    pub leaving: bool,
}

/// One place of a peer on the circle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// SHA-1(peer, index). Never taken from the wire, always computed: nobody can claim a foreign place.
    pub id: Id,
    /// The peer that hosts it.
    pub peer: PeerId,
    /// Which of the peer's nodes it is.
    pub index: u32,
}

impl Node {
    /// The `index`-th node of a peer.
    #[must_use]
    pub fn of(peer: PeerId, index: u32) -> Self {
        Self { id: Id::of_node(peer, index), peer, index }
    }
}

/// Names one ring for good: 16 random bytes, drawn when it was founded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingId(pub [u8; 16]);

/// What a ring was founded with, for good but for k; the same at all its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ring {
    /// Its name.
    pub id: RingId,
    /// k: copies of each key. The catalogue says how many there are now, once it was changed.
    pub replicas: usize,
    /// b: the circle is divided into 2^b slots.
    pub slot_bits: SlotBits,
    /// How the keyspace `default` is replicated.
    pub mode: Mode,
}

/// How often a node index may be claimed: more than any peer hosts, few enough that nobody's memory suffers.
pub const MAX_NODES: u32 = 1024;
