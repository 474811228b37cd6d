//! The checker of linearizability: what it accepts, what it refuses, and how fast.
//!
//! It stands against histories written by hand, against every order of small ones, and against large ones from a
//! register that is linearizable because it is one.

#[path = "linearizability/brute.rs"]
mod brute;
#[path = "linearizability/build.rs"]
mod build;
#[path = "linearizability/by_hand.rs"]
mod by_hand;
#[path = "linearizability/register.rs"]
mod register;

use std::time::{Duration, Instant};

use bytes::Bytes;
use dht_tests::linearizability::{Operation, Verdict};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use build::check;
use register::{Kind, Mix};

#[test]
fn it_says_of_small_histories_what_trying_every_order_says() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..8000 {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let operations = small(rng);
        let expected = brute::linearizable(&operations);
        let found = check(operations.iter().cloned());
        let listed = || operations.iter().map(Operation::to_string).collect::<Vec<_>>().join("\n");
        assert_eq!(found.is_linearizable(), expected, "seed {seed}:\n{}\n{found}", listed());
        assert!(!matches!(found, Verdict::Unknown { .. }), "seed {seed}");
        if expected { good += 1 } else { bad += 1 }
    }
    println!("{good} linearizable, {bad} not");
    assert!(good > 2000 && bad > 2000, "{good} linearizable, {bad} not: one of them is hardly tested");
}

/// Up to six operations of up to four clients, few values, often with something changed.
fn small(rng: &mut ChaCha8Rng) -> Vec<Operation> {
    let mix = Mix {
        operations: rng.random_range(2..=6),
        clients: rng.random_range(1..=4),
        kind: [Kind::Values(1), Kind::Values(2), Kind::Values(3), Kind::Counters, Kind::UpAndDown]
            [rng.random_range(0..5)],
        unknown: rng.random_range(0.0..0.5),
        told: [0.0, 0.5, 1.0][rng.random_range(0..3)],
        deletes: 0.2,
        ..Mix::default()
    };
    let mut operations = register::run(&mix, Bytes::from("key"), rng);
    for _ in 0..rng.random_range(0..=3) {
        register::change(&mut operations, rng, true);
    }
    operations
}

/// The mixes of large histories: with revisions and without, values and counters.
fn large_mixes() -> impl Iterator<Item = Mix> {
    let kinds = [
        (Kind::Unique, 0.0),
        (Kind::Unique, 1.0),
        (Kind::Values(8), 1.0),
        (Kind::Counters, 0.0),
        (Kind::Counters, 1.0),
    ];
    kinds.into_iter().map(|(kind, told)| Mix {
        operations: 800,
        clients: 10,
        unknown: 0.05,
        kind,
        told,
        ..Mix::default()
    })
}

#[test]
fn what_a_register_did_is_linearizable() {
    for mix in large_mixes() {
        let begun = Instant::now();
        for seed in 0..10 {
            let operations = register::run(&mix, Bytes::from("key"), &mut ChaCha8Rng::seed_from_u64(seed));
            let found = check(operations.iter().cloned());
            assert!(found.is_linearizable(), "{mix:?}, seed {seed}: {found}");
        }
        println!("{mix:?}: {:?} each", begun.elapsed() / 10);
    }
}

#[test]
fn one_changed_answer_is_found_in_a_large_history() {
    large_mixes().for_each(|mix| refuses_changed(&mix, 40));
}

/// Of so many histories with one answer changed, most are refused; the change may have made no difference.
fn refuses_changed(mix: &Mix, histories: u64) {
    let (mut refused, mut unknown, mut longest) = (0, 0, Duration::ZERO);
    for seed in 0..histories {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut operations = register::run(mix, Bytes::from("key"), rng);
        register::change(&mut operations, rng, false);
        let begun = Instant::now();
        match check(operations.iter().cloned()) {
            Verdict::Linearizable => {}
            Verdict::Violation(_) => refused += 1,
            Verdict::Unknown { .. } => unknown += 1,
        }
        longest = longest.max(begun.elapsed());
    }
    println!("{mix:?}: of {histories} changed ones {refused} refused, {unknown} unknown, {longest:?} the longest");
    assert!(refused * 10 >= histories * 8 && unknown == 0, "{mix:?}: {refused} refused, {unknown} unknown");
}

/// As clients of real processes do it: 16 that write, 16 that read.
fn many_clients(told: f64, unknown: f64) -> Mix {
    Mix { operations: 500, clients: 32, readers: 16, told, unknown, ..Mix::default() }
}

#[test]
fn many_keys_of_many_clients_are_checked_in_seconds() {
    for (told, unknown) in [(1.0, 0.05), (1.0, 0.3), (0.0, 0.05)] {
        let rng = &mut ChaCha8Rng::seed_from_u64(1);
        let mix = many_clients(told, unknown);
        let run = |key| register::run(&mix, Bytes::from(format!("key-{key}")), rng);
        let operations: Vec<Operation> = (0..200).flat_map(run).collect();
        let begun = Instant::now();
        let found = check(operations.iter().cloned());
        let took = begun.elapsed();
        println!("{} operations, 200 keys, told {told}, unknown {unknown}: {took:?}", operations.len());
        assert!(found.is_linearizable(), "{found}");
        assert!(took < Duration::from_secs(60), "{took:?}");
    }
}

#[test]
fn one_changed_answer_among_many_clients_is_found() {
    for (told, unknown) in [(1.0, 0.05), (1.0, 0.3), (0.0, 0.02)] {
        refuses_changed(&many_clients(told, unknown), 40);
    }
}
