//! Every other peer that this one has heard of, and the failure detector.
//!
//! Failure detection is per peer, not per node. A peer counts as alive only by round trips that complete: loss either
//! way counts. Time-outs follow the measured round trip (mean + 4 deviations: Jacobson 1988) with a floor.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::Duration,
};

use super::{
    patience::{Losses, Patience, SECOND_PROBE},
    peer::{Node, Peer},
};
use crate::ring::PeerId;

/// What the failure detector says of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Others speak of it; it has not answered us yet.
    Unproven,
    /// It answers.
    Alive,
    /// It has been silent for too long; a second probe is under way.
    Suspect {
        /// When the second probe began.
        since: Duration,
    },
    /// It did not answer the second probe either. Its nodes are in no list until it speaks again.
    Dead,
    /// It has said goodbye. Only a newer incarnation brings it back.
    Gone,
}

/// One known peer.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its newest description.
    pub peer: Peer,
    /// The failure detector's word.
    pub health: Health,
    /// Smoothed round-trip time and its mean deviation; `None` until measured.
    round_trip: Option<(Duration, Duration)>,
    /// The last completed round trip, or when it began to be watched.
    last_answer: Duration,
    watched: bool,
    /// It was a member at some time, in this incarnation or an earlier one.
    was_member: bool,
    /// When it was last asked whether it is dead after all.
    last_call: Duration,
}

/// What a heartbeat asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Send that many pings.
    Ping(PeerId, u32),
    /// The second probe has failed.
    Died(PeerId),
}

/// What a description added to what was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Learned {
    /// Nothing.
    Nothing,
    /// A peer never heard of before, or a newer incarnation of one.
    Newcomer,
    /// More of the peer's nodes have joined, or it is now leaving.
    More,
    /// Nothing, but somebody speaks of a peer that was declared dead here: it is worth a call, which is so now and then.
    Rumour,
}

/// Every other peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    known: BTreeMap<PeerId, Known>,
    /// Those that the last heartbeat has watched.
    watched: BTreeSet<PeerId>,
    /// All suspects, and some that are none any more.
    suspects: BTreeSet<PeerId>,
    patience: Patience,
    losses: Losses,
    last_beat: Duration,
}

