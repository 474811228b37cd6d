//! Protobuf to domain types and back; nothing else.

mod audit;
mod catalogue;
pub mod chain;
mod founding;
mod names;
mod overlay;
mod replication;

use bytes::Bytes;
use dht_core::{
    hlc::Timestamp,
    overlay::{MAX_NODES, Node, Peer, Ring, RingId},
    record::{Content, Expiry, KeyspaceId, Mode, Record, RecordKey, Version},
    ring::{PeerId, SlotBits},
};
use dhtd_proto::v1;
use thiserror::Error;

pub use audit::{decode_testimony, report, testimony};
pub use catalogue::{catalogue, catalogue_value, decode_catalogue, decode_catalogue_value, keyspace};
pub use overlay::{hop_reason, node, public_ring};

/// One message between two peers, of whichever protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "made, encoded and gone: never stored in numbers")]
pub enum PeerBody {
    /// The overlay's.
    Overlay(dht_core::overlay::Message),
    /// Eventual replication's.
    Replication(dht_core::replication::eventual::Message),
    /// Chain mode's, and which group of slots it is about.
    Chain(u32, dht_core::replication::chain::Message),
    /// Of a founding by several.
    Founding(dht_core::founding::Message),
}

/// The reason by which a peer is refused that was given up for lost by hand.
pub const GIVEN_UP: &str = "GIVEN_UP";

