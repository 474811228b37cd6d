//! What can go wrong with a call, in the terms a caller acts on.

use std::{error::Error as StdError, time::Duration};

use dhtd_proto::v1::Failure;
use tonic::{Code, ConnectError, Status, TimeoutExpired};
use tonic_types::{ErrorDetails, StatusExt};

/// A call that failed, or an input that no call was made for.
///
/// Whether the peer may have carried the request out all the same is told by [`Error::may_have_executed`].
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}{}", .0.endpoint.as_ref().map(|endpoint| format!("{endpoint}: ")).unwrap_or_default(), self.summary())]
pub struct Error(Box<Details>);

/// The classes of failure that a caller can tell apart; the command-line tool's exit codes are made of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Anything else: an internal error of the peer, data loss, an answer that makes no sense.
    Failure,
    /// The request itself is wrong; sending it again can't help.
    Usage,
    /// What was asked for does not exist.
    NotFound,
    /// The state of the ring or of the key forbids it.
    Precondition,
    /// No peer answered in time, or the one that did can't serve now; trying again may help.
    Unavailable,
    /// The caller is not known, or not allowed to do this.
    Unauthorised,
}

impl ErrorKind {
    /// The frozen exit code of the command-line tool.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Precondition => 4,
            Self::Unavailable => 5,
            Self::Unauthorised => 6,
        }
    }

    /// The name used in JSON output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::Precondition => "precondition_failed",
            Self::Unavailable => "unavailable",
            Self::Unauthorised => "not_authorised",
        }
    }

    const fn of(code: Code) -> Self {
        match code {
            Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => Self::Usage,
            Code::NotFound => Self::NotFound,
            Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => Self::Precondition,
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Cancelled => Self::Unavailable,
            Code::PermissionDenied | Code::Unauthenticated => Self::Unauthorised,
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Self::Failure,
        }
    }
}

/// Whether a call changes anything: it decides what an unanswered one may have left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

#[derive(Clone, Debug)]
struct Details {
    kind: ErrorKind,
    code: Option<Code>,
    reason: Option<String>,
    message: String,
    endpoint: Option<String>,
    may_have_executed: bool,
    not_connected: bool,
    retry_after: Option<Duration>,
    revision: Option<u64>,
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The gRPC code; none if no call was made.
    pub fn code(&self) -> Option<Code> {
        self.0.code
    }

    /// The reason in the `google.rpc.ErrorInfo` of the answer, such as `KEY_NOT_FOUND`.
    pub fn reason(&self) -> Option<&str> {
        self.0.reason.as_deref()
    }

    /// What the peer, or the network, said.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The message, the code and the reason, without the endpoint.
    pub fn summary(&self) -> String {
        match (self.0.code, &self.0.reason) {
            (Some(code), Some(reason)) => format!("{} ({}, {reason})", self.0.message, code_name(code)),
            (Some(code), None) => format!("{} ({})", self.0.message, code_name(code)),
            (None, _) => self.0.message.clone(),
        }
    }

    /// The endpoint that was asked last.
    pub fn endpoint(&self) -> Option<&str> {
        self.0.endpoint.as_deref()
    }

    /// The request was a write, and the peer may have carried it out although it did not say so.
    pub fn may_have_executed(&self) -> bool {
        self.0.may_have_executed
    }

    /// The key was not as a conditional write expected; nothing was changed.
    pub fn condition_failed(&self) -> bool {
        self.0.reason.as_deref() == Some("CONDITION_FAILED")
    }

    /// No connection came about, so nothing was sent.
    pub fn is_not_connected(&self) -> bool {
        self.0.not_connected
    }

    /// The peer refused because of too much load, or could not serve now. The same request may succeed later; repeating
    /// a write is right only if repeating it does no harm.
    pub fn is_transient(&self) -> bool {
        matches!(self.0.code, Some(Code::Unavailable | Code::ResourceExhausted))
    }

