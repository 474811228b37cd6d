//! What happens to processes and links, besides crashes.

use std::time::Duration;

use dht_core::replication::chain::{Input, Output, State};
use rand::RngExt;

use super::ChainTimer;
use crate::sim::{World, delivery::HostTimer};

impl World {
    /// The process stops for a time, as by SIGSTOP: what arrives meanwhile is there when it goes on.
    pub fn pause(&mut self, host: usize, time: Duration) {
        let until = self.now + time;
        let paused_until = &mut self.hosts[host].paused_until;
        *paused_until = until.max(*paused_until);
    }

    /// The process says that it is about to stop. It goes on until it is killed.
    pub fn stop(&mut self, host: usize) {
        self.chains(host, Input::Stop);
    }

    /// In how many slots others are about to go on without the process.
    #[must_use]
    pub fn handing_over(&self, host: usize) -> usize {
        let state = self.hosts[host].chains.as_ref().and_then(|chains| chains.state.as_ref());
        state.map_or(0, State::handing_over)
    }

    /// k is another from now on. Each peer hears of that a little later; who is down or joins, once it is there.
    pub fn set_replicas(&mut self, replicas: usize) {
        self.config.replicas = replicas;
        let hosts: Vec<usize> = self.live().map(|(host, _)| host).collect();
        hosts.into_iter().for_each(|host| self.tell_replicas(host));
    }

    pub(in crate::sim) fn tell_replicas(&mut self, host: usize) {
        if self.config.chains.is_some() {
            let after = self.random.random_range(Duration::ZERO..=HEARS_OF_K);
            self.set_timer(host, after, HostTimer::Replicas);
        }
    }

    /// The process stops for a time in the middle of what it does next about chains: between the look at the clock and
    /// what follows from it.
    pub fn pause_within(&mut self, host: usize, time: Duration) {
        self.hosts[host].stalls = Some(time);
    }

    /// Outputs wait if the process was stopped before it had carried out all that came before them. Returns those that
    /// need not.
    pub(super) fn stall(&mut self, host: usize, outputs: Vec<Output>) -> Vec<Output> {
        let stalls = self.hosts[host].stalls.take();
        let Some(chains) = &mut self.hosts[host].chains else { return outputs };
        if let Some(waiting) = &mut chains.stalled {
            waiting.extend(outputs);
            return Vec::new();
        }
        let Some(time) = stalls else { return outputs };
        chains.stalled = Some(outputs);
        self.pause(host, time);
        self.set_timer(host, time, HostTimer::Chains(ChainTimer::Resume));
        Vec::new()
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

/// A peer hears within this time that k has changed.
const HEARS_OF_K: Duration = Duration::from_secs(2);
