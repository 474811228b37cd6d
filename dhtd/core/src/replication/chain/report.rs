//! How a peer stands in a slot, for whoever asks.

use super::{State, log::Table};
use crate::{
    record::RecordKey,
    ring::Slot,
    view::{Position, View},
};

/// How a peer stands in a slot, as it sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The view that it goes by.
    pub view: View,
    /// It takes no write, serves no read and grants nothing by that view any more, or not yet.
    pub sealed: bool,
    /// It tries to decide a next view, or has been asked to take part in that.
    pub changing: bool,
    /// It copies the slot, to become a member.
    pub copying: bool,
    /// Its log; `None` if it holds no data of the slot.
    pub log: Option<Extent>,
}

/// From where to where a peer has a slot's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The table is the state after this entry.
    pub applied: Position,
    /// The last entry.
    pub last: Position,
    /// Everything up to this entry is known to be committed.
    pub committed: u64,
}

/// How a key stands in a copy of its slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyReport {
    /// The entry that wrote what the table has; `None` if it has nothing.
    pub applied: Option<u64>,
    /// The last entry that is about the key and not applied.
    pub pending: Option<u64>,
}

impl Report {
    /// Whether the copy may serve by this view and has everything up to what is committed in it.
    #[must_use]
    pub fn in_sync(&self, view: &View, committed: u64) -> bool {
        self.view == *view && !self.sealed && self.log.is_some_and(|log| log.last.seq >= committed)
    }
}

impl State {
    /// How this peer stands in the slot; `None` if it knows nothing of it.
    #[must_use]
    pub fn report(&self, slot: Slot) -> Option<Report> {
        let replica = self.replicas.get(&slot)?;
        let extent = |log: &super::Log| Extent {
            applied: log.applied(),
            last: log.last(),
            committed: replica.flow.committed.max(log.applied().seq),
        };
        Some(Report {
            view: replica.view().clone(),
            sealed: replica.acceptor.sealed || replica.installing,
            changing: replica.proposer.is_some() || replica.levelling.is_some() || replica.accepting.is_some(),
            copying: replica.learning.is_some(),
            log: replica.log.as_ref().map(extent),
        })
    }

    /// How a key stands in this peer's copy of its slot, if it has one.
    #[must_use]
    pub fn report_key(&self, slot: Slot, at: &RecordKey, table: &impl Table) -> KeyReport {
        let Some(log) = self.log(slot) else { return KeyReport::default() };
        KeyReport { applied: table.get(slot, at).map(|record| record.revision), pending: log.dirty(at) }
    }
}
