//! Rings with chains that are shaken: every history must be linearizable, and every slot come back to the view that it
//! should have.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use dht_core::{
    overlay::Phase,
    ring::{Id, PeerId, Slot, SlotBits},
};
use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::{PATIENCE, SECOND, become_ideal, failure, gap};
use crate::sim::{ChainConfig, Load, Net, World, WorldConfig};

/// How a ring with chains is shaken.
#[derive(Clone, Copy, Debug)]
pub struct Trials {
    /// For how long at least. It goes on until so much has happened that the run says something.
    pub time: Duration,
    /// How many peers are up at the beginning.
    pub peers: usize,
    /// What clients do.
    pub load: Load,
    /// Faults per second.
    pub faults: f64,
    /// Half of the faults are processes that are stopped with notice.
    pub stops: bool,
}

impl Trials {
    /// The worlds that tests shake: two slots, and as good or bad a network and disks as the seed says.
    #[must_use]
    pub fn config(seed: u64) -> WorldConfig {
        let mut random = ChaCha8Rng::seed_from_u64(!seed);
        let mut draw = |of: [f64; 4]| *of.choose(&mut random).unwrap_or(&0.0);
        let mut config = WorldConfig::new(seed);
        config.overlay.nodes = 1;
        config.slot_bits = SlotBits::new(1).expect("one bit is fine");
        config.replicas = draw([2.0, 3.0, 3.0, 5.0]) as usize;
        config.check_invariant = false;
        (config.net.loss, config.net.duplicates) = (draw([0.0, 0.01, 0.03, 0.1]), 0.01);
        config.net.late = (draw([0.0, 0.003, 0.01, 0.03]), SECOND * 2);
        let fsync = Duration::from_secs_f64(draw([0.005, 0.005, 0.05, 0.2]));
        let mut chains = ChainConfig { fsync, ..ChainConfig::default() };
        // Three or four entries at a time, or as many as come.
        chains.chain.most_pending_bytes = draw([500.0, 16e6, 16e6, 16e6]) as usize;
        config.chains = Some(chains);
        config
    }
}

impl Default for Trials {
    fn default() -> Self {
        Self { time: SECOND * 30, peers: 5, load: Load::default(), faults: 1.0, stops: false }
    }
}

/// What a run has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Operations that were answered.
    pub answered: usize,
    /// Operations of which the outcome is not known.
    pub unknown: usize,
    /// Faults.
    pub faults: usize,
    /// Operations that were answered before the last fault was mended.
    pub answered_amid: usize,
    /// Views that came into force while clients worked, of slots of which operations were answered.
    pub views: u64,
    /// Changes of k.
    pub ks: usize,
    /// Pairs of members that only could not reach each other.
    pub pairs: usize,
    /// Processes that were stopped with notice, and had something to hand over.
    pub stops: usize,
    /// Those whose slots went on without them before they ended.
    pub handed_over: usize,
}

/// Clients work while processes are killed, stopped and restarted, links are cut, and peers join and depart; then the
/// ring is left alone until every slot has the view that it should have.
///
/// # Errors
/// If the ring or a slot does not come to rest.
pub fn tried(config: WorldConfig, trials: Trials) -> Result<(World, Counts), super::Failure> {
    let bad = config.net.clone();
    let mut world = at_rest(config, trials.peers)?;
    let before = epochs(&world);
    world.config.net = bad;
    world.start_clients(trials.load);
    let mut counts = shake(&mut world, trials);
    world.mend_cuts();
    world.config.net = good_net();
    // One that is back may be the one that another knows.
    while let Some(host) = (0..world.hosts.len()).find(|host| world.finds_back(*host)) {
        world.restart(host);
    }
    world.run_for(SECOND * 3);
    world.run_until(world.now + LONGEST, |world| answered(world) >= ANSWERED);
    world.stop_clients();
    world.run_until(world.now + PATIENCE, |world| world.running_operations() == 0);
    counts.answered = answered(&world);
    counts.unknown = world.clients.finished.len() - counts.answered;
    counts.views = changes(&world, &before);
    (world, _) = become_ideal(world)?;
    world = settle(world)?;
    let verdict = world.clients.history().check(STEPS);
    if !verdict.is_linearizable() {
        return Err(failure(&world, verdict.to_string()));
    }
    if trials.faults > 0.0 && !counts.say_something() {
        return Err(failure(&world, format!("too little has happened: {counts:?}")));
    }
    Ok((world, counts))
}

