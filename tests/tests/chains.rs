//! Chain mode in the simulator: each test is a claim.
//!
//! To replay one seed: `DHT_SEED=17 cargo test --test chains whatever_fails`.

mod seeds;

use dht_tests::sim::scenario::{Failure, Trials, parted, tried};
use seeds::for_seeds;

#[test]
fn every_history_is_linearizable_whatever_fails() {
    for_seeds(0..200, |seed| {
        // It fails, too, if too little has happened.
        tried(Trials::config(seed), Trials::default())
    });
}

#[test]
fn two_members_that_only_cannot_reach_each_other_do_not_stop_their_slot() {
    for_seeds(0..40, |seed| {
        let mut config = Trials::config(seed);
        config.replicas = 3;
        let written = parted(config, Trials::default())?;
        let stopped = written.iter().find(|(_, written)| **written < 20);
        let failure = |slot| Failure { seed, what: format!("slot {slot} takes hardly any command: {written:?}") };
        stopped.map_or(Ok(()), |(slot, _)| Err(failure(slot)))
    });
}
