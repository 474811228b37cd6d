//! Peers, clock, queue of events, and the checks after every event.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use dht_core::{
    Rules,
    overlay::{
        Config, Destination, Event, Input, Lookup, LookupFailed, Message, Output, Peer, Phase, Ring, RingId, Saved,
        State, Timer,
        invariant::{Census, View, Violation},
    },
    ring::{Id, PeerId, SlotBits},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Net;

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// Everything random comes from it.
    pub seed: u64,
    /// Each peer's overlay.
    pub overlay: Config,
    /// The rules in force.
    pub rules: Rules,
    /// k.
    pub replicas: usize,
    /// The network.
    pub net: Net,
    /// Check the invariant after every event. It cannot hold while rings are split or merging.
    pub check_invariant: bool,
}

impl WorldConfig {
    /// The defaults of the daemon on a good network.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let (overlay, net) = (Config::default(), Net::default());
        Self { seed, overlay, rules: Rules::ALL, replicas: 3, net, check_invariant: true }
    }
}

/// One simulated process and its disk.
#[derive(Debug)]
pub struct Host {
    /// Its name for life.
    pub id: PeerId,
    /// Where it is reached.
    pub address: Arc<str>,
    /// `None` while it is down.
    pub state: Option<State>,
    incarnation: u64,
    saved: Option<Saved>,
    /// Hosts hear each other only within the same part.
    part: u8,
}

#[derive(Debug)]
enum Due {
    Message { to: usize, message: Message },
    Timer { host: usize, incarnation: u64, timer: Timer },
}

/// The simulated world.
#[derive(Debug)]
pub struct World {
    /// What it was made of.
    pub config: WorldConfig,
    /// The time since it began.
    pub now: Duration,
    /// All processes that ever were.
    pub hosts: Vec<Host>,
    /// Events handled so far.
    pub events: u64,
    /// Lookups that have ended, by token.
    pub lookups: BTreeMap<u64, Result<Lookup, LookupFailed>>,
    /// The live members, as the checks see them.
    pub census: Census,
    random: ChaCha8Rng,
    queue: BTreeMap<(Duration, u64), Due>,
    sequence: u64,
    by_address: BTreeMap<Arc<str>, usize>,
    /// Peers that were members when the ring was last ideal and still live: r_eff counts them.
    settled: BTreeSet<PeerId>,
    next_token: u64,
}

impl World {
    /// An empty world.
    #[must_use]
    pub fn new(config: WorldConfig) -> Self {
        Self {
            random: ChaCha8Rng::seed_from_u64(config.seed),
            config,
            now: Duration::ZERO,
            hosts: Vec::new(),
            events: 0,
            lookups: BTreeMap::new(),
            census: Census::default(),
            queue: BTreeMap::new(),
            sequence: 0,
            by_address: BTreeMap::new(),
            settled: BTreeSet::new(),
            next_token: 0,
        }
    }

    /// The world's generator, for tests that draw from the same seed.
    pub fn random(&mut self) -> &mut ChaCha8Rng {
        &mut self.random
    }

    /// Starts a peer that founds a ring.
    pub fn found(&mut self) -> usize {
        let host = self.add_host();
        let ring =
            Ring { id: RingId(self.random.random()), replicas: self.config.replicas, slot_bits: SlotBits::DEFAULT };
        self.input(host, Input::Found(ring));
        self.note_ideal();
        host
    }

    /// Starts a peer that joins through another one.
    pub fn join(&mut self, seed: usize) -> usize {
        let seeds = vec![self.hosts[seed].address.clone()];
        let host = self.add_host();
        self.input(host, Input::Join { seeds });
        host
    }

    /// The process ends without a word.
    pub fn kill(&mut self, host: usize) {
        let Some(state) = self.hosts[host].state.take() else { return };
        self.hosts[host].saved = state.saved();
        state.nodes().iter().for_each(|node| self.census.update(node.node.id, None));
        self.settled.remove(&self.hosts[host].id);
        if self.config.check_invariant {
            self.check_everyone();
        }
    }

    /// The process starts again with what was on its disk.
    pub fn restart(&mut self, host: usize) {
        let saved = self.hosts[host].saved.take().expect("it was a member when it was killed");
        self.start(host);
        self.input(host, Input::Resume(saved));
    }

    /// From now on only hosts of the same part hear each other. Hosts beyond the list are in part 0.
    pub fn split(&mut self, part_of: impl Fn(usize) -> u8) {
        self.hosts.iter_mut().enumerate().for_each(|(place, host)| host.part = part_of(place));
    }

    /// Everyone hears everyone again.
    pub fn heal(&mut self) {
        self.split(|_| 0);
    }

    /// Starts a lookup at a host; its result will be in `lookups` under the returned token.
    pub fn lookup(&mut self, host: usize, target: Id) -> u64 {
        self.next_token += 1;
        let token = self.next_token;
        self.input(host, Input::Lookup { token, target });
        token
    }

    /// Gives a host an input now.
    pub fn input(&mut self, host: usize, input: Input) {
        let Some(state) = &mut self.hosts[host].state else { return };
        let outputs = state.handle(self.now, input);
        self.carry_out(host, outputs);
        self.take_census(host);
    }

