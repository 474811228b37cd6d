//! What happens to processes and links, besides crashes.

use std::time::Duration;

use dht_core::replication::chain::Output;

use super::ChainTimer;
use crate::sim::{World, delivery::HostTimer};

impl World {
    /// The process stops for a time, as by SIGSTOP: what arrives meanwhile is there when it goes on.
    pub fn pause(&mut self, host: usize, time: Duration) {
        self.hosts[host].paused_until = self.now + time;
    }

    /// The process stops for a time in the middle of what it does next about chains: between the look at the clock and
    /// what follows from it.
    pub fn pause_within(&mut self, host: usize, time: Duration) {
        self.hosts[host].stalls = Some(time);
    }

    pub(super) fn stall(&mut self, host: usize, time: Duration, outputs: Vec<Output>) {
        self.pause(host, time);
        self.set_timer(host, time, HostTimer::Chains(ChainTimer::Resume(outputs)));
    }

    /// From now on nothing arrives that the one sends to the other.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    /// Everything arrives again.
    pub fn mend_cuts(&mut self) {
        self.cuts.clear();
    }
}
