//! The clock that leases go by.

use std::time::Duration;

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
