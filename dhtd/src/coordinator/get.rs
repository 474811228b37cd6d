//! Get.

use std::time::Instant;

use bytes::Bytes;
use dht_core::{
    overlay::Peer,
    record::{Expiry, Mode, Record, RecordKey},
    replication::chain::{self, Value},
    ring::Slot,
};
use dhtd_proto::v1::{self, peer_call::Call, peer_reply::Reply};
use tokio::time::sleep;

use super::{Coordinator, OPERATION_TIME, OperationError, REPLICA_TIME, RETRY_PAUSE, Stamp};
use crate::{
    transport::{CallError, Lane},
    wire,
};

/// A value that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The key's value.
    pub value: Bytes,
    /// Which write it is of.
    pub stamp: Stamp,
    /// It is a counter: its total; `value` has it in decimal digits.
    pub counter: Option<i64>,
    /// When it expires, if ever.
    pub expires: Option<Expiry>,
}

/// What one replica holds under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The record, tombstones included.
    pub record: Option<Record>,
    /// The replica has everything that the slot's others had when it took the slot over.
    pub synced: bool,
}

impl Coordinator {
    /// Reads a key of a keyspace of this mode; with `any`, at any replica, which in chain mode may have an old value.
    ///
    /// # Errors
    /// [`OperationError::KeyNotFound`] if there is none; see [`OperationError`] for the rest.
    pub async fn get(&self, mode: Mode, at: RecordKey, any: bool) -> Result<Read, OperationError> {
        if mode == Mode::Chain {
            return chain_value_of(self.read_chain(at, any).await?);
        }
        let slot = self.shards()?.slot_of(&at.key);
        let deadline = Instant::now() + OPERATION_TIME;
        loop {
            let group = self.home(slot).await.unwrap_or_default();
            match self.ask_group(&group, slot, &at).await {
                Ok(record) => return value_of(record, self.wall_millis()),
                Err(error) => {
                    self.forget(slot);
                    if Instant::now() >= deadline {
                        return Err(error);
                    }
                }
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// What this peer holds under a key.
    ///
    /// # Errors
    /// If its store can't be read.
    pub(super) fn read_here(&self, at: &RecordKey) -> Result<Held, OperationError> {
        let shards = self.shards()?;
        // The flag is read first: what is synced afterwards was so when the record was read.
        let synced = self.synced(shards.slot_of(&at.key));
        Ok(Held { record: shards.read(at)?, synced })
    }

    /// The answer of the first synced replica, this peer before others; or the newest of all answers.
    async fn ask_group(&self, group: &[Peer], slot: Slot, at: &RecordKey) -> Result<Option<Record>, OperationError> {
        let me = self.me();
        let mut newest: Option<Record> = None;
        let (mut answers, mut failure) = (0, OperationError::NoReplica);
        let here = group.iter().filter(|peer| peer.id == me);
        let there = group.iter().filter(|peer| peer.id != me);
        for peer in here.chain(there) {
            let held = if peer.id == me { self.read_here(at) } else { self.read_there(peer, at).await };
            match held {
                Ok(Held { record, synced }) => {
                    answers += 1;
                    if let Some(record) = record.filter(|record| record.replaces(newest.as_ref())) {
                        newest = Some(record);
                    }
                    if synced {
                        return Ok(newest);
                    }
                }
                Err(error) => failure = error,
            }
        }
        // Nobody is sure. A value that somebody has is one that was written; its absence proves nothing.
        match newest {
            Some(record) if record.value().is_some() => Ok(Some(record)),
            _ if answers > 0 => Err(OperationError::Syncing),
            _ => {
                tracing::debug!(%slot, %failure, "no replica answers");
                Err(failure)
            }
        }
    }

    pub(super) async fn read_there(&self, peer: &Peer, at: &RecordKey) -> Result<Held, OperationError> {
        let call = Call::Read(v1::ReadCall { keyspace: at.keyspace.0, key: at.key.clone() });
        held(self.0.shared.calls.call(&peer.address, Lane::Foreground, call, REPLICA_TIME).await)
    }
}

/// What another peer's answer to a read says.
pub(super) fn held(answer: Result<Reply, CallError>) -> Result<Held, OperationError> {
    match answer? {
        Reply::Read(reply) => {
            let record = reply.record.map(wire::decode_stored_record).transpose();
            let record = record.map_err(|_| OperationError::NoReplica)?.map(|(_, record)| record);
            Ok(Held { record, synced: reply.synced })
        }
        _ => Err(OperationError::NoReplica),
    }
}

/// What clients see of a value, and the total if it is a counter.
pub(super) fn shown(value: Value) -> (Bytes, Option<i64>) {
    match value {
        Value::Bytes(value) => (value, None),
        Value::Counter(total) => (total.to_string().into(), Some(total)),
    }
}

pub(super) fn chain_value_of(record: Option<chain::Record>) -> Result<Read, OperationError> {
    let chain::Record { revision, value, expires } = record.ok_or(OperationError::KeyNotFound)?;
    let (value, counter) = shown(value);
    Ok(Read { value, stamp: Stamp::Revision(revision), counter, expires })
}

/// What clients see of a record at this time.
pub(super) fn value_of(record: Option<Record>, wall_millis: u64) -> Result<Read, OperationError> {
    let record = record.ok_or(OperationError::KeyNotFound)?;
    let value = record.value_at(wall_millis).cloned().ok_or(OperationError::KeyNotFound)?;
    Ok(Read { value, stamp: Stamp::Version(record.version), counter: None, expires: record.expiry() })
}
