//! What a peer keeps on disk of its membership, so that it finds back into its ring from the data directory alone.

use dht_core::{
    overlay::{Peer, Ring, RingId, Saved},
    ring::{PeerId, SlotBits},
};
use serde::{Deserialize, Serialize};

use crate::storage::{DataDir, DataDirError, StateFile};

/// `ring.json`: the ring that the data directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingFile {
    /// 32 hexadecimal digits.
    pub ring_id: String,
    /// k.
    pub replicas: usize,
    /// b.
    pub slot_bits: u32,
    /// The mode of the keyspace `default`.
    pub mode: String,
    /// The peer has handed everything over and left; its id is used up.
    #[serde(default)]
    pub departed: bool,
}

/// `peers.json`: whom the peer knew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PeersFile {
    seeds: Vec<String>,
    peers: Vec<PeerEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerEntry {
    id: String,
    address: String,
    incarnation: u64,
    nodes: u32,
}

/// Reads and writes a peer's membership.
pub struct Membership;

impl Membership {
    /// Whether the directory's peer has left its ring for good.
    ///
    /// # Errors
    /// If the file can't be read or does not say what it should.
    pub fn has_departed(dir: &DataDir) -> Result<bool, DataDirError> {
        let ring: Option<RingFile> = dir.read_json(StateFile::Ring)?;
        Ok(ring.is_some_and(|ring| ring.departed))
    }

    /// What was saved, if the directory belongs to a ring.
    ///
    /// # Errors
    /// If a file can't be read or does not say what it should.
    pub fn load(dir: &DataDir) -> Result<Option<Saved>, DataDirError> {
        let ring: Option<RingFile> = dir.read_json(StateFile::Ring)?;
        let Some(ring) = ring.as_ref().and_then(RingFile::ring) else { return Ok(None) };
        let known: PeersFile = dir.read_json(StateFile::Peers)?.unwrap_or_default();
        let peers = known.peers.iter().filter_map(PeerEntry::peer).collect();
        let seeds = known.seeds.iter().map(|seed| seed.as_str().into()).collect();
        Ok(Some(Saved { ring, peers, seeds }))
    }

    /// Writes which ring the directory belongs to.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn save_ring(dir: &DataDir, ring: &Ring, departed: bool) -> Result<(), DataDirError> {
        let file = RingFile {
            ring_id: PeerId::new(ring.id.0).to_string(),
            replicas: ring.replicas,
            slot_bits: ring.slot_bits.bits(),
            mode: ring.mode.to_string(),
            departed,
        };
        dir.write_json(StateFile::Ring, &file)
    }

    /// Writes whom the peer knows.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn save_peers(dir: &DataDir, saved: &Saved) -> Result<(), DataDirError> {
        let seeds = saved.seeds.iter().map(ToString::to_string).collect();
        let peers = saved.peers.iter().map(PeerEntry::new).collect();
        dir.write_json(StateFile::Peers, &PeersFile { seeds, peers })
    }
}

impl RingFile {
    /// The ring that it names; `None` if it names none.
    #[must_use]
    pub fn ring(&self) -> Option<Ring> {
        // A ring id and a peer id are both 16 bytes in hexadecimal digits.
        let id: PeerId = self.ring_id.parse().ok()?;
        let slot_bits = SlotBits::new(self.slot_bits).ok()?;
        let mode = self.mode.parse().ok()?;
        Some(Ring { id: RingId(*id.as_bytes()), replicas: self.replicas.max(1), slot_bits, mode })
    }
}

impl PeerEntry {
    fn new(peer: &Peer) -> Self {
        let address = peer.address.to_string();
        Self { id: peer.id.to_string(), address, incarnation: peer.incarnation, nodes: peer.nodes }
    }

    fn peer(&self) -> Option<Peer> {
        let (id, address) = (self.id.parse().ok()?, self.address.as_str().into());
        Some(Peer { id, address, incarnation: self.incarnation, nodes: self.nodes, leaving: false })
    }
}
