//! Rings with chains that are shaken: every history must be linearizable, and every slot come back to the view that it
//! should have.

use std::{collections::BTreeMap, time::Duration};

use dht_core::{
    overlay::Phase,
    ring::{PeerId, Slot, SlotBits},
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
        config.chains = Some(ChainConfig { fsync, ..ChainConfig::default() });
        config
    }
}

impl Default for Trials {
    fn default() -> Self {
        Self { time: SECOND * 30, peers: 5, load: Load::default(), faults: 1.0 }
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
    /// Views beyond the first of each slot.
    pub views: u64,
}

/// Clients work while processes are killed, stopped and restarted, links are cut, and peers join and depart; then the
/// ring is left alone until every slot has the view that it should have.
///
/// # Errors
/// If the ring or a slot does not come to rest.
pub fn tried(config: WorldConfig, trials: Trials) -> Result<(World, Counts), super::Failure> {
    let mut world = World::new(config);
    let bad = world.config.net.clone();
    world.config.net = good_net();
    world.found();
    for _ in 1..trials.peers {
        world.join(&[0]);
    }
    (world, _) = become_ideal(world)?;
    world = settle(world)?;
    let mut counts = Counts::default();
    world.config.net = bad;
    world.start_clients(trials.load);
    let end = world.now + trials.time;
    let few = |world: &World, counts: &Counts| {
        let faults = trials.faults > 0.0 && counts.faults < FAULTS;
        world.now < end + LONGEST && (faults || answered(world) < ANSWERED_AMONG_FAULTS)
    };
    while world.now < end || few(&world, &counts) {
        let next = gap(&mut world, trials.faults).min(SECOND * 5);
        world.run_for(next);
        if next < SECOND * 5 {
            fault(&mut world, trials.peers, &mut counts);
        }
    }
    world.mend_cuts();
    world.config.net = good_net();
    let down: Vec<usize> = (0..world.hosts.len()).filter(|host| world.finds_back(*host)).collect();
    down.into_iter().for_each(|host| world.restart(host));
    world.run_for(SECOND * 3);
    world.run_until(world.now + LONGEST, |world| answered(world) >= ANSWERED);
    world.stop_clients();
    world.run_until(world.now + PATIENCE, |world| world.running_operations() == 0);
    (world, _) = become_ideal(world)?;
    world = settle(world)?;
    let verdict = world.clients.history().check(STEPS);
    if !verdict.is_linearizable() {
        return Err(failure(&world, verdict.to_string()));
    }
    counts.answered = answered(&world);
    counts.unknown = world.clients.finished.len() - counts.answered;
    let slots = world.config.slot_bits;
    counts.views = slots.iter().filter_map(|slot| newest(&world, slot)).map(|view| view.epoch.number - 1).sum();
    Ok((world, counts))
}

/// Before and after the trials.
fn good_net() -> Net {
    Net { loss: 0.01, duplicates: 0.01, ..Net::default() }
}

fn answered(world: &World) -> usize {
    world.clients.finished.iter().filter(|it| it.completed.is_some()).count()
}

/// So many faults, and answers while they happen, and answers in all, every run has at least.
const FAULTS: usize = 20;
const ANSWERED_AMONG_FAULTS: usize = 100;
const ANSWERED: usize = 500;

/// How much longer a run may take for that. A guess.
const LONGEST: Duration = Duration::from_secs(120);

/// Of the checker, for one key. A guess.
const STEPS: u64 = 1_000_000;

/// Waits until every slot has the view that it should have, and its members the same data.
fn settle(mut world: World) -> Result<World, super::Failure> {
    let rests = world.run_until(world.now + PATIENCE, |world| unrest(world).is_none());
    if let Some(what) = unrest(&world).filter(|_| !rests) {
        return Err(failure(&world, format!("the chains did not come to rest in {PATIENCE:?}: {what}")));
    }
    Ok(world)
}

fn newest(world: &World, slot: Slot) -> Option<&dht_core::view::View> {
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
    match world.random().random_range(0..25) / 2 {
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
        _ => {}
    }
}
