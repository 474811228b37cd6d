//! What is done to the processes.

use std::time::Duration;

use clap::ValueEnum;
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use tokio::time::{Instant, sleep};

use crate::process::Ring;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// None.
    None,
    /// `kill -9` of a random peer, which is started again after a while.
    Kill,
    /// `kill -STOP` of a random peer, which goes on after 5 s.
    Pause,
    /// The same for 60 s.
    LongPause,
    /// Everything is killed at once, and started again.
    All,
}

impl Fault {
    /// Does this to the ring again and again until `end`, then leaves it whole. Returns how often.
    pub async fn go_on(self, ring: &mut Ring, end: Instant, seed: u64) -> usize {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut count = 0;
        loop {
            sleep(between(&mut random, 500, 3000)).await;
            if Instant::now() >= end {
                return count;
            }
            let victim = random.random_range(0..ring.peers.len());
            match self {
                Self::None => continue,
                Self::Kill => {
                    ring.peers[victim].kill();
                    sleep(between(&mut random, 0, 3000)).await;
                    ring.peers[victim].start();
                }
                Self::Pause | Self::LongPause => {
                    ring.peers[victim].pause();
                    sleep(Duration::from_secs(if self == Self::Pause { 5 } else { 60 })).await;
                    ring.peers[victim].unpause();
                }
                Self::All => {
                    ring.peers.iter_mut().for_each(crate::process::Peer::kill);
                    let mut order: Vec<usize> = (0..ring.peers.len()).collect();
                    order.shuffle(&mut random);
                    order.into_iter().for_each(|peer| ring.peers[peer].start());
                    sleep(between(&mut random, 5_000, 10_000)).await;
                }
            }
            count += 1;
        }
    }
}

/// Milliseconds.
fn between(random: &mut ChaCha8Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.random_range(from..to))
}
