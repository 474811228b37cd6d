//! The part of a simulated process that the daemon's control loop plays: it feeds replication and carries out what it
//! asks for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use dht_core::{
    overlay::{Input as OverlayInput, Lookup, LookupFailed, Ring, Saved},
    replication::eventual::{self, Digests, Memory, Output},
    ring::Slot,
};

use super::{AfterSync, Call, Data, DataPacket, DataTimer, Process, Store};
use crate::sim::{
    World,
    delivery::{HostTimer, Packet},
};

impl World {
    /// A host knows its ring: from now on it holds data. Whoever founds a ring holds all of it, and there is none.
    pub(in crate::sim) fn open_data(&mut self, host: usize, ring: Ring, founds: bool) {
        if self.config.data.is_some() && self.hosts[host].data.is_none() {
            let store = Store::new(ring.slot_bits, self.hosts[host].id);
            self.hosts[host].data = Some(Data { store, process: None });
            let memory = if founds { Memory::founder(ring.slot_bits.iter()) } else { Memory::default() };
            self.start_replication(host, memory, 0);
        }
    }

    /// A restarted process finds what is on its disk.
    pub(in crate::sim) fn reopen_data(&mut self, host: usize, saved: &Saved) {
        if let Some(data) = &self.hosts[host].data {
            let memory = data.store.memory();
            self.start_replication(host, memory, saved.peers.len());
        }
    }

    fn start_replication(&mut self, host: usize, memory: Memory, expected_peers: usize) {
        let Some(config) = self.config.data.as_ref().map(|data| data.eventual.clone()) else { return };
        let rules = self.config.rules;
        let Some((state, data)) = self.hosts[host].overlay_and_data() else { return };
        memory.notes.iter().for_each(|(slot, note)| data.store.note(*slot, note));
        let routes = Arc::new(state.routes());
        let mut replication = eventual::State::new(config, rules, routes.clone(), expected_peers, memory);
        let outputs = replication.start(self.now);
        data.process = Some(Process {
            replication,
            routes,
            synced: BTreeSet::new(),
            calls: BTreeMap::new(),
            writes: BTreeMap::new(),
            locating: BTreeMap::new(),
        });
        self.replicate(host, outputs);
    }

    /// The data path gets a new picture of the ring.
    pub(in crate::sim) fn publish_routes(&mut self, host: usize) {
        let Some((state, data)) = self.hosts[host].overlay_and_data() else { return };
        let Some(process) = &mut data.process else { return };
        let routes = Arc::new(state.routes());
        process.routes = routes.clone();
        self.replication(host, eventual::Input::Routes(routes));
    }

    pub(in crate::sim) fn replication(&mut self, host: usize, input: eventual::Input) {
        let wall = self.wall_clock(host);
        let Some(Data { store, process: Some(process) }) = &mut self.hosts[host].data else { return };
        store.wall = wall;
        let outputs = process.replication.handle(self.now, input, store);
        self.replicate(host, outputs);
    }

    fn replicate(&mut self, host: usize, outputs: Vec<Output>) {
        for output in outputs {
            let Some(Data { store, process: Some(process) }) = &mut self.hosts[host].data else { return };
            match output {
                Output::Send(to, message) => {
                    if process.routes.peer(to).is_some() {
                        let to = self.host_of(to);
                        self.sync_then(host, AfterSync::Send(to, message));
                    }
                }
                Output::SetTimer(after, timer) => {
                    self.set_timer(host, after, HostTimer::Data(DataTimer::Replication(timer)));
                }
                Output::Synced(slot, true) => drop(process.synced.insert(slot)),
                Output::Synced(slot, false) => drop(process.synced.remove(&slot)),
                Output::Note(slot, note) => store.note(slot, &note),
                Output::Departed(peer) => store.note_departed(peer),
                Output::Reclaim(slot, horizon) => store.reclaim(slot, horizon),
                Output::Locate(slot) => self.locate(host, slot),
                Output::Transfer(slot, to, theirs) => {
                    let digest = store.digest(slot);
                    let parts = digest.differing(&theirs);
                    let records = store.scan(slot).filter(|(at, _)| parts.has(at)).collect();
                    self.push(host, to, Call::Transfer { slot, to, digest }, records);
                }
                Output::Drop(slot, digest) => store.drop_slot(slot, digest),
            }
        }
    }

    pub(in crate::sim) fn data_packet(&mut self, host: usize, from: usize, packet: DataPacket) {
        match packet {
            DataPacket::Replication(message) => {
                let from = self.hosts[from].id;
                self.replication(host, eventual::Input::Message(from, message));
            }
            DataPacket::Push { call, records } => {
                let Some(Data { store, process: Some(_) }) = &mut self.hosts[host].data else { return };
                store.merge(&records);
                self.sync_then(host, AfterSync::Confirm { to: from, call });
            }
            DataPacket::Confirmed { call } => self.confirmed(host, from, call),
        }
    }

    pub(in crate::sim) fn data_timer(&mut self, host: usize, timer: DataTimer) {
        match timer {
            DataTimer::Replication(timer) => self.replication(host, eventual::Input::Timer(timer)),
            DataTimer::GiveUp(call) => self.give_up(host, call),
            DataTimer::Synced(after) => self.synced(host, after),
            DataTimer::Depart => self.continue_departing(host),
        }
    }

    /// The host hands everything over, says goodbye, and ends.
    pub fn leave(&mut self, host: usize) {
        self.input(host, OverlayInput::Leave);
        self.set_timer(host, DEPART_LOOK_EVERY, HostTimer::Data(DataTimer::Depart));
    }

    fn continue_departing(&mut self, host: usize) {
        if self.hosts[host].state.is_none() {
            return;
        }
        let data = self.hosts[host].data.as_ref().and_then(|data| Some((data.process.as_ref()?, &data.store)));
        let held = data.map_or(0, |(process, store)| process.replication.held(store));
        let chains = self.hosts[host].chains.as_ref().and_then(|chains| chains.state.as_ref());
        if held == 0 && chains.is_none_or(|chains| chains.held() == 0) {
            self.depart(host);
        } else {
            self.set_timer(host, DEPART_LOOK_EVERY, HostTimer::Data(DataTimer::Depart));
        }
    }

    fn locate(&mut self, host: usize, slot: Slot) {
        self.last_call += 1;
        let token = LOCATES | self.last_call;
        let Some((state, Data { process: Some(process), .. })) = self.hosts[host].overlay_and_data() else { return };
        let Some(ring) = state.ring() else { return };
        let target = ring.slot_bits.point(slot);
        process.locating.insert(token, slot);
        self.input(host, OverlayInput::Lookup { token, target });
    }

    /// A lookup has ended. Whether it was one that replication had asked for.
    pub(in crate::sim) fn located(&mut self, host: usize, token: u64, result: &Result<Lookup, LookupFailed>) -> bool {
        let process = self.hosts[host].data.as_mut().and_then(|data| data.process.as_mut());
        let slot = process.and_then(|process| process.locating.remove(&token));
        let home = result.as_ref().ok().and_then(|found| found.home.clone());
        if let Some((slot, home)) = slot.zip(home) {
            self.replication(host, eventual::Input::Located(slot, home.group));
        }
        token & LOCATES != 0
    }

    pub(super) fn send_data(&mut self, from: usize, to: usize, packet: DataPacket) {
        self.send(from, to, &Packet::Data { from, packet: Box::new(packet) });
    }
}

/// Tells the tokens of replication's lookups from those of the test's.
const LOCATES: u64 = 1 << 63;

/// As in the daemon.
const DEPART_LOOK_EVERY: Duration = Duration::from_millis(200);
