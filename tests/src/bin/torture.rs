//! A ring of real processes in chain mode under load and faults, and a checker of what its clients saw.

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use dht_tests::{
    linearizability::Verdict,
    process::Ring,
    torture::{Fault, Load, torture},
};

/// A ring of real processes in chain mode under load and faults, and a checker of what its clients saw.
#[derive(Parser)]
struct Arguments {
    /// What is done to the ring.
    #[arg(value_enum)]
    fault: Fault,
    /// For how long.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// How many peers.
    #[arg(long, default_value_t = 5)]
    peers: usize,
    /// Operations per second.
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// Everything random comes from it, but for what the machine does.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { fault, seconds, peers, rate, seed } = Arguments::parse();
    let mut ring = Ring::start(peers, &[], &["--nodes", "4"]).await;
    let load = Load { rate, ..Load::default() };
    let report = torture(&mut ring, load, fault, Duration::from_secs(seconds), seed).await;
    println!(
        "{} operations answered, {} refused, {} writes of unknown outcome; {} faults; longest time without an answered \
         write {:?}",
        report.answered, report.refused, report.unknown, report.faults, report.longest_gap
    );
    println!("{}", report.verdict);
    if report.verdict == Verdict::Linearizable { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
