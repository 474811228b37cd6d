//! The clock that leases go by, and the one that orders the writes of eventual mode.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use dht_core::{hlc::PeerClocks, overlay::Routes, ring::PeerId};
use rustix::time::{ClockId, clock_gettime};

/// Time that goes on while the machine sleeps: a lease must not outlive a suspended laptop or a paused virtual machine.
#[must_use]
pub fn now() -> Duration {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let clock = ClockId::Boottime;
    // Elsewhere the monotonic clock either does that by itself or there is none that does.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let clock = ClockId::Monotonic;
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The time of day, for the versions of writes: this machine's, unless that is far from what most peers' show.
#[derive(Debug, Default)]
pub struct WallClock {
    peers: Mutex<PeerClocks>,
    correction: AtomicI64,
}

impl WallClock {
    /// Unix time in milliseconds.
    #[must_use]
    pub fn millis(&self) -> u64 {
        unix_millis().saturating_add_signed(self.correction.load(Ordering::Relaxed))
    }

    /// What a peer's own clock showed when it sent a message that has just come.
    pub fn hear(&self, peer: PeerId, millis: u64, routes: &Routes) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if !peers.heard(peer, millis, unix_millis()) {
            return;
        }
        peers.keep(|other| other == peer || routes.ring.is_none() || routes.peer(other).is_some());
        let correction = peers.correction(routes.peers().count());
        let before = self.correction.swap(correction, Ordering::Relaxed);
        match (before, correction) {
            (0, 0) => {}
            (_, 0) => tracing::info!("this machine's clock is near those of most peers again"),
            (0, _) => tracing::warn!(
                ahead_seconds = -correction / 1000,
                "this machine's clock is far from those of most peers: writes in eventual mode go by theirs"
            ),
            _ => {}
        }
    }
}

/// What this machine's clock shows, in milliseconds since 1970.
#[must_use]
pub fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use dht_core::overlay::Peer;

    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn a_clock_that_is_an_hour_ahead_of_two_others_shows_their_time() {
        let me = Peer { id: PeerId::new([0; 16]), address: "a:1".into(), incarnation: 1, nodes: 1, leaving: false };
        let (clock, routes) = (WallClock::default(), Routes::outside(me));
        let theirs = unix_millis() - HOUR;
        clock.hear(PeerId::new([1; 16]), theirs, &routes);
        assert!(clock.millis() >= theirs + HOUR, "one against one");
        clock.hear(PeerId::new([2; 16]), theirs, &routes);
        assert!(clock.millis() < theirs + HOUR / 2);
    }
}
