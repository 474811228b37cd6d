//! Raw arguments, put together from flags, environment and configuration file, and the checked configuration made of them.

mod args;
mod file;
mod layers;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use dht_core::{
    catalogue::MAX_REPLICAS,
    founding::{MOST_EXPECTED, Terms},
    overlay::{MAX_NODES, Ring, Routing},
    record::Mode,
    replication::chain::Reads,
    ring::SlotBits,
};
use thiserror::Error;

pub use args::{Args, Command, DevArgs, LogFormat, ModeArg, ReadsArg, RoutingArg, RunArgs};
pub use file::FileError;
pub use layers::{Invocation, ReadError, Settings, read};

use crate::storage::FsyncPolicy;

/// A peer's configuration: every value has been checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the peer listens.
    pub listen: SocketAddr,
    /// HOST:PORT under which others reach it, if it is not the address that it listens on.
    pub advertise: Option<Arc<str>>,
    /// Everything that it keeps.
    pub data_dir: PathBuf,
    /// How it gets into a ring if its data directory belongs to none.
    pub start: Start,
    /// What a founding was asked to use, whether or not this start founds anything.
    pub founding: Founding,
    /// v, in 1..=[`MAX_NODES`].
    pub nodes: u32,
    /// What lookups use.
    pub routing: Routing,
    /// Who answers reads in chain mode.
    pub reads: Reads,
    /// When a write counts as being on disk.
    pub fsync: FsyncPolicy,
    /// Time between two pings of a peer that is watched.
    pub heartbeat_every: Duration,
    /// Silence after which it is suspected: at least two heartbeats.
    pub suspect_after: Duration,
    /// Stop when standard input ends: the process that started this one is gone.
    pub stop_with_stdin: bool,
}

/// How a peer gets into a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Found one.
    Bootstrap,
    /// Found one together with others.
    Expect {
        /// N, in 1..=[`MOST_EXPECTED`].
        peers: usize,
        /// Where they may be.
        seeds: Vec<Arc<str>>,
    },
    /// Join through these.
    Join(Vec<Arc<str>>),
    /// Wait to be told, with these seeds at hand.
    Idle(Vec<Arc<str>>),
    /// Nothing was said: fine for a data directory that belongs to a ring.
    Unsaid,
}

/// What a ring is founded with; `None` where nothing was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Founding {
    /// k.
    pub replicas: Option<usize>,
    /// b.
    pub slot_bits: Option<SlotBits>,
    /// Of the keyspace `default`.
    pub mode: Option<Mode>,
}

/// A configuration that makes no sense. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Everyone on the network could read and change the data.
    #[error(
        "{0} is not a loopback address, and there is no encryption or authentication yet: anyone who reaches it can read and change everything\nhint: listen on 127.0.0.1, or say --insecure if the network is yours alone"
    )]
    Insecure(SocketAddr),
    /// Others cannot reach 0.0.0.0.
    #[error(
        "{0} is no address that other peers can reach\nhint: say --advertise HOST:PORT as other peers reach this one"
    )]
    Unspecified(String),
    /// It is no HOST:PORT.
    #[error("{0:?} is not HOST:PORT with a port from 1 to 65535")]
    BadAddress(String),
    /// v is out of range.
    #[error("--nodes must lie in 1..={MAX_NODES}, not {0}")]
    BadNodes(u32),
    /// k is out of range.
    #[error("--replicas must lie in 1..={MAX_REPLICAS}, not {0}")]
    BadReplicas(usize),
    /// b is out of range.
    #[error("--slot-bits: {0}")]
    BadSlotBits(String),
    /// N is out of range.
    #[error("--expect must lie in 1..={MOST_EXPECTED}, not {0}")]
    BadExpect(usize),
    /// Everybody would be suspected all the time.
    #[error("--suspect-after must be at least twice --heartbeat-every")]
    ImpatientDetector,
    /// Founding parameters without a founding.
    #[error(
        "--replicas, --slot-bits and --mode are chosen when a ring is founded: they go with --bootstrap or --expect"
    )]
    FoundingWithoutBootstrap,
}

