//! The command line, and its twins in the environment. Every argument of `run` that has such a twin is a setting, and a
//! key of the configuration file.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use dht_core::{overlay::Routing, record::Mode, replication::chain::Reads};
use tracing_subscriber::filter::{EnvFilter, ParseError};

use crate::storage::{FsyncPolicy, parse_time};

/// A self-organising, replicated key-value store.
#[derive(Debug, Parser)]
#[command(name = "dhtd", version, about, after_help = EXAMPLES)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How logs are written to standard error.
    #[arg(long, global = true, env = "DHTD_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What is logged: a level, or targets with levels (`dhtd=debug,h2=warn`).
    #[arg(long, global = true, env = "DHTD_LOG", default_value = "info,fjall=warn,lsm_tree=warn", value_parser = filter)]
    pub log: String,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one peer.
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Run a whole ring on this machine to try things out; Ctrl-C stops it.
    Dev(DevArgs),
}

/// `dhtd run`.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Where to listen.
    #[arg(long, env = "DHTD_LISTEN", default_value = "127.0.0.1:7400", value_name = "IP:PORT")]
    pub listen: SocketAddr,
    /// The address under which other peers and clients reach this peer, if it is not the one that it listens on.
    #[arg(long, env = "DHTD_ADVERTISE", value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Where the peer keeps everything. It is one peer's for good: never copy it to start another.
    #[arg(long, env = "DHTD_DATA_DIR", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Found a ring. Does nothing if the data directory belongs to one already.
    #[arg(long, env = "DHTD_BOOTSTRAP", conflicts_with_all = ["join", "idle", "expect"])]
    pub bootstrap: bool,
    /// Found a ring together with others, once there are N of them: all are started with the same flags, in any order, and
    /// --join names all or some of them. A peer that finds a ring there joins it. Does nothing if the data directory belongs
    /// to a ring already.
    #[arg(long, env = "DHTD_EXPECT", value_name = "N", conflicts_with = "idle")]
    pub expect: Option<usize>,
    /// Join the ring of any of these peers. This peer may be among them.
    #[arg(long, env = "DHTD_JOIN", value_name = "HOST:PORT", value_delimiter = ',')]
    pub join: Vec<String>,
    /// Start, but join only when `dhtctl join` says so.
    #[arg(long, env = "DHTD_IDLE")]
    pub idle: bool,
    /// Copies of each key when a ring is founded; `dhtctl replicas set` changes it later [default: 3].
    #[arg(long, env = "DHTD_REPLICAS", value_name = "K")]
    pub replicas: Option<usize>,
    /// The circle has 2^B slots; chosen when a ring is founded [default: 10, good to about 100 peers].
    #[arg(long, env = "DHTD_SLOT_BITS", value_name = "B")]
    pub slot_bits: Option<u32>,
    /// How the keys of keyspace `default` are replicated; chosen when a ring is founded [default: chain].
    #[arg(long, env = "DHTD_MODE", value_enum)]
    pub mode: Option<ModeArg>,
    /// Places of this peer on the circle: more of them make its share more even.
    #[arg(long, env = "DHTD_NODES", default_value_t = 16, value_name = "V")]
    pub nodes: u32,
    /// How lookups find their way.
    #[arg(long, env = "DHTD_ROUTING", value_enum, default_value_t = RoutingArg::Full)]
    pub routing: RoutingArg,
    /// Who answers reads in chain mode; either way they are linearizable.
    #[arg(long, env = "DHTD_READS", value_enum, default_value_t = ReadsArg::Any)]
    pub reads: ReadsArg,
    /// When a write counts as durable: `always` after an fsync, `interval=100ms` with one fsync every 100 ms.
    #[arg(long, env = "DHTD_FSYNC", default_value_t = FsyncPolicy::Always, value_name = "POLICY")]
    pub fsync: FsyncPolicy,
    /// How often peers that matter to this one are asked whether they are there. Raise it on busy or slow machines.
    #[arg(long, env = "DHTD_HEARTBEAT_EVERY", default_value = "100ms", value_parser = time, value_name = "TIME")]
    pub heartbeat_every: Duration,
    /// How long a peer may be silent before it is suspected; it is dead two heartbeats later.
    #[arg(long, env = "DHTD_SUSPECT_AFTER", default_value = "400ms", value_parser = time, value_name = "TIME")]
    pub suspect_after: Duration,
    /// Allow addresses that are not this machine's alone. Nothing is encrypted or authenticated.
    #[arg(long, env = "DHTD_INSECURE")]
    pub insecure: bool,
    /// A TOML file with settings: a key for each flag, by its name. Flags and environment go before it.
    #[arg(long, env = "DHTD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Only check the settings; exit code 78 if they make no sense.
    #[arg(long)]
    pub check_config: bool,
    /// Only check the settings and print them, as a configuration file that says where each is from.
    #[arg(long)]
    pub print_config: bool,
    /// Stop when standard input ends.
    #[arg(long, hide = true)]
    pub stop_with_stdin: bool,
}

