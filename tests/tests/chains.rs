//! Chain mode in the simulator: each test is a claim.
//!
//! To replay one seed: `DHT_SEED=17 cargo test --test chains whatever_fails`.

mod seeds;

use std::sync::Mutex;

use dht_core::ring::SlotBits;
use dht_tests::sim::scenario::{Counts, Failure, Losses, Trials, parted, recovered, recovered_twice, tried};
use seeds::for_seeds;

#[test]
fn every_history_is_linearizable_whatever_fails() {
    for_seeds(0..200, |seed| {
        // It fails, too, if too little has happened.
        tried(Trials::config(seed), Trials::default())
    });
}

#[test]
fn every_history_is_linearizable_though_processes_are_stopped_with_notice_and_others_go_on_without_them() {
    let seen = Mutex::new(Counts::default());
    for_seeds(0..200, |seed| {
        let (_, counts) = tried(Trials::config(seed), Trials { stops: true, ..Trials::default() })?;
        let mut seen = seen.lock().expect("no seed has panicked");
        seen.stops += counts.stops;
        seen.handed_over += counts.handed_over;
        Ok(())
    });
    let Counts { stops, handed_over, .. } = *seen.lock().expect("no seed has panicked");
    println!("{handed_over} of {stops} that were stopped had handed over");
    assert!(stops > 100 && handed_over * 2 > stops || std::env::var("DHT_SEED").is_ok(), "{handed_over} of {stops}");
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

#[test]
fn what_a_recovery_loses_lies_within_its_bound_and_who_was_given_up_stays_out() {
    let seen = Mutex::new(Losses::default());
    for_seeds(0..100, |seed| {
        let mut config = Trials::config(seed);
        (config.replicas, config.slot_bits) = (3, SlotBits::new(2).expect("two bits are fine"));
        let losses = recovered(config)?;
        let mut seen = seen.lock().expect("no seed has panicked");
        seen.bounded += losses.bounded;
        seen.copied += losses.copied;
        seen.empty += losses.empty;
        seen.served += losses.served;
        seen.recoveries += losses.recoveries;
        seen.admitted += losses.admitted;
        Ok(())
    });
    let Losses { bounded, copied, empty, served, recoveries, admitted, .. } =
        *seen.lock().expect("no seed has panicked");
    let all = [bounded, copied, empty, served, recoveries, admitted];
    assert!(all.iter().all(|count| *count > 10) || std::env::var("DHT_SEED").is_ok(), "too little was seen: {seen:?}");
}

#[test]
fn what_two_recoveries_have_started_again_is_served_by_nobody_until_a_third() {
    for_seeds(0..40, |seed| {
        let mut config = Trials::config(seed);
        config.replicas = 3;
        recovered_twice(config)
    });
}
