//! What systemd is told by `sd_notify(3)`: when the peer is ready, how it stands, that it is alive, that it stops.
//!
//! If nobody listens (no `NOTIFY_SOCKET`), nothing is sent.

use dht_core::overlay::Phase;
use sd_notify::NotifyState;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use crate::driver::Pulse;

/// Tells how the peer stands, and that it is ready once it is a member of a ring. If systemd watches over it
/// (`WatchdogSec=`), it hears of the peer as long as its loops come round, and kills it otherwise.
pub async fn tell(phases: watch::Receiver<Phase>, pulse: Pulse) {
    tokio::join!(tell_phases(phases), feed_watchdog(pulse));
}

/// The peer is about to stop.
pub fn tell_stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("stopping: its data stays, and it is expected back")]);
}

async fn tell_phases(mut phases: watch::Receiver<Phase>) {
    let mut ready = false;
    loop {
        let phase = *phases.borrow_and_update();
        let status = NotifyState::Status(match phase {
            Phase::Idle => "in no ring yet",
            Phase::Joining => "on its way into its ring",
            Phase::Member => "a member of its ring",
            Phase::Island => "cut off: it looks for the other members of its ring",
            Phase::Gone => "departed",
        });
        if phase == Phase::Member && !ready {
            ready = true;
            send(&[NotifyState::Ready, status]);
        } else {
            send(&[status]);
        }
        if phases.changed().await.is_err() {
            return;
        }
    }
}

async fn feed_watchdog(pulse: Pulse) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    // sd_watchdog_enabled(3) says every half; a third leaves time for a round.
    let mut beats = interval(limit / 3);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        pulse.beat().await;
        send(&[NotifyState::Watchdog]);
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell systemd how the peer stands");
    }
}
