//! Hybrid logical clocks (Kulkarni et al., *Logical Physical Clocks*, 2014): 48 bits of Unix milliseconds and 16
//! bits of counter, so that versions follow wall time where clocks agree and causality where they do not.

use std::{collections::BTreeMap, time::Duration};

use crate::ring::PeerId;

/// A moment on the hybrid logical clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The timestamp with these 64 bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// 48 bits of milliseconds, then 16 bits of counter.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The earliest timestamp of a moment in Unix milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis << 16)
    }

    /// The timestamp of a moment by so much earlier.
    #[must_use]
    pub fn earlier_by(self, time: Duration) -> Self {
        Self::from_millis(self.millis().saturating_sub(whole_millis(time)))
    }

    /// The timestamp of a moment by so much later.
    #[must_use]
    pub fn later_by(self, time: Duration) -> Self {
        Self::from_millis(self.millis().saturating_add(whole_millis(time)))
    }

    /// The physical part: Unix milliseconds.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0 >> 16
    }
}

/// One peer's clock. It never goes back, and is ahead of everything it has observed.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    last: Timestamp,
}

impl Clock {
    /// A timestamp later than all that this clock has issued or observed. `wall_millis` is Unix time.
    pub fn tick(&mut self, wall_millis: u64) -> Timestamp {
        // A counter that overflows carries into the milliseconds: still later, a little ahead of the wall.
        self.last = Timestamp((wall_millis << 16).max(self.last.0 + 1));
        self.last
    }

    /// Takes notice of a timestamp from another peer.
    pub fn observe(&mut self, seen: Timestamp) {
        self.last = self.last.max(seen);
    }
}

/// How far the clocks of other peers are ahead of this one's, as they have last said: whose wall clock is far from
/// most others' stops going by it. Nobody's data is refused for its time, so this is all that keeps one clock that is
/// wrong by a year from deciding who wins.
#[derive(Clone, Debug, Default)]
pub struct PeerClocks {
    /// In milliseconds. Messages take time: a clock is as far ahead as this or a little more.
    ahead: BTreeMap<PeerId, i64>,
}

impl PeerClocks {
    /// Two clocks that differ by less count as agreeing: far more than messages take, and than clocks differ that are
    /// kept by NTP. A guess.
    pub const TOLERANCE: Duration = Duration::from_secs(10);

    /// A peer's clock showed `theirs` when it sent what has come at `mine` by the clock here, both in Unix milliseconds.
    /// Returns whether that is news.
    pub fn heard(&mut self, peer: PeerId, theirs: u64, mine: u64) -> bool {
        let ahead = i64::try_from(i128::from(theirs) - i128::from(mine)).unwrap_or(0);
        let known = self.ahead.get(&peer).copied().unwrap_or(0);
        let news = known.abs_diff(ahead) > NEWS_MILLIS;
        if news {
            self.ahead.insert(peer, ahead);
        }
        news
    }

    /// Only these peers count.
    pub fn keep(&mut self, is_there: impl Fn(PeerId) -> bool) {
        self.ahead.retain(|peer, _| is_there(*peer));
    }

    /// By how many milliseconds the clock here has to be set forward (or back, below 0) to show what the median of all
    /// `peers`, this one among them, shows; 0 if it is near enough, or if as many agree with it as do not.
    #[must_use]
    pub fn correction(&self, peers: usize) -> i64 {
        // Those that have said nothing else agree.
        let mut ahead: Vec<i64> = self.ahead.values().copied().collect();
        ahead.resize(peers.max(self.ahead.len() + 1), 0);
        ahead.sort_unstable();
        let (low, high) = (ahead[(ahead.len() - 1) / 2], ahead[ahead.len() / 2]);
        let median = if low.abs() < high.abs() { low } else { high };
        if median.unsigned_abs() > whole_millis(Self::TOLERANCE) { median } else { 0 }
    }
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What a clock is ahead is remembered once it has changed by so much: how long messages take changes all the time.
const NEWS_MILLIS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_700_000_000_000;
    const YEAR: u64 = 365 * 24 * 3600 * 1000;

    fn heard(from: impl IntoIterator<Item = u64>, mine: u64) -> PeerClocks {
        let mut clocks = PeerClocks::default();
        for (name, theirs) in (1..).zip(from) {
            clocks.heard(PeerId::new([name; 16]), theirs, mine);
        }
        clocks
    }

    #[test]
    fn whose_clock_is_far_from_most_others_goes_by_theirs() {
        let (ahead, behind) = (heard([NOON, NOON + 5], NOON + YEAR), heard([NOON, NOON + 5], NOON - YEAR));
        assert_eq!(ahead.correction(3).unsigned_abs(), YEAR - 5, "the nearer one of two that agree");
        assert_eq!(behind.correction(3).unsigned_abs(), YEAR, "the nearer one of two that agree");
        assert!(ahead.correction(3) < 0 && behind.correction(3) > 0);
    }

    #[test]
    fn one_clock_that_is_wrong_changes_nobody_elses() {
        assert_eq!(heard([NOON + YEAR, NOON + 20], NOON).correction(3), 0);
        assert_eq!(heard([NOON + YEAR], NOON).correction(2), 0, "nobody can tell which one is wrong");
        assert_eq!(heard([NOON + YEAR, NOON + YEAR], NOON).correction(5), 0, "two of five are no majority");
    }

    #[test]
    fn clocks_that_differ_by_seconds_agree() {
        assert_eq!(heard([NOON + 9_000, NOON + 9_500, NOON + 9_900], NOON).correction(4), 0);
    }

    #[test]
    fn who_is_gone_does_not_count() {
        let mut clocks = heard([NOON + YEAR, NOON + YEAR], NOON);
        clocks.keep(|peer| peer != PeerId::new([1; 16]));
        assert_eq!(clocks.correction(2), 0);
    }

    #[test]
    fn time_never_goes_back_even_if_the_wall_clock_does() {
        let mut clock = Clock::default();
        let first = clock.tick(1_000);
        let second = clock.tick(500);
        assert!(second > first);
        assert_eq!(clock.tick(2_000).millis(), 2_000);
    }

    #[test]
    fn a_write_is_later_than_what_its_peer_has_seen() {
        let mut clock = Clock::default();
        let seen = Timestamp::from_bits(9_000 << 16);
        clock.observe(seen);
        assert!(clock.tick(1_000) > seen);
    }
}
