//! The arguments of commands about what the ring agrees on: keyspaces, and k.

use clap::{Args, Subcommand, ValueEnum};
use dhtctl::proto;

/// Create, list or drop keyspaces: sets of keys, each with a mode of its own
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl keyspace create users --mode chain
  dhtctl keyspace list
  dhtctl insert --keyspace users ada 36
  dhtctl keyspace drop users")]
pub(crate) struct Keyspace {
    #[command(subcommand)]
    pub(crate) command: KeyspaceCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyspaceCommand {
    Create(CreateKeyspace),
    /// List all keyspaces with their modes
    List,
    Drop(DropKeyspace),
}

/// Create a keyspace
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl keyspace create users --mode chain
  dhtctl keyspace create sessions --mode eventual")]
#[command(after_help = "A name that is taken: exit code 4.")]
pub(crate) struct CreateKeyspace {
    /// 1 to 64 characters of a-z, 0-9, _ and -, the first of them no _
    pub(crate) name: String,
    /// How its keys are replicated; it never changes
    #[arg(long, value_enum)]
    pub(crate) mode: ModeArgument,
}

/// How keys are replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArgument {
    /// Linearizable: what is cut off from most of a key's replicas refuses
    Chain,
    /// Always writable, converging, the last writer wins
    Eventual,
}

impl From<ModeArgument> for proto::Mode {
    fn from(mode: ModeArgument) -> Self {
        match mode {
            ModeArgument::Chain => Self::Chain,
            ModeArgument::Eventual => Self::Eventual,
        }
    }
}

/// Drop a keyspace with all its keys
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl keyspace drop users
  dhtctl keyspace drop users --yes         in a script")]
#[command(after_help = "There is no way back. A keyspace that does not exist: exit code 3.")]
pub(crate) struct DropKeyspace {
    /// Its name
    pub(crate) name: String,
    /// Don't ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Change how many copies of each key the ring keeps
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl replicas set 5
  dhtctl replicas set 5 --no-wait          the copies are made all the same")]
pub(crate) struct Replicas {
    #[command(subcommand)]
    pub(crate) command: ReplicasCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReplicasCommand {
    Set(SetReplicas),
}

/// Set the number of copies, and wait until every key has them
#[derive(Args, Debug)]
#[command(before_help = "\
Examples:
  dhtctl replicas set 5
  dhtctl replicas set 3 -o json")]
#[command(
    after_help = "The ring goes on serving meanwhile. With fewer peers than copies each peer holds one, and the rest is made\n\
when more peers join."
)]
pub(crate) struct SetReplicas {
    /// k: how many peers hold each key
    #[arg(value_name = "K", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(crate) replicas: u32,
    /// Don't wait until the copies are made
    #[arg(long)]
    pub(crate) no_wait: bool,
}