impl Directory {
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, ..Self::default() }
    }

    pub(super) fn get(&self, id: PeerId) -> Option<&Known> {
        self.known.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.known.values()
    }

    /// Its nodes may stand in lists: it is not known to be dead or gone.
    pub(super) fn usable(&self, id: PeerId) -> bool {
        self.known.get(&id).is_some_and(|known| known.health.usable())
    }

    /// The node may stand in lists.
    pub(super) fn usable_node(&self, node: &Node) -> bool {
        self.known.get(&node.peer).is_some_and(|known| known.health.usable() && node.index < known.peer.nodes)
    }

    /// How many peers are members that stay, as far as known; counted up to `enough`.
    pub(super) fn members(&self, enough: usize) -> usize {
        let member = |known: &&Known| known.health.usable() && known.peer.nodes > 0 && !known.peer.leaving;
        self.known.values().filter(member).take(enough).count()
    }

    /// The members that have answered this peer since then.
    pub(super) fn members_heard(&self, since: Duration) -> impl Iterator<Item = &Peer> {
        let heard = move |known: &&Known| known.health == Health::Alive && known.last_answer >= since;
        self.known.values().filter(heard).map(|known| &known.peer).filter(|peer| peer.nodes > 0)
    }

    /// The first living peer from a place on in the order of their names, which is random, unless all are dead.
    pub(super) fn alive_from(&self, place: PeerId) -> Option<PeerId> {
        let from_place = self.known.range(place..).chain(self.known.range(..place));
        from_place.map(|(_, known)| known).find(|known| known.health == Health::Alive).map(|known| known.peer.id)
    }

    pub(super) fn leaving(&self, id: PeerId) -> bool {
        self.known.get(&id).is_some_and(|known| known.peer.leaving)
    }

    /// Takes in a description: the later incarnation holds; within one, `nodes` grows and `leaving` sticks.
    pub(super) fn learn(&mut self, peer: &Peer, now: Duration) -> Learned {
        let pause = self.patience.suspect_after;
        let Some(known) = self.known.get_mut(&peer.id) else {
            self.known.insert(peer.id, Known::new(peer.clone()));
            return Learned::Newcomer;
        };
        if peer.incarnation > known.peer.incarnation {
            // A restarted peer has a history of its own: nothing measured or concluded before holds for it.
            let was_member = known.was_member || peer.nodes > 0;
            *known = Known { was_member, ..Known::new(peer.clone()) };
            return Learned::Newcomer;
        }
        let Peer { nodes, leaving, .. } = known.peer;
        if peer.incarnation < known.peer.incarnation || (peer.nodes <= nodes && (leaving || !peer.leaving)) {
            if known.health == Health::Dead && now.saturating_sub(known.last_call) >= pause {
                known.last_call = now;
                return Learned::Rumour;
            }
            return Learned::Nothing;
        }
        known.peer.nodes = nodes.max(peer.nodes);
        known.was_member |= peer.nodes > 0;
        known.peer.leaving |= peer.leaving;
        Learned::More
    }

    /// A round trip was completed. Returns what was thought of the peer until now.
    pub(super) fn answered(&mut self, id: PeerId, now: Duration, sent: Duration) -> Option<Health> {
        let known = self.known.get_mut(&id).filter(|known| known.health != Health::Gone)?;
        let before = known.health;
        if known.watched && before == Health::Alive {
            self.losses.answered();
        }
        let sample = now.saturating_sub(sent);
        known.round_trip = Some(match known.round_trip {
            None => (sample, sample / 2),
            Some((mean, deviation)) => ((mean * 7 + sample) / 8, (deviation * 3 + mean.abs_diff(sample)) / 4),
        });
        known.last_answer = now;
        known.health = Health::Alive;
        Some(before)
    }

    /// A connection to the peer could not be made: no need to wait before the second probe.
    pub(super) fn suspect(&mut self, id: PeerId, now: Duration) {
        if let Some(known) = self.known.get_mut(&id)
            && matches!(known.health, Health::Unproven | Health::Alive)
        {
            known.health = Health::Suspect { since: now };
            self.suspects.insert(id);
        }
    }

    /// All peers that are suspected.
    pub(super) fn suspects(&mut self) -> &BTreeSet<PeerId> {
        let known = &self.known;
        let suspected = |id: &PeerId| known.get(id).is_some_and(|known| known.health.suspected());
        self.suspects.retain(suspected);
        &self.suspects
    }

    /// The peer has not answered one message. If it is watched, the heartbeats judge better.
    pub(super) fn missed(&mut self, id: PeerId, now: Duration) {
        if self.known.get(&id).is_some_and(|known| !known.watched) {
            self.suspect(id, now);
        }
    }

    pub(super) fn set_health(&mut self, id: PeerId, health: Health) {
        if let Some(known) = self.known.get_mut(&id) {
            known.health = health;
        }
    }

    /// How long to wait for an answer of this peer.
    pub(super) fn time_out(&self, id: PeerId) -> Duration {
        match self.known.get(&id).and_then(|known| known.round_trip) {
            Some((mean, deviation)) => (mean + deviation * 4).max(self.patience.floor),
            None => self.patience.initial,
        }
    }

    /// Smoothed round-trip time; zero until measured.
    pub(super) fn round_trip(&self, id: PeerId) -> Duration {
        self.known.get(&id).map_or(Duration::ZERO, Known::round_trip)
    }

    /// One heartbeat: whom to ping, and who is dead now. `watched` are the peers that matter.
    pub(super) fn beat(&mut self, now: Duration, watched: &BTreeSet<PeerId>) -> Vec<Beat> {
        let patience = self.patience.amid(self.losses, now.saturating_sub(self.last_beat));
        self.last_beat = now;
        self.losses.fade();
        let mut beats = Vec::new();
        let before = mem::replace(&mut self.watched, watched.clone());
        for id in before.difference(watched) {
            if let Some(known) = self.known.get_mut(id) {
                known.watched = false;
            }
        }
        for id in watched {
            let Some(known) = self.known.get_mut(id) else { continue };
            let begins = !known.watched;
            known.watched = known.health.usable();
            if !known.watched {
                continue;
            }
            if begins {
                known.last_answer = now;
            }
            if known.health == Health::Alive {
                self.losses.asked();
            }
            beats.extend(known.beat(now, patience));
            if known.health.suspected() {
                self.suspects.insert(*id);
            }
        }
        beats
    }
}

impl Health {
    /// Not known to be dead or gone.
    #[must_use]
    pub fn usable(self) -> bool {
        matches!(self, Self::Unproven | Self::Alive | Self::Suspect { .. })
    }

