//! How a peer stands in a slot, for whoever asks.

use std::time::Duration;

use super::{State, log::Table, replica::Replica};
use crate::{
    record::RecordKey,
    ring::{PeerId, Slot},
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
    /// Two recoveries with the same counter have started the slot again: it is sealed until there is a later one.
    pub disputed: bool,
    /// So long ago most electors stood by the view that it goes by, for certain: everything that was acknowledged before is
    /// in its log. `None` if it is no member of that view, or was restarted since.
    pub certain_for: Option<Duration>,
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
    pub fn report(&self, now: Duration, slot: Slot) -> Option<Report> {
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
            disputed: replica.acceptor.rival.is_some(),
            certain_for: self.certain_for(now, slot, replica),
            log: replica.log.as_ref().map(extent),
        })
    }

    /// How this peer stands in all slots that it knows anything of.
    pub fn reports(&self, now: Duration) -> impl Iterator<Item = Report> {
        self.replicas.keys().filter_map(move |slot| self.report(now, *slot))
    }

    /// A majority has been there at the time by which the slowest of the quickest majority was heard.
    fn certain_for(&self, now: Duration, slot: Slot, replica: &Replica) -> Option<Duration> {
        let (view, me) = (replica.view(), self.me.peer);
        let stood = |peer: &PeerId| match *peer == me {
            true => Some(replica.sealed_since.unwrap_or(now)),
            false => self.leases.stood_by(*peer, slot, view.epoch),
        };
        let mut times: Vec<Duration> = view.electors.iter().filter_map(stood).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        let time = times.get(view.electors.len() / 2).filter(|_| view.has(me))?;
        Some(now.saturating_sub(*time))
    }

    /// How a key stands in this peer's copy of its slot, if it has one.
    #[must_use]
    pub fn report_key(&self, slot: Slot, at: &RecordKey, table: &impl Table) -> KeyReport {
        let Some(log) = self.log(slot) else { return KeyReport::default() };
        KeyReport { applied: table.get(slot, at).map(|record| record.revision), pending: log.dirty(at) }
    }
}
