//! A simulated peer's disk, as far as it holds chains: changes are there in order, and those that no fsync has covered
//! may be lost from the end.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{Hash, Hasher},
};

use dht_core::{
    Rules,
    record::RecordKey,
    replication::chain::{Change, Entry, Record, Recorded, Snapshot, Stored, StoredLog, Table},
    ring::Slot,
    view::{Acceptor, Epoch, Position},
};

/// The disk of one peer.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    slots: BTreeMap<Slot, OnDisk>,
    durable: BTreeMap<Slot, OnDisk>,
    unsynced: VecDeque<(Slot, Change, bool)>,
    /// Changes that were made durable.
    synced: u64,
}

/// What is on disk about one slot.
#[derive(Clone, Debug, Default, Hash)]
struct OnDisk {
    acceptor: Option<Acceptor>,
    log: Option<Data>,
}

/// The data of a slot.
#[derive(Clone, Debug, Default, Hash)]
struct Data {
    applied: Position,
    records: BTreeMap<RecordKey, Record>,
    recorded: BTreeMap<(u128, u64), Recorded>,
    pending: Vec<Entry>,
}

impl Data {
    fn apply(&mut self, entries: Vec<Entry>, first_kept: u64) {
        for entry in entries {
            self.pending.retain(|pending| pending.position.seq > entry.position.seq);
            self.applied = entry.position;
            match entry.result(self.records.get(&entry.at).cloned()) {
                Some(record) => drop(self.records.insert(entry.at.clone(), record)),
                None => drop(self.records.remove(&entry.at)),
            }
            if let Some(request) = entry.request {
                let recorded = Recorded { request, seq: entry.position.seq, outcome: entry.outcome };
                self.recorded.insert((request.client, request.sequence), recorded);
            }
        }
        self.recorded.retain(|_, recorded| recorded.seq >= first_kept);
    }
}

impl OnDisk {
    fn store(&mut self, change: Change, replaces: bool) {
        match change {
            Change::Acceptor(acceptor) => self.acceptor = Some(acceptor),
            Change::Append(entries) => self.log.get_or_insert_default().pending.extend(entries),
            Change::Apply { entries, first_kept } => self.log.get_or_insert_default().apply(entries, first_kept),
            Change::Install { acceptor, entries, keeps_log } => {
                self.acceptor = Some(acceptor);
                // A recovery may begin with nothing.
                let kept = keeps_log.then(|| self.log.take().unwrap_or_default());
                self.log = kept.map(|mut log| {
                    log.apply(entries, 0);
                    log.pending.clear();
                    log
                });
            }
            Change::Load(snapshot) => {
                let before = self.log.take().filter(|_| !replaces).map(|log| log.records);
                let mut records = before.unwrap_or_default();
                records.extend(snapshot.records);
                let recorded = snapshot.recorded.into_iter();
                let recorded = recorded.map(|it| ((it.request.client, it.request.sequence), it)).collect();
                self.log = Some(Data { applied: snapshot.applied, records, recorded, pending: Vec::new() });
            }
            Change::Scrap => self.log = None,
        }
    }
}

impl Disk {
    /// Views as a founding, or a test, writes them; who has a log at all has an empty one.
    pub(crate) fn found(&mut self, slots: impl Iterator<Item = (Slot, Stored)>) {
        for (slot, stored) in slots {
            let on_disk = OnDisk { acceptor: Some(stored.acceptor), log: stored.log.map(|_| Data::default()) };
            self.slots.insert(slot, on_disk);
        }
        self.durable = self.slots.clone();
    }

    pub(crate) fn store(&mut self, slot: Slot, change: Change, rules: Rules) {
        if let Change::Install { acceptor, .. } = &change
            && !rules.install_as_a_whole
        {
            self.store_one(slot, Change::Acceptor(acceptor.clone()), rules);
        }
        self.store_one(slot, change, rules);
    }

    fn store_one(&mut self, slot: Slot, change: Change, rules: Rules) {
        let replaces = rules.transfers_replace;
        self.slots.entry(slot).or_default().store(change.clone(), replaces);
        self.unsynced.push_back((slot, change, replaces));
    }

    pub(crate) fn stored_so_far(&self) -> u64 {
        self.synced + self.unsynced.len() as u64
    }

    /// So many changes in all are durable.
    pub(crate) fn synced(&mut self, stored: u64) {
        while self.synced < stored
            && let Some((slot, change, replaces)) = self.unsynced.pop_front()
        {
            self.durable.entry(slot).or_default().store(change, replaces);
            self.synced += 1;
        }
    }

    /// How many changes no fsync has covered.
    pub(crate) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// The disk keeps so many of the changes that no fsync has covered.
    pub(crate) fn crash(&mut self, kept: usize) {
        self.synced(self.synced + kept as u64);
        self.unsynced.clear();
        self.slots = self.durable.clone();
    }

    /// What a process finds when it starts.
    pub(crate) fn stored(&self) -> Vec<(Slot, Stored)> {
        let stored = |(slot, on_disk): (&Slot, &OnDisk)| {
            let log = on_disk.log.as_ref().map(|log| StoredLog {
                applied: log.applied,
                recorded: log.recorded.values().copied().collect(),
                pending: log.pending.clone(),
            });
            Some((*slot, Stored { acceptor: on_disk.acceptor.clone()?, log }))
        };
        self.slots.iter().filter_map(stored).collect()
    }

    pub(crate) fn snapshot(&self, slot: Slot, epoch: Epoch) -> Option<Snapshot> {
        let log = self.slots.get(&slot)?.log.as_ref()?;
        let records = log.records.iter().map(|(at, record)| (at.clone(), record.clone())).collect();
        let recorded = log.recorded.values().copied().collect();
        Some(Snapshot { epoch, applied: log.applied, records, recorded })
    }

    pub(crate) fn record(&self, slot: Slot, at: &RecordKey) -> Option<Record> {
        self.slots.get(&slot)?.log.as_ref()?.records.get(at).cloned()
    }

    /// The slot's table.
    #[must_use]
    pub fn records(&self, slot: Slot) -> Option<&BTreeMap<RecordKey, Record>> {
        Some(&self.slots.get(&slot)?.log.as_ref()?.records)
    }
}

/// How many changes were ever made decides nothing.
impl Hash for Disk {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (&self.durable, &self.unsynced).hash(hasher);
    }
}

impl Table for Disk {
    fn get(&self, slot: Slot, at: &RecordKey) -> Option<Record> {
        self.record(slot, at)
    }
}
