//! The words of views.

use std::fmt;

use crate::{
    Rules,
    ring::{PeerId, Slot},
};

/// Which history of the slot: it changes only when a majority of electors was lost for good and an operator has started
/// the slot again from what was left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation {
    /// How many recoveries there were.
    pub counter: u32,
    /// The peer that carried out the last one; `None` before the first.
    pub by: Option<PeerId>,
}

/// The number of a view. A later generation is newer whatever the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// Which history it belongs to.
    pub generation: Generation,
    /// Counts the views of a slot from 1.
    pub number: u64,
}

impl Epoch {
    /// What a founding writes.
    pub const FIRST: Self = Self { generation: Generation { counter: 0, by: None }, number: 1 };

    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self { number: self.number + 1, ..self }
    }

    /// Whether this is a newer view than the other. Of two recoveries with the same counter neither is.
    #[must_use]
    pub fn is_newer(self, than: Self, rules: Rules) -> bool {
        if rules.generation_before_epoch {
            self > than && !self.generation.rivals(than.generation)
        } else {
            self.number > than.number
        }
    }
}

/// The place of an entry in a slot's log: the epoch that it was written in and its number in the slot, which users see
/// as the *revision*.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The epoch whose head has appended it.
    pub epoch: Epoch,
    /// Counts the slot's entries from 1, through all epochs.
    pub seq: u64,
}

/// A peer in a chain. Only the process that was listed serves: one that has restarted since does not know what it had
/// sent and promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Which peer.
    pub peer: PeerId,
    /// Which of its processes.
    pub incarnation: u64,
}

/// The number of an attempt at deciding a view; no two attempts share one, whatever view they are about: an answer says
/// only which ballot it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// Grows with each attempt that a process makes about the slot.
    pub round: u64,
    /// Who attempts it. A process that has restarted does not know what it has attempted before.
    pub proposer: Member,
}

/// Who holds a slot's chain-mode data in one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// The slot.
    pub slot: Slot,
    /// Which view it is.
    pub epoch: Epoch,
    /// Head first, tail last.
    pub chain: Vec<Member>,
    /// Who decides the next view. An odd number of peers.
    pub electors: Vec<PeerId>,
    /// Where the history before this epoch ends. What the members have beyond it was never acknowledged.
    pub frontier: Position,
    /// Writes are taken only by a chain of at least so many.
    pub min_in_sync: usize,
}

impl View {
    /// What a founding writes: the founder holds the slot alone, and it is empty.
    #[must_use]
    pub fn founding(slot: Slot, founder: Member) -> Self {
        Self {
            slot,
            epoch: Epoch::FIRST,
            chain: vec![founder],
            electors: vec![founder.peer],
            frontier: Position::default(),
            min_in_sync: 1,
        }
    }

    /// The first of the chain.
    #[must_use]
    pub fn head(&self) -> Option<PeerId> {
        self.chain.first().map(|member| member.peer)
    }

    /// Where in the chain the peer is, in whatever incarnation.
    #[must_use]
    pub fn place(&self, peer: PeerId) -> Option<usize> {
        self.chain.iter().position(|member| member.peer == peer)
    }

    /// The peer before this one.
    #[must_use]
    pub fn upstream(&self, peer: PeerId) -> Option<PeerId> {
        Some(self.chain[self.place(peer)?.checked_sub(1)?].peer)
    }

    /// The peer behind this one.
    #[must_use]
    pub fn downstream(&self, peer: PeerId) -> Option<PeerId> {
        self.chain.get(self.place(peer)? + 1).map(|member| member.peer)
    }

    /// Whether the peer is in the chain.
    #[must_use]
    pub fn has(&self, peer: PeerId) -> bool {
        self.place(peer).is_some()
    }

    /// Chain and electors, each once, the chain first.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> {
        let witnesses = self.electors.iter().copied().filter(|peer| !self.has(*peer));
        self.chain.iter().map(|member| member.peer).chain(witnesses)
    }

    /// Whether so many of the peers are electors that no other such set can do without one of them.
    #[must_use]
    pub fn majority(&self, peers: impl IntoIterator<Item = PeerId>) -> bool {
        let votes = peers.into_iter().filter(|peer| self.electors.contains(peer)).count();
        votes > self.electors.len() / 2
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.generation.counter {
            0 => write!(f, "{}", self.number),
            generation => write!(f, "{generation}.{}", self.number),
        }
    }
}
