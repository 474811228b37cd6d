//! Peers, clock, queue of events, and the checks after every event.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use dht_core::{
    Rules,
    overlay::{Circle, Config, Input, Peer, Phase, Ring, RingId, State, invariant::Census},
    record::Mode,
    ring::{Id, PeerId, Slot, SlotBits},
    view::{Epoch, View},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    Host, Net,
    answers::Answers,
    chains::{ChainConfig, Clients, Recovery},
    data::{DataConfig, Promises},
    delivery::Due,
    queue::Queue,
};

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
    /// b.
    pub slot_bits: SlotBits,
    /// The network.
    pub net: Net,
    /// Check the invariant after every event. It cannot hold while rings are split or merging.
    pub check_invariant: bool,
    /// How peers keep data; `None` for a world of overlays only.
    pub data: Option<DataConfig>,
    /// How peers keep chains; `None` for a world without.
    pub chains: Option<ChainConfig>,
}

impl WorldConfig {
    /// The defaults of the daemon on a good network.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let (overlay, net) = (Config::default(), Net::default());
        Self {
            seed,
            overlay,
            rules: Rules::ALL,
            replicas: 3,
            slot_bits: SlotBits::DEFAULT,
            net,
            check_invariant: true,
            data: None,
            chains: None,
        }
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
    /// Messages of the test's lookups to peers that are down; not of those that peers make for their own ends.
    pub dead_ends: u64,
    /// The first break of the invariant. Time stands still from there on.
    pub violation: Option<String>,
    /// The writes of the test.
    pub promises: Promises,
    /// The clients of chains.
    pub clients: Clients,
    /// Recoveries by hand to which everyone has agreed that they asked.
    pub recoveries: Vec<Recovery>,
    /// The views of chains that anybody went by.
    pub(super) decided: BTreeMap<(Slot, Epoch), View>,
    /// From whom to whom nothing arrives.
    pub(super) cuts: BTreeSet<(usize, usize)>,
    /// Of all events handled so far.
    pub(super) fingerprint: DefaultHasher,
    pub(super) random: ChaCha8Rng,
    pub(super) queue: Queue<Due>,
    pub(super) by_address: BTreeMap<Arc<str>, usize>,
    /// Numbers writes, pushes, and lookups of replication.
    pub(super) last_call: u64,
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
            promises: Promises::default(),
            clients: Clients::default(),
            recoveries: Vec::new(),
            decided: BTreeMap::new(),
            cuts: BTreeSet::new(),
            last_call: 0,
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

    pub(super) fn new_ring(&mut self) -> Ring {
        let (replicas, slot_bits) = (self.config.replicas, self.config.slot_bits);
        let mode = if self.config.chains.is_some() { Mode::Chain } else { Mode::Eventual };
        Ring { id: RingId(self.random.random()), replicas, slot_bits, mode }
    }

    /// From here on this copy of a world goes its own way.
    pub fn reseed(&mut self, seed: u64) {
        self.random = ChaCha8Rng::seed_from_u64(seed);
    }

    /// Starts a lookup at a host; its result will be in `answers` under the returned token.
    pub fn lookup(&mut self, host: usize, target: Id) -> u64 {
        let token = self.answers.ask(target, &self.census);
        self.input(host, Input::Lookup { token, target });
        token
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

    /// Takes notice that the ring is ideal now: from here on the invariant counts these peers. Whom the far end of a
    /// list skips, beyond what makes the ring ideal, has yet to become principal.
    pub fn note_ideal(&mut self) {
        self.settled = self.census.principals();
    }

    /// A number that tells this run from all others.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint.finish()
    }

    fn step(&mut self) -> bool {
        if self.violation.is_some() {
            return false;
        }
        let Some((at, sequence, due)) = self.queue.pop() else { return false };
        self.now = at;
        self.events += 1;
        (at, sequence).hash(&mut self.fingerprint);
        self.deliver(due);
        self.check_promises();
        true
    }
}

/// It has joined with all its nodes.
fn is_whole(state: &State) -> bool {
    state.phase() == Phase::Member && state.nodes().iter().all(|node| node.accepted)
}
