//! A ring of real processes in chain mode, under load and under faults; what its clients saw is checked.
//!
//! Clients write and read a few keys through gRPC, each at a peer of its choice, and note when they asked and what they
//! were told. Meanwhile processes are killed, stopped, restarted. In the end the whole history must be linearizable.

mod clients;
mod faults;
pub mod outage;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use self::clients::Clients;
pub use self::{clients::Load, faults::Fault};
use crate::{linearizability::Verdict, process::Ring};

/// What was seen while a fault went on.
#[derive(Debug)]
pub struct Report {
    /// Operations that were answered.
    pub answered: usize,
    /// Operations that were refused: nothing was done.
    pub refused: usize,
    /// Writes of which nobody knows.
    pub unknown: usize,
    /// Faults.
    pub faults: usize,
    /// The longest time without any answered write.
    pub longest_gap: Duration,
    /// What the checker says.
    pub verdict: Verdict,
}

/// Puts a ring under load for so long while faults of one kind go on, lets it come to rest, and checks what was seen.
pub async fn torture(ring: &mut Ring, load: Load, fault: Fault, time: Duration, seed: u64) -> Report {
    let addresses: Vec<String> = ring.peers.iter().map(|peer| peer.address.clone()).collect();
    let clients = Clients::start(load, &addresses, seed);
    let end = Instant::now() + time;
    let faults = fault.go_on(ring, end, seed).await;
    sleep(SETTLE).await;
    let seen = clients.stop().await;
    let verdict = seen.history.check(STEPS);
    Report {
        answered: seen.answered,
        refused: seen.refused,
        unknown: seen.unknown,
        faults,
        longest_gap: seen.longest_gap,
        verdict,
    }
}

/// How long the load goes on after the last fault: reads see what became of the writes.
const SETTLE: Duration = Duration::from_secs(5);

/// What the checker may try for each key.
const STEPS: u64 = 10_000_000;
