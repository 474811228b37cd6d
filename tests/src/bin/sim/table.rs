//! The table of the paper's experiments.

use dht_tests::sim::{
    paper::{self, Lookups},
    scenario::Counts,
};

/// Runs the experiments that are asked for and prints a line for each.
pub(crate) fn print(seed: u64, lookups: usize, only: &[String]) {
    let asked = |name: &str| only.iter().any(|only| only == name);
    if asked("path") {
        path(seed, lookups);
    }
    if asked("load") {
        load(seed);
    }
    if asked("failures") {
        failures(seed, lookups);
    }
    if asked("churn") {
        churn(seed, lookups);
    }
}

fn path(seed: u64, lookups: usize) {
    println!("path length in a ring at rest (section V-C)");
    for exponent in 3..=14 {
        let peers = 1 << exponent;
        path_line(seed, peers, lookups);
        if exponent == 9 {
            path_line(seed, paper::PEERS, lookups);
        }
    }
}

fn path_line(seed: u64, peers: usize, lookups: usize) {
    let Lookups { path, path_p99, answered, wrong, .. } = paper::path_length(seed, peers, lookups);
    let goal = paper::path_goal(peers);
    let theory = paper::path_theory_p99(peers);
    println!(
        "  N {peers:5}: mean {path:.2} (goal {goal:.2}), p99 {path_p99} (theory {theory}); {answered} answered, {wrong} wrong"
    );
}

fn load(seed: u64) {
    println!("keys of the 99th percentile of 10,000 peers over the mean, mean of {RUNS} runs (section V-B)");
    for (keys, nodes, goal) in [(500_000, 1, 4.6), (1_000_000, 1, 4.8), (1_000_000, 20, 1.6)] {
        let sum: f64 = (0..RUNS).map(|run| paper::load(seed + run, 10_000, nodes, keys)).sum();
        let theory = paper::load_theory(10_000, nodes, keys);
        println!("  {keys:7} keys, v {nodes:2}: {:.2} (paper {goal}, random placement {theory:.2})", sum / RUNS as f64);
    }
}

fn failures(seed: u64, lookups: usize) {
    println!("simultaneous failures, {} peers, nobody repairs (section V-D, table II)", paper::PEERS);
    for (share, path, timeouts) in paper::FAILURES {
        line(&format!("p {share:.1}"), &paper::failures(seed, share, lookups), path, timeouts);
    }
}

fn churn(seed: u64, lookups: usize) {
    println!("joins and failures while lookups go on, {} peers (section V-E, table III)", paper::PEERS);
    for (rate, path, timeouts, failed) in paper::CHURN {
        let name = format!("R {rate:.2} (paper: {failed} of 10,000 failed)");
        line(&name, &paper::churn(seed, rate, lookups), path, timeouts);
    }
}

fn line(name: &str, found: &Lookups, path: f64, timeouts: f64) {
    println!(
        "  {name}: path {:.2} (paper {path:.2}), p99 {}; time-outs {:.2} (paper {timeouts:.2}); {} of {} answered, {} wrong",
        found.path, found.path_p99, found.timeouts, found.answered, found.asked, found.wrong
    );
}

/// Runs whose mean is printed, as in the paper.
const RUNS: u64 = 20;

/// What the runs with chains have seen, in sum and at least.
pub(crate) fn print_counts(seen: &[Counts]) {
    let line = |what: &str, count: &dyn Fn(&Counts) -> u64| {
        let least = seen.iter().map(count).min().unwrap_or(0);
        println!("{what}: {} in all, {least} at least", seen.iter().map(count).sum::<u64>());
    };
    line("operations answered", &|it| it.answered as u64);
    line("of these while faults were on", &|it| it.answered_amid as u64);
    line("of unknown outcome", &|it| it.unknown as u64);
    line("faults", &|it| it.faults as u64);
    line("changes of k", &|it| it.ks as u64);
    line("pairs of members that did not reach each other", &|it| it.pairs as u64);
    line("changes of views of slots with traffic", &|it| it.views);
}
