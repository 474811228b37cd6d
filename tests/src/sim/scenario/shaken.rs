//! Rings with data that are shaken: what was acknowledged must survive, and come to rest where it belongs.

use std::time::Duration;

use bytes::Bytes;
use dht_core::{
    overlay::Phase,
    record::{Content, KeyspaceId, RecordKey},
    replication::eventual::Digests,
    ring::{Slot, SlotBits},
};
use rand::{RngExt, seq::IndexedRandom};

use super::{Outcome, PATIENCE, SECOND, become_ideal, failure, gap};
use crate::sim::{DataConfig, World, WorldConfig};

/// How a ring with data is shaken.
#[derive(Clone, Copy, Debug)]
pub struct Shaking {
    /// For how long.
    pub time: Duration,
    /// How many peers are up at the beginning.
    pub peers: usize,
    /// Writes per second, each to one of `keys` keys.
    pub writes: f64,
    /// Keys that are written to.
    pub keys: u32,
    /// Replicas that must have a write on disk before it is acknowledged.
    pub min_durable: usize,
    /// Joins, failures, restarts and departures per second, together.
    pub upheavals: f64,
    /// Cuts of one peer's links per second; each lasts for up to 10 s.
    pub cuts: f64,
}

impl Shaking {
    /// The worlds that tests shake: six peers, 16 slots, clocks up to half a second apart.
    #[must_use]
    pub fn config(seed: u64, nodes: u32) -> WorldConfig {
        let mut config = WorldConfig::new(seed);
        config.overlay.nodes = nodes;
        config.slot_bits = SlotBits::new(4).expect("four bits are fine");
        let mut data = DataConfig { clock_skew: SECOND / 2, ..DataConfig::default() };
        // Nothing is on its way for longer than 20 ms here.
        (data.eventual.compare_every, data.eventual.tombstone_grace) = (SECOND * 5, SECOND * 5);
        config.data = Some(data);
        config
    }
}

impl Default for Shaking {
    /// A minute with an upheaval every four seconds.
    fn default() -> Self {
        Self { time: SECOND * 60, peers: 6, writes: 20.0, keys: 60, min_durable: 2, upheavals: 0.25, cuts: 0.0 }
    }
}

/// A ring takes writes while peers join, die, come back and depart, and is then left alone until everything is where
/// it belongs. A peer dies only while others have all that was acknowledged: what nobody has left is nobody's promise.
///
/// # Errors
/// If a promise is broken, or the ring or its data do not come to rest.
pub fn shaken(config: WorldConfig, shaking: Shaking) -> Outcome {
    let mut world = World::new(config);
    world.found();
    for _ in 1..shaking.peers {
        world.join(&[0]);
    }
    (world, _) = become_ideal(world)?;
    let end = world.now + shaking.time;
    let rates = [shaking.writes, shaking.upheavals, shaking.cuts];
    let mut next = rates.map(|rate| world.now + gap(&mut world, rate));
    let mut healed = None;
    while world.violation.is_none() {
        let which = (0..rates.len()).min_by_key(|which| next[*which]).unwrap_or(0);
        let at = next[which].min(healed.unwrap_or(end));
        if at >= end {
            break;
        }
        world.run_for(at.saturating_sub(world.now));
        if healed == Some(at) {
            world.heal();
            healed = None;
            continue;
        }
        match which {
            0 => {
                let key = world.random().random_range(0..shaking.keys);
                write(&mut world, key, shaking.min_durable);
            }
            1 => upheaval(&mut world, shaking.peers),
            _ if healed.is_none() => healed = Some(at + cut(&mut world)),
            _ => {}
        }
        next[which] = at + gap(&mut world, rates[which]);
    }
    world.heal();
    down(&world).into_iter().for_each(|host| world.restart(host));
    (world, _) = become_ideal(world)?;
    // Who is cut off at the moment when it departs has said goodbye to nobody: it counts as one that may come back.
    come_to_rest(world, shaking.cuts == 0.0)
}

/// A ring of one takes writes; then so many peers join at once, or one soon after the other, while nobody writes. As
/// nothing new is acknowledged, no replica may answer alone and deny anything at any moment.
///
/// # Errors
/// If one does, or the ring or its data do not come to rest.
pub fn flooded(mut config: WorldConfig, shaking: Shaking, joiners: usize) -> Outcome {
    if let Some(data) = &mut config.data {
        data.grace = Duration::ZERO;
    }
    let mut world = World::new(config);
    world.found();
    (world, _) = become_ideal(world)?;
    for key in 0..shaking.keys {
        write(&mut world, key, 1);
    }
    world.run_for(SECOND);
    let between = SECOND * world.random().random_range(0..3);
    for _ in 0..joiners {
        world.join(&[0]);
        let gap = world.random().random_range(Duration::ZERO..=between);
        world.run_for(gap);
    }
    (world, _) = become_ideal(world)?;
    come_to_rest(world, true)
}

