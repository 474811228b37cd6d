//! A ring of real processes in chain mode under load and faults, and a checker of what its clients saw.

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use dht_tests::{
    process::{Network, Ring},
    torture::{Fault, Load, torture},
};

/// A ring of real processes in chain mode under load and faults, and a checker of what its clients saw. Faults of the network
/// take root, iproute2 and nftables.
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
    /// Fail if fewer operations are answered: too little was tried.
    #[arg(long, default_value_t = 0)]
    at_least: usize,
    /// Operations per second.
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// Everything random comes from it, but for what the machine does.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { fault, seconds, peers, at_least, rate, seed } = Arguments::parse();
    let (founding, arguments): (&[&str], &[&str]) = (&[], &["--nodes", "4"]);
    let mut ring = if fault.needs_network() {
        match Network::new(peers) {
            Ok(network) => Ring::start_apart(network, founding, arguments).await,
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::FAILURE;
            }
        }
    } else {
        Ring::start(peers, founding, arguments).await
    };
    let load = Load { rate, ..Load::default() };
    let report = torture(&mut ring, load, fault, Duration::from_secs(seconds), seed).await;
    println!("{report}");
    let enough = report.answered() >= at_least;
    if !enough {
        println!("too few operations were answered: {at_least} are asked for");
    }
    if report.is_good() && enough { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