/// Two members of each slot that follow each other do not reach each other any more; both reach all others. Nothing else
/// is wrong. Returns how many commands on each slot were answered after the first seconds.
///
/// # Errors
/// If the ring or a slot does not come to rest before, or a history is not linearizable.
pub fn parted(config: WorldConfig, trials: Trials) -> Result<BTreeMap<Slot, usize>, super::Failure> {
    let mut world = at_rest(config, trials.peers)?;
    world.start_clients(trials.load);
    world.run_for(SECOND * 5);
    for slot in world.config.slot_bits.iter() {
        part_two(&mut world, slot);
    }
    world.run_for(SECOND * 5);
    let begin = world.now;
    world.run_for(trials.time);
    world.mend_cuts();
    world.stop_clients();
    world.run_until(world.now + PATIENCE, |world| world.running_operations() == 0);
    let mut written: BTreeMap<Slot, usize> = world.config.slot_bits.iter().map(|slot| (slot, 0)).collect();
    for done in &world.clients.finished {
        let slot = world.config.slot_bits.slot_of(Id::of_key(&done.at.key));
        let counts = done.command.is_some() && done.completed.is_some_and(|at| at >= begin);
        *written.entry(slot).or_default() += usize::from(counts);
    }
    let verdict = world.clients.history().check(STEPS);
    if verdict.is_linearizable() { Ok(written) } else { Err(failure(&world, verdict.to_string())) }
}

/// Faults, one after the other, until enough has happened.
fn shake(world: &mut World, trials: Trials) -> Counts {
    let mut counts = Counts::default();
    let (before, end) = (epochs(world), world.now + trials.time);
    let few = |world: &World, counts: &Counts| {
        let quiet = counts.faults < FAULTS || changes(world, &before) < VIEWS;
        world.now < end + LONGEST && (trials.faults > 0.0 && quiet || answered(world) < ANSWERED_AMONG_FAULTS)
    };
    while world.now < end || few(world, &counts) {
        let next = gap(world, trials.faults).min(SECOND * 5);
        world.run_for(next);
        if next < SECOND * 5 {
            match trials.stops && world.random().random_bool(0.5) {
                true => stop(world, &mut counts),
                false => fault(world, trials.peers, &mut counts),
            }
        }
    }
    counts.answered_amid = answered(world);
    counts
}

impl Counts {
    /// Whether so much has happened that it says something that nothing went wrong.
    fn say_something(&self) -> bool {
        let answered = self.answered >= ANSWERED && self.answered_amid >= ANSWERED_AMID;
        answered && self.faults >= FAULTS && self.views >= VIEWS
    }
}

/// The newest view of each slot.
fn epochs(world: &World) -> BTreeMap<Slot, u64> {
    let newest = |slot: Slot| Some((slot, newest(world, slot)?.epoch.number));
    world.config.slot_bits.iter().filter_map(newest).collect()
}

/// How many views have come into force since then, of slots of which operations were answered.
fn changes(world: &World, before: &BTreeMap<Slot, u64>) -> u64 {
    let answered = world.clients.finished.iter().filter(|it| it.completed.is_some());
    let slots: BTreeSet<Slot> = answered.map(|it| world.config.slot_bits.slot_of(Id::of_key(&it.at.key))).collect();
    let now = epochs(world);
    let of = |slot: &Slot| now.get(slot).zip(before.get(slot)).map_or(0, |(now, before)| now.saturating_sub(*before));
    slots.iter().map(of).sum()
}

