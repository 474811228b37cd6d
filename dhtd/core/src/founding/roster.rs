//! What is founded, and by whom.

use std::{collections::BTreeMap, fmt, sync::Arc};

use sha1::{Digest, Sha1};

use super::Candidate;
use crate::{
    overlay::{Ring, RingId},
    record::Mode,
    ring::{PeerId, SlotBits},
};

/// N is this at most: everybody hears of everybody, and beyond that a ring should grow by joining.
pub const MOST_EXPECTED: usize = 1000;

/// What a peer was told to found, and with how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// N, in 1..=[`MOST_EXPECTED`].
    pub peers: usize,
    /// k.
    pub replicas: usize,
    /// b.
    pub slot_bits: SlotBits,
    /// Of the keyspace `default`.
    pub mode: Mode,
}

/// As flags of the daemon.
impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peers, replicas, slot_bits, mode } = self;
        write!(f, "--expect {peers} --replicas {replicas} --slot-bits {} --mode {mode}", slot_bits.bits())
    }
}

/// The peers that found a ring together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Roster {
    /// What they found.
    pub terms: Terms,
    /// Who they are, and where each was when this was fixed.
    pub members: BTreeMap<PeerId, Arc<str>>,
}

impl Roster {
    /// These peers, for these terms.
    #[must_use]
    pub fn new(terms: Terms, members: impl IntoIterator<Item = Candidate>) -> Self {
        Self { terms, members: members.into_iter().map(|candidate| (candidate.id, candidate.address)).collect() }
    }

    /// Its members.
    pub fn candidates(&self) -> impl Iterator<Item = Candidate> {
        self.members.iter().map(|(id, address)| Candidate { id: *id, address: address.clone() })
    }

    /// Who founds the ring: the lowest; the others join it.
    #[must_use]
    pub fn founder(&self) -> Option<PeerId> {
        self.members.keys().next().copied()
    }

    /// Whether it names the same peers for the same; they may have moved.
    #[must_use]
    pub fn is_as(&self, other: &Self) -> bool {
        self.terms == other.terms && self.members.keys().eq(other.members.keys())
    }

    /// The ring that they found. Its id follows from who they are: whoever founds it twice has founded the same.
    #[must_use]
    pub fn ring(&self) -> Ring {
        let Terms { replicas, slot_bits, mode, .. } = self.terms;
        let mut hash = Sha1::new();
        hash.update(b"dhtd founding");
        hash.update(u64::try_from(replicas).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(slot_bits.bits().to_be_bytes());
        hash.update(mode.to_string());
        self.members.keys().for_each(|id| hash.update(id.as_bytes()));
        let hash: [u8; 20] = hash.finalize().into();
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        Ring { id: RingId(id), replicas, slot_bits, mode }
    }

    /// Whether it names as many as its terms say.
    pub(super) fn is_whole(&self) -> bool {
        self.members.len() == self.terms.peers
    }
}
