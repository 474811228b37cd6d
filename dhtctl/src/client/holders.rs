//! Calls about who holds what.

use bytes::Bytes;
use dhtd_proto::v1::{ExplainRequest, ExplainResponse, RecoverRequest, RecoverResponse};

use super::{Client, ring::ring};
use crate::error::{Access, Error};

impl Client {
    /// Where a key is and why.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn explain(&self, key: impl Into<Bytes>) -> Result<ExplainResponse, Error> {
        let request = ExplainRequest { key: key.into(), keyspace: self.keyspace() };
        self.call(Access::Read, request, |channel, request| async { ring(channel).explain(request).await }).await
    }

    /// Starts again, from what is left, what has lost most of its peers for good; or says what that would do. The ids of
    /// those that are given up have 16 bytes.
    ///
    /// # Errors
    /// See [`Error`]. After a time-out the peer goes on; asking again is safe.
    pub async fn recover(&self, dead: Vec<Bytes>, dry_run: bool) -> Result<RecoverResponse, Error> {
        let access = if dry_run { Access::Read } else { Access::Write };
        let request = RecoverRequest { dead, dry_run };
        self.call(access, request, |channel, request| async { ring(channel).recover(request).await }).await
    }
}
