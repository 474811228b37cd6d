//! The command line.

mod bench;
mod catalogue;
mod holders;
mod keys;
mod many;

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::{
    bench::{Bench, BenchWay, Distribution, Workload},
    catalogue::{CreateKeyspace, DropKeyspace, Keyspace, KeyspaceCommand, Replicas, ReplicasCommand, SetReplicas},
    holders::{Explain, Lookup, Recover},
    keys::{Cas, Delete, Expected, Export, Import, Incr, Insert, Lifetime, OnDuplicate, OnError, Query, Within},
    many::{Mget, Mput, Scan},
};

const EXAMPLES: &str = "\
Examples:
  dhtctl insert greeting hello             write a key
  dhtctl query greeting                    read it
  dhtctl import movies.json --key-field _id
  dhtctl keyspace create users --mode chain
  dhtctl overlay                           the ring, peer by peer
  dhtctl --peer 10.0.0.7:7400 status       ask another peer";

const GLOBAL: &str = "Global options";

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failure; 2 usage; 3 not found; 4 precondition failed; 5 unavailable or time-out;
6 not authorised; 130 interrupted.";

/// Reads and writes a dhtd ring, and shows and changes the ring itself.
#[derive(Debug, Parser)]
#[command(name = "dhtctl", version, before_help = EXAMPLES, after_help = EXIT_CODES, max_term_width = 100)]
#[command(propagate_version = false, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// A peer to ask; several (repeated, or with commas) are tried in turn
    #[arg(long, global = true, env = "DHTCTL_PEER", hide_env_values = true, help_heading = GLOBAL, value_name = "HOST:PORT", value_delimiter = ',')]
    #[arg(default_value = "127.0.0.1:7400")]
    pub(crate) peer: Vec<String>,
    /// How results are printed; errors on stderr follow
    #[arg(long, short, global = true, env = "DHTCTL_OUTPUT", hide_env_values = true, help_heading = GLOBAL, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    /// How long a call, a key of import, or the wait for more of a stream may take [default: 5s; verify, keyspace, replicas: 15s; recover: 30s; join: 60s]
    #[arg(long, global = true, env = "DHTCTL_TIMEOUT", hide_env_values = true, help_heading = GLOBAL, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// The deadline of a call.
    pub(crate) fn timeout(&self) -> Duration {
        let default = match self.command {
            // A joiner copies nothing before it is a member, but may have to try several seeds.
            Command::Join(_) => Duration::from_secs(60),
            // A peer watches a ring that changes for ten seconds before it gives up.
            Command::Verify(_) => Duration::from_secs(15),
            // Somebody else may be changing the same, and whoever does not answer is waited for.
            Command::Keyspace(_) | Command::Replicas(_) => Duration::from_secs(15),
            // Everyone is asked twice, with an fsync in between and the length of a lease after that.
            Command::Recover(_) => Duration::from_secs(30),
            _ => Duration::from_secs(5),
        };
        self.timeout.unwrap_or(default)
    }
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people; `query` prints the raw value
    Table,
    /// One JSON document
    Json,
    /// One JSON object per line
    Jsonl,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(visible_alias = "put")]
    Insert(Insert),
    #[command(visible_alias = "get")]
    Query(Query),
    Delete(Delete),
    Cas(Cas),
    Incr(Incr),
    Scan(Scan),
    Mget(Mget),
    Mput(Mput),
    Import(Import),
    Export(Export),
    Keyspace(Keyspace),
    Replicas(Replicas),
    Join(Join),
    Depart(Depart),
    Overlay(Overlay),
    Status(Status),
    Lookup(Lookup),
    Explain(Explain),
    Recover(Recover),
    Health(Health),
    Verify(Verify),
    Bench(Bench),
}

/// Tell the peer at --peer (started with --idle) to join a ring
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl --peer 127.0.0.1:7403 join 127.0.0.1:7400")]
pub(crate) struct Join {
    /// HOST:PORT of peers of the ring; none if the peer was started with --join
    #[arg(value_name = "SEED")]
    pub(crate) seeds: Vec<String>,
}

/// Take a peer out of the ring for good, once others hold its data
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl depart 127.0.0.1:7403
  dhtctl depart 127.0.0.1:7403 --yes       in a script")]
pub(crate) struct Depart {
    /// The peer that is to go [default: the one at --peer]
    #[arg(value_name = "PEER")]
    pub(crate) target: Option<String>,
    /// Don't ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Show the ring in its order
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl overlay                           a row for every peer
  dhtctl overlay --successors              a row for every node, with its neighbours
  dhtctl overlay -o json | jq .summary.shape")]
pub(crate) struct Overlay {
    /// A row for every node rather than for every peer
    #[arg(long)]
    pub(crate) nodes: bool,
    /// Show each node's predecessor and successors
    #[arg(long)]
    pub(crate) successors: bool,
    /// Show each node's fingers
    #[arg(long)]
    pub(crate) fingers: bool,
}

/// Show what each peer of the ring holds and how it fares
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl status
  dhtctl --peer 10.0.0.7:7400 status --this")]
pub(crate) struct Status {
    /// Only the asked peer
    #[arg(long)]
    pub(crate) this: bool,
}

/// Check that the peer at --peer serves: it is a member of a ring, and its store takes writes
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl health
  until dhtctl health; do sleep 1; done    wait for a peer that starts")]
#[command(
    after_help = "It asks by the gRPC health protocol (grpc.health.v1).\n\nExit codes: 0 it serves; 5 it does not, or does not answer."
)]
pub(crate) struct Health {}

/// Check that the ring keeps the invariant on which its maintenance relies
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl verify
  dhtctl verify -o json | jq .verdict      holds, violated or cannot_tell")]
#[command(
    after_help = "It asks every peer that can be found, twice, so that what it judges was true at one moment. A violation\n\
must last for some seconds to be called one.\n\
\n\
Exit codes: 0 it holds; 1 it is violated; 5 nobody can tell: the ring is changing, or a peer that matters does\n\
not answer."
)]
pub(crate) struct Verify {}

fn parse_duration(text: &str) -> Result<Duration, String> {
    match parse_time(text)? {
        time if time > Duration::from_secs(86_400) => Err("it must be between 1ms and 24h".into()),
        time => Ok(time),
    }
}

/// From a millisecond to a hundred years.
pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err("write a number and a unit: 500ms, 5s, 2m, 1h, 7d".into()),
    };
    let number: f64 = digits.parse().map_err(|_| format!("'{digits}' is no number"))?;
    let seconds = number * unit;
    if !(0.001..=36_525.0 * 86_400.0).contains(&seconds) {
        return Err("it must be between 1ms and a hundred years".into());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn durations_need_a_unit_and_a_sane_size() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["5", "", "s", "-1s", "0s", "NaNs", "infs", "99h", "5 parsecs"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
