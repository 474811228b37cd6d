//! Where chain-mode data is in the engine, and in which form.
//!
//! ```text
//! Meta     view | slot                    what the peer knows of the slot's views, and has promised   (protobuf Acceptor)
//!          applied | slot                 where the table stands; without it the peer holds no data   (protobuf Applied)
//!          log | slot | seq               a pending entry                                             (protobuf LogEntry)
//!          outcome | slot | seq           the outcome of a command that names itself                  (protobuf RecordedOutcome)
//!          expiry | slot | time | keyspace | key   a record expires then, or did until it was overwritten    (empty)
//! Records  mode | slot | keyspace | key   the table: kind (1) | revision (8) | payload; if the kind says so, first when it expires (8)
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use dht_core::{
    record::{Expiry, KeyspaceId, RecordKey},
    replication::chain::{Record, Value},
    ring::Slot,
};
use prost::Message;

use crate::{storage::EngineError, wire::Malformed};

/// The form of a record in the table: kind (1 byte), revision (8), payload.
pub(super) fn encode_record(record: &Record) -> Bytes {
    let (kind, counter);
    let payload: &[u8] = match &record.value {
        Value::Bytes(value) => {
            kind = KIND_VALUE;
            value
        }
        Value::Counter(total) => {
            kind = KIND_COUNTER;
            counter = total.to_be_bytes();
            &counter
        }
    };
    let mut bytes = BytesMut::with_capacity(HEADER + EXPIRY_BYTES + payload.len());
    bytes.put_u8(kind | record.expires.map_or(0, |_| EXPIRES));
    bytes.put_u64(record.revision);
    record.expires.into_iter().for_each(|Expiry(millis)| bytes.put_u64(millis));
    bytes.put_slice(payload);
    bytes.freeze()
}

/// Reads what [`encode_record`] wrote; the value shares memory with `bytes`.
pub(super) fn decode_record(bytes: &Bytes) -> Result<Record, EngineError> {
    let bad = || damaged(Malformed("a record of no known kind"));
    let (kind, rest) = bytes.split_first().ok_or_else(bad)?;
    let (revision, mut payload) = rest.split_first_chunk().ok_or_else(bad)?;
    let mut expires = None;
    if kind & EXPIRES != 0 {
        let (millis, rest) = payload.split_first_chunk().ok_or_else(bad)?;
        (expires, payload) = (Some(Expiry(u64::from_be_bytes(*millis))), rest);
    }
    let value = match kind & !EXPIRES {
        KIND_VALUE => Value::Bytes(bytes.slice_ref(payload)),
        KIND_COUNTER => Value::Counter(i64::from_be_bytes(payload.try_into().map_err(|_| bad())?)),
        _ => return Err(bad()),
    };
    Ok(Record { revision: u64::from_be_bytes(*revision), value, expires })
}

/// Notes that a record expires.
pub(super) fn expiry_key(slot: Slot, expiry: Expiry, at: &RecordKey) -> Bytes {
    let mut key = BytesMut::with_capacity(EXPIRY.len() + 16 + at.key.len());
    key.put_slice(EXPIRY);
    key.put_u32(slot.0);
    key.put_u64(expiry.0);
    key.put_u32(at.keyspace.0);
    key.put_slice(&at.key);
    key.freeze()
}

/// Reads what [`expiry_key`] wrote.
pub(super) fn noted_expiry(key: &Bytes) -> Option<(Slot, Expiry, RecordKey)> {
    let (slot, rest) = key.strip_prefix(EXPIRY)?.split_first_chunk()?;
    let (millis, rest) = rest.split_first_chunk()?;
    let (keyspace, name) = rest.split_first_chunk()?;
    let at = RecordKey { keyspace: KeyspaceId(u32::from_be_bytes(*keyspace)), key: key.slice_ref(name) };
    Some((Slot(u32::from_be_bytes(*slot)), Expiry(u64::from_be_bytes(*millis)), at))
}

pub(super) fn read<M: Message + Default>(value: Bytes) -> Result<M, EngineError> {
    M::decode(value).map_err(|_| damaged(Malformed("a value that can't be read")))
}

pub(super) fn damaged(what: Malformed) -> EngineError {
    EngineError::Corrupt { what: format!("the store holds what no dhtd peer has written: {}", what.0) }
}

pub(super) fn key(kind: &[u8], slot: Slot, seq: Option<u64>) -> Bytes {
    let mut key = BytesMut::with_capacity(kind.len() + 12);
    key.put_slice(kind);
    key.put_u32(slot.0);
    if let Some(seq) = seq {
        key.put_u64(seq);
    }
    key.freeze()
}

/// Slot and number; the number is 0 where the key has none.
pub(super) fn place(key: &[u8], kind: &[u8]) -> Option<(Slot, u64)> {
    let (slot, rest) = key.strip_prefix(kind)?.split_first_chunk()?;
    let seq = if rest.is_empty() { 0 } else { u64::from_be_bytes(rest.try_into().ok()?) };
    Some((Slot(u32::from_be_bytes(*slot)), seq))
}

/// What keys begin with; none begins with another one, nor with those of `shards`.
pub(super) const VIEW: &[u8] = b"view";
pub(super) const APPLIED: &[u8] = b"applied";
pub(super) const PENDING: &[u8] = b"log";
pub(super) const OUTCOME: &[u8] = b"outcome";
pub(super) const EXPIRY: &[u8] = b"expiry";

const KIND_VALUE: u8 = 1;
const KIND_COUNTER: u8 = 2;

/// Added to the kind of a record that expires.
const EXPIRES: u8 = 0x80;
const EXPIRY_BYTES: usize = 8;

const HEADER: usize = 9;
