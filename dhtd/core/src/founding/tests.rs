//! Some peers, a network that loses, doubles, delays and reorders, processes that are killed between any two steps, and
//! disks that are there afterwards.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{record::Mode, ring::SlotBits};

const TERMS: Terms = Terms { peers: 3, replicas: 3, slot_bits: SlotBits::DEFAULT, mode: Mode::Chain };

fn address(name: u8) -> Arc<str> {
    format!("peer-{name}:7400").into()
}

/// One peer: its process, if it runs, and what is on its disk.
struct Host {
    id: PeerId,
    address: Arc<str>,
    terms: Terms,
    seeds: Vec<Arc<str>>,
    process: Option<State>,
    fixed: Option<Roster>,
    ring: Option<Ring>,
}

impl Host {
    fn candidate(&self) -> Candidate {
        Candidate { id: self.id, address: self.address.clone() }
    }
}

enum Event {
    Timer(PeerId),
    Message(Candidate, Arc<str>, Message),
}

/// Everything, and the order in which it happens.
struct World {
    now: Duration,
    random: ChaCha8Rng,
    hosts: BTreeMap<PeerId, Host>,
    events: BTreeMap<(Duration, u64), Event>,
    number: u64,
    /// Messages that get lost, of 100.
    loss: u32,
    /// Steps at which a process is killed, of 100.
    kills: u32,
    /// Who has founded what.
    foundings: Vec<(PeerId, RingId)>,
}

use crate::overlay::RingId;

