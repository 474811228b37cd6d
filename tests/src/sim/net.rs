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
}

impl Default for Net {
    fn default() -> Self {
        Self { min_delay: Duration::from_millis(1), max_delay: Duration::from_millis(20), loss: 0.0, duplicates: 0.0 }
    }
}

impl Net {
    /// The delays after which copies of a message arrive: none, one or two.
    pub fn deliveries(&self, random: &mut ChaCha8Rng) -> Vec<Duration> {
        if self.loss > 0.0 && random.random_bool(self.loss) {
            return Vec::new();
        }
        let copies = if self.duplicates > 0.0 && random.random_bool(self.duplicates) { 2 } else { 1 };
        (0..copies).map(|_| random.random_range(self.min_delay..=self.max_delay)).collect()
    }
}
