//! The overlay under the model checker: how many states there are, and the way to the first that breaks the invariant.

use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use dht_core::Rules;
use dht_tests::model::{INVARIANT, Overlay, WORLDS};
use stateright::{Checker, Model};

/// Checks every schedule of the small worlds that `dht_tests::model` describes.
#[derive(Parser)]
struct Args {
    /// Rounds of maintenance that each node may begin.
    #[arg(long, default_value_t = 3)]
    rounds: u8,
    /// Peers that may fail.
    #[arg(long, default_value_t = 1)]
    failures: u8,
    /// Seconds for each world. One that is not exhausted by then is left at that.
    #[arg(long, default_value_t = 400)]
    seconds: u64,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Go breadth first: finds the shortest way, and needs far more memory.
    #[arg(long)]
    shortest: bool,
    /// Switch a rule off.
    #[arg(long)]
    without: Option<Rule>,
    /// Only this world: 0, 1 or 2.
    #[arg(long)]
    only: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Rule {
    VerifyCandidate,
    AdoptWholeList,
    RectifyChecksPredecessor,
    BusyDefers,
    JoinTakesList,
}

impl Rule {
    fn off(self) -> Rules {
        let all = Rules::ALL;
        match self {
            Self::VerifyCandidate => Rules { verify_candidate: false, ..all },
            Self::AdoptWholeList => Rules { adopt_whole_list: false, ..all },
            Self::RectifyChecksPredecessor => Rules { rectify_checks_predecessor: false, ..all },
            Self::BusyDefers => Rules { busy_defers: false, ..all },
            Self::JoinTakesList => Rules { join_takes_list: false, ..all },
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let rules = args.without.map_or(Rules::ALL, Rule::off);
    let worlds = WORLDS.iter().enumerate().filter(|(index, _)| args.only.is_none_or(|only| only == *index));
    let mut holds = true;
    for (index, (founders, joiners)) in worlds {
        let (rounds, failures) = (args.rounds, args.failures);
        println!(
            "world {index}: founders {founders:?}, joiners {joiners:?}, {failures} failures, {rounds} rounds each"
        );
        holds &= args.check(Overlay { founders, joiners, failures, rounds, rules });
    }
    ExitCode::from(u8::from(!holds))
}

impl Args {
    /// Whether no state was found that breaks the invariant.
    fn check(&self, overlay: Overlay) -> bool {
        let limit = Duration::from_secs(self.seconds);
        let checker = overlay.checker().threads(self.threads).timeout(limit);
        if self.shortest { report(checker.spawn_bfs(), limit) } else { report(checker.spawn_dfs(), limit) }
    }
}

fn report(checker: impl Checker<Overlay>, limit: Duration) -> bool {
    let begun = Instant::now();
    let checker = checker.join();
    let broken = checker.discovery(INVARIANT);
    let end = match &broken {
        Some(_) => "broken",
        None if begun.elapsed() >= limit => "not exhausted",
        None => "exhausted",
    };
    println!(
        "  {end}: {} states, {} steps, depth {}; {:.0} s, at most {} MiB so far",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        begun.elapsed().as_secs_f64(),
        most_memory().unwrap_or(0) / 1024,
    );
    if let Some(way) = &broken {
        println!("  {}, by", way.last_state().violation().unwrap_or_default());
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
