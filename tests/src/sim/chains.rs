//! Chain mode in the simulator: whole peers with their disks, and clients whose operations are recorded.

mod clients;
mod disk;
mod faults;
mod history;
mod recover;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use dht_core::{
    overlay::{Input as OverlayInput, Lookup, LookupFailed, Ring},
    replication::chain::{Change, Config, Input, Log, Message, Output, Snapshot, State, Timer, Token},
    ring::Slot,
    view::{Claim, Epoch, Member, View},
};
use rand::RngExt;

pub(super) use self::clients::ClientEvent;
use self::recover::{Recovering, RecoveryPacket};
pub use self::{
    clients::{Clients, Finished, Load},
    disk::Disk,
    recover::Recovery,
};
use super::{
    World,
    delivery::{HostTimer, Packet},
};

/// How the peers of a world keep chains.
#[derive(Clone, Debug)]
pub struct ChainConfig {
    /// Each peer's chains.
    pub chain: Config,
    /// Clocks run faster or slower than time by up to this share.
    pub drift: f64,
    /// An fsync takes up to this long.
    pub fsync: Duration,
}

impl Default for ChainConfig {
    /// Clocks are as bad as the protocol allows.
    fn default() -> Self {
        let chain = Config::default();
        Self { drift: chain.lease.clock_error, chain, fsync: Duration::from_millis(5) }
    }
}

/// What one process has of chains.
#[derive(Clone, Debug)]
pub struct Chains {
    /// Its disk.
    pub disk: Disk,
    /// `None` while the process is down.
    pub state: Option<State>,
    /// How fast its clock runs, and what it showed when the world began.
    rate: f64,
    offset: Duration,
    /// What the process was about to do when it was stopped.
    pub(super) stalled: Option<Vec<Output>>,
    /// Lookups that chains have asked for.
    locating: BTreeMap<u64, Slot>,
    /// What the peer has promised a recovery. On disk.
    pub claim: Claim,
    /// The recovery that it carries out.
    recovering: Option<Recovering>,
    /// One that is tried again later.
    waiting: Option<Recovering>,
}

/// What hosts send each other about chains.
#[derive(Clone, Debug)]
pub(super) enum ChainPacket {
    /// With what the sender has promised a recovery.
    Message(Message, Claim),
    Snapshot(Slot, Snapshot),
    Recovery(RecoveryPacket),
}

/// What a host is woken for about chains.
#[derive(Clone, Debug)]
pub(super) enum ChainTimer {
    Timer(Timer),
    /// An fsync has ended that covers so many changes.
    Synced(u64, u64),
    /// The process was stopped in the middle of something.
    Resume,
    /// A recovery asks again whoever has not answered.
    Recovery,
    /// A recovery of this counter has waited for all leases to end.
    LeasesEnded(u32),
    /// The operator asks for a recovery again.
    TryAgain,
}

impl Chains {
    fn time(&self, now: Duration) -> Duration {
        self.offset + now.mul_f64(self.rate)
    }
}

impl World {
    /// A host knows its ring: from now on it takes part in chains. Whoever founds a ring holds all of it.
    pub(super) fn open_chains(&mut self, host: usize, ring: Ring, founds: bool) {
        let Some(config) = self.config.chains.as_ref().filter(|_| self.hosts[host].chains.is_none()) else { return };
        let drift = config.drift;
        let rate = self.random.random_range(1.0 - drift..=1.0 + drift);
        let offset = Duration::from_millis(self.random.random_range(0..10_000));
        let mut disk = Disk::default();
        if founds {
            let me = self.member(host);
            disk.found(State::founding(me, ring.slot_bits.iter()));
        }
        let (state, stalled, locating) = (None, None, BTreeMap::new());
        let (claim, recovering, waiting) = Default::default();
        self.hosts[host].chains =
            Some(Chains { disk, state, rate, offset, stalled, locating, claim, recovering, waiting });
        self.start_chains(host);
    }

    fn member(&self, host: usize) -> Member {
        Member { peer: self.hosts[host].id, incarnation: self.hosts[host].incarnation }
    }

