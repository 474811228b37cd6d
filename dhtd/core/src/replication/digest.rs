//! Digests of slots.

use sha1::{Digest as _, Sha1};

use crate::record::{Record, RecordKey};

/// What a replica holds of a slot in eventual mode: the sum of its records' hashes, so that it can be kept up to date
/// record by record. Equal digests mean equal content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotDigest {
    /// The sum modulo 2^128 of hash(keyspace, key, version, kind, payload).
    pub sum: u128,
    /// How many records, tombstones included.
    pub records: u64,
    /// How many of them have a value.
    pub values: u64,
}

impl SlotDigest {
    /// A record was put in.
    pub fn add(&mut self, at: &RecordKey, record: &Record) {
        self.sum = self.sum.wrapping_add(hash(at, record));
        self.records += 1;
        self.values += u64::from(record.value().is_some());
    }

    /// A record that was added before was taken out.
    pub fn remove(&mut self, at: &RecordKey, record: &Record) {
        self.sum = self.sum.wrapping_sub(hash(at, record));
        self.records -= 1;
        self.values -= u64::from(record.value().is_some());
    }

    /// Nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The content is the same.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.sum == other.sum && self.records == other.records
    }
}

fn hash(at: &RecordKey, record: &Record) -> u128 {
    let mut hash = Sha1::new();
    hash.update(at.keyspace.0.to_be_bytes());
    hash.update(u32::try_from(at.key.len()).unwrap_or(u32::MAX).to_be_bytes());
    hash.update(&at.key);
    hash.update(record.version.time.to_bits().to_be_bytes());
    hash.update(record.version.peer.as_bytes());
    hash.update([u8::from(record.value().is_some())]);
    hash.update(record.value().map_or(&[][..], |value| value));
    let mut first = [0; 16];
    first.copy_from_slice(&hash.finalize()[..16]);
    u128::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        hlc::Timestamp,
        record::{Content, KeyspaceId, Version},
        ring::PeerId,
    };

    fn record(time: u64, value: &'static [u8]) -> (RecordKey, Record) {
        let version = Version { time: Timestamp::from_bits(time), peer: PeerId::default() };
        let at = RecordKey { keyspace: KeyspaceId::DEFAULT, key: Bytes::from_static(b"k") };
        (at, Record { version, content: Content::Value(Bytes::from_static(value)) })
    }

    #[test]
    fn the_order_of_writes_does_not_matter_and_removal_undoes() {
        let ((a_at, a), (b_at, b)) = (record(1, b"a"), record(2, b"b"));
        let (mut one, mut two) = (SlotDigest::default(), SlotDigest::default());
        one.add(&a_at, &a);
        one.add(&b_at, &b);
        two.add(&b_at, &b);
        two.add(&a_at, &a);
        assert!(one.same(&two));
        two.remove(&a_at, &a);
        assert!(!one.same(&two));
        two.remove(&b_at, &b);
        assert_eq!(two, SlotDigest::default());
    }
}
