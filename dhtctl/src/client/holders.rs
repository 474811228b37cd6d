//! Calls about who holds what.

use bytes::Bytes;
use dhtd_proto::v1::{ExplainRequest, ExplainResponse};

use super::{Client, ring};
use crate::error::{Access, Error};

impl Client {
    /// Where a key is and why.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn explain(&self, key: impl Into<Bytes>) -> Result<ExplainResponse, Error> {
        let request = ExplainRequest { key: key.into() };
        self.call(Access::Read, request, |channel, request| async { ring(channel).explain(request).await }).await
    }
}