impl ConfigError {
    /// The settings that it is about.
    #[must_use]
    pub const fn settings(&self) -> &'static [&'static str] {
        match self {
            Self::Insecure(_) => &["listen", "insecure"],
            Self::Unspecified(_) => &["listen", "advertise"],
            Self::BadAddress(_) => &["advertise", "join"],
            Self::BadNodes(_) => &["nodes"],
            Self::BadReplicas(_) => &["replicas"],
            Self::BadSlotBits(_) => &["slot-bits"],
            Self::BadExpect(_) => &["expect"],
            Self::ImpatientDetector => &["suspect-after", "heartbeat-every"],
            Self::FoundingWithoutBootstrap => &["replicas", "slot-bits", "mode", "join", "idle"],
        }
    }
}

impl Founding {
    /// What `peers` peers found; where nothing was said, what DESIGN, section 2, says.
    #[must_use]
    pub fn terms(&self, peers: usize) -> Terms {
        let replicas = self.replicas.unwrap_or(DEFAULT_REPLICAS);
        let slot_bits = self.slot_bits.unwrap_or(SlotBits::DEFAULT);
        Terms { peers, replicas, slot_bits, mode: self.mode.unwrap_or(Mode::Chain) }
    }

    /// A ring's parameters that were asked for but are not the ring's.
    #[must_use]
    pub fn differs_from(&self, ring: &Ring) -> Option<String> {
        let replicas = self.replicas.filter(|k| *k != ring.replicas);
        let slot_bits = self.slot_bits.filter(|b| *b != ring.slot_bits);
        let mode = self.mode.filter(|mode| *mode != ring.mode);
        match (replicas, slot_bits, mode) {
            (Some(k), ..) => Some(format!("--replicas {k}, but its ring was founded with {}", ring.replicas)),
            (_, _, Some(mode)) => Some(format!("--mode {mode}, but its ring was founded with {}", ring.mode)),
            (_, Some(b), _) => {
                Some(format!("--slot-bits {}, but its ring was founded with {}", b.bits(), ring.slot_bits.bits()))
            }
            _ => None,
        }
    }
}

impl TryFrom<RunArgs> for Config {
    type Error = ConfigError;

    fn try_from(args: RunArgs) -> Result<Self, ConfigError> {
        if !args.listen.ip().is_loopback() && !args.insecure {
            return Err(ConfigError::Insecure(args.listen));
        }
        if let Some(advertise) = &args.advertise {
            check_address(advertise)?;
        }
        let reached_at = args.advertise.clone().unwrap_or_else(|| args.listen.to_string());
        if reached_at.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_unspecified()) {
            return Err(ConfigError::Unspecified(reached_at));
        }
        args.join.iter().try_for_each(|seed| check_address(seed))?;
        if !(1..=MAX_NODES).contains(&args.nodes) {
            return Err(ConfigError::BadNodes(args.nodes));
        }
        if args.suspect_after < args.heartbeat_every * 2 {
            return Err(ConfigError::ImpatientDetector);
        }
        if let Some(k) = args.replicas.filter(|k| !(1..=MAX_REPLICAS).contains(k)) {
            return Err(ConfigError::BadReplicas(k));
        }
        let slot_bits = args.slot_bits.map(SlotBits::new).transpose();
        let slot_bits = slot_bits.map_err(|error| ConfigError::BadSlotBits(error.to_string()))?;
        let founding = Founding { replicas: args.replicas, slot_bits, mode: args.mode.map(Into::into) };
        let seeds: Vec<Arc<str>> = args.join.iter().map(|seed| seed.as_str().into()).collect();
        if let Some(peers) = args.expect.filter(|peers| !(1..=MOST_EXPECTED).contains(peers)) {
            return Err(ConfigError::BadExpect(peers));
        }
        let start = match (args.bootstrap, args.expect, args.idle, seeds.is_empty()) {
            (true, ..) => Start::Bootstrap,
            (_, Some(peers), ..) => Start::Expect { peers, seeds },
            (_, _, true, _) => Start::Idle(seeds),
            (_, _, _, false) => Start::Join(seeds),
            _ => Start::Unsaid,
        };
        if founding != Founding::default() && matches!(start, Start::Join(_) | Start::Idle(_)) {
            return Err(ConfigError::FoundingWithoutBootstrap);
        }
        Ok(Self {
            listen: args.listen,
            advertise: args.advertise.map(Into::into),
            data_dir: args.data_dir,
            start,
            founding,
            nodes: args.nodes,
            routing: args.routing.into(),
            reads: args.reads.into(),
            fsync: args.fsync,
            heartbeat_every: args.heartbeat_every,
            suspect_after: args.suspect_after,
            stop_with_stdin: args.stop_with_stdin,
        })
    }
}

