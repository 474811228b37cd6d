//! The arguments of `bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Within;

/// Put load on a ring and measure it
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl bench insert                      100,000 keys at most, for ten seconds
  dhtctl bench query --everywhere          reads of them, over all peers of the ring
  dhtctl bench mixed --read-share 0.95 --distribution zipfian --series load.csv
  dhtctl bench insert --way batch --in-flight 8 --batch-size 500
  dhtctl bench query --rate 2000           2,000 per second: how long they take then")]
#[command(after_help = "\
With --rate, latency counts from when an operation should have begun, also if the ring was too slow to
let it; without, a fixed number of calls is in flight, and the next one begins when one is answered.
Keys are PREFIX and a number of 12 digits; they stay. A ring is no faster than the machine that asks.")]
pub(crate) struct Bench {
    /// What is done
    #[arg(value_enum)]
    pub(crate) workload: Workload,
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = positive)]
    pub(crate) seconds: f64,
    /// Calls in flight
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) in_flight: u32,
    /// Operations begun per second [default: as many as are answered]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) rate: Option<f64>,
    /// How operations are sent
    #[arg(long, value_enum, default_value = "unary")]
    pub(crate) way: BenchWay,
    /// Operations in a call, with --way batch
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) batch_size: u32,
    /// Over how many keys
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub(crate) keys: u64,
    /// Which of them are taken
    #[arg(long, value_enum, default_value = "uniform")]
    pub(crate) distribution: Distribution,
    /// What all keys begin with
    #[arg(long, value_name = "TEXT", default_value = "bench/")]
    pub(crate) prefix: String,
    /// Bytes of a value
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    pub(crate) value_size: u32,
    /// Which part of a mixed load are reads, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = share)]
    pub(crate) read_share: f64,
    /// Replicas that must have a write on disk before it is answered
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) min_durable: u32,
    /// Ask all peers of the ring, not only those of --peer
    #[arg(long)]
    pub(crate) everywhere: bool,
    /// Write the figures of every second into a file of comma-separated values
    #[arg(long, value_name = "FILE")]
    pub(crate) series: Option<PathBuf>,
    /// Everything random comes from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) within: Within,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Write keys
    Insert,
    /// Read keys
    Query,
    /// Read and write keys
    Mixed,
    /// Add 1 to counters: in a keyspace in chain mode only
    Increment,
}

/// How operations are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchWay {
    /// Each in a call of its own
    Unary,
    /// Many in a call
    Batch,
    /// Each by itself on a stream for each peer
    Pipeline,
}

/// Which keys are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Distribution {
    /// All as often
    Uniform,
    /// A few very often, as YCSB has it
    Zipfian,
}

impl Workload {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Query => "query",
            Self::Mixed => "mixed",
            Self::Increment => "increment",
        }
    }
}

impl BenchWay {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::Batch => "batch",
            Self::Pipeline => "pipeline",
        }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        // Beyond these, times would not fit their types.
        Ok(number) if (0.001..=1e9).contains(&number) => Ok(number),
        _ => Err("expected a number from 0.001 to 1,000,000,000".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}
