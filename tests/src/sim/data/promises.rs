//! What was promised to clients, and whether it is kept.

use std::{collections::BTreeMap, time::Duration};

use dht_core::record::{Record, RecordKey, Version};

use crate::sim::World;

/// All acknowledged writes.
///
/// Two promises are checked, ten times a second. Nothing acknowledged is ever lost: some disk, of a live peer or of one
/// that is down, has it or a later write. And a replica that answers alone does not deny it for long: for that somebody
/// who is up must have it, nobody may have failed or come back meanwhile, and no link may be cut.
#[derive(Clone, Debug, Default)]
pub struct Promises {
    writes: BTreeMap<RecordKey, BTreeMap<Version, Duration>>,
    /// When a peer last failed or came back.
    disturbed: Duration,
    next_check: Duration,
}

impl Promises {
    /// The keys of which something was acknowledged.
    pub fn keys(&self) -> impl Iterator<Item = &RecordKey> {
        self.writes.keys()
    }

    /// How many writes were acknowledged.
    #[must_use]
    pub fn count(&self) -> usize {
        self.writes.values().map(BTreeMap::len).sum()
    }

    /// The newest write of a key that was acknowledged by the time `until`.
    #[must_use]
    pub fn newest(&self, at: &RecordKey, until: Duration) -> Option<Version> {
        let writes = self.writes.get(at)?;
        writes.iter().rev().find(|(_, acknowledged)| **acknowledged <= until).map(|(version, _)| *version)
    }

    pub(in crate::sim) fn disturbed(&mut self, now: Duration) {
        self.disturbed = now;
    }

    pub(super) fn acknowledged(&mut self, at: RecordKey, record: &Record, now: Duration) {
        self.writes.entry(at).or_default().entry(record.version).or_insert(now);
    }
}

impl World {
    /// Whether everything that was acknowledged is with some other live peer too.
    #[must_use]
    pub fn can_do_without(&self, host: usize) -> bool {
        let others = || self.live().map(|(other, _)| other).filter(|other| *other != host);
        self.promises.keys().all(|at| {
            let newest = self.promises.newest(at, self.now);
            others().any(|other| self.version_at(other, at) >= newest)
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
        let newest = self.promises.newest(at, self.now);
        let somewhere = (0..self.hosts.len()).any(|host| self.version_at(host, at) >= newest);
        (!somewhere).then(|| format!("nobody has the acknowledged write {newest:?} of {at:?}"))
    }

    fn denied(&self, at: &RecordKey) -> Option<String> {
        let due = self.now.checked_sub(self.config.data.as_ref()?.grace)?;
        let newest = self.promises.newest(at, due).filter(|_| self.promises.disturbed <= due)?;
        let lacks = |host: usize| {
            let data = self.hosts[host].data.as_ref()?;
            let slot = data.store.slot_of(&at.key);
            let member = data.group(slot)?.contains(&self.hosts[host].id);
            (member && data.synced(slot) && self.version_at(host, at) < Some(newest)).then_some(slot)
        };
        let (host, slot) = self.live().find_map(|(host, _)| Some((host, lacks(host)?)))?;
        Some(format!("host {host} answers alone for slot {slot} and lacks the write {newest:?} of {at:?}"))
    }

    fn version_at(&self, host: usize, at: &RecordKey) -> Option<Version> {
        self.hosts[host].data.as_ref()?.store.read(at).map(|record| record.version)
    }
}

/// Often enough: what is broken stays so for long.
const CHECK_EVERY: Duration = Duration::from_millis(100);
