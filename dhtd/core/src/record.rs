//! What is stored under a key, and how two versions of it are merged.

use std::{fmt, str::FromStr};

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::{
    hlc::Timestamp,
    ring::{PeerId, Slot},
};

/// Names a set of keys with a mode of its own; never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyspaceId(pub u32);

impl KeyspaceId {
    /// What the ring keeps for itself (`_system`): no client's request is about it.
    pub const SYSTEM: Self = Self(0);

    /// The keyspace `default`.
    pub const DEFAULT: Self = Self(1);
}

/// Where a record is stored: keyspace and key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RecordKey {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The client's key, 1 to 4,096 bytes.
    pub key: Bytes,
}

/// Orders the writes of one key in eventual mode: time first, the writing peer breaks ties.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version {
    /// When the write was taken.
    pub time: Timestamp,
    /// The peer that took it.
    pub peer: PeerId,
}

/// When a value ceases to count: Unix time in milliseconds, by the clock of the peer that took the write.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Expiry(pub u64);

impl Expiry {
    /// Whether that is so at this time.
    #[must_use]
    pub fn is_past(self, wall_millis: u64) -> bool {
        self.0 <= wall_millis
    }
}

/// What a key maps to, with its version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Which write this is.
    pub version: Version,
    /// When that was written which the key had where this write was taken; 0 if it had nothing. What is later and came
    /// before this write, the write did not know.
    pub replaced: Timestamp,
    /// What it wrote.
    pub content: Content,
}

/// What a write wrote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// The key has this value.
    Value(Bytes),
    /// The key has this value until then; after that it is a tombstone of the same version.
    Expiring(Bytes, Expiry),
    /// The key was deleted.
    Tombstone,
}

impl Content {
    /// The value, unless it is a tombstone; also one that has expired.
    #[must_use]
    pub fn value(&self) -> Option<&Bytes> {
        match self {
            Self::Value(value) | Self::Expiring(value, _) => Some(value),
            Self::Tombstone => None,
        }
    }

    /// When the value expires, if it does.
    #[must_use]
    pub fn expiry(&self) -> Option<Expiry> {
        if let Self::Expiring(_, expiry) = self { Some(*expiry) } else { None }
    }
}

/// Bytes from disk that are no record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{0} bytes are no record that this build can read")]
pub struct BadRecord(usize);

impl Record {
    /// The value, unless it is a tombstone; also one that has expired.
    #[must_use]
    pub fn value(&self) -> Option<&Bytes> {
        self.content.value()
    }

    /// When the value expires, if it does.
    #[must_use]
    pub fn expiry(&self) -> Option<Expiry> {
        self.content.expiry()
    }

    /// The value that the key has at this time.
    #[must_use]
    pub fn value_at(&self, wall_millis: u64) -> Option<&Bytes> {
        self.value().filter(|_| self.expiry().is_none_or(|expiry| !expiry.is_past(wall_millis)))
    }

    /// Whether `self` replaces `other` when the two meet: last writer wins.
    #[must_use]
    pub fn replaces(&self, other: Option<&Self>) -> bool {
        other.is_none_or(|other| self.version > other.version)
    }

    /// Whether it is taken in where `other` is held: if it replaces that. A deletion from before the horizon, where there
    /// is nothing left to delete, is one that was forgotten everywhere; so is a value that had expired by then.
    #[must_use]
    pub fn merges_into(&self, other: Option<&Self>, horizon: Timestamp) -> bool {
        self.replaces(other) && !(other.is_none() && self.is_forgotten(horizon))
    }

    /// Whether `other`, which it replaces, is a value that the writer cannot have known: of two concurrent writes, the one
    /// that is lost.
    #[must_use]
    pub fn discards(&self, other: &Self) -> bool {
        other.value().is_some() && other.version.time > self.replaced
    }

    /// It is a deletion from before the horizon, or a value that had expired by then.
    #[must_use]
    pub fn is_forgotten(&self, horizon: Timestamp) -> bool {
        let gone = match &self.content {
            Content::Value(_) => false,
            Content::Expiring(_, expiry) => expiry.is_past(horizon.millis()),
            Content::Tombstone => true,
        };
        gone && self.version.time < horizon
    }

