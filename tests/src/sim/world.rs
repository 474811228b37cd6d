//! Peers, clock, queue of events, and the checks after every event.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    mem,
    sync::Arc,
    time::Duration,
};

use dht_core::{
    Rules,
    overlay::{
        Body, Circle, Config, Destination, Event, Input, Message, Output, Peer, Phase, Ring, RingId, Saved, State,
        Timer, invariant::Census,
    },
    ring::{Id, PeerId, SlotBits},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Net, answers::Answers, queue::Queue};

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
#[derive(Clone, Debug)]
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

impl Host {
    fn description(&self) -> Peer {
        let (address, incarnation) = (self.address.clone(), self.incarnation);
        Peer { id: self.id, address, incarnation, nodes: 0, leaving: false }
    }
}

/// Which timers fire. Those that do not are lost for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maintenance {
    /// All of them.
    On,
    /// Those of the failure detector and of lookups: the ring is not repaired.
    DetectorOnly,
    /// Those of lookups.
    Off,
}

#[derive(Clone, Debug)]
enum Due {
    Message { to: usize, message: Box<Message> },
    Timer { host: usize, incarnation: u64, timer: Timer },
}

/// The simulated world.
#[derive(Clone, Debug)]
pub struct World {
    /// What it was made of.
    pub config: WorldConfig,
    /// The time since it began.
    pub now: Duration,
    /// All processes that ever were.
    pub hosts: Vec<Host>,
    /// Events handled so far.
    pub events: u64,
    /// The lookups of the test.
    pub answers: Answers,
    /// The live members, as the checks see them.
    pub census: Census,
    /// Which timers fire.
    pub maintenance: Maintenance,
    /// Lookups that were sent to a peer that is down.
    pub dead_ends: u64,
    /// The first break of the invariant. Time stands still from there on.
    pub violation: Option<String>,
    /// Of all events handled so far.
    fingerprint: DefaultHasher,
    random: ChaCha8Rng,
    queue: Queue<Due>,
    by_address: BTreeMap<Arc<str>, usize>,
    /// Peers that were members when the ring was last ideal and still live: r_eff counts them.
    pub(super) settled: BTreeSet<PeerId>,
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
            answers: Answers::default(),
            census: Census::default(),
            maintenance: Maintenance::On,
            dead_ends: 0,
            violation: None,
            fingerprint: DefaultHasher::new(),
            queue: Queue::default(),
            by_address: BTreeMap::new(),
            settled: BTreeSet::new(),
        }
    }

    /// The world's generator, for tests that draw from the same seed.
    pub fn random(&mut self) -> &mut ChaCha8Rng {
        &mut self.random
    }

    /// A world of members that are at rest in a ring which winds around the circle so many times: once in an ideal
    /// one.
    #[must_use]
    pub fn settled(config: WorldConfig, peers: usize, windings: usize) -> Self {
        let mut world = Self::new(config);
        let hosts: Vec<usize> = (0..peers).map(|_| world.add_host()).collect();
        let ring = world.new_ring();
        let nodes = world.config.overlay.nodes;
        let description = |host: &Host| Peer { nodes, ..host.description() };
        let circle = Circle::winding(world.hosts.iter().map(description), windings);
        for host in hosts {
            let (config, rules, me) = (world.config.overlay.clone(), world.config.rules, world.hosts[host].id);
            let seed = world.random.random();
            let (state, outputs) = State::settled(config, rules, &circle, me, ring, seed);
            world.hosts[host].state = Some(state);
            world.carry_out(host, outputs);
        }
        (0..peers).for_each(|host| world.take_census(host));
        if windings == 1 {
            world.note_ideal();
        }
        world
    }

    fn new_ring(&mut self) -> Ring {
        Ring { id: RingId(self.random.random()), replicas: self.config.replicas, slot_bits: SlotBits::DEFAULT }
    }

    /// From here on this copy of a world goes its own way.
    pub fn reseed(&mut self, seed: u64) {
        self.random = ChaCha8Rng::seed_from_u64(seed);
    }

    /// Starts a peer that founds a ring.
    pub fn found(&mut self) -> usize {
        let host = self.add_host();
        let ring = self.new_ring();
        self.input(host, Input::Found(ring));
        self.note_ideal();
        host
    }

    /// Starts a peer that joins through any of others.
    pub fn join(&mut self, seeds: &[usize]) -> usize {
        let seeds = seeds.iter().map(|seed| self.hosts[*seed].address.clone()).collect();
        let host = self.add_host();
        self.input(host, Input::Join { seeds });
        host
    }

    /// The process ends without a word.
    pub fn kill(&mut self, host: usize) {
        self.hosts[host].saved = self.hosts[host].state.as_ref().and_then(State::saved);
        self.has_gone(host);
    }

    /// The process says goodbye and ends. It should have been asked to leave some time before.
    pub fn depart(&mut self, host: usize) {
        self.input(host, Input::Depart);
        self.has_gone(host);
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

    /// Starts a lookup at a host; its result will be in `answers` under the returned token.
    pub fn lookup(&mut self, host: usize, target: Id) -> u64 {
        let token = self.answers.ask(target, &self.census);
        self.input(host, Input::Lookup { token, target });
        token
    }

    /// Gives a host an input now.
    pub fn input(&mut self, host: usize, input: Input) {
        let Some(state) = &mut self.hosts[host].state else { return };
        let outputs = state.handle(self.now, input);
        if outputs.iter().any(|output| matches!(output, Output::Event(Event::RoutesChanged))) {
            self.take_census(host);
        }
        self.carry_out(host, outputs);
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
        while self.queue.next().is_some_and(|at| at <= end) && self.step() {}
        self.now = end;
    }

    /// Every live peer has joined with all its nodes and the ring is ideal.
    #[must_use]
    pub fn is_ideal(&self) -> bool {
        self.live().all(|(_, state)| is_whole(state)) && self.census.not_ideal(self.reach()).is_none()
    }

    /// Why the ring is not ideal, for people.
    #[must_use]
    pub fn what_is_wrong(&self) -> String {
        let unfinished: Vec<usize> = self.live().filter(|(_, state)| !is_whole(state)).map(|(host, _)| host).collect();
        let reach = self.reach();
        format!("hosts {unfinished:?} are not whole, and not ideal is {:?}", self.census.not_ideal(reach))
    }

    /// R: how many other peers lists reach over.
    pub(super) fn reach(&self) -> usize {
        self.config.overlay.successors.max(self.config.replicas + 1)
    }

    /// Takes notice that the ring is ideal now: from here on the invariant counts these peers.
    pub fn note_ideal(&mut self) {
        self.settled = self.live().map(|(_, state)| state.me().id).collect();
    }

    /// A number that tells this run from all others.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint.finish()
    }

    /// The process of a peer.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn host_of(&self, peer: PeerId) -> usize {
        self.hosts.iter().position(|host| host.id == peer).expect("it is one of the world's peers")
    }

    /// All live peers.
    pub fn live(&self) -> impl Iterator<Item = (usize, &State)> {
        self.hosts.iter().enumerate().filter_map(|(place, host)| host.state.as_ref().map(|state| (place, state)))
    }

    fn step(&mut self) -> bool {
        if self.violation.is_some() {
            return false;
        }
        let Some((at, sequence, due)) = self.queue.pop() else { return false };
        self.now = at;
        self.events += 1;
        (at, sequence).hash(&mut self.fingerprint);
        match due {
            Due::Message { to, message } => {
                (to, message.sender.id, mem::discriminant(&message.body)).hash(&mut self.fingerprint);
                self.input(to, Input::Message(*message));
            }
            Due::Timer { host, incarnation, timer } => {
                (host, incarnation, mem::discriminant(&timer)).hash(&mut self.fingerprint);
                if self.hosts[host].incarnation == incarnation && self.fires(&timer) {
                    self.input(host, Input::Timer(timer));
                }
            }
        }
        true
    }

    fn fires(&self, timer: &Timer) -> bool {
        match timer {
            Timer::Operation(..) | Timer::Hop(..) | Timer::Lookup(_) => true,
            Timer::Heartbeat => self.maintenance != Maintenance::Off,
            _ => self.maintenance == Maintenance::On,
        }
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
        let me = host.description();
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
                Output::Event(Event::Lookup { token, result }) => self.answers.answered(token, result),
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
        if self.hosts[to].state.is_none() && matches!(message.body, Body::Find(_)) {
            self.dead_ends += 1;
        }
        for delay in self.config.net.deliveries(&mut self.random) {
            self.schedule(delay, Due::Message { to, message: Box::new(message.clone()) });
        }
    }

    fn schedule(&mut self, after: Duration, due: Due) {
        self.queue.push(self.now + after, due);
    }
}

/// It has joined with all its nodes.
fn is_whole(state: &State) -> bool {
    state.phase() == Phase::Member && state.nodes().iter().all(|node| node.accepted)
}
