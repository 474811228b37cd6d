//! Founding a ring, alone or together with others.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use dht_core::{
    founding::{Candidate, Input, Message, Output, State},
    overlay::{self, Phase, Ring},
};

use super::{COMPLAIN_EVERY, Control, Timer, ring_name};
use crate::{
    driver::{Membership, Standing},
    transport::Urgency,
    wire::PeerBody,
};

/// A founding that is waited for.
pub(super) struct Expecting {
    state: State,
    /// Addresses that could not be reached since that was last said.
    unreached: BTreeSet<Arc<str>>,
    /// What was said, and when.
    said: Option<(String, Instant)>,
}

impl Control {
    /// Founds a ring. Whatever happens, the directory belongs to no other from then on: what is half written to the store
    /// would be taken for that one's. Nobody hears of the ring before all of it is on disk.
    pub(super) fn found(&mut self, ring: Ring) -> bool {
        let note = |standing| Membership::save_ring(&self.dir, &ring, standing);
        if let Err(error) = note(Standing::Founding) {
            tracing::error!(%error, "cannot note which ring this is: it is not founded");
            return false;
        }
        self.know_ring(ring, true);
        if self.replication.is_none() {
            return false; // The log says why.
        }
        if let Err(error) = Membership::save_ring(&self.dir, &ring, Standing::Member) {
            tracing::error!(%error, "cannot note that the ring is founded: it is not");
            return false;
        }
        self.overlay(overlay::Input::Found(ring));
        self.publish();
        true
    }

    pub(super) fn expect(&mut self, state: State) {
        self.expecting = Some(Expecting { state, unreached: BTreeSet::new(), said: None });
        self.founding(Input::Start);
    }

    /// Whoever is in a ring says so to who waits for one.
    pub(super) fn heard_of_founding(&mut self, from: Candidate, message: Message) {
        match (self.overlay.ring().copied(), &message) {
            (Some(ring), Message::Waiting { .. }) if self.overlay.phase() != Phase::Gone => {
                self.shared.exchange.send(
                    &from.address,
                    None,
                    PeerBody::Founding(Message::Founded(ring)),
                    Urgency::Now,
                );
            }
            _ => self.founding(Input::Message(from, message)),
        }
    }

    pub(super) fn founding(&mut self, input: Input) {
        let now = self.started.elapsed();
        let Some(expecting) = &mut self.expecting else { return };
        if let Input::Message(from, _) = &input {
            expecting.unreached.remove(&from.address);
        }
        let outputs = expecting.state.handle(now, input);
        outputs.into_iter().for_each(|output| self.carry_on_founding(output));
    }

    fn carry_on_founding(&mut self, output: Output) {
        match output {
            Output::Send(to, message) => {
                self.shared.exchange.send(&to, None, PeerBody::Founding(message), Urgency::Now)
            }
            Output::SetTimer(after, timer) => self.set_timer(after, Timer::Founding(timer)),
            Output::Fix(roster) => match Membership::save_roster(&self.dir, &roster) {
                Ok(()) => {
                    let members: Vec<String> = roster.members.keys().map(|id| id.short()).collect();
                    tracing::info!(peers = %members.join(", "), "it is settled which peers found the ring");
                    self.founding(Input::Fixed(roster));
                }
                Err(error) => tracing::error!(%error, "cannot note which peers found the ring; trying on"),
            },
            Output::Found(ring) => {
                if self.found(ring) {
                    tracing::info!(ring = %ring_name(&ring), "founded the ring: the others join it");
                    self.founding(Input::Founded);
                    self.expecting = None;
                }
            }
            Output::Join(ring, seeds) => {
                tracing::info!(ring = %ring_name(&ring), seeds = %seeds.join(", "), "the ring is founded: joining");
                self.expecting = None;
                self.overlay(overlay::Input::Join { seeds });
            }
        }
    }

    pub(super) fn cannot_reach(&mut self, address: &Arc<str>) {
        if let Some(expecting) = &mut self.expecting {
            expecting.unreached.insert(address.clone());
        }
    }

    /// Says what a founding waits for when that has changed, and now and then.
    pub(super) fn say_what_is_expected(&mut self) {
        let Some(expecting) = &mut self.expecting else { return };
        let status = expecting.state.status().to_string();
        let fresh = |(before, at): &(String, Instant)| *before == status && at.elapsed() < SAY_EVERY;
        if expecting.said.as_ref().is_some_and(fresh) {
            return;
        }
        let unreached: Vec<Arc<str>> = std::mem::take(&mut expecting.unreached).into_iter().collect();
        match &unreached[..] {
            [] => tracing::info!("{status}"),
            _ => tracing::info!("{status}; cannot reach {}", unreached.join(", ")),
        }
        expecting.said = Some((status, Instant::now()));
    }
}

/// What has not changed is said again after this time.
const SAY_EVERY: Duration = COMPLAIN_EVERY;
