//! The simulated network.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// How messages fare between two peers.
#[derive(Clone, Debug)]
pub struct Net {
    /// The shortest delay one way.
    pub min_delay: Duration,
    /// The longest. Delays differ from message to message, so messages overtake each other.
    pub max_delay: Duration,
    /// The share of messages that get lost.
    pub loss: f64,
    /// The share of messages that arrive twice.
    pub duplicates: f64,
    /// The share of messages that are late, and by how much at most.
    pub late: (f64, Duration),
}

impl Default for Net {
    fn default() -> Self {
        let (min_delay, max_delay) = (Duration::from_millis(1), Duration::from_millis(20));
        Self { min_delay, max_delay, loss: 0.0, duplicates: 0.0, late: (0.0, Duration::ZERO) }
    }
}

impl Net {
    /// The delays after which copies of a message arrive: none, one or two.
    pub fn deliveries(&self, random: &mut ChaCha8Rng) -> Vec<Duration> {
        if self.loss > 0.0 && random.random_bool(self.loss) {
            return Vec::new();
        }
        let copies = if self.duplicates > 0.0 && random.random_bool(self.duplicates) { 2 } else { 1 };
        let (share, by) = self.late;
        let delay = |_| {
            let late = share > 0.0 && random.random_bool(share);
            let lateness = if late { random.random_range(Duration::ZERO..=by) } else { Duration::ZERO };
            lateness + random.random_range(self.min_delay..=self.max_delay)
        };
        (0..copies).map(delay).collect()
    }
}