/// k, if a founding does not say otherwise (DESIGN, section 2).
const DEFAULT_REPLICAS: usize = 3;

fn check_address(address: &str) -> Result<(), ConfigError> {
    let bad = || ConfigError::BadAddress(address.to_owned());
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    let port: u16 = port.parse().map_err(|_| bad())?;
    let host_is_one = !host.is_empty() && !host.contains(['/', ' ', '@']);
    if host_is_one && port > 0 { Ok(()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn config(args: &[&str]) -> Result<Config, ConfigError> {
        let all = ["dhtd", "run", "--data-dir", "d"].iter().chain(args);
        match Args::try_parse_from(all).expect("clap takes it").command {
            Command::Run(args) => Config::try_from(args),
            Command::Dev(_) => panic!("it says run"),
        }
    }

    #[test]
    fn a_peer_listens_to_the_network_only_if_told_that_this_is_insecure() {
        assert!(matches!(config(&["--listen", "10.0.0.1:7400"]), Err(ConfigError::Insecure(_))));
        assert!(config(&["--listen", "10.0.0.1:7400", "--insecure"]).is_ok());
    }

    #[test]
    fn an_address_that_nobody_can_reach_is_not_advertised() {
        let unspecified = config(&["--listen", "0.0.0.0:7400", "--insecure"]);
        assert!(matches!(unspecified, Err(ConfigError::Unspecified(_))));
        let named = config(&["--listen", "0.0.0.0:7400", "--insecure", "--advertise", "a.example:7400"]);
        assert_eq!(named.expect("it is a name").advertise, Some("a.example:7400".into()));
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for bad in ["host", "host:", ":7400", "host:0", "host:70000", "http://host:7400"] {
            assert!(matches!(config(&["--join", bad]), Err(ConfigError::BadAddress(_))), "{bad}");
        }
        let seeds = config(&["--join", "a:1,b:2"]).expect("two seeds").start;
        assert_eq!(seeds, Start::Join(vec!["a:1".into(), "b:2".into()]));
    }

    #[test]
    fn nobody_is_suspected_before_two_heartbeats_are_missed() {
        assert_eq!(config(&["--heartbeat-every", "1s"]).expect_err("400 ms are less"), ConfigError::ImpatientDetector);
        let patient = config(&["--heartbeat-every", "1s", "--suspect-after", "2500ms"]).expect("two heartbeats");
        assert_eq!(patient.suspect_after, Duration::from_millis(2500));
    }

    #[test]
    fn peers_that_found_a_ring_together_are_counted_and_may_name_each_other() {
        let start = config(&["--expect", "2", "--join", "a:1,b:2", "--replicas", "2"]).expect("it founds").start;
        assert_eq!(start, Start::Expect { peers: 2, seeds: vec!["a:1".into(), "b:2".into()] });
        assert_eq!(config(&["--expect", "0"]).expect_err("nobody"), ConfigError::BadExpect(0));
        let both = ["dhtd", "run", "--data-dir", "d", "--expect", "2", "--bootstrap"];
        assert!(Args::try_parse_from(both).is_err());
    }

    #[test]
    fn founding_parameters_go_with_a_founding() {
        let error = config(&["--join", "a:1", "--replicas", "2"]).expect_err("a joiner takes what is there");
        assert_eq!(error, ConfigError::FoundingWithoutBootstrap);
        assert!(matches!(config(&["--bootstrap", "--replicas", "0"]), Err(ConfigError::BadReplicas(0))));
        assert!(matches!(config(&["--bootstrap", "--slot-bits", "40"]), Err(ConfigError::BadSlotBits(_))));
    }
}