    /// The form on disk: kind (1 byte), time (8), peer (16), time of what it replaced (8), payload: of a value that expires
    /// first when (8). The kind byte leaves room for counters.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (kind, expiry, payload): (u8, Option<Expiry>, &[u8]) = match &self.content {
            Content::Value(value) => (KIND_VALUE, None, value),
            Content::Expiring(value, expiry) => (KIND_EXPIRING, Some(*expiry), value),
            Content::Tombstone => (KIND_TOMBSTONE, None, &[]),
        };
        let mut bytes = BytesMut::with_capacity(HEADER + EXPIRY_BYTES + payload.len());
        bytes.put_u8(kind);
        bytes.put_u64(self.version.time.to_bits());
        bytes.put_slice(self.version.peer.as_bytes());
        bytes.put_u64(self.replaced.to_bits());
        expiry.into_iter().for_each(|Expiry(millis)| bytes.put_u64(millis));
        bytes.put_slice(payload);
        bytes.freeze()
    }

    /// Reads what [`Record::encode`] wrote; the value shares memory with `bytes`.
    ///
    /// # Errors
    /// If the bytes are too short or of an unknown kind.
    pub fn decode(bytes: &Bytes) -> Result<Self, BadRecord> {
        let bad = BadRecord(bytes.len());
        let (header, _) = bytes.split_first_chunk::<HEADER>().ok_or(bad)?;
        let timestamp = |bytes| Timestamp::from_bits(u64::from_be_bytes(bytes));
        let (time, header_rest) = header[1..].split_first_chunk::<8>().ok_or(bad)?;
        let (peer, replaced) = header_rest.split_first_chunk::<16>().ok_or(bad)?;
        let version = Version { time: timestamp(*time), peer: PeerId::new(*peer) };
        let replaced = timestamp(replaced.try_into().map_err(|_| bad)?);
        let content = match header[0] {
            KIND_VALUE => Content::Value(bytes.slice(HEADER..)),
            KIND_EXPIRING => {
                let millis = bytes[HEADER..].first_chunk().ok_or(bad)?;
                Content::Expiring(bytes.slice(HEADER + EXPIRY_BYTES..), Expiry(u64::from_be_bytes(*millis)))
            }
            KIND_TOMBSTONE if bytes.len() == HEADER => Content::Tombstone,
            _ => return Err(bad),
        };
        Ok(Self { version, replaced, content })
    }
}

/// How a keyspace is replicated. Chain and eventual keyspaces share the slots, but (slot, mode) is the unit that is
/// copied, compared and dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Mode {
    /// Linearizable, by chain replication; on disk, the applied table.
    Chain = 1,
    /// Always writable, converging.
    Eventual = 2,
}

/// Text that names no mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("a mode is `chain` or `eventual`")]
pub struct BadMode;

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chain => "chain",
            Self::Eventual => "eventual",
        })
    }
}

impl FromStr for Mode {
    type Err = BadMode;

    fn from_str(text: &str) -> Result<Self, BadMode> {
        [Self::Chain, Self::Eventual].into_iter().find(|mode| mode.to_string() == text).ok_or(BadMode)
    }
}

/// The storage key `mode | slot | keyspace | key`, so that one (slot, mode) is one contiguous range.
#[must_use]
pub fn storage_key(mode: Mode, slot: Slot, at: &RecordKey) -> Bytes {
    let mut bytes = BytesMut::with_capacity(STORAGE_PREFIX + 4 + at.key.len());
    bytes.put_slice(&slot_prefix(mode, slot));
    bytes.put_u32(at.keyspace.0);
    bytes.put_slice(&at.key);
    bytes.freeze()
}

/// What all storage keys of a (slot, mode) begin with, and no others do.
#[must_use]
pub fn slot_prefix(mode: Mode, slot: Slot) -> [u8; STORAGE_PREFIX] {
    let [a, b, c, d] = slot.0.to_be_bytes();
    [mode as u8, a, b, c, d]
}

/// What all storage keys of a keyspace in a (slot, mode) begin with, and no others do.
#[must_use]
pub fn keyspace_prefix(mode: Mode, slot: Slot, keyspace: KeyspaceId) -> Bytes {
    storage_key(mode, slot, &RecordKey { keyspace, key: Bytes::new() })
}