    /// Runs until the time `end` or until `done`, which is asked every 100 ms of virtual time. Returns whether it was
    /// done.
    pub fn run_until(&mut self, end: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let mut next_look = self.now;
        while self.now < end {
            if self.now >= next_look {
                if done(self) {
                    return true;
                }
                next_look = self.now + Duration::from_millis(100);
            }
            if !self.step() {
                break;
            }
        }
        done(self)
    }

    /// Runs for a time.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Every live peer has joined with all its nodes and the ring is ideal.
    #[must_use]
    pub fn is_ideal(&self) -> bool {
        let whole = |state: &State| state.phase() == Phase::Member && state.nodes().iter().all(|node| node.accepted);
        let reach = self.config.overlay.successors.max(self.config.replicas + 1);
        self.live().all(|(_, state)| whole(state)) && self.census.not_ideal(reach).is_none()
    }

    /// Takes notice that the ring is ideal now: from here on the invariant counts these peers.
    pub fn note_ideal(&mut self) {
        self.settled = self.live().map(|(_, state)| state.me().id).collect();
    }

    /// All live peers.
    pub fn live(&self) -> impl Iterator<Item = (usize, &State)> {
        self.hosts.iter().enumerate().filter_map(|(place, host)| host.state.as_ref().map(|state| (place, state)))
    }

    /// The live member node that owns an identifier in an ideal ring.
    #[must_use]
    pub fn true_owner(&self, target: Id) -> Option<Id> {
        let ids = || self.census.members().map(|view| view.node.id);
        ids().find(|id| *id >= target).or_else(|| ids().next())
    }

    fn step(&mut self) -> bool {
        let Some(((at, _), due)) = self.queue.pop_first() else { return false };
        self.now = at;
        self.events += 1;
        match due {
            Due::Message { to, message } => self.input(to, Input::Message(message)),
            Due::Timer { host, incarnation, timer } => {
                if self.hosts[host].incarnation == incarnation {
                    self.input(host, Input::Timer(timer));
                }
            }
        }
        true
    }

    fn add_host(&mut self) -> usize {
        let (place, id) = (self.hosts.len(), PeerId::new(self.random.random()));
        let address: Arc<str> = format!("10.0.{}.{}:7400", place / 256, place % 256).into();
        self.by_address.insert(address.clone(), place);
        self.hosts.push(Host { id, address, state: None, incarnation: 0, saved: None, part: 0 });
        self.start(place);
        place
    }

    fn start(&mut self, place: usize) {
        let seed = self.random.random();
        let host = &mut self.hosts[place];
        host.incarnation += 1;
        let me = Peer {
            id: host.id,
            address: host.address.clone(),
            incarnation: host.incarnation,
            nodes: 0,
            leaving: false,
        };
        host.state = Some(State::new(self.config.overlay.clone(), self.config.rules, me, seed));
    }

    fn carry_out(&mut self, from: usize, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(to, message) => self.send(from, &to, &message),
                Output::SetTimer(after, timer) => {
                    let incarnation = self.hosts[from].incarnation;
                    self.schedule(after, Due::Timer { host: from, incarnation, timer });
                }
                Output::Event(Event::Lookup { token, result }) => drop(self.lookups.insert(token, result)),
                Output::Event(_) => {}
            }
        }
    }

    fn send(&mut self, from: usize, to: &Destination, message: &Message) {
        let address = match to {
            Destination::Peer(peer) => &peer.address,
            Destination::Address(address) => address,
        };
        let Some(&to) = self.by_address.get(address) else { return };
        if self.hosts[from].part != self.hosts[to].part {
            return;
        }
        for delay in self.config.net.deliveries(&mut self.random) {
            self.schedule(delay, Due::Message { to, message: message.clone() });
        }
    }

    fn schedule(&mut self, after: Duration, due: Due) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), due);
    }

    /// Brings the census up to date with one host and checks what that may have broken.
    fn take_census(&mut self, host: usize) {
        let Some(state) = &self.hosts[host].state else { return };
        let mut touched = Vec::new();
        for node in state.nodes() {
            if node.member && !self.census.has(node) {
                self.census.update(node.node.id, Some(View::from(node)));
                touched.push(node.node.id);
            }
        }
        if state.phase() == Phase::Gone {
            state.nodes().iter().for_each(|node| self.census.update(node.node.id, None));
            self.settled.remove(&state.me().id);
        }
        if self.config.check_invariant && !touched.is_empty() {
            touched.into_iter().for_each(|id| self.check(self.census.check_member(id)));
            self.check_principals();
        }
    }

    fn check_everyone(&self) {
        let members: Vec<Id> = self.census.members().map(|view| view.node.id).collect();
        members.into_iter().for_each(|id| self.check(self.census.check_member(id)));
        self.check_principals();
    }

    fn check_principals(&self) {
        let reach = self.config.overlay.successors.max(self.config.replicas + 1);
        self.check(self.census.check_principals(self.settled.len().min(reach + 1)));
    }

    fn check(&self, result: Result<(), Violation>) {
        // A ring of one has no other to list, nor has the one that it grew from until it hears of the first joiner.
        let young = self.settled.len() < 2;
        if let Err(violation) = result
            && !(young && matches!(violation, Violation::NoLiveSuccessor(_)))
        {
            panic!("seed {}: at {:?}, event {}: {violation}", self.config.seed, self.now, self.events);
        }
    }
}
