//! Writes of clients, and pushes of records that are confirmed once they are on disk.

use std::{collections::BTreeSet, time::Duration};

use dht_core::{
    record::{Content, Record, RecordKey},
    replication::eventual,
    ring::PeerId,
};
use rand::RngExt;

use super::{AfterSync, Call, Data, DataPacket, DataTimer, Process, Write};
use crate::sim::{World, delivery::HostTimer};

impl World {
    /// A client's write, carried out by a host if it takes itself for a replica of a group that is large enough. It is
    /// among the promises once so many replicas have it on disk. Returns whether the host took it.
    pub fn write(&mut self, host: usize, at: RecordKey, content: Content, min_durable: usize) -> bool {
        self.last_call += 1;
        let (write, wall, me) = (self.last_call, self.wall_clock(host), self.hosts[host].id);
        let Some(Data { store, process: Some(process) }) = &mut self.hosts[host].data else { return false };
        let slot = store.slot_of(&at.key);
        let home = process.routes.home_of(slot).map(|home| &home.group[..]).unwrap_or_default();
        let group: Vec<PeerId> = home.iter().filter(|peer| process.routes.peer(**peer).is_some()).copied().collect();
        if !group.contains(&me) || group.len() < min_durable {
            return false;
        }
        store.wall = wall;
        let record = store.write(&at, content);
        self.promises.written(&at, &record);
        let version = record.version;
        let records = vec![(at.clone(), record)];
        process.writes.insert(write, Write { at, version, min_durable, here: false, durable: BTreeSet::new() });
        for to in group.into_iter().filter(|peer| *peer != me) {
            self.push(host, to, Call::Push { write, slot, to }, records.clone());
        }
        self.sync_then(host, AfterSync::Write(write));
        true
    }

    /// Sends records to another peer, which confirms when it has them on disk.
    pub(super) fn push(&mut self, host: usize, to: PeerId, call: Call, records: Vec<(RecordKey, Record)>) {
        self.last_call += 1;
        let id = self.last_call;
        let Some(process) = self.process(host) else { return };
        process.calls.insert(id, call);
        let patience = match call {
            Call::Push { .. } => REPLICA_TIME,
            Call::Transfer { .. } => PUSH_TIME_OUT,
        };
        self.set_timer(host, patience, HostTimer::Data(DataTimer::GiveUp(id)));
        let to = self.host_of(to);
        self.send_data(host, to, DataPacket::Push { call: id, records });
    }

    pub(super) fn confirmed(&mut self, host: usize, from: usize, call: u64) {
        match self.process(host).and_then(|process| process.calls.remove(&call)) {
            Some(Call::Push { write, .. }) => self.durable(host, write, from),
            Some(Call::Transfer { slot, to, digest }) => {
                self.replication(host, eventual::Input::Transferred(slot, to, Some(digest)));
            }
            None => {}
        }
    }

    pub(super) fn give_up(&mut self, host: usize, call: u64) {
        match self.process(host).and_then(|process| process.calls.remove(&call)) {
            Some(Call::Push { slot, to, .. }) => self.replication(host, eventual::Input::Diverged(slot, to)),
            Some(Call::Transfer { slot, to, .. }) => {
                self.replication(host, eventual::Input::Transferred(slot, to, None));
            }
            None => {}
        }
    }

    /// An fsync begins, and somebody waits for its end.
    pub(super) fn sync_then(&mut self, host: usize, after: AfterSync) {
        let time = self.random().random_range(Duration::ZERO..=FSYNC_MAX);
        self.set_timer(host, time, HostTimer::Data(DataTimer::Synced(after)));
    }

    pub(super) fn synced(&mut self, host: usize, after: AfterSync) {
        let Some(data) = &self.hosts[host].data else { return };
        data.store.sync();
        match after {
            AfterSync::Write(write) => {
                if let Some(write) = self.process(host).and_then(|process| process.writes.get_mut(&write)) {
                    write.here = true;
                }
                self.durable(host, write, host);
            }
            AfterSync::Confirm { to, call } => self.send_data(host, to, DataPacket::Confirmed { call }),
            AfterSync::Send(to, message) => self.send_data(host, to, DataPacket::Replication(message)),
        }
    }

    /// One more replica has a write on disk.
    fn durable(&mut self, host: usize, write: u64, on: usize) {
        let Some(write) = self.process(host).and_then(|process| process.writes.get_mut(&write)) else { return };
        write.durable.insert(on);
        if write.here && write.durable.len() >= write.min_durable {
            let (at, version) = (write.at.clone(), write.version);
            self.promises.acknowledged(&at, version, self.now);
        }
    }

    fn process(&mut self, host: usize) -> Option<&mut Process> {
        self.hosts[host].data.as_mut()?.process.as_mut()
    }

    /// What the clock of a host shows: Unix time, and up to the skew more.
    pub(super) fn wall_clock(&self, host: usize) -> Duration {
        let skew = self.config.data.as_ref().map_or(Duration::ZERO, |data| data.clock_skew);
        EPOCH + self.now + skew * u32::try_from(host % 7).unwrap_or(0) / 6
    }
}

/// When the worlds begin, in Unix time. Any time will do.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// As in the daemon's coordinator.
const REPLICA_TIME: Duration = Duration::from_secs(2);

/// As in the daemon's transfers.
const PUSH_TIME_OUT: Duration = Duration::from_secs(10);

/// An fsync takes up to this long. A guess.
const FSYNC_MAX: Duration = Duration::from_millis(5);
