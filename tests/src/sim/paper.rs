//! The experiments of the Chord paper (IEEE/ACM ToN 2003, section V), with its figures beside ours.
//!
//! As there, successor lists have r = 20 entries, each peer has one node, and lookups go by fingers.

use std::time::Duration;

use dht_core::{
    overlay::Routing,
    ring::{Id, PeerId},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    Maintenance, World, WorldConfig,
    scenario::{self, Churn, SECOND, random_id, some_member},
};

/// r of the paper's simulations.
pub const SUCCESSORS: usize = 20;

/// Peers in the experiments with failures.
pub const PEERS: usize = 1000;

/// Table II: share of failed nodes, mean path length, mean number of time-outs.
pub const FAILURES: [(f64, f64, f64); 6] =
    [(0.0, 3.84, 0.0), (0.1, 4.03, 0.60), (0.2, 4.22, 1.17), (0.3, 4.44, 2.02), (0.4, 4.69, 3.23), (0.5, 5.09, 5.10)];

/// Table III: joins and failures per second, mean path length, mean number of time-outs, failures of 10,000 lookups.
pub const CHURN: [(f64, f64, f64, u32); 8] = [
    (0.05, 3.90, 0.05, 0),
    (0.10, 3.83, 0.11, 0),
    (0.15, 3.84, 0.16, 2),
    (0.20, 3.81, 0.23, 5),
    (0.25, 3.83, 0.30, 6),
    (0.30, 3.91, 0.34, 8),
    (0.35, 3.94, 0.42, 16),
    (0.40, 4.06, 0.46, 15),
];

/// What many lookups came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lookups {
    /// How many set out.
    pub asked: usize,
    /// How many were answered.
    pub answered: usize,
    /// How many of the answers named a node that was the owner at no moment.
    pub wrong: usize,
    /// Mean path length of those answered: hops after the node that was asked.
    pub path: f64,
    /// Its 99th percentile.
    pub path_p99: usize,
    /// Mean number of messages of a lookup that went to a dead peer: what the paper calls time-outs. Lookups that peers
    /// make for their own ends (fingers, joins, reconciliation) are no part of it.
    pub timeouts: f64,
}

/// Section V-C: lookups in an ideal ring at rest.
#[must_use]
pub fn path_length(seed: u64, peers: usize, lookups: usize) -> Lookups {
    let mut world = World::settled(config(seed), peers, 1);
    world.maintenance = Maintenance::Off;
    ask(&mut world, lookups);
    Tally::default().add(&world).lookups()
}

/// The mean path length to be reached in a ring of `peers`: half of the distance's bits (section V-C), of which a
/// successor list spares the last log2 r, and one hop from the predecessor to the owner. Once everyone is in
/// everyone's list it is one hop, unless the asked node is the owner itself.
#[must_use]
pub fn path_goal(peers: usize) -> f64 {
    let peers = peers as f64;
    let by_fingers = 0.5 * peers.log2() - 0.5 * (SUCCESSORS as f64).log2() + 1.0;
    by_fingers.max(1.0 - 1.0 / peers)
}

/// The 99th percentile of the path length in a ring of `peers` at equal distances with ideal tables, if nobody keeps the
/// successor lists of its fingers (the paper's Chord, not ours): each finger takes
/// the first bit of what is left of the way, until the successor list covers the rest. Nodes at random distances are a
/// little nearer, since a finger mostly points behind where it should.
#[must_use]
pub fn path_theory_p99(peers: usize) -> usize {
    let covered = SUCCESSORS as f64 / peers as f64;
    let hops = |way: f64| {
        let mut left = way;
        let mut hops = 1;
        while left > covered {
            left -= left.log2().floor().exp2();
            hops += 1;
        }
        hops
    };
    let mut paths: Vec<usize> = (1..peers).map(|steps| hops(steps as f64 / peers as f64)).collect();
    paths.sort_unstable();
    percentile_99(&paths)
}

/// Section V-B: keys of each peer by the identifiers of its nodes; the 99th percentile over the mean.
#[must_use]
pub fn load(seed: u64, peers: u32, nodes: u32, keys: u32) -> f64 {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut circle: Vec<(Id, usize)> = Vec::new();
    for peer in 0..peers {
        let id = PeerId::new(random.random());
        circle.extend((0..nodes).map(|index| (Id::of_node(id, index), peer as usize)));
    }
    circle.sort_unstable();
    let mut load = vec![0_u32; peers as usize];
    for _ in 0..keys {
        let key: [u8; 16] = random.random();
        let place = circle.partition_point(|(id, _)| *id < Id::of_key(&key));
        load[circle[place % circle.len()].1] += 1;
    }
    load.sort_unstable();
    f64::from(percentile_99(&load)) * f64::from(peers) / f64::from(keys)
}

/// What [`load`] is to be: a node's interval is exponentially distributed, so the keys of a peer are negative binomial
/// (geometric with one node). Only for so many peers that their intervals do not depend on each other.
#[must_use]
pub fn load_theory(peers: u32, nodes: u32, keys: u32) -> f64 {
    let (mean, nodes) = (f64::from(keys) / f64::from(peers), f64::from(nodes));
    let ratio = mean / (mean + nodes);
    let mut count = 0.0;
    let mut share = (1.0 - ratio).powf(nodes);
    let mut below = share;
    while below < 0.99 {
        share *= ratio * (count + nodes) / (count + 1.0);
        count += 1.0;
        below += share;
    }
    count / mean
}

