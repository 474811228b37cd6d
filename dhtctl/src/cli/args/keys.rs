//! The arguments of commands about keys.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

/// Whose keys a command is about.
#[derive(Args, Debug)]
pub(crate) struct Within {
    /// The keyspace
    #[arg(long, env = "DHTCTL_KEYSPACE", hide_env_values = true, value_name = "NAME", default_value = "default")]
    pub(crate) keyspace: String,
}

/// How long what is written stays.
#[derive(Args, Debug)]
pub(crate) struct Lifetime {
    /// The key has no value any more after this time: 30s, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = super::parse_time)]
    pub(crate) ttl: Option<Duration>,
}

/// Write a key
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl insert greeting hello
  dhtctl insert logo - < logo.png          the value from stdin, byte for byte
  dhtctl insert --keyspace users ada 36    a key of another keyspace than default
  dhtctl insert --ttl 30m session x        gone again after half an hour, unless it is written again
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
    #[command(flatten)]
    pub(crate) lifetime: Lifetime,
    #[command(flatten)]
    pub(crate) within: Within,
}

/// Read a key, or all keys of a keyspace with '*'
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
    /// Any replica may answer, perhaps with an old value: also where most others can't be reached
    #[arg(long)]
    pub(crate) any_replica: bool,
    #[command(flatten)]
    pub(crate) within: Within,
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
    #[command(flatten)]
    pub(crate) within: Within,
}

/// Write a key if it is as expected: in a keyspace in chain mode only
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
    #[command(flatten)]
    pub(crate) lifetime: Lifetime,
    /// KEY is base64, for keys that are no text
    #[arg(long)]
    pub(crate) key_b64: bool,
    #[command(flatten)]
    pub(crate) within: Within,
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

/// Add to a counter and print what it is then: in a keyspace in chain mode only
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
    #[command(flatten)]
    pub(crate) within: Within,
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
    /// What to do with a key that exists. In eventual mode skip and fail read it first, which is not atomic
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
    #[command(flatten)]
    pub(crate) within: Within,
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

/// Write every key of a keyspace to a file of JSON lines
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
    #[command(flatten)]
    pub(crate) within: Within,
}
