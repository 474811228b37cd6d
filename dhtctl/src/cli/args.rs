//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

mod holders;

pub(crate) use holders::{Explain, Lookup, Recover};

const EXAMPLES: &str = "\
Examples:
  dhtctl insert greeting hello             write a key
  dhtctl query greeting                    read it
  dhtctl import movies.json --key-field _id
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
    /// How long a call, a key of import, or the wait for more of a stream may take [default: 5s; verify: 15s; recover: 30s; join: 60s]
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
    Import(Import),
    Export(Export),
    Join(Join),
    Depart(Depart),
    Overlay(Overlay),
    Status(Status),
    Lookup(Lookup),
    Explain(Explain),
    Recover(Recover),
    Verify(Verify),
}

/// Write a key
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl insert greeting hello
  dhtctl insert logo - < logo.png          the value from stdin, byte for byte
  dhtctl insert --min-durable 2 -- -5 x    a key that begins with a dash")]
pub(crate) struct Insert {
    /// The key, 1 to 4096 bytes
    pub(crate) key: String,
    /// The value, or - to read it from stdin
    pub(crate) value: String,
    /// KEY is base64, for keys that are no text
    #[arg(long)]
    pub(crate) key_b64: bool,
    /// Wait until this many replicas have the write on disk
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) min_durable: u32,
}

/// Read a key, or all keys with '*'
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl query greeting
  dhtctl query logo > logo.png             the value, byte for byte
  dhtctl query '*'                         every key, a tab, its value
  dhtctl query '*' -o json                 the same as lines of JSON
  dhtctl query --literal '*'               the key that is called *")]
#[command(after_help = "A key that does not exist: exit code 3.")]
pub(crate) struct Query {
    /// The key; '*' (quoted for the shell) lists all
    pub(crate) key: String,
    /// KEY is base64, for keys that are no text
    #[arg(long)]
    pub(crate) key_b64: bool,
    /// Take * for a key like any other
    #[arg(long)]
    pub(crate) literal: bool,
}

/// Delete keys and print how many there were
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl delete greeting
  dhtctl delete a b c")]
#[command(
    after_help = "As with etcdctl and redis-cli, a key that does not exist is no error (exit code 0); the number\n\
on stdout tells."
)]
pub(crate) struct Delete {
    /// The keys; they are deleted one after another
    #[arg(required = true, value_name = "KEY")]
    pub(crate) keys: Vec<String>,
    /// The KEYs are base64
    #[arg(long)]
    pub(crate) key_b64: bool,
    /// Wait until this many replicas have the delete on disk
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) min_durable: u32,
}

/// Write a key if it is as expected: a ring in chain mode only
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl cas leader me --absent            if it has no value
  dhtctl cas leader me --value you         if it has this value
  dhtctl cas leader me --revision 17       if it was last written at this revision (dhtctl query -o json)")]
#[command(after_help = "A key that is not as expected: exit code 4, and nothing is changed.")]
pub(crate) struct Cas {
    /// The key, 1 to 4096 bytes
    pub(crate) key: String,
    /// The new value, or - to read it from stdin
    pub(crate) new: String,
    #[command(flatten)]
    pub(crate) expected: Expected,
    /// KEY is base64, for keys that are no text
    #[arg(long)]
    pub(crate) key_b64: bool,
}

/// What a key should be.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Expected {
    /// The key has no value
    #[arg(long)]
    pub(crate) absent: bool,
    /// The key has this value
    #[arg(long, value_name = "VALUE")]
    pub(crate) value: Option<String>,
    /// The key was last written at this revision
    #[arg(long, value_name = "N")]
    pub(crate) revision: Option<u64>,
}

/// Add to a counter and print what it is then: a ring in chain mode only
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl incr visitors
  dhtctl incr stock -5")]
pub(crate) struct Incr {
    /// The key, 1 to 4096 bytes; without a value it counts from 0
    pub(crate) key: String,
    /// What to add
    #[arg(default_value_t = 1, allow_negative_numbers = true)]
    pub(crate) by: i64,
    /// KEY is base64, for keys that are no text
    #[arg(long)]
    pub(crate) key_b64: bool,
}

/// Write the keys in a file of JSON lines
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl import dump.jsonl                 what `dhtctl export` wrote
  dhtctl import movies.json --key-field _id
                                           documents as mongoexport writes them: the key is the field,
                                           the value the whole line
  zcat big.gz | dhtctl import - --on-duplicate skip")]
#[command(after_help = "\
A line is {\"key\": TEXT, \"value\": TEXT}; \"key_b64\" and \"value_b64\" hold base64 instead. With --key-field a\n\
line is any JSON object whose field is a string, a number, or {\"$oid\": STRING}.\n\
\n\
Overloaded and unavailable peers are tried again until --timeout is over for the key. Lines with the same key\n\
are written in their order. A key whose first attempt got no answer may be counted as replaced.")]
pub(crate) struct Import {
    /// The file, or - for stdin
    pub(crate) file: PathBuf,
    /// Lines are documents; this top-level field is the key, the line's exact bytes are the value
    #[arg(long, value_name = "FIELD")]
    pub(crate) key_field: Option<String>,
    /// What to do with a key that exists. skip and fail read it first, which is not atomic
    #[arg(long, value_name = "WHAT", default_value = "replace")]
    pub(crate) on_duplicate: OnDuplicate,
    /// What to do about a line that is malformed or can't be written. The exit code tells either way
    #[arg(long, value_name = "WHAT", default_value = "stop")]
    pub(crate) on_error: OnError,
    /// A key counts as written once this many replicas have it on disk
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) min_durable: u32,
    /// How many keys are written at a time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) concurrency: u16,
}

/// What import does with a key that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnDuplicate {
    /// Overwrite it
    Replace,
    /// Leave it alone
    Skip,
    /// Count it as a failed line
    Fail,
}

/// What import does about a failed line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnError {
    /// Finish what was sent, then stop
    Stop,
    /// Report it and go on
    Skip,
}

/// Write every key to a file of JSON lines
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl export > dump.jsonl               for `dhtctl import dump.jsonl`
  dhtctl export movies.json --values-only  the inverse of import --key-field")]
pub(crate) struct Export {
    /// The file, or - for stdout
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// Write each value and a newline, without the keys
    #[arg(long)]
    pub(crate) values_only: bool,
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
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("write a number and a unit: 500ms, 5s, 2m, 1h".into()),
    };
    let number: f64 = digits.parse().map_err(|_| format!("'{digits}' is no number"))?;
    let seconds = number * unit;
    if !(0.001..=86_400.0).contains(&seconds) {
        return Err("it must be between 1ms and 24h".into());
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
