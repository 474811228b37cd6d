//! A ring of real processes in chain mode, under load and under faults; what its clients saw is checked.
//!
//! Clients write and read a few keys through gRPC, each at a peer of its choice, and note when they asked and what they
//! were told. Meanwhile processes are killed, stopped, restarted, cut off from each other; peers join and depart. In the end
//! the whole history must be linearizable.

mod clients;
mod cut;
mod faults;
mod held;
mod members;
pub mod outage;

use std::{collections::BTreeMap, fmt, time::Duration};

use tokio::time::{Instant, sleep};

use self::{clients::Clients, held::at_rest};
pub use self::{clients::Load, faults::Fault};
use crate::{
    linearizability::Verdict,
    process::{Peer, Ring},
};

/// What was seen while a fault went on.
#[derive(Debug)]
pub struct Report {
    /// Writes that were acknowledged.
    pub written: usize,
    /// Reads that were answered.
    pub read: usize,
    /// Operations that were refused, so that nothing was done: how often, by reason.
    pub refused: BTreeMap<String, usize>,
    /// Writes of which nobody knows.
    pub unknown: usize,
    /// What was done to the ring.
    pub faults: Vec<String>,
    /// How many views slots have gone through, over all of them.
    pub view_changes: u64,
    /// How long it took from the last fault until the ring was whole and every slot where it should be.
    pub rested: Duration,
    /// The longest time without any answered write.
    pub longest_gap: Duration,
    /// What must not be: who answered while cut off, or did not although nothing was in the way; peers that ended without
    /// being killed, or panicked.
    pub wrong: Vec<String>,
    /// What the checker says.
    pub verdict: Verdict,
}

impl Report {
    /// Operations that were answered.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.written + self.read
    }

    /// Nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.verdict == Verdict::Linearizable && self.wrong.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.faults.iter().try_for_each(|fault| writeln!(f, "- {fault}"))?;
        let refused: usize = self.refused.values().sum();
        writeln!(
            f,
            "{} operations answered ({} writes, {} reads), {refused} refused {:?}, {} writes of unknown outcome",
            self.answered(),
            self.written,
            self.read,
            self.refused,
            self.unknown
        )?;
        writeln!(
            f,
            "{} faults, {} view changes; longest time without an answered write {:.2?}; at rest {:.1?} after the last fault",
            self.faults.len(),
            self.view_changes,
            self.longest_gap,
            self.rested
        )?;
        self.wrong.iter().try_for_each(|wrong| writeln!(f, "WRONG: {wrong}"))?;
        write!(f, "{}", self.verdict)
    }
}

/// Puts a ring under load for so long while faults of one kind go on, lets it come to rest, and checks what was seen.
///
/// # Panics
/// If the ring does not come to rest.
pub async fn torture(ring: &mut Ring, load: Load, fault: Fault, time: Duration, seed: u64) -> Report {
    let addresses: Vec<String> = ring.peers.iter().map(|peer| peer.address.clone()).collect();
    at_rest(ring).await;
    let views = held::views(ring).await;
    let clients = Clients::start(load, &addresses, seed);
    let (faults, mut wrong) = fault.go_on(ring, &clients, Instant::now() + time, seed).await;
    let last = Instant::now();
    sleep(SETTLE).await;
    at_rest(ring).await;
    let rested = last.elapsed();
    let seen = clients.stop().await;
    let view_changes = held::views(ring).await - views;
    wrong.extend(ring.peers.iter_mut().filter_map(Peer::broken));
    let verdict = seen.history.check(STEPS);
    Report {
        written: seen.written,
        read: seen.read,
        refused: seen.refused,
        unknown: seen.unknown,
        faults,
        view_changes,
        rested,
        longest_gap: seen.longest_gap,
        wrong,
        verdict,
    }
}

/// How long the load goes on after the last fault, at least: reads see what became of the writes.
const SETTLE: Duration = Duration::from_secs(5);

/// What the checker may try for each key.
const STEPS: u64 = 10_000_000;
