//! Which record a key has, after a write here or a record from another replica.

use crate::{
    hlc::{Clock, Timestamp},
    record::{Content, Record, Version},
    ring::PeerId,
};

/// Gives versions to the writes that this peer takes, and decides between records of one key: the last writer wins.
///
/// There is one for each set of keys whose writes are carried out one after another.
#[derive(Clone, Debug)]
pub struct Arbiter {
    me: PeerId,
    clock: Clock,
    discarded: u64,
}

impl Arbiter {
    /// Of a process of this peer that has just started.
    #[must_use]
    pub fn new(me: PeerId) -> Self {
        Self { me, clock: Clock::default(), discarded: 0 }
    }

    /// What a write puts under a key that has `old`; `wall_millis` is Unix time.
    pub fn write(&mut self, old: Option<&Record>, content: Content, wall_millis: u64) -> Record {
        let replaced = old.map_or(Timestamp::default(), |old| old.version.time);
        self.clock.observe(replaced);
        let version = Version { time: self.clock.tick(wall_millis), peer: self.me };
        Record { version, replaced, content }
    }

    /// Whether a record of another replica goes where `old` is. Deletions before the horizon are forgotten.
    pub fn takes_in(&mut self, old: Option<&Record>, record: &Record, horizon: Timestamp) -> bool {
        self.clock.observe(record.version.time);
        if !record.merges_into(old, horizon) {
            return false;
        }
        // Counted by who wrote it, so that all replicas together count it once.
        let lost = old.is_some_and(|old| old.version.peer == self.me && record.discards(old));
        self.discarded += u64::from(lost);
        true
    }

    /// Values written here, since the process started, that a concurrent write has replaced.
    #[must_use]
    pub fn discarded(&self) -> u64 {
        self.discarded
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const NONE: Timestamp = Timestamp::from_millis(0);

    fn value(text: &'static str) -> Content {
        Content::Value(Bytes::from_static(text.as_bytes()))
    }

    fn two() -> (Arbiter, Arbiter) {
        (Arbiter::new(PeerId::new([1; 16])), Arbiter::new(PeerId::new([2; 16])))
    }

    #[test]
    fn a_write_that_nobody_had_told_the_other_one_of_is_discarded_and_counted_where_it_was_made() {
        let (mut a, mut b) = two();
        let first = a.write(None, value("first"), 5);
        let second = b.write(None, value("second"), 6);
        assert!(a.takes_in(Some(&first), &second, NONE) && !b.takes_in(Some(&second), &first, NONE));
        assert_eq!((a.discarded(), b.discarded()), (1, 0));
    }

    #[test]
    fn a_write_that_has_seen_the_one_before_replaces_it_and_discards_nothing() {
        let (mut a, mut b) = two();
        let first = a.write(None, value("first"), 5);
        assert!(b.takes_in(None, &first, NONE));
        let second = b.write(Some(&first), value("second"), 6);
        assert!(a.takes_in(Some(&first), &second, NONE));
        let third = a.write(Some(&second), value("third"), 7);
        assert!(b.takes_in(Some(&second), &third, NONE));
        assert_eq!((a.discarded(), b.discarded()), (0, 0));
    }

    #[test]
    fn of_writes_that_cross_each_is_counted_once() {
        let (mut a, mut b) = two();
        let first = a.write(None, value("first"), 5);
        let other = b.write(None, value("other"), 6);
        let second = a.write(Some(&first), value("second"), 7);
        assert!(b.takes_in(Some(&other), &second, NONE), "written before the other one was heard of");
        assert!(!a.takes_in(Some(&second), &other, NONE));
        assert_eq!((a.discarded(), b.discarded()), (0, 1), "the first one was replaced, not discarded");
    }

    #[test]
    fn a_lost_deletion_is_no_lost_value() {
        let (mut a, mut b) = two();
        let deletion = a.write(None, Content::Tombstone, 5);
        let later = b.write(None, value("later"), 6);
        assert!(a.takes_in(Some(&deletion), &later, NONE));
        assert_eq!(a.discarded(), 0);
    }
}
