//! Chain mode in rings of real processes between which links of a network are cut.

use std::time::Duration;

use dht_tests::{
    process::{Network, Ring},
    torture::{Fault, Load, torture},
};

/// Cuts links of that kind for a while. What must not be answered then, and what must, `torture` knows.
async fn cut(fault: Fault) {
    let network = Network::new(5).unwrap_or_else(|error| panic!("{error}"));
    let mut ring = Ring::start_apart(network, &["--mode", "chain", "--slot-bits", "6"], &["--nodes", "4"]).await;
    let load = Load { writers: 8, readers: 8, keys: 40, rate: 400.0, ..Load::default() };
    let report = torture(&mut ring, load, fault, Duration::from_secs(12), 1).await;
    println!("{report}");
    assert!(report.is_good(), "{report}");
    assert!(!report.faults.is_empty() && report.answered() >= 300, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "sets up a network, which takes root: cargo test -p dht-tests --test cut_links -- --ignored --test-threads 1"]
async fn of_two_parts_of_a_network_only_the_one_with_most_electors_serves_a_key() {
    cut(Fault::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "sets up a network, which takes root: cargo test -p dht-tests --test cut_links -- --ignored --test-threads 1"]
async fn peers_that_hear_but_are_not_heard_serve_nothing_without_most_electors() {
    cut(Fault::OneWay).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "sets up a network, which takes root: cargo test -p dht-tests --test cut_links -- --ignored --test-threads 1"]
async fn all_keys_are_served_while_two_peers_do_not_reach_each_other() {
    cut(Fault::Pair).await;
}