    pub(super) fn suspected(self) -> bool {
        matches!(self, Self::Suspect { .. })
    }
}

impl Known {
    /// It is, or was, of the ring; others only knock at its door.
    #[must_use]
    pub fn was_member(&self) -> bool {
        self.was_member
    }

    /// Smoothed round-trip time; zero until measured.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        self.round_trip.map_or(Duration::ZERO, |(mean, _)| mean)
    }

    fn new(peer: Peer) -> Self {
        Self {
            was_member: peer.nodes > 0,
            peer,
            health: Health::Unproven,
            round_trip: None,
            last_answer: Duration::ZERO,
            watched: false,
            last_call: Duration::ZERO,
        }
    }

    fn beat(&mut self, now: Duration, patience: Patience) -> Option<Beat> {
        let time_out = self.round_trip.map_or(Duration::ZERO, |(mean, deviation)| mean + deviation * 4);
        match self.health {
            Health::Unproven | Health::Alive => {
                if now.saturating_sub(self.last_answer) >= patience.suspect_after.max(time_out) {
                    self.health = Health::Suspect { since: now };
                    return Some(Beat::Ping(self.peer.id, SECOND_PROBE));
                }
                Some(Beat::Ping(self.peer.id, 1))
            }
            Health::Suspect { since } if now.saturating_sub(since) >= patience.probe_for.max(time_out) => {
                Some(Beat::Died(self.peer.id))
            }
            Health::Suspect { .. } => Some(Beat::Ping(self.peer.id, SECOND_PROBE)),
            Health::Dead | Health::Gone => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(incarnation: u64) -> Peer {
        Peer { id: PeerId::new([1; 16]), address: "a:1".into(), incarnation, nodes: 1, leaving: false }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn watched() -> BTreeSet<PeerId> {
        BTreeSet::from([peer(1).id])
    }

    /// Beats every 100 ms until the peer is declared dead; returns when.
    fn time_of_death(directory: &mut Directory, from: Duration) -> Duration {
        (0..200)
            .map(|beat| from + ms(100) * beat)
            .find(|now| directory.beat(*now, &watched()).contains(&Beat::Died(peer(1).id)))
            .expect("it is silent for twenty seconds")
    }

    #[test]
    fn a_silent_peer_dies_after_suspicion_and_a_second_probe() {
        let mut directory = Directory::new(Patience::default());
        directory.learn(&peer(1), ms(0));
        assert_eq!(time_of_death(&mut directory, ms(0)), ms(600));
    }

    #[test]
    fn a_peer_far_away_is_given_its_round_trip() {
        let mut directory = Directory::new(Patience::default());
        directory.learn(&peer(1), ms(0));
        directory.beat(ms(0), &watched());
        directory.answered(peer(1).id, ms(2000), ms(0));
        assert!(time_of_death(&mut directory, ms(2000)) > ms(6000));
    }

    #[test]
    fn a_newer_incarnation_of_a_dead_peer_is_usable() {
        let mut directory = Directory::new(Patience::default());
        directory.learn(&peer(1), ms(0));
        directory.set_health(peer(1).id, Health::Dead);
        assert_eq!(directory.learn(&peer(1), ms(0)), Learned::Nothing);
        assert!(!directory.usable(peer(1).id));
        assert_eq!(directory.learn(&peer(2), ms(0)), Learned::Newcomer);
        assert!(directory.usable(peer(1).id));
    }

    #[test]
    fn leaving_sticks_within_an_incarnation_and_ends_with_it() {
        let mut directory = Directory::new(Patience::default());
        directory.learn(&Peer { leaving: true, ..peer(1) }, ms(0));
        directory.learn(&peer(1), ms(0));
        assert!(directory.leaving(peer(1).id));
        directory.learn(&peer(2), ms(0));
        assert!(!directory.leaving(peer(1).id));
    }

    #[test]
    fn an_answer_revives_the_dead_but_not_the_departed() {
        let mut directory = Directory::new(Patience::default());
        directory.learn(&peer(1), ms(0));
        directory.set_health(peer(1).id, Health::Dead);
        assert_eq!(directory.answered(peer(1).id, ms(5), ms(1)), Some(Health::Dead));
        directory.set_health(peer(1).id, Health::Gone);
        assert_eq!(directory.answered(peer(1).id, ms(9), ms(8)), None);
        assert!(!directory.usable(peer(1).id));
    }
}