/// Reads the slot, keyspace and key back from a storage key; `None` if it is none.
#[must_use]
pub fn parse_storage_key(bytes: &Bytes) -> Option<(Slot, RecordKey)> {
    let slot = u32::from_be_bytes(*bytes.get(1..)?.first_chunk()?);
    let keyspace = u32::from_be_bytes(*bytes.get(STORAGE_PREFIX..)?.first_chunk()?);
    let key = bytes.slice(STORAGE_PREFIX + 4..);
    Some((Slot(slot), RecordKey { keyspace: KeyspaceId(keyspace), key }))
}

/// Bytes of a storage key before the keyspace: the mode and the slot.
pub const STORAGE_PREFIX: usize = 5;

const HEADER: usize = 1 + 8 + 16 + 8;

/// What is before the payload of a value that expires.
const EXPIRY_BYTES: usize = 8;
const KIND_VALUE: u8 = 1;
const KIND_TOMBSTONE: u8 = 2;
const KIND_EXPIRING: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(time: u64, content: Content) -> Record {
        let version = Version { time: Timestamp::from_bits(time), peer: PeerId::new([7; 16]) };
        Record { version, replaced: Timestamp::from_bits(time - 1), content }
    }

    #[test]
    fn records_read_back_from_disk() {
        let (value, expiry) = (Bytes::from_static(b"v"), Expiry(u64::MAX - 1));
        let contents = [
            Content::Value(value.clone()),
            Content::Value(Bytes::new()),
            Content::Expiring(value, expiry),
            Content::Expiring(Bytes::new(), expiry),
            Content::Tombstone,
        ];
        for content in contents {
            let record = record(42, content);
            assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn garbage_is_no_record() {
        assert!(Record::decode(&Bytes::from_static(b"short")).is_err());
        assert!(Record::decode(&Bytes::from_static(&[9; 40])).is_err());
    }

    #[test]
    fn the_later_write_wins_whichever_comes_first() {
        let old = record(1, Content::Value(Bytes::from_static(b"old")));
        let new = record(2, Content::Tombstone);
        assert!(new.replaces(Some(&old)) && new.replaces(None));
        assert!(!old.replaces(Some(&new)) && !old.replaces(Some(&old)));
    }

    #[test]
    fn a_forgotten_deletion_comes_back_only_where_there_is_something_to_delete() {
        let (old, deletion) = (record(1, Content::Value(Bytes::from_static(b"old"))), record(2, Content::Tombstone));
        let horizon = Timestamp::from_bits(3);
        assert!(!deletion.merges_into(None, horizon) && deletion.merges_into(Some(&old), horizon));
        assert!(deletion.merges_into(None, Timestamp::from_bits(2)) && old.merges_into(None, horizon));
    }

    #[test]
    fn a_value_that_has_expired_is_a_deletion_of_the_same_version() {
        let old = record(1, Content::Value(Bytes::from_static(b"old")));
        let expiring = record(2, Content::Expiring(Bytes::from_static(b"new"), Expiry(5)));
        assert_eq!((expiring.value_at(4), expiring.value_at(5)), (expiring.value(), None));
        assert!(expiring.replaces(Some(&old)) && !old.replaces(Some(&expiring)));
        let horizon = Timestamp::from_millis;
        assert!(expiring.merges_into(None, horizon(4)), "it counts until then");
        assert!(!expiring.merges_into(None, horizon(5)) && expiring.merges_into(Some(&old), horizon(5)));
    }

    #[test]
    fn a_slots_keys_are_one_range_and_read_back() {
        let at = RecordKey { keyspace: KeyspaceId::DEFAULT, key: Bytes::from_static(b"\0\xffkey") };
        let stored = storage_key(Mode::Eventual, Slot(513), &at);
        assert!(stored.starts_with(&slot_prefix(Mode::Eventual, Slot(513))));
        assert!(!stored.starts_with(&slot_prefix(Mode::Chain, Slot(513))));
        assert_eq!(parse_storage_key(&stored), Some((Slot(513), at)));
        assert_eq!(parse_storage_key(&Bytes::from_static(b"\x02")), None);
    }
}
