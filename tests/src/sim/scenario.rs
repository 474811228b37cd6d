//! What the worlds go through. Each run ends with the world, or with what went wrong and the seed that did it.

use std::time::Duration;

use dht_core::ring::Id;
use rand::RngExt;

mod chains;
mod recovered;
mod shaken;

pub use chains::{Counts, Trials, parted, tried};
pub use recovered::{Losses, recovered, recovered_twice};
pub use shaken::{Shaking, flooded, shaken};

use super::{World, WorldConfig};

/// A second of virtual time.
pub const SECOND: Duration = Duration::from_secs(1);

/// How long a ring may take to become ideal.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A run that went wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed of the run.
    pub seed: u64,
    /// What went wrong.
    pub what: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.what)
    }
}

/// How a run ended: the world, and the time that it took to become ideal.
pub type Outcome = Result<(World, Duration), Failure>;

/// One peer founds a ring, and all others join through it at once.
///
/// # Errors
/// If the ring does not become ideal, or breaks the invariant.
pub fn joins(config: WorldConfig, peers: usize) -> Outcome {
    let mut world = World::new(config);
    world.found();
    for _ in 1..peers {
        world.join(&[0]);
    }
    become_ideal(world)
}

/// An ideal ring is split into parts for some time, and heals.
///
/// # Errors
/// If the ring does not become one ideal ring again.
pub fn merge(config: WorldConfig, peers: usize, parts: u8, apart_for: Duration) -> Outcome {
    // While a ring is split, each part buries the others; no order of the whole circle holds until they have met again.
    let mut world = World::settled(WorldConfig { check_invariant: false, ..config }, peers, 1);
    world.run_for(SECOND * 2);
    let part_of: Vec<u8> = (0..peers).map(|_| world.random().random_range(0..parts)).collect();
    world.split(|host| part_of[host]);
    world.run_for(apart_for);
    world.heal();
    become_ideal(world)
}

/// A ring that winds around the circle more than once.
///
/// # Errors
/// If the ring does not become ideal.
pub fn loopy(config: WorldConfig, peers: usize, windings: usize) -> Outcome {
    become_ideal(World::settled(WorldConfig { check_invariant: false, ..config }, peers, windings))
}

/// Peers fail without a word, and new ones join, at the same rate per second; the gaps are exponentially distributed
/// (the paper, section VI-F). So many lookups per second set out from random members. At the end the ring is left
/// alone until it is ideal.
///
/// # Errors
/// If the ring does not become ideal, breaks the invariant, or a lookup names a peer that was never the owner.
pub fn churn(config: WorldConfig, peers: usize, load: Churn) -> Outcome {
    let mut world = churned(World::settled(config, peers, 1), load);
    world.run_for(SECOND * 10);
    if let Some(token) = world.answers.wrong.first() {
        let what = format!("{} lookups named a wrong owner, the first is {token}", world.answers.wrong.len());
        return Err(failure(&world, what));
    }
    become_ideal(world)
}

/// How a ring is shaken.
#[derive(Clone, Copy, Debug)]
pub struct Churn {
    /// Joins per second, and failures per second.
    pub rate: f64,
    /// Lookups per second.
    pub lookups: f64,
    /// For how long.
    pub time: Duration,
}

/// The world after a time of churn.
#[must_use]
pub fn churned(mut world: World, load: Churn) -> World {
    let end = world.now + load.time;
    let mut next = [load.rate, load.rate, load.lookups].map(|rate| (rate, Duration::ZERO));
    for (rate, at) in &mut next {
        *at = world.now + gap(&mut world, *rate);
    }
    while world.violation.is_none() {
        let which = (0..3).min_by_key(|which| next[*which].1).unwrap_or(0);
        let (rate, at) = next[which];
        if at >= end {
            break;
        }
        world.run_for(at.saturating_sub(world.now));
        let member = some_member(&mut world);
        match which {
            0 => drop(world.join(&[member])),
            1 => world.kill(member),
            _ => {
                let target = random_id(&mut world);
                world.lookup(member, target);
            }
        }
        next[which].1 = at + gap(&mut world, rate);
    }
    world.run_for(end.saturating_sub(world.now));
    world
}

/// Waits until the ring is ideal.
///
/// # Errors
/// If it takes too long, or the invariant breaks.
pub fn become_ideal(mut world: World) -> Outcome {
    let start = world.now;
    let ideal = world.run_until(start + PATIENCE, World::is_ideal);
    if let Some(violation) = world.violation.clone() {
        return Err(failure(&world, violation));
    }
    if !ideal {
        let what = format!("not ideal after {PATIENCE:?}: {}", world.what_is_wrong());
        return Err(failure(&world, what));
    }
    world.note_ideal();
    let time = world.now - start;
    Ok((world, time))
}

/// A random identifier.
pub fn random_id(world: &mut World) -> Id {
    Id::new(world.random().random())
}

/// A random live peer with at least one node in the ring.
pub fn some_member(world: &mut World) -> usize {
    let members: Vec<usize> = world.live().filter(|(_, state)| state.me().nodes > 0).map(|(host, _)| host).collect();
    members[world.random().random_range(0..members.len())]
}

fn failure(world: &World, what: String) -> Failure {
    Failure { seed: world.config.seed, what }
}

/// A gap between two events of a Poisson process.
fn gap(world: &mut World, rate: f64) -> Duration {
    if rate <= 0.0 {
        return Duration::from_secs(u64::from(u32::MAX));
    }
    let uniform: f64 = world.random().random_range(f64::EPSILON..1.0);
    Duration::from_secs_f64(-uniform.ln() / rate)
}
