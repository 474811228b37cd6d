//! A slot's log as a replica has it: the end of it, which is not known to be committed, and the outcomes of the last
//! commands. The beginning is the table of applied records, on disk.

use std::collections::{BTreeMap, VecDeque};

use super::entry::{Effect, Entry, Outcome, Record, RequestId};
use crate::{record::RecordKey, view::Position};

/// The table of applied records, kept by the host: the state of each slot after the entry that was applied last.
pub trait Table {
    /// What a key maps to there.
    fn get(&self, slot: crate::ring::Slot, at: &RecordKey) -> Option<Record>;
}

/// The outcome of a command that names itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Recorded {
    /// Which command.
    pub request: RequestId,
    /// The entry that records it.
    pub seq: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// How much of what is applied is remembered for those who copy the slot, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Entries.
    pub entries: usize,
    /// Bytes that they take.
    pub bytes: usize,
}

impl Kept {
    /// Nobody copies it.
    pub const NONE: Self = Self { entries: 0, bytes: 0 };
}

/// The log of one slot.
#[derive(Clone, Debug, Default, Hash)]
pub struct Log {
    /// The table is the state after this entry.
    applied: Position,
    /// Those after it, without a gap.
    pending: VecDeque<Entry>,
    /// How many bytes these take.
    pending_bytes: usize,
    /// Those up to `applied` that somebody who copies the slot may still need.
    recent: VecDeque<Entry>,
    /// How many bytes these take.
    recent_bytes: usize,
    /// The last pending entry of each key.
    dirty: BTreeMap<RecordKey, u64>,
    recorded: BTreeMap<(u128, u64), Recorded>,
    /// The same by the entries that record them.
    recorded_by: BTreeMap<u64, (u128, u64)>,
}

impl Log {
    /// A log whose table is the state after this entry.
    #[must_use]
    pub fn new(applied: Position, recorded: Vec<Recorded>, pending: Vec<Entry>) -> Self {
        let mut log = Self { applied, ..Self::default() };
        recorded.into_iter().for_each(|recorded| log.record(recorded));
        pending.into_iter().for_each(|entry| log.append(entry, true));
        log
    }

    /// The table is the state after this entry.
    #[must_use]
    pub fn applied(&self) -> Position {
        self.applied
    }

    /// The last entry.
    #[must_use]
    pub fn last(&self) -> Position {
        self.pending.back().map_or(self.applied, |entry| entry.position)
    }

    /// How many entries are not applied.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// About how many bytes they take.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// The last pending entry that writes the key.
    #[must_use]
    pub fn dirty(&self, at: &RecordKey) -> Option<u64> {
        self.dirty.get(at).copied()
    }

    /// The entry of this number, if it is pending.
    #[must_use]
    pub fn get(&self, seq: u64) -> Option<&Entry> {
        let first = self.pending.front()?.position.seq;
        self.pending.get(usize::try_from(seq.checked_sub(first)?).ok()?)
    }

    /// Up to so many entries from this number on, and no more after so many bytes; `None` if they are not kept any more.
    #[must_use]
    pub fn from(&self, seq: u64, most: usize, most_bytes: usize) -> Option<Vec<Entry>> {
        let kept = self.recent.front().map_or(self.applied.seq + 1, |entry| entry.position.seq);
        let skipped = usize::try_from(seq.checked_sub(kept)?).ok()?;
        let recent = self.recent.range(skipped.min(self.recent.len())..);
        let pending = self.pending.range(skipped.saturating_sub(self.recent.len()).min(self.pending.len())..);
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let room = bytes < most_bytes;
            bytes += entry.size();
            room
        };
        Some(recent.chain(pending).take(most).take_while(fits).cloned().collect())
    }

    /// Adds an entry at the end. Whether its outcome is to be found from now on.
    pub fn append(&mut self, entry: Entry, records: bool) {
        self.dirty.insert(entry.at.clone(), entry.position.seq);
        if let Some(request) = entry.request.filter(|_| records) {
            self.record(Recorded { request, seq: entry.position.seq, outcome: entry.outcome });
        }
        self.pending_bytes += entry.size();
        self.pending.push_back(entry);
    }

    /// Remembers the outcome of a command.
    pub fn record(&mut self, recorded: Recorded) {
        let name = (recorded.request.client, recorded.request.sequence);
        if let Some(before) = self.recorded.insert(name, recorded) {
            self.recorded_by.remove(&before.seq);
        }
        self.recorded_by.insert(recorded.seq, name);
    }

    /// The entries up to this number are committed: they are taken out, to be applied. Of these and earlier ones, the newest
    /// are remembered for others, as `kept` says. Outcomes of entries that are older than `window` entries are forgotten.
    pub fn apply(&mut self, upto: u64, kept: Kept, window: u64) -> Vec<Entry> {
        let mut applied = Vec::new();
        while self.pending.front().is_some_and(|entry| entry.position.seq <= upto) {
            let Some(entry) = self.pending.pop_front() else { break };
            self.applied = entry.position;
            self.pending_bytes -= entry.size();
            if self.dirty.get(&entry.at) == Some(&entry.position.seq) {
                self.dirty.remove(&entry.at);
            }
            self.recent_bytes += entry.size();
            self.recent.push_back(entry.clone());
            applied.push(entry);
        }
        while self.recent.len() > kept.entries || self.recent_bytes > kept.bytes {
            let Some(entry) = self.recent.pop_front() else { break };
            self.recent_bytes -= entry.size();
        }
        if !applied.is_empty() {
            let first_kept = self.applied.seq.saturating_sub(window) + 1;
            while let Some((_, name)) =
                self.recorded_by.first_entry().filter(|it| *it.key() < first_kept).map(|it| it.remove_entry())
            {
                self.recorded.remove(&name);
            }
        }
        applied
    }

    /// Entries beyond this number never happened.
    pub fn cut(&mut self, upto: u64) {
        self.pending.retain(|entry| entry.position.seq <= upto);
        for name in self.recorded_by.split_off(&(upto + 1)).into_values() {
            self.recorded.remove(&name);
        }
        self.dirty = self.pending.iter().map(|entry| (entry.at.clone(), entry.position.seq)).collect();
        self.pending_bytes = self.pending.iter().map(Entry::size).sum();
    }

    /// All outcomes are forgotten that are not pending: what must never happen.
    pub(super) fn forget_outcomes(&mut self) {
        while let Some((_, name)) =
            self.recorded_by.first_entry().filter(|it| *it.key() <= self.applied.seq).map(|it| it.remove_entry())
        {
            self.recorded.remove(&name);
        }
    }

    /// What came of a command, if it is remembered.
    #[must_use]
    pub fn find(&self, request: &RequestId) -> Option<Recorded> {
        self.recorded.get(&(request.client, request.sequence)).copied()
    }

    /// The outcomes that are remembered.
    pub fn recorded(&self) -> impl Iterator<Item = &Recorded> {
        self.recorded.values()
    }

    /// What the key maps to after the last entry, where the table says `applied`.
    #[must_use]
    pub fn newest(&self, at: &RecordKey, applied: impl FnOnce() -> Option<Record>) -> Option<Record> {
        let writes = |entry: &&Entry| entry.at == *at && entry.effect != Effect::Nothing;
        let last = self.dirty.get(at).and_then(|_| self.pending.iter().rev().find(writes));
        last.map_or_else(applied, |entry| entry.result(None))
    }
}
