//! Keys and values.

use bytes::Bytes;
use dhtd_proto::v1::{
    CompareAndSetRequest, CompareAndSetResponse, DeleteRequest, DeleteResponse, ExportRequest, ExportResponse,
    GetRequest, GetResponse, IncrementRequest, IncrementResponse, PutRequest, PutResponse,
    kv_service_client::KvServiceClient,
};
use tonic::{Request, transport::Channel};

use super::{Client, MAX_MESSAGE_BYTES, Messages};
use crate::error::{Access, Error};

impl Client {
    /// Writes `value` under `key`, and answers once `min_durable` replicas have it on disk (0 means 1).
    ///
    /// # Errors
    /// See [`Error`]; check [`Error::may_have_executed`].
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        min_durable: u32,
    ) -> Result<PutResponse, Error> {
        let request = PutRequest { min_durable, ..self.put_request(key, value) };
        self.call(Access::Write, request, |channel, request| async { kv(channel).put(request).await }).await
    }

    /// Reads `key`; none if there is no such key.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<GetResponse>, Error> {
        let request = GetRequest { key: key.into(), keyspace: self.keyspace(), any_replica: self.any_replica };
        let answer =
            self.call(Access::Read, request, |channel, request| async { kv(channel).get(request).await }).await;
        match answer {
            Ok(record) => Ok(Some(record)),
            Err(error) if error.is_missing_key() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes `key`. That it was not there is no error; the answer says whether it was.
    ///
    /// # Errors
    /// See [`Error`]; check [`Error::may_have_executed`].
    pub async fn delete(&self, key: impl Into<Bytes>, min_durable: u32) -> Result<DeleteResponse, Error> {
        let request =
            DeleteRequest { key: key.into(), min_durable, keyspace: self.keyspace(), ..DeleteRequest::default() };
        self.call(Access::Write, request, |channel, request| async { kv(channel).delete(request).await }).await
    }

    /// Writes `value` under `key` if that was last written at this revision; 0: if it has no value. Chain mode only.
    ///
    /// # Errors
    /// [`Error::condition_failed`] tells whether the key was not as expected. See [`Error`]; check
    /// [`Error::may_have_executed`].
    pub async fn put_if(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        if_revision: u64,
    ) -> Result<PutResponse, Error> {
        let request = PutRequest { if_revision: Some(if_revision), ..self.put_request(key, value) };
        self.call(Access::Write, request, |channel, request| async { kv(channel).put(request).await }).await
    }

    /// Writes `value` under `key` if that has the expected value; none: if it has no value. Chain mode only.
    ///
    /// # Errors
    /// As for [`Client::put_if`].
    pub async fn compare_and_set(
        &self,
        key: impl Into<Bytes>,
        expected: Option<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<CompareAndSetResponse, Error> {
        let (key, value, keyspace) = (key.into(), value.into(), self.keyspace());
        let request = CompareAndSetRequest { key, expected, value, request: None, keyspace, ttl_ms: self.ttl_ms };
        self.call(Access::Write, request, |channel, request| async { kv(channel).compare_and_set(request).await }).await
    }

    /// Adds to the counter under `key`, which counts from 0 if it has no value. Chain mode only.
    ///
    /// # Errors
    /// See [`Error`]; check [`Error::may_have_executed`].
    pub async fn increment(&self, key: impl Into<Bytes>, by: i64) -> Result<IncrementResponse, Error> {
        let request = IncrementRequest { key: key.into(), by, request: None, keyspace: self.keyspace() };
        self.call(Access::Write, request, |channel, request| async { kv(channel).increment(request).await }).await
    }

    /// Every key of the keyspace, each once, in no promised order.
    ///
    /// # Errors
    /// See [`Error`]. Once the stream is there it does not move to another endpoint.
    pub async fn export(&self) -> Result<Messages<ExportResponse>, Error> {
        let start = |channel: Channel, request| async move { kv(channel).export(Request::new(request)).await };
        let request = ExportRequest { keyspace: self.keyspace() };
        self.stream(Access::Read, Some(self.options.timeout), request, start).await
    }

    fn put_request(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> PutRequest {
        let (key, value, keyspace, ttl_ms) = (key.into(), value.into(), self.keyspace(), self.ttl_ms);
        PutRequest { key, value, keyspace, ttl_ms, ..PutRequest::default() }
    }

    pub(super) fn keyspace(&self) -> String {
        self.keyspace.as_ref().to_owned()
    }
}

pub(super) fn kv(channel: Channel) -> KvServiceClient<Channel> {
    KvServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
}
