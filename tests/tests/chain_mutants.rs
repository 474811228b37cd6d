//! Each rule that protects chain mode is needed: with one switched off, the simulator finds what it prevents.
//!
//! | rule switched off | kept seed | what it finds |
//! |---|---|---|
//! | `decide_after_levelling` | 7 | members without the data: a slot that serves nobody any more |
//! | `frontier_in_view` | 7 | a history that is not linearizable |
//! | `ready_not_shortened` | 315 | as the first |
//! | `older_views_first` | 81 | as the first |
//! | `electors_from_view` | 1 | two views of one epoch |
//! | `electors_odd_and_kept` | 8 | a slot that no majority can be found for any more |
//! | `fsync_before_reply` | 76 | a history that is not linearizable |
//! | `adopts_accepted` | 173 | two views of one epoch |
//! | `accepts_at_view` | 3 | two views of one epoch |
//! | `lease_from_sending` | 155 | a history that is not linearizable |
//! | `pending_apart` | 0 | the same |
//! | `restart_seals` | 7 | the same |
//! | `answers_are_reads` | 0 | the same |
//! | `dedup_in_entry` | 1 | the same |
//! | `fresh_frontier` | 15 | the same |
//!
//! The others are not found by the first few hundred seeds; `NOT_FOUND` names them. A change of the protocols changes what
//! a seed does. If a kept one finds nothing any more, look for another: `sim chains --first --without RULE`.

use dht_core::Rules;
use dht_tests::sim::scenario::{Trials, tried};

const LINEARIZABLE: &str = "is not linearizable";
const TWO_VIEWS: &str = "two views of one epoch";
const NO_REST: &str = "did not come to rest";

const FOUND: &[(&str, u64, &str)] = &[
    ("decide_after_levelling", 7, NO_REST),
    ("frontier_in_view", 7, LINEARIZABLE),
    ("ready_not_shortened", 315, NO_REST),
    ("older_views_first", 81, NO_REST),
    ("electors_from_view", 1, TWO_VIEWS),
    ("electors_odd_and_kept", 8, NO_REST),
    ("fsync_before_reply", 76, LINEARIZABLE),
    ("adopts_accepted", 173, TWO_VIEWS),
    ("accepts_at_view", 3, TWO_VIEWS),
    ("lease_from_sending", 155, LINEARIZABLE),
    ("pending_apart", 0, LINEARIZABLE),
    ("restart_seals", 7, LINEARIZABLE),
    ("answers_are_reads", 0, LINEARIZABLE),
    ("dedup_in_entry", 1, LINEARIZABLE),
    ("fresh_frontier", 15, LINEARIZABLE),
];

/// Rules that no seed was found for: the trials are too mild for them so far.
const NOT_FOUND: &[&str] = &[
    "member_in_quorum",
    "accept_seals",
    "waits_out_grants",
    "grants_at_same_epoch",
    "reregister_after_restart",
    "waits_after_boot",
    "lease_sampled_at_use",
    "commit_on_all",
    "sealed_acks_nothing",
    "unseals_listed_only",
    "records_failures",
    "install_before_use",
    "transfers_replace",
];

/// Rules of the overlay and of eventual mode: `overlay_mutants.rs` and `replication.rs` see to them.
const OTHERS: &[&str] = &[
    "verify_candidate",
    "adopt_whole_list",
    "rectify_checks_predecessor",
    "busy_defers",
    "join_takes_list",
    "basis_before_synced",
    "loss_ends_synced",
    "holders_confirm_deletions",
];

#[test]
fn each_rule_prevents_something() {
    let wrong: Vec<String> = FOUND.iter().filter_map(|(rule, seed, what)| not_needed(rule, *seed, what)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn not_needed(rule: &str, seed: u64, what: &str) -> Option<String> {
    let rules = Rules::without(rule).expect("a rule of that name");
    let mut config = Trials::config(seed);
    config.rules = rules;
    match tried(config, Trials::default()) {
        Err(failure) if failure.what.contains(what) => None,
        Err(failure) => Some(format!("{rule}: found something else: {failure}")),
        Ok(_) => Some(format!("{rule}: seed {seed} finds nothing any more")),
    }
}

#[test]
fn with_all_rules_the_same_seeds_find_nothing() {
    for (rule, seed, _) in FOUND {
        if let Err(failure) = tried(Trials::config(*seed), Trials::default()) {
            panic!("kept for {rule}: {failure}");
        }
    }
}

#[test]
fn no_rule_is_forgotten() {
    let listed = || FOUND.iter().map(|(rule, ..)| rule).chain(NOT_FOUND).chain(OTHERS);
    for rule in Rules::NAMES {
        assert_eq!(listed().filter(|name| *name == rule).count(), 1, "{rule} should be in one of the lists");
    }
    assert_eq!(listed().count(), Rules::NAMES.len());
}