/// A ring in which every slot has the view that it should have.
pub(super) fn at_rest(config: WorldConfig, peers: usize) -> Result<World, super::Failure> {
    let mut world = World::new(WorldConfig { net: good_net(), ..config });
    world.found();
    for _ in 1..peers {
        world.join(&[0]);
    }
    let (world, _) = become_ideal(world)?;
    settle(world)
}

/// Before and after the trials.
fn good_net() -> Net {
    Net { loss: 0.01, duplicates: 0.01, ..Net::default() }
}

fn answered(world: &World) -> usize {
    world.clients.finished.iter().filter(|it| it.completed.is_some()).count()
}

/// So many faults, views, answers while faults happen, and answers in all, every run has at least.
const FAULTS: usize = 20;
const VIEWS: u64 = 2;
const ANSWERED_AMID: usize = 50;
const ANSWERED: usize = 500;

/// Faults go on until there are so many answers, if that does not take too long.
const ANSWERED_AMONG_FAULTS: usize = 100;

/// How much longer a run may take for that. A guess.
const LONGEST: Duration = Duration::from_secs(120);

/// Of the checker, for one key. A guess.
pub(super) const STEPS: u64 = 1_000_000;

/// Waits until every slot has the view that it should have, and its members the same data.
pub(super) fn settle(mut world: World) -> Result<World, super::Failure> {
    let rests = world.run_until(world.now + PATIENCE, |world| unrest(world).is_none());
    if let Some(what) = unrest(&world).filter(|_| !rests) {
        return Err(failure(&world, format!("the chains did not come to rest in {PATIENCE:?}: {what}")));
    }
    Ok(world)
}

pub(super) fn newest(world: &World, slot: Slot) -> Option<&dht_core::view::View> {
    let views = world.live().filter_map(|(host, _)| world.hosts[host].chains.as_ref()?.state.as_ref()?.view(slot));
    views.max_by_key(|view| view.epoch)
}

fn unrest(world: &World) -> Option<String> {
    world.config.slot_bits.iter().find_map(|slot| unrest_of(world, slot))
}

fn unrest_of(world: &World, slot: Slot) -> Option<String> {
    let Some(view) = newest(world, slot) else { return Some(format!("nobody knows a view of slot {slot}")) };
    let routes = world.live().map(|(_, state)| state.routes());
    let home = routes.filter_map(|routes| routes.home_of(slot).map(|home| home.group.clone())).next();
    let chain: Vec<PeerId> = view.chain.iter().map(|member| member.peer).collect();
    if home.as_ref() != Some(&chain) {
        return Some(format!("slot {slot} is held by {chain:?} in epoch {}, not by {home:?}", view.epoch));
    }
    let mut tables = BTreeMap::new();
    for member in &view.chain {
        let host = world.host_of(member.peer);
        let chains = world.hosts[host].chains.as_ref()?;
        let serves = chains.state.as_ref().is_some_and(|state| state.serves(slot) && state.view(slot) == Some(view));
        if !serves {
            return Some(format!("host {host} does not serve slot {slot} in epoch {}", view.epoch));
        }
        tables.insert(host, chains.disk.records(slot));
    }
    let mut all = tables.values();
    let first = all.next();
    let same = all.all(|table| Some(table) == first);
    (!same).then(|| format!("the members of slot {slot} differ: {:?}", tables.keys()))
}

