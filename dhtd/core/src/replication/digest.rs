//! Digests of slots.

use sha1::{Digest as _, Sha1};

use crate::record::{Expiry, Record, RecordKey};

/// What a replica holds of a slot in eventual mode: the sum of its records' hashes, so that it can be kept up to date
/// record by record. Equal digests mean equal content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotDigest {
    /// The sum modulo 2^128 of hash(keyspace, key, version, kind, payload, expiry).
    pub sum: u128,
    /// How many records, tombstones included.
    pub records: u64,
    /// How many of them have a value.
    pub values: u64,
    /// How many of these expire, or have.
    pub expiring: u64,
    /// The lower half of the sum for each sub-range, a sixteenth of the keys: tells where two copies differ.
    pub parts: [u64; PARTS],
}

/// Sub-ranges of a slot.
pub const PARTS: usize = 16;

/// Some of a slot's sub-ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts(u16);

impl Parts {
    /// Whether a key is in one of them.
    #[must_use]
    pub fn has(self, at: &RecordKey) -> bool {
        self.0 & 1 << part_of(at) != 0
    }
}

impl SlotDigest {
    /// A record was put in.
    pub fn add(&mut self, at: &RecordKey, record: &Record) {
        let (hash, part) = (hash(at, record), &mut self.parts[part_of(at)]);
        self.sum = self.sum.wrapping_add(hash);
        *part = part.wrapping_add(hash as u64);
        self.records += 1;
        self.values += u64::from(record.value().is_some());
        self.expiring += u64::from(record.expiry().is_some());
    }

    /// A record that was added before was taken out.
    pub fn remove(&mut self, at: &RecordKey, record: &Record) {
        let (hash, part) = (hash(at, record), &mut self.parts[part_of(at)]);
        self.sum = self.sum.wrapping_sub(hash);
        *part = part.wrapping_sub(hash as u64);
        self.records -= 1;
        self.values -= u64::from(record.value().is_some());
        self.expiring -= u64::from(record.expiry().is_some());
    }

    /// Nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// In which sub-ranges the content differs; all, if it differs and none of them shows it.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Parts {
        let differs = |part: usize| u16::from(self.parts[part] != other.parts[part]) << part;
        let parts = (0..PARTS).map(differs).fold(0, |all, part| all | part);
        Parts(if parts == 0 && !self.same(other) { u16::MAX } else { parts })
    }

    /// The content is the same.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.sum == other.sum && self.records == other.records
    }
}

/// FNV-1a of the key (Fowler, Noll, Vo): any function would do that all peers share and that is quick.
fn part_of(at: &RecordKey) -> usize {
    let hash = at.key.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    (hash >> 16) as usize % PARTS
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
    record.expiry().into_iter().for_each(|Expiry(millis)| hash.update(millis.to_be_bytes()));
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
        (
            at(b"k"),
            Record { version, replaced: Timestamp::default(), content: Content::Value(Bytes::from_static(value)) },
        )
    }

    fn at(key: &'static [u8]) -> RecordKey {
        RecordKey { keyspace: KeyspaceId::DEFAULT, key: Bytes::from_static(key) }
    }

    #[test]
    fn the_part_that_differs_has_the_key_that_differs_and_few_others() {
        let (mut one, mut two) = (SlotDigest::default(), SlotDigest::default());
        let (_, record) = record(1, b"v");
        for key in [b"a", b"b", b"c"] {
            one.add(&at(key), &record);
            two.add(&at(key), &record);
        }
        two.add(&at(b"lacking"), &record);
        let parts = one.differing(&two);
        assert!(parts.has(&at(b"lacking")));
        assert_eq!([b"a", b"b", b"c"].into_iter().filter(|key| parts.has(&at(*key))).count(), 0);
        assert_eq!(one.differing(&one), Parts(0));
    }

    #[test]
    fn copies_that_differ_where_no_part_shows_it_differ_everywhere() {
        let one = SlotDigest { sum: 1 << 64, records: 1, ..SlotDigest::default() };
        assert_eq!(one.differing(&SlotDigest { sum: 1 << 65, ..one }), Parts(u16::MAX));
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
