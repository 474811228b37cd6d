//! The arguments of commands about many keys.

use clap::Args;

use super::{Lifetime, Within};

/// List the keys of a keyspace, or those that begin with something
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl scan                              every key, a tab, its value
  dhtctl scan --prefix user/ --keys-only
  dhtctl scan --limit 10 -o jsonl          the first ten that are found, as lines of JSON")]
#[command(after_help = "\
The keys are in no useful order. One that is written or deleted meanwhile may be missing or not; any other is listed\n\
once, whatever peers join, depart or die meanwhile.")]
pub(crate) struct Scan {
    /// Only keys that begin with it
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) prefix: String,
    /// --prefix is base64
    #[arg(long)]
    pub(crate) prefix_b64: bool,
    /// Stop after so many keys
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Leave the values out
    #[arg(long)]
    pub(crate) keys_only: bool,
    /// How many keys to ask for at a time; 0: as many as the peer likes
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) page_size: u32,
    #[command(flatten)]
    pub(crate) within: Within,
}

/// Read many keys at once
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl mget a b c                        each key, a tab, its value
  dhtctl mget a b -o json")]
#[command(after_help = "A key that does not exist is named on stderr: exit code 3.")]
pub(crate) struct Mget {
    /// The keys
    #[arg(required = true, value_name = "KEY")]
    pub(crate) keys: Vec<String>,
    /// The KEYs are base64
    #[arg(long)]
    pub(crate) key_b64: bool,
    /// Any replica may answer, perhaps with an old value
    #[arg(long)]
    pub(crate) any_replica: bool,
    #[command(flatten)]
    pub(crate) within: Within,
}

/// Write many keys at once, each by itself
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl mput a 1 b 2
  dhtctl export | dhtctl mput -            lines of JSON, as for import; all are read before any is written")]
#[command(after_help = "\
Some keys may fail while others are written; the exit code is that of the first that failed. For large files use import.")]
pub(crate) struct Mput {
    /// Keys and values in turn; or - for lines {"key": …, "value": …} on stdin
    #[arg(required = true, value_name = "KEY VALUE")]
    pub(crate) pairs: Vec<String>,
    /// Wait until this many replicas have each write on disk
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) min_durable: u32,
    #[command(flatten)]
    pub(crate) lifetime: Lifetime,
    #[command(flatten)]
    pub(crate) within: Within,
}