    /// How long the peer asks to wait before the next attempt (`google.rpc.RetryInfo`).
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self(Box::new(Details {
            kind: ErrorKind::Usage,
            code: None,
            reason: None,
            message: message.into(),
            endpoint: None,
            may_have_executed: false,
            not_connected: false,
            retry_after: None,
            revision: None,
        }))
    }

    pub(crate) fn unreachable(endpoint: &str, cause: &(dyn StdError + 'static)) -> Self {
        let mut error = Self::usage(innermost(cause));
        error.0.kind = ErrorKind::Unavailable;
        error.0.code = Some(Code::Unavailable);
        error.0.endpoint = Some(endpoint.to_owned());
        error.0.not_connected = true;
        error
    }

    /// Connecting took longer than it may.
    pub(crate) fn connect_timeout(endpoint: &str, waited: Duration) -> Self {
        let mut error = Self::usage(format!("no connection within {waited:.1?}"));
        error.0.kind = ErrorKind::Unavailable;
        error.0.code = Some(Code::Unavailable);
        error.0.endpoint = Some(endpoint.to_owned());
        error.0.not_connected = true;
        error
    }

    pub(crate) fn deadline(endpoint: &str, access: Access, limit: Duration) -> Self {
        let mut error = Self::usage(format!("no answer within {limit:.1?}"));
        error.0.kind = ErrorKind::Unavailable;
        error.0.code = Some(Code::DeadlineExceeded);
        error.0.endpoint = Some(endpoint.to_owned());
        error.0.may_have_executed = access == Access::Write;
        error
    }

    /// An answer that makes no sense.
    pub(crate) fn nonsense(endpoint: &str, access: Access) -> Self {
        let mut error = Self::usage("the answer makes no sense");
        error.0.kind = ErrorKind::Failure;
        error.0.code = Some(Code::Internal);
        error.0.endpoint = (!endpoint.is_empty()).then(|| endpoint.to_owned());
        error.0.may_have_executed = access == Access::Write;
        error
    }

    /// What befell one of several operations of a call.
    pub(crate) fn from_failure(endpoint: &str, access: Access, failure: Failure) -> Self {
        let Failure { code, reason, message, metadata } = failure;
        let details = ErrorDetails::with_error_info(reason, "dhtd", metadata);
        let status = Status::with_error_details(Code::from_i32(code), message, details);
        let mut error = Self::from_status(endpoint, access, &status);
        error.0.endpoint = (!endpoint.is_empty()).then(|| endpoint.to_owned());
        error
    }

    /// What a broken stream means for an operation on it.
    pub(crate) fn of(mut self, access: Access) -> Self {
        self.0.may_have_executed = access == Access::Write && !self.0.not_connected;
        self
    }

    pub(crate) fn is_missing_key(&self) -> bool {
        self.0.code == Some(Code::NotFound) && self.reason().is_none_or(|reason| reason == "KEY_NOT_FOUND")
    }

    /// What the `google.rpc.ErrorInfo` says of the slot, or of the key, that a write was refused for.
    pub fn revision(&self) -> Option<u64> {
        self.0.revision
    }

    pub(crate) fn from_status(endpoint: &str, access: Access, status: &Status) -> Self {
        // A status with a source was made here, by tonic, out of what the connection did; others were sent by the peer.
        let local = status.source();
        let not_connected = chain_has::<ConnectError>(local);
        // No call is cancelled here and awaited still: a peer that says CANCELLED means its own deadline (tonic does).
        let expired = chain_has::<TimeoutExpired>(local) || (local.is_none() && status.code() == Code::Cancelled);
        let code = if expired {
            Code::DeadlineExceeded
        } else if local.is_some() {
            Code::Unavailable
        } else {
            status.code()
        };
        let info = status.get_details_error_info();
        let revision = info.as_ref().and_then(|info| info.metadata.get("revision")?.parse().ok());
        let reason = info.map(|info| info.reason).filter(|reason| !reason.is_empty());
        let message = match local {
            Some(source) => innermost(source),
            None if status.message().is_empty() => status.code().description().to_owned(),
            None => status.message().to_owned(),
        };
        let in_doubt = match reason.as_deref() {
            Some("NOT_A_MEMBER" | "NO_QUORUM" | "VIEW_UNKNOWN" | "TOO_FEW_IN_SYNC") => false,
            Some("OUTCOME_UNKNOWN") => true,
            _ => matches!(
                code,
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal
            ),
        };
        Self(Box::new(Details {
            kind: ErrorKind::of(code),
            code: Some(code),
            reason,
            message,
            endpoint: Some(endpoint.to_owned()),
            may_have_executed: access == Access::Write && in_doubt && !not_connected,
            not_connected,
            retry_after: status.get_details_retry_info().and_then(|info| info.retry_delay),
            revision,
        }))
    }
}

/// A gRPC code as the specification writes it: `DEADLINE_EXCEEDED`.
pub const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn chain_has<T: StdError + 'static>(mut error: Option<&(dyn StdError + 'static)>) -> bool {
    while let Some(current) = error {
        if current.is::<T>() {
            return true;
        }
        error = current.source();
    }
    false
}

/// The last error of the chain: the layers above it only say "transport error".
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut current = error;
    while let Some(source) = current.source() {
        current = source;
    }
    current.to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    #[test]
    fn reason_and_retry_delay_are_read_from_the_details() {
        let mut details = ErrorDetails::with_error_info("OVERLOADED", "dhtd", HashMap::new());
        details.set_retry_info(Some(Duration::from_millis(250)));
        let status = Status::with_error_details(Code::ResourceExhausted, "queue is full", details);
        let error = Error::from_status("a:1", Access::Write, &status);
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.reason(), Some("OVERLOADED"));
        assert_eq!(error.retry_after(), Some(Duration::from_millis(250)));
        assert!(error.is_transient() && !error.may_have_executed());
        assert_eq!(error.to_string(), "a:1: queue is full (RESOURCE_EXHAUSTED, OVERLOADED)");
    }

    #[test]
    fn a_write_that_was_refused_unexecuted_is_not_in_doubt() {
        for (reason, in_doubt) in [("NO_QUORUM", false), ("OUTCOME_UNKNOWN", true), ("NOT_DURABLE", true)] {
            let details = ErrorDetails::with_error_info(reason, "dhtd", HashMap::new());
            let status = Status::with_error_details(Code::Unavailable, "", details);
            assert_eq!(Error::from_status("a:1", Access::Write, &status).may_have_executed(), in_doubt, "{reason}");
            assert!(!Error::from_status("a:1", Access::Read, &status).may_have_executed());
        }
    }
}
