//! Eventual replication in the simulator: each test is a claim.
//!
//! To replay one seed of any test: `DHT_SEED=17 cargo test --test replication the_claim`.

mod seeds;

use dht_core::ring::SlotBits;
use dht_tests::sim::{
    DataConfig, World, WorldConfig,
    scenario::{SECOND, Shaking, shaken},
};
use seeds::for_seeds;

fn config(seed: u64, nodes: u32) -> WorldConfig {
    let mut config = WorldConfig::new(seed);
    config.overlay.nodes = nodes;
    config.slot_bits = SlotBits::new(4).expect("four bits are fine");
    config.data = Some(DataConfig { clock_skew: SECOND / 2, ..DataConfig::default() });
    config
}

const SHAKING: Shaking = Shaking {
    time: SECOND.saturating_mul(60),
    peers: 6,
    writes: 20.0,
    keys: 60,
    min_durable: 2,
    upheavals: 0.25,
    cuts: 0.0,
};

#[test]
fn an_acknowledged_write_survives_joins_failures_restarts_and_departures() {
    for nodes in [1, 4] {
        for_seeds(0..20, |seed| shaken(World::new(config(seed, nodes)), SHAKING));
    }
}

#[test]
fn an_acknowledged_write_survives_cut_links() {
    for_seeds(0..20, |seed| {
        let mut config = config(seed, 1);
        // Whoever is cut off is taken for dead, and takes the others for dead.
        config.check_invariant = false;
        shaken(World::new(config), Shaking { cuts: 0.1, ..SHAKING })
    });
}

#[test]
fn an_acknowledged_write_survives_a_network_that_loses_and_doubles() {
    for_seeds(0..20, |seed| {
        let mut config = config(seed, 1);
        (config.net.loss, config.net.duplicates, config.check_invariant) = (0.02, 0.05, false);
        // A comparison that gets lost is begun anew after 10 s.
        config.data.as_mut().expect("it has data").grace *= 2;
        shaken(World::new(config), SHAKING)
    });
}
