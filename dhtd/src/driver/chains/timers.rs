//! What a group is woken for, and when.

use std::{collections::BTreeMap, time::Duration};

use dht_core::replication::chain::Timer;

/// The timers of one group, by the clock of leases.
#[derive(Debug, Default)]
pub(super) struct Timers {
    waiting: BTreeMap<(Duration, u64), Timer>,
    last: u64,
}

impl Timers {
    /// Sets a timer that was asked for at the time `now`.
    pub(super) fn set(&mut self, now: Duration, after: Duration, timer: Timer) {
        self.last += 1;
        self.waiting.insert((due(now + after, after, timer), self.last), timer);
    }

    /// How long it is until the first one.
    pub(super) fn next_in(&self, now: Duration) -> Duration {
        self.waiting.first_key_value().map_or(IDLE, |((at, _), _)| at.saturating_sub(now))
    }

    /// Takes one that is due.
    pub(super) fn take(&mut self, now: Duration) -> Option<Timer> {
        let first = self.waiting.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(first.remove())
    }
}

/// When a timer fires. What recurs does so at the same instants in all groups, so that their heartbeats share a message.
fn due(at: Duration, after: Duration, timer: Timer) -> Duration {
    match timer {
        Timer::Heartbeat | Timer::Tick if !after.is_zero() => {
            let rounds = at.as_nanos().div_ceil(after.as_nanos());
            u32::try_from(rounds).map_or(at, |rounds| after * rounds)
        }
        _ => at,
    }
}

/// How long to sleep when no timer is set, which is never.
const IDLE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn what_recurs_does_so_at_the_same_instants_whenever_it_was_asked_for() {
        let mut timers = Timers::default();
        timers.set(ms(1003), ms(50), Timer::Tick);
        timers.set(ms(1000), ms(50), Timer::Tick);
        timers.set(ms(1007), ms(20), Timer::Commits);
        assert_eq!(timers.next_in(ms(1007)), ms(20));
        assert_eq!((timers.take(ms(1026)), timers.take(ms(1027))), (None, Some(Timer::Commits)));
        assert_eq!(timers.take(ms(1049)), None);
        assert_eq!((timers.take(ms(1050)), timers.take(ms(1099))), (Some(Timer::Tick), None));
        assert_eq!((timers.take(ms(1100)), timers.take(ms(9999))), (Some(Timer::Tick), None));
        assert_eq!(timers.next_in(ms(9999)), IDLE);
    }
}
