//! One peer of the model.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use dht_core::overlay::{
    Circle, Config, Destination, Input, Message, NodeState, OpId, Output, Patience, Peer, Ring, RingId, Routing, State,
    Timer,
};
use dht_core::{
    Rules,
    record::Mode,
    ring::{PeerId, SlotBits},
};

use super::{Overlay, Place};

/// SHA-1 puts the nodes of peers with these names in order, each in its own quarter of the circle.
const NAMES: [u8; PLACES] = [1, 0, 14, 3];

/// How many peers there are at most.
pub(super) const PLACES: usize = 4;

/// r: with k = 1 lists reach over as many other peers.
pub(super) const REACH: usize = 2;

/// A peer, and what is asked of it so often that it is worked out once.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) state: State,
    /// Of the state's essence.
    pub(super) digest: u64,
    /// Whom it has heard of, itself included, and whom as a member.
    pub(super) heard: Heard,
    /// The time-out of its operation.
    time_out: Option<Timer>,
}

/// Peers that are known to somebody, or that a message tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    peers: PlaceSet,
    members: PlaceSet,
}

impl Heard {
    pub(super) fn add(&mut self, peer: &Peer) {
        let Some(place) = place_of(peer.id) else { return };
        self.peers.insert(place);
        if peer.nodes > 0 {
            self.members.insert(place);
        }
    }

    /// Whoever knows all this learns nothing from the other.
    pub(super) fn contains(self, other: Self) -> bool {
        self.peers.contains_all(other.peers) && self.members.contains_all(other.members)
    }
}

/// Some of the places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct PlaceSet(u8);

impl PlaceSet {
    pub(super) fn insert(&mut self, place: Place) {
        self.0 |= 1 << place;
    }

    pub(super) fn remove(&mut self, place: Place) {
        self.0 &= !(1 << place);
    }

    pub(super) fn contains(self, place: Place) -> bool {
        self.0 & 1 << place != 0
    }

    fn contains_all(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    pub(super) fn len(self) -> usize {
        self.0.count_ones() as usize
    }
}

/// Peers whose nodes follow each other on the circle in the order of their places.
#[must_use]
pub(super) fn peer(place: Place) -> Peer {
    let id = PeerId::new([NAMES[place]; 16]);
    Peer { id, address: format!("{place}:1").into(), incarnation: 1, nodes: 0, leaving: false }
}

fn config() -> Config {
    let patience = Patience {
        // Silence is no reason for suspicion, and suspicion is enough: see the module's words on time.
        suspect_after: Duration::MAX,
        probe_for: Duration::ZERO,
        ..Patience::default()
    };
    Config { nodes: 1, successors: REACH, routing: Routing::Fingers, patience, ..Config::default() }
}

fn ring() -> Ring {
    Ring { id: RingId([1; 16]), replicas: 1, slot_bits: SlotBits::DEFAULT, mode: Mode::Eventual }
}

/// Where the peer is.
pub(super) fn place_of(peer: PeerId) -> Option<Place> {
    NAMES.iter().position(|name| *name == peer.as_bytes()[0])
}

impl Host {
    pub(super) fn founder(place: Place, overlay: &Overlay) -> Self {
        let circle = Circle::ideal(overlay.founders.iter().map(|place| Peer { nodes: 1, ..peer(*place) }));
        let (state, _) = State::settled(config(), overlay.rules, &circle, peer(place).id, ring(), 1);
        Self::new(state)
    }

    pub(super) fn outsider(place: Place, rules: Rules) -> Self {
        Self::new(State::new(config(), rules, peer(place), 1))
    }

    fn new(state: State) -> Self {
        let mut host = Self { state, digest: 0, heard: Heard::default(), time_out: None };
        host.look();
        host
    }

    /// Gives the peer an input and returns what it sends.
    pub(super) fn take(&mut self, input: Input) -> Vec<(Place, Message)> {
        let mut sent = Vec::new();
        for output in self.state.handle(Duration::ZERO, input) {
            match output {
                Output::Send(Destination::Peer(to), message) => sent.extend(place_of(to.id).map(|to| (to, message))),
                Output::Send(Destination::Address(to), message) => {
                    let place = (0..PLACES).find(|place| peer(*place).address == to);
                    sent.extend(place.map(|to| (to, message)));
                }
                Output::SetTimer(_, timer @ Timer::Operation(..)) => self.time_out = Some(timer),
                Output::SetTimer(..) | Output::Event(_) => {}
            }
        }
        self.look();
        sent
    }

    fn look(&mut self) {
        let mut hasher = DefaultHasher::new();
        self.state.essence().hash(&mut hasher);
        self.digest = hasher.finish();
        self.heard = Heard::default();
        self.heard.add(self.state.me());
        // One does not learn of oneself.
        self.heard.add(&Peer { nodes: 1, ..self.state.me().clone() });
        self.state.peers().for_each(|known| self.heard.add(&known.peer));
    }

    /// Its only node.
    pub(super) fn node(&self) -> &NodeState {
        &self.state.nodes()[0]
    }

    /// The operation in flight.
    pub(super) fn operation(&self) -> Option<OpId> {
        self.node().operation()
    }

    /// The time-out of the operation in flight.
    pub(super) fn time_out(&self) -> Option<Timer> {
        self.time_out.clone().filter(|timer| matches!(timer, Timer::Operation(op, _) if Some(*op) == self.operation()))
    }
}