/// Section V-D: a share of all peers fails at once, and nobody repairs the ring. Only the failure detector goes on,
/// for a few seconds; then it stops too, and each few lookups start from that same moment, so that none profits from
/// what earlier ones met with.
#[must_use]
pub fn failures(seed: u64, share: f64, lookups: usize) -> Lookups {
    let mut world = World::settled(config(seed), PEERS, 1);
    world.config.check_invariant = false;
    world.run_for(SECOND);
    world.maintenance = Maintenance::DetectorOnly;
    for _ in 0..(share * PEERS as f64).round() as usize {
        let victim = some_member(&mut world);
        world.kill(victim);
    }
    world.run_for(SECOND * 10);
    world.maintenance = Maintenance::Off;
    world.run_for(SECOND);
    world.dead_ends = 0;
    let mut tally = Tally::default();
    for chunk in 0..lookups.div_ceil(CHUNK) {
        let mut world = world.clone();
        world.reseed(seed.wrapping_mul(1_000_003).wrapping_add(chunk as u64));
        ask(&mut world, CHUNK);
        tally = tally.add(&world);
    }
    tally.lookups()
}

/// Section V-E: peers join and fail while lookups go on; a round of stabilisation every 30 s. The failure detector,
/// which the paper has none of, takes 3 s, and a round renews two fingers, where the paper's renews one. Ten lookups
/// set out each second, the paper's one, which takes ten times as long (2,000 at R = 0.40 have met 0.04 time-outs each).
#[must_use]
pub fn churn(seed: u64, rate: f64, lookups: usize) -> Lookups {
    let mut config = config(seed);
    config.overlay.stabilize_every = SECOND * 30;
    config.overlay.heartbeat_every = SECOND / 2;
    config.overlay.patience.suspect_after = SECOND * 2;
    config.overlay.patience.probe_for = SECOND;
    let world = World::settled(config, PEERS, 1);
    let per_second = 10.0;
    let load = Churn { rate, lookups: per_second, time: Duration::from_secs_f64(lookups as f64 / per_second) };
    let mut world = scenario::churned(world, load);
    world.run_for(SECOND * 10);
    assert_eq!(world.violation, None, "seed {seed}");
    Tally::default().add(&world).lookups()
}

fn config(seed: u64) -> WorldConfig {
    let mut config = WorldConfig::new(seed);
    config.overlay.nodes = 1;
    config.overlay.successors = SUCCESSORS;
    config.overlay.routing = Routing::Fingers;
    // All peers have measured their round trips, which the net keeps below 40 ms.
    config.overlay.patience.initial = config.overlay.patience.floor;
    config
}

fn ask(world: &mut World, lookups: usize) {
    for _ in 0..lookups {
        let (host, target) = (some_member(world), random_id(world));
        world.lookup(host, target);
        world.run_for(SECOND / 1000);
    }
    world.run_for(SECOND * 10);
}

/// The lookups of one or more worlds.
#[derive(Default)]
struct Tally {
    asked: usize,
    wrong: usize,
    dead_ends: u64,
    paths: Vec<usize>,
}

impl Tally {
    fn add(mut self, world: &World) -> Self {
        self.asked += world.answers.ended.len() + world.answers.open();
        self.wrong += world.answers.wrong.len();
        self.dead_ends += world.dead_ends;
        self.paths.extend(world.answers.found().map(|found| found.hops.len() - 1));
        self
    }

    fn lookups(mut self) -> Lookups {
        self.paths.sort_unstable();
        let answered = self.paths.len();
        Lookups {
            asked: self.asked,
            answered,
            wrong: self.wrong,
            path: self.paths.iter().sum::<usize>() as f64 / answered.max(1) as f64,
            path_p99: if answered == 0 { 0 } else { percentile_99(&self.paths) },
            timeouts: self.dead_ends as f64 / self.asked.max(1) as f64,
        }
    }
}

fn percentile_99<T: Copy>(sorted: &[T]) -> T {
    sorted[(sorted.len() * 99).div_ceil(100).max(1) - 1]
}

/// Lookups that begin with the same world.
const CHUNK: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_placement_explains_the_load_of_the_fullest_hundredth() {
        // Geometric: the first count below which 99 of 100 peers are is 232.
        assert!((load_theory(10_000, 1, 500_000) - 232.0 / 50.0).abs() < 1e-9);
        for nodes in [1, 20] {
            let (theory, found) = (load_theory(2000, nodes, 100_000), load(1, 2000, nodes, 100_000));
            assert!((found / theory - 1.0).abs() < 0.1, "{nodes} nodes: {found}, not {theory}");
        }
    }

    #[test]
    fn ideal_tables_take_seven_hops_for_one_of_a_hundred_lookups() {
        assert_eq!([256, PEERS, 16384].map(path_theory_p99), [5, 7, 9]);
    }
}
