//! The simulator: many seeds of one scenario, with a line for each that fails and a summary; and the
//! experiments of the Chord paper.

mod table;

use std::{
    ops::Range,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::{Args, Parser, Subcommand};
use dht_core::Rules;
use dht_tests::sim::{
    WorldConfig,
    scenario::{self, Churn, Outcome, SECOND, Shaking, Trials},
};

/// Many seeds of one scenario.
#[derive(Parser)]
struct Sim {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// All peers join one at once.
    Joins(Soak),
    /// A ring is split, and heals; with --windings, one that winds around the circle that often untangles.
    Merge {
        #[command(flatten)]
        soak: Soak,
        /// How many parts.
        #[arg(long, default_value_t = 2)]
        parts: u8,
        /// How long the parts are apart, in seconds.
        #[arg(long, default_value_t = 15)]
        apart: u64,
        /// Nothing is split; the ring winds around the circle so many times.
        #[arg(long)]
        windings: Option<usize>,
    },
    /// The experiments of the Chord paper, its figures beside ours.
    Paper {
        /// Everything random comes from it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Lookups of each experiment.
        #[arg(long, default_value_t = 10_000)]
        lookups: usize,
        /// Only these: path, load, failures, churn.
        #[arg(long, value_delimiter = ',', default_value = "path,load,failures,churn")]
        only: Vec<String>,
    },
    /// A ring with data is shaken; with --without, one of the rules that protect the data is off.
    Shaken {
        #[command(flatten)]
        soak: Soak,
        /// Cuts of one peer's links per second.
        #[arg(long, default_value_t = 0.0)]
        cuts: f64,
        /// Writes per second.
        #[arg(long, default_value_t = 20.0)]
        writes: f64,
        /// Replicas that must have a write on disk before it is acknowledged.
        #[arg(long, default_value_t = 2)]
        min_durable: usize,
        /// Instead of all that: one peer, and so many join at once.
        #[arg(long)]
        joiners: Option<usize>,
        /// The rule that is off.
        #[arg(long, value_parser = parse_rule)]
        without: Option<Rules>,
    },
    /// A ring with chains is tried; with --without, one of the rules that protect them is off.
    Chains {
        #[command(flatten)]
        soak: Soak,
        /// How long, in seconds.
        #[arg(long, default_value_t = 30)]
        seconds: u64,
        /// Faults per second.
        #[arg(long, default_value_t = 1.0)]
        faults: f64,
        /// Half of the faults are processes that are stopped with notice.
        #[arg(long)]
        stops: bool,
        /// The rule that is off.
        #[arg(long, value_parser = parse_rule)]
        without: Option<Rules>,
    },
    /// Peers join and fail while lookups go on.
    Churn {
        #[command(flatten)]
        soak: Soak,
        /// Joins, and failures, per second.
        #[arg(long, default_value_t = 0.4)]
        rate: f64,
        /// How long, in seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

#[derive(Args, Clone)]
struct Soak {
    /// First and last seed + 1, as in 0..200.
    #[arg(long, value_parser = parse_range, default_value = "0..20")]
    seeds: Range<u64>,
    /// How many peers.
    #[arg(long, default_value_t = 200)]
    peers: usize,
    /// v: nodes of each peer.
    #[arg(long, default_value_t = 1)]
    nodes: u32,
    /// The share of messages that get lost.
    #[arg(long)]
    loss: Option<f64>,
    /// How many seeds run at once.
    #[arg(long, default_value_t = 1)]
    threads: u64,
    /// Stop at the first seed that fails.
    #[arg(long)]
    first: bool,
}

fn parse_rule(name: &str) -> Result<Rules, String> {
    let name = name.replace('-', "_");
    Rules::without(&name).ok_or_else(|| format!("there is no such rule; there are {}", Rules::NAMES.join(", ")))
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let (first, end) = text.split_once("..").ok_or("expected A..B")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    Ok(number(first)?..number(end)?)
}

fn main() -> ExitCode {
    let all_ideal = match Sim::parse().scenario {
        Scenario::Joins(soak) => soak.run(0.0, |config| scenario::joins(config, soak.peers)),
        Scenario::Merge { soak, windings: Some(windings), .. } => {
            soak.run(0.2, |config| scenario::loopy(config, soak.peers, windings))
        }
        Scenario::Merge { soak, parts, apart, windings: None } => {
            soak.run(0.2, |config| scenario::merge(config, soak.peers, parts, SECOND * apart as u32))
        }
        Scenario::Paper { seed, lookups, only } => {
            table::print(seed, lookups, &only);
            true
        }
        Scenario::Shaken { soak, cuts, writes, min_durable, joiners, without } => soak.run(0.0, |config| {
            let mut shaken = Shaking::config(config.seed, soak.nodes);
            (shaken.net, shaken.check_invariant) = (config.net, cuts == 0.0 && soak.loss.is_none());
            shaken.rules = without.unwrap_or(Rules::ALL);
            let shaking = Shaking { cuts, writes, min_durable, ..Shaking::default() };
            match joiners {
                Some(joiners) => scenario::flooded(shaken, shaking, joiners),
                None => scenario::shaken(shaken, shaking),
            }
        }),
        Scenario::Chains { soak, seconds, faults, stops, without } => {
            let seen = Mutex::new(Vec::new());
            let good = soak.run(0.0, |config| {
                let mut tried = Trials::config(config.seed);
                tried.overlay.nodes = soak.nodes;
                tried.net.loss = soak.loss.unwrap_or(tried.net.loss);
                tried.rules = without.unwrap_or(Rules::ALL);
                let trials = Trials { time: SECOND * seconds as u32, faults, stops, ..Trials::default() };
                let (world, counts) = scenario::tried(tried, trials)?;
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(counts);
                let time = world.now;
                Ok((world, time))
            });
            table::print_counts(&seen.into_inner().unwrap_or_else(PoisonError::into_inner));
            good
        }
        Scenario::Churn { soak, rate, seconds } => {
            let load = Churn { rate, lookups: 10.0, time: Duration::from_secs(seconds) };
            soak.run(0.0, |config| scenario::churn(config, soak.peers, load))
        }
    };
    if all_ideal { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Soak {
    /// Runs all seeds; whether all went well.
    fn run(&self, loss: f64, scenario: impl Fn(WorldConfig) -> Outcome + Sync) -> bool {
        let next = AtomicU64::new(self.seeds.start);
        let work = || {
            let mut done = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= self.seeds.end {
                    return done;
                }
                let mut config = WorldConfig::new(seed);
                config.overlay.nodes = self.nodes;
                config.net.loss = self.loss.unwrap_or(loss);
                let begun = Instant::now();
                done.push(match scenario(config) {
                    Ok((world, time)) => Some((time, world.events, begun.elapsed())),
                    Err(failure) => {
                        println!("FAILED {failure}");
                        if self.first {
                            next.store(self.seeds.end, Ordering::Relaxed);
                        }
                        None
                    }
                });
            }
        };
        let done = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads.max(1)).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect::<Vec<_>>()
        });
        summarize(&done)
    }
}

/// Prints how long the good runs took.
fn summarize(done: &[Option<(Duration, u64, Duration)>]) -> bool {
    let good: Vec<_> = done.iter().flatten().collect();
    let failed = done.len() - good.len();
    let seconds = || good.iter().map(|(time, ..)| time.as_secs_f64());
    let mean = seconds().sum::<f64>() / good.len().max(1) as f64;
    let max = seconds().fold(0.0, f64::max);
    let events: u64 = good.iter().map(|(_, events, _)| events).sum();
    let real: f64 = good.iter().map(|(.., real)| real.as_secs_f64()).sum();
    println!(
        "{} ideal, {failed} failed; time to ideal: mean {mean:.1} s, max {max:.1} s; {:.0} events/s",
        good.len(),
        events as f64 / real.max(1e-9)
    );
    failed == 0
}
