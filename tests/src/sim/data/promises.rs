//! What was promised to clients, and whether it is kept.

use std::{collections::BTreeMap, time::Duration};

use dht_core::{
    hlc::Timestamp,
    record::{Record, RecordKey, Version},
    replication::eventual::Digests,
};

use crate::sim::World;

/// All writes, and when they were acknowledged.
///
/// Two promises are checked, ten times a second. Nothing acknowledged is ever lost: some disk, of a live peer or of one
/// that is down, has it or a later write. And a replica that answers alone does not deny it for long: for that somebody
/// who is up must have it, nobody may have failed or come back meanwhile, and no link may be cut.
#[derive(Clone, Debug, Default)]
pub struct Promises {
    writes: BTreeMap<RecordKey, BTreeMap<Version, Write>>,
    /// When a peer last failed or came back.
    disturbed: Duration,
    next_check: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    deletes: bool,
    acknowledged: Option<Duration>,
}

impl Promises {
    /// The keys that were written to.
    pub fn keys(&self) -> impl Iterator<Item = &RecordKey> {
        self.writes.keys()
    }

    /// How many writes were acknowledged.
    #[must_use]
    pub fn count(&self) -> usize {
        let acknowledged =
            |writes: &BTreeMap<_, Write>| writes.values().filter(|write| write.acknowledged.is_some()).count();
        self.writes.values().map(acknowledged).sum()
    }

    /// The newest write of a key that was acknowledged by the time `until`.
    fn newest(&self, at: &RecordKey, until: Duration) -> Option<Version> {
        let in_time = |write: &Write| write.acknowledged.is_some_and(|acknowledged| acknowledged <= until);
        self.writes.get(at)?.iter().rev().find(|(_, write)| in_time(write)).map(|(version, _)| *version)
    }

    /// Whether the write was deleted before the horizon, or is a deletion itself.
    fn is_forgotten(&self, at: &RecordKey, version: Version, horizon: Timestamp) -> bool {
        let later = self.writes.get(at).into_iter().flat_map(|writes| writes.range(version..));
        later.into_iter().any(|(version, write)| write.deletes && version.time < horizon)
    }

    pub(in crate::sim) fn disturbed(&mut self, now: Duration) {
        self.disturbed = now;
    }

    pub(super) fn written(&mut self, at: &RecordKey, record: &Record) {
        let write = Write { deletes: record.value().is_none(), acknowledged: None };
        self.writes.entry(at.clone()).or_default().insert(record.version, write);
    }

    pub(super) fn acknowledged(&mut self, at: &RecordKey, version: Version, now: Duration) {
        let write = self.writes.get_mut(at).and_then(|writes| writes.get_mut(&version));
        if let Some(write) = write {
            write.acknowledged.get_or_insert(now);
        }
    }
}

impl World {
    /// Whether everything that was acknowledged is with some other live peer too.
    #[must_use]
    pub fn can_do_without(&self, host: usize) -> bool {
        let others = || self.live().map(|(other, _)| other).filter(|other| *other != host);
        self.promises.keys().all(|at| {
            let newest = self.promises.newest(at, self.now);
            newest.is_none_or(|newest| others().any(|other| self.keeps(other, at, newest)))
        })
    }

    pub(in crate::sim) fn check_promises(&mut self) {
        if self.now < self.promises.next_check || self.violation.is_some() {
            return;
        }
        self.promises.next_check = self.now + CHECK_EVERY;
        let broken = self.promises.keys().find_map(|at| self.lost(at).or_else(|| self.denied(at)));
        self.violation = broken.map(|broken| format!("at {:?}, event {}: {broken}", self.now, self.events));
    }

    fn lost(&self, at: &RecordKey) -> Option<String> {
        let newest = self.promises.newest(at, self.now)?;
        let somewhere = (0..self.hosts.len()).any(|host| self.keeps(host, at, newest));
        (!somewhere).then(|| format!("nobody has the acknowledged write {newest:?} of {at:?}"))
    }

    fn denied(&self, at: &RecordKey) -> Option<String> {
        let due = self.now.checked_sub(self.config.data.as_ref()?.grace)?;
        let newest = self.promises.newest(at, due).filter(|_| self.promises.disturbed <= due)?;
        let lacks = |host: usize| {
            let data = self.hosts[host].data.as_ref()?;
            let slot = data.store.slot_of(&at.key);
            let member = data.group(slot)?.contains(&self.hosts[host].id);
            (member && data.synced(slot) && !self.keeps(host, at, newest)).then_some(slot)
        };
        let (host, slot) = self.live().find_map(|(host, _)| Some((host, lacks(host)?)))?;
        Some(format!("host {host} answers alone for slot {slot} and lacks the write {newest:?} of {at:?}"))
    }

    /// The host has the write or a later one; a deletion may be forgotten where there is nothing left of the key.
    fn keeps(&self, host: usize, at: &RecordKey, version: Version) -> bool {
        let Some(store) = self.hosts[host].data.as_ref().map(|data| &data.store) else { return false };
        match store.read(at) {
            Some(record) => record.version >= version,
            None => self.promises.is_forgotten(at, version, store.horizon(store.slot_of(&at.key))),
        }
    }
}

/// Often enough: what is broken stays so for long.
const CHECK_EVERY: Duration = Duration::from_millis(100);
