//! Why an operation was not carried out.

use dht_core::{catalogue::CatalogueError, replication::chain::Refusal};
use dhtd_proto::v1;
use thiserror::Error;

use crate::{driver::shards::ShardError, storage::EngineError, transport::CallError, wire::Malformed};

/// An operation that failed. Each says whether anything has changed.
#[derive(Clone, Debug, Error)]
pub enum OperationError {
    /// The client's fault; nothing has changed.
    #[error("a key has 1 to {max} bytes, not {bytes}", max = dhtd_proto::MAX_KEY_BYTES)]
    BadKey {
        /// What was sent.
        bytes: usize,
    },
    /// The client's fault; nothing has changed.
    #[error("a value has at most {limit} bytes, not {bytes}")]
    ValueTooLarge {
        /// What was sent.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The client's fault; nothing has changed.
    #[error("{0}")]
    BadBatch(String),
    /// The client's fault.
    #[error("this is no page token of a scan of this keyspace with this prefix")]
    BadPageToken,
    /// The response has no room for the value.
    #[error("the values of this response are too large together: ask for this key again")]
    ResponseTooLarge,
    /// What the catalogue has, or would not have; nothing has changed.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// There is no such key.
    #[error("no such key")]
    KeyNotFound,
    /// This peer is in no ring yet; nothing has changed.
    #[error("this peer is in no ring yet")]
    NotAMember,
    /// The asked peer does not hold the slot; nothing has changed.
    #[error("this peer is no replica of slot {slot}")]
    NotReplica {
        /// The slot.
        slot: u32,
    },
    /// No replica could be reached; a write may have been carried out by one that did not answer.
    #[error("no replica of the key answered; the ring may be changing")]
    NoReplica,
    /// The replicas that are there have not yet taken over the slot; nothing has changed.
    #[error("the replicas of the key are still taking over its slot")]
    Syncing,
    /// More copies are wanted than there are peers to hold them; nothing has changed.
    #[error("{wanted} durable copies are wanted, but the key's home group has only {peers}")]
    TooFewPeers {
        /// `min_durable`.
        wanted: u32,
        /// The home group's size.
        peers: usize,
    },
    /// The write is in, and will spread, but was not confirmed by as many replicas as asked for.
    #[error("written, but only {reached} of {wanted} replicas confirmed it in time")]
    NotDurable {
        /// `min_durable`.
        wanted: u32,
        /// How many did.
        reached: u32,
    },
    /// Nobody who could be asked knows who holds the key; nothing has changed.
    #[error("nobody who can be reached knows who holds slot {slot}; the ring may be changing")]
    ViewUnknown {
        /// The slot.
        slot: u32,
    },
    /// Chain mode: why the replicas would not; nothing has changed.
    #[error("{}", refusal_text(.0))]
    ChainRefused(Refusal),
    /// Chain mode: the write may have been carried out, or may still be.
    #[error("it is not known whether the write was carried out: read the key before writing it again")]
    OutcomeUnknown,
    /// A recovery was not carried out to its end.
    #[error(transparent)]
    Recover(#[from] super::RecoverError),
    /// What a recovery asked this peer to promise can't be written; nothing is promised.
    #[error("the promise can't be kept: {0}")]
    Promise(String),
    /// What only chain mode can do; nothing has changed.
    #[error("only a keyspace in chain mode can do that")]
    NeedsChain,
    /// What was asked for did not hold; nothing has changed.
    #[error("{}", condition_text(*.revision))]
    ConditionFailed {
        /// The key was last written at this revision; `None`: it has no value.
        revision: Option<u64>,
    },
    /// The sum does not fit; nothing has changed.
    #[error("the counter would overflow")]
    Overflow,
    /// An increment of what is no counter, or the like; nothing has changed.
    #[error("the key holds a value of another type")]
    WrongType,
    /// The disk or the store of the replica; nothing has changed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Another peer sent what makes no sense; nothing has changed.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The peer is stopping; nothing has changed.
    #[error("this peer is stopping")]
    Stopping,
    /// What another peer said.
    #[error("{}", .0.message)]
    Remote(v1::Failure),
}

fn condition_text(revision: Option<u64>) -> String {
    revision.map_or_else(
        || "the key has no value".to_owned(),
        |revision| format!("the key is not as expected: it was last written at revision {revision}"),
    )
}

/// What clients are told.
fn refusal_text(refusal: &Refusal) -> String {
    match refusal {
        Refusal::WrongView | Refusal::Unavailable => {
            "most of the key's replicas can't be reached from here, or they are changing".to_owned()
        }
        other => other.to_string(),
    }
}

impl From<Refusal> for OperationError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::OutcomeUnknown => Self::OutcomeUnknown,
            other => Self::ChainRefused(other),
        }
    }
}

impl From<ShardError> for OperationError {
    fn from(error: ShardError) -> Self {
        match error {
            ShardError::Engine(error) => Self::Engine(error),
            ShardError::Dropped => CatalogueError::Dropped.into(),
            ShardError::Stopping => Self::Stopping,
        }
    }
}

impl From<CallError> for OperationError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotSent(_) | CallError::Broken(_) => Self::NoReplica,
            CallError::Refused(failure) => Self::Remote(failure),
        }
    }
}