    /// A process starts with what is on its disk.
    pub(super) fn start_chains(&mut self, host: usize) {
        let (Some(config), seed) = (self.config.chains.clone(), self.random.random()) else { return };
        let (rules, me, now) = (self.config.rules, self.member(host), self.now);
        let Some(routes) = self.hosts[host].state.as_ref().map(|state| Arc::new(state.routes())) else { return };
        let Some(chains) = &mut self.hosts[host].chains else { return };
        let state = State::new(config.chain, rules, me, routes, chains.disk.stored(), seed);
        let mut state = state.claimed(chains.claim.clone());
        let outputs = state.start(chains.time(now));
        chains.state = Some(state);
        self.carry_out_chains(host, outputs);
    }

    pub(super) fn publish_routes_to_chains(&mut self, host: usize) {
        let host_here = &self.hosts[host];
        if let (Some(state), Some(_)) = (&host_here.state, &host_here.chains) {
            let routes = Arc::new(state.routes());
            self.chains(host, Input::Routes(routes));
        }
    }

    /// Gives a host's chains an input now.
    pub(super) fn chains(&mut self, host: usize, input: Input) {
        let now = self.now;
        let about = match &input {
            Input::Message(_, Message::Slot(slot, _)) | Input::Write(_, slot, ..) => Some(*slot),
            _ => None,
        };
        let Some(Chains { disk, state: Some(state), rate, offset, .. }) = &mut self.hosts[host].chains else { return };
        let outputs = state.handle(*offset + now.mul_f64(*rate), input, disk);
        if let Some(slot) = about {
            self.check_pending(host, slot);
        }
        let outputs = self.stall(host, outputs);
        self.carry_out_chains(host, outputs);
    }

