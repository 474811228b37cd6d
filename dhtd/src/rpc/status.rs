//! Every domain error as a gRPC status: the one place where codes and reasons are chosen.

use std::{collections::HashMap, time::Duration};

use dht_core::{catalogue::CatalogueError, overlay::LookupFailed, replication::chain::Refusal, view::Generation};
use dhtd_proto::v1;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    coordinator::{OperationError, RecoverError},
    driver::control::{DepartError, JoinError},
    storage::EngineError,
    wire::{GIVEN_UP, Malformed},
};

/// The domain of every `google.rpc.ErrorInfo`.
const DOMAIN: &str = "dhtd";

/// Where a client should not wait longer than this before it tries again. A guess: about a heartbeat.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A code and a reason from the documented list (`proto/README.md`).
#[derive(Clone, Copy)]
struct Verdict(Code, &'static str);

impl From<OperationError> for Status {
    fn from(error: OperationError) -> Self {
        let failure = v1::Failure::from(error);
        status_with(Code::from_i32(failure.code), &failure.reason, failure.message, failure.metadata)
    }
}

impl From<OperationError> for v1::Failure {
    fn from(error: OperationError) -> Self {
        if let OperationError::Remote(failure) = error {
            return failure;
        }
        let Verdict(code, reason) = verdict(&error);
        let more = match &error {
            OperationError::ConditionFailed { revision } => Some(("revision", revision.unwrap_or(0))),
            OperationError::ChainRefused(Refusal::TooOld(revision)) => Some(("revision", *revision)),
            _ => None,
        };
        let metadata = more.map(|(name, number)| (name.to_owned(), number.to_string())).into_iter().collect();
        Self { code: code.into(), reason: reason.to_owned(), message: message(&error), metadata }
    }
}

impl From<Malformed> for Status {
    fn from(error: Malformed) -> Self {
        OperationError::Malformed(error).into()
    }
}

impl From<JoinError> for Status {
    fn from(error: JoinError) -> Self {
        let Verdict(code, reason) = match &error {
            JoinError::AlreadyJoined => Verdict(Code::FailedPrecondition, "ALREADY_JOINED"),
            JoinError::NoSeeds => Verdict(Code::InvalidArgument, "NO_SEEDS"),
            JoinError::Refused(..) => Verdict(Code::FailedPrecondition, "REFUSED_BY_SEED"),
        };
        status(code, reason, error.to_string())
    }
}

impl From<DepartError> for Status {
    fn from(error: DepartError) -> Self {
        let Verdict(code, reason) = match error {
            DepartError::NotAMember => Verdict(Code::FailedPrecondition, "NOT_A_MEMBER"),
            DepartError::LastPeer => Verdict(Code::FailedPrecondition, "LAST_PEER"),
            DepartError::StoreFailed => Verdict(Code::Unavailable, "STORE_READ_ONLY"),
        };
        status(code, reason, error.to_string())
    }
}

/// A message of another ring, of another protocol, or for somebody else.
pub(super) fn refused(reason: &'static str, message: String) -> Status {
    status(Code::FailedPrecondition, reason, message)
}

/// Whoever speaks was given up for lost by hand, in a recovery of that name.
pub(super) fn given_up(generation: Generation) -> Status {
    let by = generation.by.map_or_else(String::new, |by| by.to_string());
    let message = format!(
        "you were given up for lost by recovery {} (carried out by peer {by}): start again with an empty data directory",
        generation.counter
    );
    let more = [("counter".to_owned(), generation.counter.to_string()), ("recovered_by".to_owned(), by)];
    status_with(Code::FailedPrecondition, GIVEN_UP, message, more.into())
}

/// The request itself is wrong.
pub(super) fn invalid(field: &str, message: &str) -> Status {
    let mut details = ErrorDetails::with_error_info("INVALID_REQUEST", DOMAIN, HashMap::new());
    details.add_bad_request_violation(field, message);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

pub(super) fn deadline_exceeded() -> Status {
    status(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "the deadline has passed".to_owned())
}

pub(super) fn lookup_failed(error: LookupFailed) -> Status {
    status(Code::Unavailable, "LOOKUP_FAILED", error.to_string())
}

pub(super) fn stopping() -> Status {
    OperationError::Stopping.into()
}

fn verdict(error: &OperationError) -> Verdict {
    match error {
        OperationError::BadKey { .. } => Verdict(Code::InvalidArgument, "BAD_KEY"),
        OperationError::ValueTooLarge { .. } => Verdict(Code::InvalidArgument, "VALUE_TOO_LARGE"),
        OperationError::Catalogue(CatalogueError::NotFound(_) | CatalogueError::Dropped) => {
            Verdict(Code::NotFound, "KEYSPACE_NOT_FOUND")
        }
        OperationError::Catalogue(CatalogueError::BadName(_)) => Verdict(Code::InvalidArgument, "BAD_KEYSPACE_NAME"),
        OperationError::Catalogue(CatalogueError::Exists(..)) => Verdict(Code::AlreadyExists, "KEYSPACE_EXISTS"),
        OperationError::Catalogue(CatalogueError::IsDefault) => {
            Verdict(Code::FailedPrecondition, "KEYSPACE_IS_DEFAULT")
        }
        OperationError::Catalogue(CatalogueError::Full) => Verdict(Code::ResourceExhausted, "TOO_MANY_KEYSPACES"),
        OperationError::Catalogue(CatalogueError::BadReplicas(_)) => Verdict(Code::InvalidArgument, "BAD_REPLICAS"),
        OperationError::BadBatch(_) => Verdict(Code::InvalidArgument, "BAD_BATCH"),
        OperationError::ResponseTooLarge => Verdict(Code::ResourceExhausted, "RESPONSE_TOO_LARGE"),
        OperationError::BadPageToken => Verdict(Code::InvalidArgument, "BAD_PAGE_TOKEN"),
        OperationError::KeyNotFound => Verdict(Code::NotFound, "KEY_NOT_FOUND"),
        OperationError::NotAMember => Verdict(Code::Unavailable, "NOT_A_MEMBER"),
        OperationError::NotReplica { .. } => Verdict(Code::Unavailable, "NOT_REPLICA"),
        OperationError::NoReplica => Verdict(Code::Unavailable, "NO_REPLICA"),
        OperationError::Syncing => Verdict(Code::Unavailable, "SLOT_SYNCING"),
        OperationError::TooFewPeers { .. } => Verdict(Code::FailedPrecondition, "TOO_FEW_PEERS"),
        OperationError::NotDurable { .. } => Verdict(Code::Unavailable, "NOT_DURABLE"),
        OperationError::Engine(EngineError::Full { .. }) => Verdict(Code::ResourceExhausted, "DISK_FULL"),
        OperationError::Engine(EngineError::ReadOnly { .. }) => Verdict(Code::Unavailable, "STORE_READ_ONLY"),
        OperationError::Engine(EngineError::Corrupt { .. }) => Verdict(Code::DataLoss, "STORE_CORRUPT"),
        OperationError::Engine(EngineError::Io { .. } | EngineError::InUse | EngineError::Invalid { .. }) => {
            Verdict(Code::Internal, "STORE_FAILED")
        }
        OperationError::ViewUnknown { .. } => Verdict(Code::Unavailable, "VIEW_UNKNOWN"),
        OperationError::ChainRefused(Refusal::TooFewInSync) => Verdict(Code::Unavailable, "TOO_FEW_IN_SYNC"),
        OperationError::ChainRefused(Refusal::Busy) => Verdict(Code::ResourceExhausted, "TOO_MANY_WRITES"),
        OperationError::ChainRefused(Refusal::TooOld(_)) => Verdict(Code::FailedPrecondition, "REQUEST_TOO_OLD"),
        OperationError::ChainRefused(Refusal::WrongView | Refusal::Unavailable | Refusal::OutcomeUnknown) => {
            Verdict(Code::Unavailable, "NO_QUORUM")
        }
        OperationError::OutcomeUnknown => Verdict(Code::Unavailable, "OUTCOME_UNKNOWN"),
        OperationError::Recover(RecoverError::Unknown(_)) => Verdict(Code::InvalidArgument, "PEER_UNKNOWN"),
        OperationError::Recover(RecoverError::Alive(_)) => Verdict(Code::FailedPrecondition, "PEER_ALIVE"),
        OperationError::Recover(RecoverError::Missing(_)) => Verdict(Code::FailedPrecondition, "PEERS_MISSING"),
        OperationError::Recover(RecoverError::CopiesGone(_)) => Verdict(Code::Aborted, "COPIES_GONE"),
        OperationError::Recover(RecoverError::Overtaken | RecoverError::Busy) => {
            Verdict(Code::FailedPrecondition, "OTHER_RECOVERY")
        }
        OperationError::Promise(_) => Verdict(Code::Internal, "STORE_FAILED"),
        OperationError::NeedsChain => Verdict(Code::FailedPrecondition, "NEEDS_CHAIN_KEYSPACE"),
        OperationError::ConditionFailed { .. } => Verdict(Code::FailedPrecondition, "CONDITION_FAILED"),
        OperationError::Overflow => Verdict(Code::FailedPrecondition, "COUNTER_OVERFLOW"),
        OperationError::WrongType => Verdict(Code::FailedPrecondition, "WRONG_TYPE"),
        OperationError::Malformed(_) => Verdict(Code::InvalidArgument, "MALFORMED_MESSAGE"),
        OperationError::Stopping => Verdict(Code::Unavailable, "STOPPING"),
        OperationError::Remote(_) => Verdict(Code::Unknown, "REMOTE"),
    }
}

fn message(error: &OperationError) -> String {
    match error {
        OperationError::Engine(error) => error.chain(),
        other => other.to_string(),
    }
}

fn status(code: Code, reason: &str, message: String) -> Status {
    status_with(code, reason, message, HashMap::new())
}

fn status_with(code: Code, reason: &str, message: String, metadata: HashMap<String, String>) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    match code {
        Code::Unavailable | Code::ResourceExhausted => drop(details.set_retry_info(Some(RETRY_AFTER))),
        Code::InvalidArgument => drop(details.add_bad_request_violation(field_of(reason), message.clone())),
        _ => {}
    }
    Status::with_error_details(code, message, details)
}

fn field_of(reason: &str) -> &'static str {
    match reason {
        "BAD_KEY" => "key",
        "VALUE_TOO_LARGE" => "value",
        "BAD_BATCH" => "operations",
        "BAD_PAGE_TOKEN" => "page_token",
        "BAD_KEYSPACE_NAME" => "name",
        "BAD_REPLICAS" => "replicas",
        "NO_SEEDS" => "seeds",
        "PEER_UNKNOWN" => "dead",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_carries_its_reason_and_says_when_to_retry() {
        let status = Status::from(OperationError::NoReplica);
        let details = status.get_error_details();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("NO_REPLICA"));
        assert_eq!(details.error_info().map(|info| info.domain.as_str()), Some("dhtd"));
        assert!(details.retry_info().is_some());
    }

    #[test]
    fn a_bad_request_names_its_field() {
        let details = Status::from(OperationError::BadKey { bytes: 0 }).get_error_details();
        assert_eq!(details.bad_request().map(|bad| bad.field_violations[0].field.as_str()), Some("key"));
    }

    #[test]
    fn what_another_peer_refused_keeps_its_code_and_reason() {
        let failure = v1::Failure {
            code: Code::FailedPrecondition.into(),
            reason: "TOO_FEW_PEERS".into(),
            message: "m".into(),
            metadata: HashMap::new(),
        };
        let status = Status::from(OperationError::Remote(failure));
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(
            status.get_error_details().error_info().map(|info| info.reason.clone()),
            Some("TOO_FEW_PEERS".into())
        );
    }
}
