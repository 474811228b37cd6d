//! Small worlds under the model checker: how many states there are, and the way to the first in which something is wrong.

use std::{
    fmt::Display,
    fs,
    hash::Hash,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Args, Parser, Subcommand};
use dht_core::Rules;
use dht_tests::model::{chain, overlay};
use stateright::{Checker, Model, UniformChooser};

/// Checks every schedule of the small worlds that `dht_tests::model` describes.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    model: Which,
}

#[derive(Subcommand)]
enum Which {
    /// Peers join a ring while others fail.
    Overlay {
        /// Rounds of maintenance that each node may begin.
        #[arg(long, default_value_t = 3)]
        rounds: u8,
        /// Peers that may fail.
        #[arg(long, default_value_t = 1)]
        failures: u8,
        /// Only this world: 0, 1 or 2.
        #[arg(long)]
        only: Option<usize>,
        #[command(flatten)]
        search: Search,
    },
    /// A slot changes its view while clients write and read.
    Chain {
        /// Only these worlds.
        #[arg(long)]
        only: Vec<String>,
        /// The worlds that have no end.
        #[arg(long)]
        large: bool,
        #[command(flatten)]
        search: Search,
    },
}

#[derive(Args)]
struct Search {
    /// Seconds for each world. One that is not exhausted by then is left at that.
    #[arg(long, default_value_t = 400)]
    seconds: u64,
    /// Threads, at least 2: one alone takes no notice of the time.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Go breadth first: finds the shortest way, and needs far more memory.
    #[arg(long)]
    shortest: bool,
    /// Instead of all schedules one after the other, some at random, from this seed: goes far where there is no end.
    #[arg(long)]
    random: Option<u64>,
    /// Switch these rules off.
    #[arg(long)]
    without: Vec<String>,
}

fn main() -> ExitCode {
    let holds = match Arguments::parse().model {
        Which::Overlay { rounds, failures, only, search } => check_overlay(rounds, failures, only, &search),
        Which::Chain { only, large, search } => {
            check_chains(if large { chain::LARGE } else { chain::WORLDS }, &only, &search)
        }
    };
    ExitCode::from(u8::from(!holds))
}

fn check_overlay(rounds: u8, failures: u8, only: Option<usize>, search: &Search) -> bool {
    let worlds = overlay::WORLDS.iter().enumerate().filter(|(index, _)| only.is_none_or(|only| only == *index));
    let mut holds = true;
    for (index, (founders, joiners)) in worlds {
        println!(
            "world {index}: founders {founders:?}, joiners {joiners:?}, {failures} failures, {rounds} rounds each"
        );
        let overlay = overlay::Overlay { founders, joiners, failures, rounds, rules: search.rules() };
        holds &= search.check(overlay, overlay::INVARIANT, overlay::World::violation);
    }
    holds
}

fn check_chains(worlds: &[chain::Named], only: &[String], search: &Search) -> bool {
    let mut holds = true;
    for (name, chain) in worlds.iter().filter(|(name, _)| only.is_empty() || only.iter().any(|it| it == name)) {
        println!("{name}:");
        holds &= search.check(chain::Chain { rules: search.rules(), ..*chain }, chain::SAFE, chain::World::violation);
    }
    holds
}

impl Search {
    fn rules(&self) -> Rules {
        self.without.iter().fold(Rules::ALL, |rules, name| {
            rules.and_without(&name.replace('-', "_")).unwrap_or_else(|| panic!("there is no rule {name}"))
        })
    }

    /// Whether no state was found that lacks the property.
    fn check<M>(&self, model: M, property: &'static str, violation: fn(&M::State) -> Option<&str>) -> bool
    where
        M: Model + Send + Sync + 'static,
        M::State: Hash + Send + Sync + Clone + std::fmt::Debug + PartialEq,
        M::Action: Display + Clone + std::fmt::Debug + PartialEq,
    {
        let limit = Duration::from_secs(self.seconds);
        let checker = model.checker().threads(self.threads.max(2)).timeout(limit);
        if let Some(seed) = self.random {
            report(checker.spawn_simulation(seed, UniformChooser), limit, property, violation)
        } else if self.shortest {
            report(checker.spawn_bfs(), limit, property, violation)
        } else {
            report(checker.spawn_dfs(), limit, property, violation)
        }
    }
}

fn report<M>(
    checker: impl Checker<M>,
    limit: Duration,
    property: &'static str,
    violation: fn(&M::State) -> Option<&str>,
) -> bool
where
    M: Model,
    M::State: Hash + Clone + std::fmt::Debug + PartialEq,
    M::Action: Display + Clone + std::fmt::Debug + PartialEq,
{
    let begun = Instant::now();
    let checker = checker.join();
    let broken = checker.discovery(property);
    let end = match &broken {
        Some(_) => "broken",
        None if begun.elapsed() >= limit => "not exhausted",
        None => "exhausted",
    };
    println!(
        "  {end}: {} states, {} steps, depth {}; {:.1} s, at most {} MiB so far",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        begun.elapsed().as_secs_f64(),
        most_memory().unwrap_or(0) / 1024,
    );
    if let Some(way) = &broken {
        println!("  {}, by", violation(way.last_state()).unwrap_or_default());
        way.clone().into_actions().iter().for_each(|action| println!("    {action},"));
    }
    broken.is_none()
}

/// The most memory that this process has had, in KiB.
fn most_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
