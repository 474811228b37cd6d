//! Chain mode in the simulator: each test is a claim.
//!
//! To replay one seed: `DHT_SEED=17 cargo test --test chains whatever_fails`.

mod seeds;

use dht_tests::sim::scenario::{Trials, tried};
use seeds::for_seeds;

#[test]
fn every_history_is_linearizable_whatever_fails() {
    for_seeds(0..200, |seed| {
        let (_, counts) = tried(Trials::config(seed), Trials::default())?;
        assert!(counts.answered >= 500 && counts.faults >= 20 && counts.views >= 2, "seed {seed}: {counts:?}");
        Ok(())
    });
}
