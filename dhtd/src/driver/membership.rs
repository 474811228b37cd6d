//! What a peer keeps on disk of its membership, so that it finds back into its ring from the data directory alone.

use dht_core::{
    founding::{Candidate, Roster, Terms},
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
    /// The peer is about to write the ring's beginning to its store: whatever is there, it does so again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub founding: bool,
}

/// How a peer stands to the ring that its data directory belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It founds it: nobody has heard of it yet.
    Founding,
    /// It is a member, or was when it stopped.
    Member,
    /// It has left for good.
    Departed,
}

/// `founding.json`: with whom the peer founds a ring. It is never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FoundingFile {
    replicas: usize,
    slot_bits: u32,
    mode: String,
    members: Vec<FoundingMember>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FoundingMember {
    id: String,
    address: String,
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
        let Some(ring) = ring.filter(|ring| !ring.founding).as_ref().and_then(RingFile::ring) else { return Ok(None) };
        let known: PeersFile = dir.read_json(StateFile::Peers)?.unwrap_or_default();
        let peers = known.peers.iter().filter_map(PeerEntry::peer).collect();
        let seeds = known.seeds.iter().map(|seed| seed.as_str().into()).collect();
        Ok(Some(Saved { ring, peers, seeds }))
    }

    /// The ring that the directory's peer was about to found when it stopped.
    ///
    /// # Errors
    /// If the file can't be read or does not say what it should.
    pub fn half_founded(dir: &DataDir) -> Result<Option<Ring>, DataDirError> {
        let ring: Option<RingFile> = dir.read_json(StateFile::Ring)?;
        Ok(ring.filter(|ring| ring.founding).as_ref().and_then(RingFile::ring))
    }

    /// Writes which ring the directory belongs to.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn save_ring(dir: &DataDir, ring: &Ring, standing: Standing) -> Result<(), DataDirError> {
        let file = RingFile {
            ring_id: PeerId::new(ring.id.0).to_string(),
            replicas: ring.replicas,
            slot_bits: ring.slot_bits.bits(),
            mode: ring.mode.to_string(),
            departed: standing == Standing::Departed,
            founding: standing == Standing::Founding,
        };
        dir.write_json(StateFile::Ring, &file)
    }

    /// With whom the peer founds a ring, if that was settled.
    ///
    /// # Errors
    /// If the file can't be read or does not say what it should.
    pub fn roster(dir: &DataDir) -> Result<Option<Roster>, DataDirError> {
        let Some(file) = dir.read_json::<FoundingFile>(StateFile::Founding)? else { return Ok(None) };
        let roster = file.roster();
        roster.map(Some).ok_or_else(|| dir.damaged(StateFile::Founding, "it names no peers".to_owned()))
    }

    /// Writes with whom the peer founds a ring.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn save_roster(dir: &DataDir, roster: &Roster) -> Result<(), DataDirError> {
        dir.write_json(StateFile::Founding, &FoundingFile::new(roster))
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

impl FoundingFile {
    fn new(roster: &Roster) -> Self {
        let Terms { replicas, slot_bits, mode, .. } = roster.terms;
        let member = |it: Candidate| FoundingMember { id: it.id.to_string(), address: it.address.to_string() };
        let members = roster.candidates().map(member).collect();
        Self { replicas, slot_bits: slot_bits.bits(), mode: mode.to_string(), members }
    }

    fn roster(&self) -> Option<Roster> {
        let candidate =
            |it: &FoundingMember| Some(Candidate { id: it.id.parse().ok()?, address: it.address.as_str().into() });
        let members: Vec<Candidate> = self.members.iter().map(candidate).collect::<Option<_>>()?;
        let (slot_bits, mode) = (SlotBits::new(self.slot_bits).ok()?, self.mode.parse().ok()?);
        let terms = Terms { peers: members.len(), replicas: self.replicas, slot_bits, mode };
        (!members.is_empty()).then(|| Roster::new(terms, members))
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