    fn carry_out_chains(&mut self, host: usize, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(to, message) | Output::SendSoon(to, message) => {
                    let to = self.host_of(to);
                    let claim = self.hosts[host].chains.as_ref().map(|it| it.claim.clone()).unwrap_or_default();
                    self.send(host, to, &Packet::Chains(host, Box::new(ChainPacket::Message(message, claim))));
                }
                Output::SetTimer(after, timer) => {
                    let rate = self.hosts[host].chains.as_ref().map_or(1.0, |chains| chains.rate);
                    self.set_timer(host, after.div_f64(rate), HostTimer::Chains(ChainTimer::Timer(timer)));
                }
                Output::Store(slot, change) => {
                    let rules = self.config.rules;
                    if let Change::Install { acceptor, .. } = &*change {
                        self.decided(&acceptor.view);
                    }
                    let Some(chains) = &mut self.hosts[host].chains else { return };
                    chains.disk.store(slot, *change, rules);
                }
                Output::Sync(number) => self.sync_chains(host, number),
                Output::Reply(token, reply) => self.replied(host, token, Ok(reply)),
                Output::Read(token, slot, at) => {
                    let record = self.hosts[host].chains.as_ref().and_then(|chains| chains.disk.record(slot, &at));
                    self.replied(host, token, Err(record));
                }
                Output::SendSnapshot(slot, to, epoch) => self.send_snapshot(host, slot, to, epoch),
                Output::Locate(slot) => self.locate_for_chains(host, slot),
            }
        }
    }

    /// A host goes by this view: nobody goes by another one of the same epoch.
    fn decided(&mut self, view: &View) {
        let known = self.decided.entry((view.slot, view.epoch)).or_insert_with(|| view.clone());
        if known != view && self.violation.is_none() {
            self.violation = Some(format!("two views of one epoch: {known:?} and {view:?}"));
        }
    }

    /// The head stops before too much is pending, so that no member has to hold more than that and one entry.
    fn check_pending(&mut self, host: usize, slot: Slot) {
        let most = self.config.chains.as_ref().map_or(0, |config| config.chain.most_pending_bytes);
        let state = self.hosts[host].chains.as_ref().and_then(|chains| chains.state.as_ref());
        let log = state.filter(|state| state.serves(slot)).and_then(|state| state.log(slot));
        let pending = log.map_or(0, Log::pending_bytes);
        if pending > most.saturating_add(LARGEST_ENTRY) && self.violation.is_none() {
            self.violation = Some(format!("host {host} has {pending} bytes pending in slot {slot}"));
        }
    }

    fn sync_chains(&mut self, host: usize, number: u64) {
        let longest = self.config.chains.as_ref().map_or(Duration::ZERO, |config| config.fsync);
        let time = self.random.random_range(Duration::ZERO..=longest);
        let Some(chains) = &self.hosts[host].chains else { return };
        let stored = chains.disk.stored_so_far();
        self.set_timer(host, time, HostTimer::Chains(ChainTimer::Synced(number, stored)));
    }

    fn send_snapshot(&mut self, host: usize, slot: Slot, to: dht_core::ring::PeerId, epoch: Epoch) {
        let to = self.host_of(to);
        let snapshot = self.hosts[host].chains.as_ref().and_then(|chains| chains.disk.snapshot(slot, epoch));
        if let Some(snapshot) = snapshot {
            self.send(host, to, &Packet::Chains(host, Box::new(ChainPacket::Snapshot(slot, snapshot))));
        }
    }

    fn locate_for_chains(&mut self, host: usize, slot: Slot) {
        self.last_call += 1;
        let token = LOCATES | self.last_call;
        let bits = self.config.slot_bits;
        let Some(chains) = &mut self.hosts[host].chains else { return };
        chains.locating.insert(token, slot);
        self.input(host, OverlayInput::Lookup { token, target: bits.point(slot) });
    }

    /// A lookup has ended. Whether it was one that chains had asked for.
    pub(super) fn located_for_chains(
        &mut self,
        host: usize,
        token: u64,
        result: &Result<Lookup, LookupFailed>,
    ) -> bool {
        let slot = self.hosts[host].chains.as_mut().and_then(|chains| chains.locating.remove(&token));
        let home = result.as_ref().ok().and_then(|found| found.home.clone());
        if let Some((slot, home)) = slot.zip(home) {
            self.chains(host, Input::Located(slot, home.group));
        }
        token & LOCATES != 0
    }

    pub(super) fn chain_packet(&mut self, host: usize, from: usize, packet: ChainPacket) {
        let (sender, from) = (from, self.hosts[from].id);
        match packet {
            ChainPacket::Message(message, claim) => {
                self.hear_claim(host, &claim);
                self.chains(host, Input::Message(from, message));
            }
            ChainPacket::Snapshot(slot, snapshot) => self.chains(host, Input::Snapshot(from, slot, snapshot)),
            ChainPacket::Recovery(packet) => self.recovery_packet(host, sender, packet),
        }
    }

    pub(super) fn chain_timer(&mut self, host: usize, timer: ChainTimer) {
        match timer {
            ChainTimer::Timer(timer) => self.chains(host, Input::Timer(timer)),
            ChainTimer::Synced(number, stored) => {
                if let Some(chains) = &mut self.hosts[host].chains {
                    chains.disk.synced(stored);
                }
                self.chains(host, Input::Synced(number));
            }
            ChainTimer::Recovery => self.go_on_recovering(host),
            ChainTimer::LeasesEnded(counter) => self.leases_ended(host, counter),
            ChainTimer::TryAgain => self.try_recovery_again(host),
            ChainTimer::Resume => {
                let stalled = self.hosts[host].chains.as_mut().and_then(|chains| chains.stalled.take());
                self.carry_out_chains(host, stalled.unwrap_or_default());
            }
        }
    }

    /// A client's operation arrives.
    fn called(&mut self, host: usize, token: Token, call: clients::Call) {
        let input = match call {
            clients::Call::Write(slot, epoch, command) => Input::Write(token, slot, epoch, command),
            clients::Call::Read(slot, at) => Input::Read(token, slot, at),
        };
        self.chains(host, input);
    }
}

/// Clients of the simulator write no larger ones.
const LARGEST_ENTRY: usize = 512;

/// Tells the tokens of chains' lookups from those of others.
const LOCATES: u64 = 1 << 62;
