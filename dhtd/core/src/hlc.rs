//! Hybrid logical clocks (Kulkarni et al., *Logical Physical Clocks*, 2014): 48 bits of Unix milliseconds and 16
//! bits of counter, so that versions follow wall time where clocks agree and causality where they do not.

use std::time::Duration;

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
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self::from_millis(self.millis().saturating_sub(millis))
    }

    /// The timestamp of a moment by so much later.
    #[must_use]
    pub fn later_by(self, time: Duration) -> Self {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self::from_millis(self.millis().saturating_add(millis))
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

#[cfg(test)]
mod tests {
    use super::*;

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
