//! Streams of messages from a peer.

use std::time::Duration;

use tonic::{Status, Streaming};

use crate::error::{Access, Error};

/// Messages as they come from one peer. Dropping it ends the call.
#[derive(Debug)]
pub struct Messages<T> {
    inner: Streaming<T>,
    endpoint: String,
    access: Access,
    idle: Option<Duration>,
}

impl<T> Messages<T> {
    pub(super) fn new(inner: Streaming<T>, endpoint: String, access: Access, idle: Option<Duration>) -> Self {
        Self { inner, endpoint, access, idle }
    }

    /// The next message; none at the end. Safe to use in `select!`: no message is lost if it is dropped.
    ///
    /// # Errors
    /// See [`Error`]; what came before the error is not all there was.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        within(self.idle, &self.endpoint, self.access, self.inner.message()).await
    }

    /// The peer that sends them.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

/// `call`'s outcome, awaited no longer than `limit`.
pub(super) async fn within<T>(
    limit: Option<Duration>,
    endpoint: &str,
    access: Access,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Error> {
    let outcome = match limit {
        None => call.await,
        Some(limit) => match tokio::time::timeout(limit, call).await {
            Ok(outcome) => outcome,
            Err(_) => return Err(Error::deadline(endpoint, access, limit)),
        },
    };
    outcome.map_err(|status| Error::from_status(endpoint, access, &status))
}
