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
        // A comparison that gets lost is begun anew after 10 s.
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

/// The run goes wrong without the rule, and well with it.
fn is_needed(rules: Rules, config: &WorldConfig, run: impl Fn(WorldConfig) -> Outcome) {
    let found = run(WorldConfig { rules, ..config.clone() }).err();
    let found = found.unwrap_or_else(|| panic!("seed {} finds nothing any more: look for another", config.seed));
    assert!(found.what.contains("answers alone"), "{found}");
    if let Err(failure) = run(config.clone()) {
        panic!("with all rules: {failure}");
    }
}

#[test]
fn a_replica_without_a_basis_must_not_answer_alone() {
    let rules = Rules { basis_before_synced: false, ..Rules::ALL };
    is_needed(rules, &Shaking::config(91, 1), |config| flooded(config, Shaking::default(), 6));
}

#[test]
fn replicas_must_compare_before_they_answer_alone_again_when_one_of_them_is_lost() {
    let rules = Rules { loss_ends_synced: false, ..Rules::ALL };
    is_needed(rules, &Shaking::config(59, 1), |config| shaken(config, Shaking::default()));
}

#[test]
fn a_deletion_must_not_be_forgotten_before_every_holder_has_it() {
    let rules = Rules { holders_confirm_deletions: false, ..Rules::ALL };
    is_needed(rules, &Shaking::config(54, 1), |config| shaken(config, Shaking::default()));
}
