//! Leaving the ring for good: hand everything over, say goodbye, end.

use std::time::Duration;

use dht_core::overlay::{self, Phase};
use tokio::sync::{mpsc, oneshot};

use super::{Command, Control, DepartError, Progress, Timer};
use crate::driver::{Membership, Standing};

/// A departure under way.
pub(super) struct Departing {
    progress: mpsc::Sender<Progress>,
    total: usize,
}

impl Control {
    pub(super) fn depart(&mut self, reply: oneshot::Sender<Result<mpsc::Receiver<Progress>, DepartError>>) {
        let others =
            self.overlay.peers().any(|known| known.health.usable() && known.peer.nodes > 0 && !known.peer.leaving);
        let refusal = match self.overlay.phase() {
            Phase::Member | Phase::Island if self.shared.store.failure().is_some() => Some(DepartError::StoreFailed),
            Phase::Member | Phase::Island if others => None,
            Phase::Member | Phase::Island => Some(DepartError::LastPeer),
            _ => Some(DepartError::NotAMember),
        };
        if let Some(refusal) = refusal {
            return drop(reply.send(Err(refusal)));
        }
        let total = self.slots_held();
        let (progress, receiver) = mpsc::channel(16);
        self.departing = Some(Departing { progress, total });
        drop(reply.send(Ok(receiver)));
        tracing::info!(slots = total, "departing: handing everything over");
        self.overlay(overlay::Input::Leave);
        self.set_timer(DEPART_LOOK_EVERY, Timer::Depart);
    }

    /// Reports how far the departure is. If it seems to be done, its chains are asked: what they have said of themselves is a
    /// moment old, and meanwhile somebody may have begun to count on this peer.
    pub(super) fn continue_departing(&mut self) {
        let left = self.slots_held();
        let Some(Departing { progress, total }) = &self.departing else { return };
        // A reader that is slow misses a step, one that is gone does not stop the departure.
        let _ = progress.try_send(Progress { left, total: *total, done: false });
        if left > 0 {
            return self.set_timer(DEPART_LOOK_EVERY, Timer::Depart);
        }
        let Some(chains) = self.shared.chains.get().cloned() else { return self.end_departing() };
        let handle = self.handle.clone();
        tokio::spawn(async move { handle.send(Command::LetGo(chains.let_go().await)).await });
    }

    /// Nothing here is needed any more.
    pub(super) fn end_departing(&mut self) {
        let Some(Departing { progress, total }) = &self.departing else { return };
        tracing::info!("everything is handed over: leaving the ring");
        if let Some(ring) = self.overlay.ring()
            && let Err(error) = Membership::save_ring(&self.dir, ring, Standing::Departed)
        {
            tracing::error!(%error, "cannot note the departure: a restart would come back");
        }
        let (progress, total) = (progress.clone(), *total);
        self.overlay(overlay::Input::Depart);
        tokio::spawn(async move {
            let _ = progress.send(Progress { left: 0, total, done: true }).await;
        });
    }

    fn slots_held(&self) -> usize {
        let held = self.replication.as_ref().zip(self.shared.shards.get());
        let eventual = held.map_or(0, |(replication, shards)| replication.held(&**shards.table()));
        eventual + self.shared.chains.get().map_or(0, |chains| chains.held())
    }
}

/// How often a departure looks whether it is done. A guess.
pub(super) const DEPART_LOOK_EVERY: Duration = Duration::from_millis(200);