/// `dhtd dev`.
#[derive(Clone, Debug, clap::Args)]
pub struct DevArgs {
    /// How many peers, each a process of its own.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub peers: u16,
    /// The first peer's port; the others take those that follow.
    #[arg(long, default_value_t = 7400, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// Where the peers keep their data; the ring comes back from there the next time. Without it the data is deleted
    /// at the end.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Copies of each key [default: 3].
    #[arg(long, value_name = "K")]
    pub replicas: Option<usize>,
    /// How the keys of keyspace `default` are replicated [default: chain].
    #[arg(long, value_enum)]
    pub mode: Option<ModeArg>,
    /// Places of each peer on the circle.
    #[arg(long, default_value_t = 16, value_name = "V")]
    pub nodes: u32,
    /// How lookups find their way.
    #[arg(long, value_enum, default_value_t = RoutingArg::Full)]
    pub routing: RoutingArg,
}

/// How keys are replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// Linearizable, by chain replication: what is cut off from most of its replicas refuses.
    Chain,
    /// Always writable, converging, last writer wins.
    Eventual,
}

/// What lookups use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoutingArg {
    /// All known peers: mostly one hop.
    Full,
    /// Fingers and successors: O(log N) hops at any size.
    Fingers,
}

/// Who answers reads in chain mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReadsArg {
    /// Every replica: the load is spread.
    Any,
    /// The last of the chain alone: only one replica of a key needs memory for it.
    Tail,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object per line.
    Json,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Chain => Self::Chain,
            ModeArg::Eventual => Self::Eventual,
        }
    }
}

impl From<ReadsArg> for Reads {
    fn from(reads: ReadsArg) -> Self {
        match reads {
            ReadsArg::Any => Self::Any,
            ReadsArg::Tail => Self::Tail,
        }
    }
}

impl From<RoutingArg> for Routing {
    fn from(routing: RoutingArg) -> Self {
        match routing {
            RoutingArg::Full => Self::Full,
            RoutingArg::Fingers => Self::Fingers,
        }
    }
}

const EXAMPLES: &str = "Examples:
  dhtd dev --peers 5                                     a ring of five peers on this machine
  dhtd run --data-dir /var/lib/dhtd --bootstrap          the first peer of a ring
  dhtd run --data-dir /var/lib/dhtd --join HOST:7400     another one
  dhtd run --data-dir /var/lib/dhtd --expect 3 --join a:7400,b:7400,c:7400
                                                         each of three that found a ring together";

const RUN_EXAMPLES: &str = "Examples:
  dhtd run --data-dir a --bootstrap
  dhtd run --data-dir b --listen 127.0.0.1:7401 --join 127.0.0.1:7400
  dhtd run --data-dir b --listen 127.0.0.1:7401          a restart needs neither --bootstrap nor --join
  dhtd run --data-dir d --expect 3 --join a:7400,b:7400,c:7400
                                                         the same on three machines: they found a ring together
  dhtd run --config /etc/dhtd/dhtd.toml --check-config";

/// Only checked: whoever sets up logging makes the filter.
fn filter(text: &str) -> Result<String, ParseError> {
    EnvFilter::try_new(text).map(|_| text.to_owned())
}

fn time(text: &str) -> Result<Duration, &'static str> {
    parse_time(text).ok_or("expected a time such as 100ms or 2s")
}