fn fault(world: &mut World, peers: usize, counts: &mut Counts) {
    let members: Vec<usize> = world
        .live()
        .filter(|(_, state)| state.phase() == Phase::Member && !state.me().leaving)
        .map(|it| it.0)
        .collect();
    let down: Vec<usize> = (0..world.hosts.len()).filter(|host| world.finds_back(*host)).collect();
    let long = world.random().random_range(SECOND / 20..SECOND * 3);
    counts.faults += 1;
    let Some(&chosen) = members.choose(world.random()) else {
        return world.mend_cuts();
    };
    match world.random().random_range(0..29) / 2 {
        0..2 if down.len() < 2 && members.len() > 1 => world.kill(chosen),
        0..4 => {
            if let Some(&back) = down.choose(world.random()) {
                world.restart(back);
            } else if members.len() > 1 {
                world.kill(chosen);
                world.restart(chosen);
            }
        }
        4 => world.pause(chosen, long),
        5 => world.pause_within(chosen, long),
        6 => {
            let other = *members.choose(world.random()).unwrap_or(&chosen);
            world.cut(chosen, other);
            if world.random().random_bool(0.5) {
                world.cut(other, chosen);
            }
        }
        7 => {
            let side: Vec<bool> = (0..world.hosts.len()).map(|_| world.random().random_bool(0.4)).collect();
            let one_way = world.random().random_bool(0.3);
            for from in 0..side.len() {
                for to in 0..side.len() {
                    if side[from] != side[to] && (side[from] || !one_way) {
                        world.cut(from, to);
                    }
                }
            }
        }
        8..10 => world.mend_cuts(),
        10 if members.len() < peers + 2 => {
            // Some of them may have departed before the newcomer knows others.
            let seeds: Vec<usize> = (0..world.hosts.len()).collect();
            world.join(&seeds);
        }
        11 if members.len() > peers.min(4) => world.leave(chosen),
        12 => {
            members.iter().for_each(|host| world.kill(*host));
            members.iter().for_each(|host| world.restart(*host));
        }
        13 => {
            let k = *[1, 2, 3, 3, 5].choose(world.random()).unwrap_or(&3);
            counts.ks += usize::from(k != world.config.replicas);
            world.set_replicas(k);
        }
        14 => {
            // Both reach all others, and for long enough that something has to be done about it.
            world.mend_cuts();
            let slots = world.config.slot_bits.slots();
            let slot = Slot(world.random().random_range(0..slots));
            counts.pairs += usize::from(part_two(world, slot));
            world.run_for(long * 2);
        }
        _ => {}
    }
}

/// Processes say that they are about to stop, and end a little later, whether or not others have taken over: as a rule one,
/// now and then all of them. Who is down is started again.
fn stop(world: &mut World, counts: &mut Counts) {
    counts.faults += 1;
    let down: Vec<usize> = (0..world.hosts.len()).filter(|host| world.finds_back(*host)).collect();
    let members = world.live().filter(|(_, state)| state.phase() == Phase::Member && !state.me().leaving);
    let members: Vec<usize> = members.map(|it| it.0).collect();
    if !down.is_empty() && (members.len() < 3 || world.random().random_bool(0.6)) {
        return down.into_iter().for_each(|host| world.restart(host));
    }
    let all = world.random().random_bool(0.15);
    let stopped: Vec<usize> = match members.choose(world.random()) {
        Some(one) if !all => vec![*one],
        _ => members,
    };
    for host in &stopped {
        world.stop(*host);
    }
    let had: Vec<usize> = stopped.iter().copied().filter(|host| world.handing_over(*host) > 0).collect();
    let patience = world.random().random_range(Duration::ZERO..SECOND * 3);
    let done = |world: &World| stopped.iter().all(|host| world.handing_over(*host) == 0);
    world.run_until(world.now + patience, done);
    counts.stops += had.len();
    counts.handed_over += had.iter().filter(|host| world.handing_over(**host) == 0).count();
    stopped.iter().for_each(|host| world.kill(*host));
    if all {
        stopped.into_iter().for_each(|host| world.restart(host));
    }
}

/// Two members of the slot's chain that follow each other do not reach each other any more. Whether there are such.
fn part_two(world: &mut World, slot: Slot) -> bool {
    let chain: Vec<PeerId> =
        newest(world, slot).map(|view| view.chain.iter().map(|it| it.peer).collect()).unwrap_or_default();
    let pairs: Vec<(PeerId, PeerId)> = chain.iter().copied().zip(chain.iter().copied().skip(1)).collect();
    let Some(&(one, other)) = pairs.choose(world.random()) else { return false };
    let (one, other) = (world.host_of(one), world.host_of(other));
    world.cut(one, other);
    world.cut(other, one);
    true
}
