//! Writes as values, for those who send many at once.

use std::time::Duration;

use bytes::Bytes;
use dhtd_proto::v1::{
    CompareAndSetRequest, DeleteRequest, GetResponse, IncrementRequest, OperationResult, PutRequest, RequestId,
    Version, operation::Operation, operation_result::Result as Outcome,
};

use super::millis;
use crate::error::{Access, Error};

/// A write that is to be carried out, in the keyspace of the client that it is given to.
#[derive(Clone, Debug)]
pub struct Write(Operation);

/// A write that was carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Eventual mode: which write it is.
    pub version: Option<Version>,
    /// Chain mode: its number in its slot; 0 if there was nothing to delete.
    pub revision: u64,
    /// Replicas that had it on disk when this was answered.
    pub durable: u32,
    /// Of a put or a delete: the key had a value before.
    pub existed: bool,
    /// Of an increment: what the counter is now.
    pub total: Option<i64>,
}

impl Write {
    /// As [`crate::Client::put`].
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self(Operation::Put(PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }))
    }

    /// As [`crate::Client::put_if`].
    pub fn put_if(key: impl Into<Bytes>, value: impl Into<Bytes>, if_revision: u64) -> Self {
        let (key, value, if_revision) = (key.into(), value.into(), Some(if_revision));
        Self(Operation::Put(PutRequest { key, value, if_revision, ..PutRequest::default() }))
    }

    /// As [`crate::Client::delete`].
    pub fn delete(key: impl Into<Bytes>) -> Self {
        Self(Operation::Delete(DeleteRequest { key: key.into(), ..DeleteRequest::default() }))
    }

    /// As [`crate::Client::compare_and_set`].
    pub fn compare_and_set(key: impl Into<Bytes>, expected: Option<Bytes>, value: impl Into<Bytes>) -> Self {
        let (key, value) = (key.into(), value.into());
        Self(Operation::CompareAndSet(CompareAndSetRequest { key, expected, value, ..CompareAndSetRequest::default() }))
    }

    /// As [`crate::Client::increment`].
    pub fn increment(key: impl Into<Bytes>, by: i64) -> Self {
        Self(Operation::Increment(IncrementRequest { key: key.into(), by, ..IncrementRequest::default() }))
    }

    /// A put or delete that counts as done when so many replicas have it on disk (0 means 1); others are done then anyway.
    #[must_use]
    pub fn min_durable(mut self, replicas: u32) -> Self {
        match &mut self.0 {
            Operation::Put(put) => put.min_durable = replicas,
            Operation::Delete(delete) => delete.min_durable = replicas,
            _ => {}
        }
        self
    }

    /// A put or compare-and-set whose value is gone again after this time, rounded to milliseconds, at least one; of others
    /// nothing changes. See `PutRequest.ttl_ms`.
    #[must_use]
    pub fn expires_after(mut self, ttl: Duration) -> Self {
        match &mut self.0 {
            Operation::Put(put) => put.ttl_ms = millis(ttl),
            Operation::CompareAndSet(cas) => cas.ttl_ms = millis(ttl),
            _ => {}
        }
        self
    }

    /// Names the write, so that it is carried out once however often it is tried. Chain mode only.
    #[must_use]
    pub fn named(mut self, name: RequestId) -> Self {
        let request = match &mut self.0 {
            Operation::Put(PutRequest { request, .. })
            | Operation::Delete(DeleteRequest { request, .. })
            | Operation::CompareAndSet(CompareAndSetRequest { request, .. })
            | Operation::Increment(IncrementRequest { request, .. }) => request,
            Operation::Get(_) => return self, // There is no way to make one.
        };
        *request = Some(name);
        self
    }

    /// Roughly, the bytes that it takes.
    pub(super) fn size(&self) -> usize {
        match &self.0 {
            Operation::Put(put) => put.key.len() + put.value.len(),
            Operation::CompareAndSet(cas) => {
                cas.key.len() + cas.value.len() + cas.expected.as_ref().map_or(0, Bytes::len)
            }
            Operation::Delete(DeleteRequest { key, .. }) | Operation::Increment(IncrementRequest { key, .. }) => {
                key.len()
            }
            Operation::Get(get) => get.key.len(),
        }
    }

    pub(super) fn in_keyspace(mut self, name: &str) -> Operation {
        match &mut self.0 {
            Operation::Put(PutRequest { keyspace, .. })
            | Operation::Delete(DeleteRequest { keyspace, .. })
            | Operation::CompareAndSet(CompareAndSetRequest { keyspace, .. })
            | Operation::Increment(IncrementRequest { keyspace, .. }) => name.clone_into(keyspace),
            Operation::Get(get) => name.clone_into(&mut get.keyspace),
        }
        self.0
    }
}

/// What became of a write.
pub(super) fn written(endpoint: &str, result: OperationResult) -> Result<Written, Error> {
    let (version, revision, durable, existed, total) = match result.result {
        Some(Outcome::Put(done)) => (done.version, done.revision, done.durable, done.existed, None),
        Some(Outcome::Delete(done)) => (done.version, done.revision, done.durable, done.existed, None),
        Some(Outcome::CompareAndSet(done)) => (None, done.revision, done.durable, false, None),
        Some(Outcome::Increment(done)) => (None, done.revision, done.durable, false, Some(done.total)),
        Some(Outcome::Failure(failure)) => return Err(Error::from_failure(endpoint, Access::Write, failure)),
        Some(Outcome::Get(_)) | None => return Err(Error::nonsense(endpoint, Access::Write)),
    };
    Ok(Written { version, revision, durable, existed, total })
}

/// What became of a read.
pub(super) fn found(endpoint: &str, result: Option<Outcome>) -> Result<Option<GetResponse>, Error> {
    match result {
        Some(Outcome::Get(found)) => Ok(Some(found)),
        Some(Outcome::Failure(failure)) => {
            let error = Error::from_failure(endpoint, Access::Read, failure);
            if error.is_missing_key() { Ok(None) } else { Err(error) }
        }
        _ => Err(Error::nonsense(endpoint, Access::Read)),
    }
}
