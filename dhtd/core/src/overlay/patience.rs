//! How long a peer may be silent before it is taken for dead: longer where round trips fail.

use std::time::Duration;

/// How patient the failure detector is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Silence after which a peer is suspected. Default 400 ms (DESIGN, section 2).
    pub suspect_after: Duration,
    /// How long the second probe waits. Default 200 ms: two heartbeats; a guess.
    pub probe_for: Duration,
    /// No time-out is shorter: schedulers and garbage pauses are not failures. Default 100 ms; a guess.
    pub floor: Duration,
    /// The time-out before the first measurement. Default 500 ms; a guess.
    pub initial: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            suspect_after: Duration::from_millis(400),
            probe_for: Duration::from_millis(200),
            floor: Duration::from_millis(100),
            initial: Duration::from_millis(500),
        }
    }
}

/// How many round trips fail at the moment, with peers that live.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    asked: f64,
    answered: f64,
}

impl Losses {
    /// A peer that lives was asked.
    pub(super) fn asked(&mut self) {
        self.asked += 1.0;
    }

    /// It has answered.
    pub(super) fn answered(&mut self) {
        self.answered += 1.0;
    }

    /// What is past counts less and less: half after some 35 heartbeats.
    pub(super) fn fade(&mut self) {
        self.asked *= FADES;
        self.answered *= FADES;
    }

    /// The share of round trips that fail. The first few say little.
    fn share(self) -> f64 {
        (self.asked - self.answered).max(0.0) / self.asked.max(1.0 / (1.0 - FADES))
    }
}

impl Patience {
    /// With so many losses, a second probe of more pings: peers that live must not look dead for them. `between` lies
    /// between two heartbeats.
    pub(super) fn amid(self, losses: Losses, between: Duration) -> Self {
        let share = losses.share().clamp(1e-9, WORST_LOSS);
        let needed = (FALSE_ALARM.ln() / share.ln()).ceil();
        let more = ((needed - USUAL_PINGS) / f64::from(SECOND_PROBE)).ceil().max(0.0);
        Self { probe_for: self.probe_for + between.min(self.suspect_after).mul_f64(more), ..self }
    }
}

/// Pings sent at once while a peer is suspected, so that lost messages alone rarely make a peer look dead.
pub(super) const SECOND_PROBE: u32 = 3;

/// Round trips that have failed when a peer is declared dead, with the default patience.
const USUAL_PINGS: f64 = 13.0;

/// How often a peer that lives may look dead for losses alone, for each heartbeat. With 20 % loss each way 13 round trips
/// fail about twice in a million times: of 200 peers one that buries another every few seconds. A guess.
const FALSE_ALARM: f64 = 1e-9;

/// More losses than these are not waited out. A guess.
const WORST_LOSS: f64 = 0.5;

/// What the losses of one heartbeat count after the next.
const FADES: f64 = 0.98;

#[cfg(test)]
mod tests {
    use super::*;

    fn with_share(fails: u32) -> Losses {
        let mut losses = Losses::default();
        for round in 0..400 {
            losses.fade();
            losses.asked();
            if round * 37 % 100 >= fails {
                losses.answered();
            }
        }
        losses
    }

    #[test]
    fn a_second_probe_is_as_long_as_losses_ask_for() {
        let beat = Duration::from_millis(100);
        let probe = |fails| Patience::default().amid(with_share(fails), beat).probe_for;
        assert_eq!((probe(0), probe(10)), (Patience::default().probe_for, Patience::default().probe_for));
        let long = probe(40);
        assert!(long > Patience::default().probe_for && long < Duration::from_secs(1), "{long:?}");
    }

    #[test]
    fn the_first_silence_is_no_sign_of_a_bad_network() {
        let mut losses = Losses::default();
        (0..4).for_each(|_| losses.asked());
        let patience = Patience::default().amid(losses, Duration::from_millis(100));
        assert_eq!(patience.probe_for, Patience::default().probe_for);
    }
}
