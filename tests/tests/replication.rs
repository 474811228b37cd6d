//! Eventual replication in the simulator: each test is a claim.
//!
//! To replay one seed of any test: `DHT_SEED=17 cargo test --test replication the_claim`.

mod seeds;

use dht_core::Rules;
use dht_tests::sim::{
    WorldConfig,
    scenario::{Outcome, Shaking, flooded, shaken},
};
use seeds::for_seeds;

#[test]
fn an_acknowledged_write_survives_joins_failures_restarts_and_departures() {
    for nodes in [1, 4] {
        for_seeds(0..20, |seed| shaken(Shaking::config(seed, nodes), Shaking::default()));
    }
}

#[test]
fn an_acknowledged_write_survives_cut_links() {
    for_seeds(0..20, |seed| {
        let mut config = Shaking::config(seed, 1);
        // Whoever is cut off is taken for dead, and takes the others for dead.
        config.check_invariant = false;
        shaken(config, Shaking { cuts: 0.1, ..Shaking::default() })
    });
}

#[test]
fn an_acknowledged_write_survives_a_network_that_loses_and_doubles() {
    for_seeds(0..20, |seed| {
        let mut config = Shaking::config(seed, 1);
        (config.net.loss, config.net.duplicates, config.check_invariant) = (0.02, 0.05, false);
        // A comparison that gets lost is begun anew after some time.
        config.data.as_mut().expect("it has data").grace *= 2;
        shaken(config, Shaking::default())
    });
}

#[test]
fn no_key_is_denied_while_peers_flood_in() {
    for joiners in [3, 6] {
        for_seeds(0..15, |seed| flooded(Shaking::config(seed, 1), Shaking::default(), joiners));
    }
}

/// Without the rule one of the first seeds breaks a promise, with it that seed does not.
fn is_needed(rules: Rules, run: impl Fn(WorldConfig) -> Outcome) {
    let breaks = |seed: &u64| {
        let found = run(WorldConfig { rules, ..Shaking::config(*seed, 1) }).err();
        found.is_some_and(|failure| {
            failure.what.contains("the write") || failure.what.contains("the acknowledged write")
        })
    };
    let seed = (0..30).find(breaks).expect("the rule prevents nothing");
    if let Err(failure) = run(Shaking::config(seed, 1)) {
        panic!("with all rules: {failure}");
    }
}

#[test]
fn a_replica_without_a_basis_must_not_answer_alone() {
    let rules = Rules { basis_before_synced: false, ..Rules::ALL };
    is_needed(rules, |config| flooded(config, Shaking::default(), 6));
}

#[test]
fn replicas_must_compare_before_they_answer_alone_again_when_one_of_them_is_lost() {
    let rules = Rules { loss_ends_synced: false, ..Rules::ALL };
    is_needed(rules, |config| shaken(config, Shaking::default()));
}

#[test]
fn a_deletion_must_not_be_forgotten_before_every_holder_has_it() {
    let rules = Rules { holders_confirm_deletions: false, ..Rules::ALL };
    is_needed(rules, |config| shaken(config, Shaking::default()));
}