/// Waits until every slot is whole where it belongs and nowhere else, and deletions are forgotten.
fn come_to_rest(mut world: World, forgets: bool) -> Outcome {
    let wrong = |world: &World| unrest(world).or_else(|| remembered(world).filter(|_| forgets));
    let start = world.now;
    let rests = world.run_until(start + PATIENCE, |world| wrong(world).is_none());
    if let Some(violation) = world.violation.clone() {
        return Err(failure(&world, violation));
    }
    if !rests {
        let what = wrong(&world).unwrap_or_default();
        return Err(failure(&world, format!("the data did not come to rest in {PATIENCE:?}: {what}")));
    }
    let time = world.now - start;
    Ok((world, time))
}

/// What is not yet where it belongs.
fn unrest(world: &World) -> Option<String> {
    world.config.slot_bits.iter().find_map(|slot| unrest_of(world, slot))
}

/// A deletion that is not forgotten, though every holder could confirm it.
fn remembered(world: &World) -> Option<String> {
    let everyone_is_up = world.hosts.iter().all(|host| host.data.is_none() || host.state.is_some());
    let deletions = |host: usize| {
        let store = &world.hosts[host].data.as_ref()?.store;
        let mut digests = world.config.slot_bits.iter().map(|slot| (slot, store.digest(slot)));
        let (slot, _) = digests.find(|(_, digest)| digest.records > digest.values)?;
        Some(format!("host {host} still remembers deletions in slot {slot}"))
    };
    world.live().find_map(|(host, _)| deletions(host)).filter(|_| everyone_is_up)
}

fn unrest_of(world: &World, slot: Slot) -> Option<String> {
    let live: Vec<_> = world.live().filter_map(|(host, _)| Some((host, world.hosts[host].data.as_ref()?))).collect();
    let Some(group) = live.iter().find_map(|(_, data)| data.group(slot)) else {
        return Some(format!("nobody knows who should hold slot {slot}"));
    };
    let members = || live.iter().filter(|(host, _)| group.contains(&world.hosts[*host].id));
    let digest = members().next().map(|(_, data)| data.store.digest(slot)).unwrap_or_default();
    for (host, data) in &live {
        if data.group(slot).is_some_and(|other| other != group) {
            return Some(format!("host {host} sees another group for slot {slot}"));
        }
        let held = data.store.digest(slot);
        if !group.contains(&world.hosts[*host].id) {
            if !held.is_empty() {
                return Some(format!("host {host} still holds slot {slot}"));
            }
        } else if !held.same(&digest) || !data.synced(slot) {
            return Some(format!("host {host} is not level with the others of slot {slot}"));
        }
    }
    None
}

/// Some replica takes a write; a fifth of them are deletes.
fn write(world: &mut World, key: u32, min_durable: usize) {
    let at = RecordKey { keyspace: KeyspaceId::DEFAULT, key: Bytes::from(format!("key-{key}")) };
    let value: u64 = world.random().random();
    let deletes = world.random().random_bool(0.2);
    let content =
        if deletes { Content::Tombstone } else { Content::Value(Bytes::copy_from_slice(&value.to_be_bytes())) };
    let hosts = world.hosts.len();
    let first = world.random().random_range(0..hosts);
    for host in (first..hosts).chain(0..first) {
        if world.write(host, at.clone(), content.clone(), min_durable) {
            return;
        }
    }
}

fn upheaval(world: &mut World, peers: usize) {
    let members: Vec<usize> = world
        .live()
        .filter(|(_, state)| state.phase() == Phase::Member && !state.me().leaving)
        .map(|it| it.0)
        .collect();
    let down: Vec<usize> =
        (0..world.hosts.len()).filter(|host| world.hosts[*host].data.is_some() && world.finds_back(*host)).collect();
    let Some(&chosen) = members.choose(world.random()) else { return };
    match world.random().random_range(0..4) {
        0 if members.len() < peers + 3 => drop(world.join(&[chosen])),
        1 if members.len() > world.config.replicas && world.can_do_without(chosen) => world.kill(chosen),
        2 => {
            if let Some(&back) = down.choose(world.random()) {
                world.restart(back);
            }
        }
        3 if members.len() > world.config.replicas => world.leave(chosen),
        _ => {}
    }
}

/// The peers that are down and can come back.
fn down(world: &World) -> Vec<usize> {
    (0..world.hosts.len()).filter(|host| world.hosts[*host].data.is_some() && world.finds_back(*host)).collect()
}

/// Cuts a peer off, and tells for how long.
fn cut(world: &mut World) -> Duration {
    let hosts = world.hosts.len();
    let alone = world.random().random_range(0..hosts);
    world.split(|host| u8::from(host == alone));
    world.random().random_range(SECOND / 10..SECOND * 10)
}