impl World {
    fn new(seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            random: ChaCha8Rng::seed_from_u64(seed),
            hosts: BTreeMap::new(),
            events: BTreeMap::new(),
            number: 0,
            loss: 0,
            kills: 0,
            foundings: Vec::new(),
        }
    }

    /// A peer that is not yet started; its number is its address and its place in the order of ids.
    fn add(&mut self, name: u8, terms: Terms, seeds: &[u8]) -> PeerId {
        let id = PeerId::new([name; 16]);
        self.add_at(id, address(name), terms, seeds)
    }

    fn add_at(&mut self, id: PeerId, address: Arc<str>, terms: Terms, seeds: &[u8]) -> PeerId {
        let seeds = seeds.iter().map(|name| self::address(*name)).collect();
        self.hosts.insert(id, Host { id, address, terms, seeds, process: None, fixed: None, ring: None });
        id
    }

    fn start(&mut self, id: PeerId) {
        let host = self.hosts.get_mut(&id).expect("it was added");
        let (me, terms, seeds, fixed) = (host.candidate(), host.terms, host.seeds.clone(), host.fixed.clone());
        host.process = Some(State::new(Config::default(), me, terms, seeds, fixed));
        if host.ring.is_none() {
            self.give(id, Input::Start);
        }
    }

    fn kill(&mut self, id: PeerId) {
        self.hosts.get_mut(&id).expect("it was added").process = None;
    }

    fn at(&mut self, after: Duration, event: Event) {
        self.number += 1;
        self.events.insert((self.now + after, self.number), event);
    }

    fn send(&mut self, from: &Candidate, to: &Arc<str>, message: &Message) {
        let copies = if self.random.random_range(0..100) < self.loss { 0 } else { self.random.random_range(1..=2) };
        for _ in 0..copies {
            let delay = Duration::from_millis(self.random.random_range(1..=700));
            self.at(delay, Event::Message(from.clone(), to.clone(), message.clone()));
        }
    }

    /// Gives an input to a process, which may be killed before it carries out any of what comes of it.
    fn give(&mut self, id: PeerId, input: Input) {
        let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.as_mut()) else { return };
        for output in process.handle(self.now, input) {
            if self.random.random_range(0..100) < self.kills {
                return self.kill(id);
            }
            let host = self.hosts.get_mut(&id).expect("it runs");
            let me = host.candidate();
            match output {
                Output::Send(to, message) => self.send(&me, &to, &message),
                Output::SetTimer(after, Timer::Round) => self.at(after, Event::Timer(id)),
                Output::Fix(roster) => {
                    assert!(host.fixed.as_ref().is_none_or(|fixed| *fixed == roster), "a roster never changes");
                    host.fixed = Some(roster.clone());
                    self.give(id, Input::Fixed(roster));
                }
                Output::Found(ring) => {
                    self.foundings.push((id, ring.id));
                    host.ring = Some(ring);
                    self.give(id, Input::Founded);
                }
                Output::Join(ring, seeds) => {
                    assert!(!seeds.is_empty());
                    host.ring = Some(ring);
                }
            }
        }
    }

    fn step(&mut self) {
        let Some(((at, _), event)) = self.events.pop_first() else { return };
        self.now = at;
        match event {
            Event::Timer(id) => self.give(id, Input::Timer(Timer::Round)),
            Event::Message(from, to, message) => {
                let there = self.hosts.values().find(|host| host.address == to && host.process.is_some());
                let Some((id, me, ring)) = there.map(|host| (host.id, host.candidate(), host.ring)) else { return };
                match (ring, &message) {
                    (None, _) => self.give(id, Input::Message(from, message)),
                    (Some(ring), Message::Waiting { .. }) => self.send(&me, &from.address, &Message::Founded(ring)),
                    (Some(_), Message::Founded(_)) => {}
                }
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.events.first_key_value().is_some_and(|((at, _), _)| *at <= end) {
            self.step();
        }
        self.now = end;
    }

    fn rings(&self) -> Vec<Option<RingId>> {
        self.hosts.values().map(|host| host.ring.map(|ring| ring.id)).collect()
    }

    fn status(&self, id: PeerId) -> String {
        self.hosts[&id].process.as_ref().expect("it runs").status().to_string()
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn one_ring(world: &World) -> bool {
    let rings = world.rings();
    rings[0].is_some() && rings.iter().all(|ring| *ring == rings[0])
}

#[test]
fn whatever_is_lost_doubled_late_or_killed_there_is_one_founding_and_in_the_end_everyone_is_in_it() {
    for seed in 0..2000 {
        let mut world = World::new(seed);
        let peers = world.random.random_range(1..=5);
        let terms = Terms { peers, ..TERMS };
        let names: Vec<u8> = (1..=u8::try_from(peers).expect("few")).collect();
        let seeds = &names[..world.random.random_range(1..=peers)];
        let ids: Vec<PeerId> = names.iter().map(|name| world.add(*name, terms, seeds)).collect();
        (world.loss, world.kills) = (world.random.random_range(0..60), world.random.random_range(0..8));
        for _ in 0..world.random.random_range(1..40) {
            let stopped = |id: &&PeerId| world.hosts[*id].process.is_none();
            let stopped: Vec<PeerId> = ids.iter().filter(stopped).copied().collect();
            if !stopped.is_empty() {
                let chosen = world.random.random_range(0..stopped.len());
                world.start(stopped[chosen]);
            }
            let time = Duration::from_millis(world.random.random_range(0..1500));
            world.run(time);
        }
        (world.loss, world.kills) = (0, 0);
        let stopped: Vec<PeerId> = ids.iter().filter(|id| world.hosts[id].process.is_none()).copied().collect();
        stopped.into_iter().for_each(|id| world.start(id));
        world.run(10 * SECOND);
        assert!(one_ring(&world), "seed {seed}: {:?}", world.rings());
        let (founder, ring) = world.foundings[0];
        assert!(world.foundings.iter().all(|founding| *founding == (founder, ring)), "seed {seed}");
    }
}

#[test]
fn of_more_peers_than_were_expected_one_ring_comes_or_none_and_whoever_is_not_in_it_says_why() {
    let mut founded = 0;
    for seed in 0..500 {
        let mut world = World::new(seed);
        let ids: Vec<PeerId> = (1..=5).map(|name| world.add(name, TERMS, &[1, 2, 3, 4, 5])).collect();
        world.loss = 40;
        for id in &ids {
            world.start(*id);
            let time = Duration::from_millis(world.random.random_range(0..3000));
            world.run(time);
        }
        world.loss = 0;
        world.run(20 * SECOND);
        world.foundings.dedup();
        assert!(world.foundings.len() <= 1, "seed {seed}: {:?}", world.foundings);
        if one_ring(&world) {
            founded += 1;
        } else {
            assert_eq!(world.rings(), [None; 5], "seed {seed}");
            let said = ids.iter().any(|id| world.status(*id).contains("another one than this peer's"));
            assert!(said, "seed {seed}: {}", world.status(ids[0]));
        }
    }
    assert!(founded > 450, "{founded} of 500");
}

/// Three peers of which each has fixed the roster, and none knows it of another.
fn agreed() -> (World, [PeerId; 3]) {
    let mut world = World::new(7);
    let ids = [1, 2, 3].map(|name| world.add(name, TERMS, &[1, 2, 3]));
    let members = ids.iter().map(|id| (*id, world.hosts[id].address.clone())).collect();
    let roster = Roster { terms: TERMS, members };
    world.hosts.values_mut().for_each(|host| host.fixed = Some(roster.clone()));
    (world, ids)
}

#[test]
fn a_founder_that_was_killed_before_anyone_knew_founds_the_same_ring() {
    let (mut world, ids) = agreed();
    ids.iter().for_each(|id| world.start(*id));
    while world.foundings.is_empty() {
        world.step();
    }
    world.kill(ids[0]);
    world.events.clear();
    world.hosts.get_mut(&ids[0]).expect("the founder").ring = None; // It had not got so far as to note it.
    ids.iter().for_each(|id| world.start(*id));
    world.run(10 * SECOND);
    assert!(one_ring(&world));
    assert_eq!(world.foundings.len(), 2);
    assert_eq!(world.foundings[0], world.foundings[1]);
}

#[test]
fn a_member_that_comes_back_with_an_empty_data_directory_is_another_one_and_the_others_say_what_to_do() {
    let (mut world, ids) = agreed();
    world.hosts.remove(&ids[1]);
    let other = world.add_at(PeerId::new([9; 16]), address(2), TERMS, &[1, 2, 3]);
    [ids[0], ids[2], other].into_iter().for_each(|id| world.start(id));
    world.run(20 * SECOND);
    assert!(world.foundings.is_empty());
    let status = world.status(ids[0]);
    assert!(status.contains("waiting for 02020202 peer-2:7400 (whose data directory is lost"), "{status}");
    let status = world.status(other);
    assert!(status.contains("01010101, 03030303 will only found a ring of"), "{status}");
}

#[test]
fn before_anything_is_fixed_a_peer_may_be_replaced() {
    let mut world = World::new(3);
    let ids = [1, 2].map(|name| world.add(name, TERMS, &[1, 2, 3]));
    ids.iter().for_each(|id| world.start(*id));
    world.run(4 * SECOND);
    let status = world.status(ids[0]);
    assert_eq!(status, "waiting for 3 peers: know 2 (01010101 peer-1:7400, 02020202 peer-2:7400)");
    world.hosts.remove(&ids[1]);
    world.run(5 * SECOND);
    assert!(world.status(ids[0]).contains("know 1 (01010101"));
    let others = [8, 9].map(|name| world.add_at(PeerId::new([name; 16]), address(name - 6), TERMS, &[1, 2, 3]));
    others.iter().for_each(|id| world.start(*id));
    world.run(10 * SECOND);
    assert!(one_ring(&world), "{:?}", world.rings());
}

#[test]
fn peers_with_other_flags_are_named_and_found_nothing_together() {
    let mut world = World::new(1);
    let here = world.add(1, TERMS, &[1, 2, 3]);
    world.add(2, TERMS, &[1, 2, 3]);
    let there = world.add(3, Terms { replicas: 2, ..TERMS }, &[1, 2, 3]);
    [here, PeerId::new([2; 16]), there].into_iter().for_each(|id| world.start(id));
    world.run(10 * SECOND);
    assert!(world.foundings.is_empty());
    let status = world.status(here);
    assert!(status.contains("03030303 (peer-3:7400) was started with --expect 3 --replicas 2"), "{status}");
    assert!(world.status(there).contains("01010101 (peer-1:7400) was started with --expect 3 --replicas 3"));
}

#[test]
fn whoever_finds_a_ring_among_its_seeds_joins_it() {
    for seed in 0..200 {
        let mut world = World::new(seed);
        let ids: Vec<PeerId> = (1..=4).map(|name| world.add(name, TERMS, &[1, 2, 3, 4])).collect();
        let ring = Ring { id: RingId([5; 16]), replicas: 2, slot_bits: SlotBits::DEFAULT, mode: Mode::Chain };
        world.hosts.get_mut(&ids[3]).expect("it was added").ring = Some(ring);
        ids.iter().for_each(|id| world.start(*id));
        world.run(10 * SECOND);
        assert!(world.foundings.is_empty(), "seed {seed}");
        assert_eq!(world.rings(), [Some(ring.id); 4], "seed {seed}");
    }
}

#[test]
fn a_ring_of_other_terms_is_neither_joined_nor_founded_beside() {
    let mut world = World::new(1);
    let ids = [1, 2].map(|name| world.add(name, Terms { peers: 1, ..TERMS }, &[1, 2]));
    let slot_bits = SlotBits::new(5).expect("in range");
    let ring = Ring { id: RingId([5; 16]), replicas: 3, slot_bits, mode: Mode::Chain };
    world.hosts.get_mut(&ids[1]).expect("it was added").ring = Some(ring);
    ids.iter().for_each(|id| world.start(*id));
    world.run(10 * SECOND);
    assert_eq!(world.rings()[0], None);
    assert!(world.status(ids[0]).contains("founded with --slot-bits 5 --mode chain"), "{}", world.status(ids[0]));
}

#[test]
fn one_that_is_expected_founds_alone_and_at_once() {
    let mut world = World::new(1);
    let id = world.add(1, Terms { peers: 1, ..TERMS }, &[1]);
    world.start(id);
    assert!(one_ring(&world));
    assert_eq!(world.now, Duration::ZERO);
}