/// A message from another peer that makes no sense: a bug there, or not a dhtd peer at all. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed message: {0}")]
pub struct Malformed(pub &'static str);

/// Encodes a message between peers. `receiver` is unknown as long as only an address is.
#[must_use]
pub fn encode(body: &PeerBody, receiver: Option<&Peer>) -> v1::PeerMessage {
    match body {
        PeerBody::Overlay(message) => overlay::encode(message, receiver),
        PeerBody::Replication(message) => replication::encode(message),
        PeerBody::Chain(group, message) => {
            let body = v1::peer_message::Body::Chain(chain::message(*group, message));
            v1::PeerMessage { peers: Vec::new(), body: Some(body) }
        }
        PeerBody::Founding(message) => v1::PeerMessage { peers: Vec::new(), body: Some(founding::encode(message)) },
    }
}

/// Decodes a message from `sender`.
///
/// # Errors
/// If a field is missing or out of range.
pub fn decode(sender: &Peer, message: v1::PeerMessage) -> Result<PeerBody, Malformed> {
    use v1::peer_message::Body;
    match message.body {
        Some(Body::Compare(_) | Body::Compared(_) | Body::Pushed(_)) => {
            replication::decode(message).map(PeerBody::Replication)
        }
        Some(Body::Chain(message)) => {
            chain::decode_message(message).map(|(group, message)| PeerBody::Chain(group, message))
        }
        Some(body @ (Body::FoundingWait(_) | Body::FoundingDone(_))) => founding::decode(body).map(PeerBody::Founding),
        _ => overlay::decode(sender, message).map(PeerBody::Overlay),
    }
}

/// A peer's description as clients and peers see it.
#[must_use]
pub fn peer(peer: &Peer) -> v1::Peer {
    v1::Peer {
        id: Bytes::copy_from_slice(peer.id.as_bytes()),
        address: peer.address.to_string(),
        incarnation: peer.incarnation,
        nodes: peer.nodes,
        leaving: peer.leaving,
    }
}

/// Reads a peer's description.
///
/// # Errors
/// If the id or the address is no such thing, or it claims too many nodes.
pub fn decode_peer(peer: &v1::Peer) -> Result<Peer, Malformed> {
    if peer.nodes > MAX_NODES {
        return Err(Malformed("a peer claims too many nodes"));
    }
    check_address(&peer.address)?;
    Ok(Peer {
        id: peer_id(&peer.id)?,
        address: peer.address.as_str().into(),
        incarnation: peer.incarnation,
        nodes: peer.nodes,
        leaving: peer.leaving,
    })
}

fn check_address(address: &str) -> Result<(), Malformed> {
    if address.is_empty() || address.len() > 300 {
        return Err(Malformed("a peer's address is empty or too long"));
    }
    Ok(())
}

/// Reads a peer id.
///
/// # Errors
/// If it has not 16 bytes.
pub fn peer_id(bytes: &[u8]) -> Result<PeerId, Malformed> {
    bytes.try_into().map(PeerId::new).map_err(|_| Malformed("a peer id has 16 bytes"))
}

/// Reads a ring id; empty bytes are no ring.
///
/// # Errors
/// If it has neither 0 nor 16 bytes.
pub fn ring_id(bytes: &[u8]) -> Result<Option<RingId>, Malformed> {
    if bytes.is_empty() {
        return Ok(None);
    }
    bytes.try_into().map(|id| Some(RingId(id))).map_err(|_| Malformed("a ring id has 16 bytes"))
}

/// A ring id's bytes; empty for none.
#[must_use]
pub fn ring_id_bytes(ring: Option<&Ring>) -> Bytes {
    ring.map_or_else(Bytes::new, |ring| Bytes::copy_from_slice(&ring.id.0))
}

/// Reads what a ring was founded with.
///
/// # Errors
/// If it could not have been founded so.
pub fn decode_ring(ring: &v1::Ring) -> Result<Ring, Malformed> {
    let id = ring_id(&ring.id)?.ok_or(Malformed("a ring without an id"))?;
    let slot_bits = SlotBits::new(ring.slot_bits).map_err(|_| Malformed("slot bits out of range"))?;
    let replicas = usize::try_from(ring.replicas).unwrap_or(0);
    if replicas == 0 {
        return Err(Malformed("a ring with no replicas"));
    }
    Ok(Ring { id, replicas, slot_bits, mode: decode_mode(ring.mode())? })
}

/// A mode as clients and peers see it.
#[must_use]
pub fn mode(mode: Mode) -> v1::Mode {
    match mode {
        Mode::Chain => v1::Mode::Chain,
        Mode::Eventual => v1::Mode::Eventual,
    }
}

/// Reads a mode.
///
/// # Errors
/// If none is named.
pub fn decode_mode(mode: v1::Mode) -> Result<Mode, Malformed> {
    match mode {
        v1::Mode::Chain => Ok(Mode::Chain),
        v1::Mode::Eventual => Ok(Mode::Eventual),
        v1::Mode::Unspecified => Err(Malformed("a mode is missing")),
    }
}

/// A version as clients and peers see it.
#[must_use]
pub fn version(version: Version) -> v1::Version {
    v1::Version { clock: version.time.to_bits(), peer_id: Bytes::copy_from_slice(version.peer.as_bytes()) }
}

/// Reads a version.
///
/// # Errors
/// If it is missing or its peer id is none.
pub fn decode_version(version: Option<&v1::Version>) -> Result<Version, Malformed> {
    let version = version.ok_or(Malformed("a record without a version"))?;
    Ok(Version { time: Timestamp::from_bits(version.clock), peer: peer_id(&version.peer_id)? })
}

/// A stored record on its way to another replica.
#[must_use]
pub fn stored_record(at: &RecordKey, record: &Record) -> v1::StoredRecord {
    v1::StoredRecord {
        keyspace: at.keyspace.0,
        key: at.key.clone(),
        version: Some(version(record.version)),
        replaced: record.replaced.to_bits(),
        value: record.value().cloned(),
        expires_at_ms: expires_at(record.expiry()),
    }
}

/// When something expires; 0: never.
#[must_use]
pub fn expires_at(expiry: Option<Expiry>) -> u64 {
    expiry.map_or(0, |Expiry(millis)| millis)
}

/// Reads when something expires.
#[must_use]
pub fn decode_expiry(millis: u64) -> Option<Expiry> {
    (millis > 0).then_some(Expiry(millis))
}

/// What is left at this time of a time to live, in milliseconds; 0: it has no end.
#[must_use]
pub fn time_left(expiry: Option<Expiry>, wall_millis: u64) -> u64 {
    expiry.map_or(0, |Expiry(millis)| millis.saturating_sub(wall_millis).max(1))
}

/// When a time to live ends that begins now.
#[must_use]
pub fn expiry(ttl_ms: u64, wall_millis: u64) -> Option<Expiry> {
    decode_expiry(ttl_ms).map(|Expiry(ttl)| Expiry(ttl.saturating_add(wall_millis)))
}

/// What a write puts where a key was: a tombstone, if there is no value.
#[must_use]
pub fn content(value: Option<Bytes>, expiry: Option<Expiry>) -> Content {
    match (value, expiry) {
        (Some(value), Some(expiry)) => Content::Expiring(value, expiry),
        (Some(value), None) => Content::Value(value),
        (None, _) => Content::Tombstone,
    }
}

/// Reads a stored record.
///
/// # Errors
/// If its version is missing or its key is empty or too long.
pub fn decode_stored_record(stored: v1::StoredRecord) -> Result<(RecordKey, Record), Malformed> {
    let version = decode_version(stored.version.as_ref())?;
    let content = content(stored.value, decode_expiry(stored.expires_at_ms));
    Ok((
        record_key(stored.keyspace, stored.key)?,
        Record { version, replaced: Timestamp::from_bits(stored.replaced), content },
    ))
}

fn record_key(keyspace: u32, key: Bytes) -> Result<RecordKey, Malformed> {
    if key.is_empty() || key.len() > dhtd_proto::MAX_KEY_BYTES {
        return Err(Malformed("a key is empty or too long"));
    }
    Ok(RecordKey { keyspace: KeyspaceId(keyspace), key })
}

/// A node for a peer message: a position in its list of peers.
fn node_of(peers: &[Peer], reference: Option<v1::NodeRef>) -> Result<Node, Malformed> {
    let reference = reference.ok_or(Malformed("a node is missing"))?;
    if reference.index >= MAX_NODES {
        return Err(Malformed("a node's index is out of range"));
    }
    let peer = peer_at(peers, reference.peer)?;
    Ok(Node::of(peer.id, reference.index))
}

fn peer_at(peers: &[Peer], position: u32) -> Result<&Peer, Malformed> {
    peers.get(position as usize).ok_or(Malformed("a message names a peer that it does not describe"))
}
