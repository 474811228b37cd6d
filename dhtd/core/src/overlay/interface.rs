//! What goes into the state machine and what comes out of it.

use std::{sync::Arc, time::Duration};

use super::{
    message::{FindId, Home, Hop, Message, OpId},
    patience::Patience,
    peer::{Node, Peer, Ring},
};
use crate::ring::{Id, PeerId};

/// How the overlay is kept. Every default is DESIGN's (section 2) unless it says otherwise.
#[derive(Clone, Debug)]
pub struct Config {
    /// v: how many nodes this peer hosts, in 1..=[`MAX_NODES`](super::MAX_NODES). Default 16.
    pub nodes: u32,
    /// r: successor lists reach over at least max(r, k + 1) distinct other peers. Default 8.
    pub successors: usize,
    /// Mean time between two rounds of a node's maintenance, varied by 20 %. Default 1 s.
    pub stabilize_every: Duration,
    /// Time between two pings of a peer that is watched. Default 100 ms.
    pub heartbeat_every: Duration,
    /// The failure detector's patience.
    pub patience: Patience,
    /// Whether lookups use a table of all known peers.
    pub routing: Routing,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            nodes: 16,
            successors: 8,
            stabilize_every: Duration::from_secs(1),
            heartbeat_every: Duration::from_millis(100),
            patience: Patience::default(),
            routing: Routing::Full,
        }
    }
}

/// What lookups use to find their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// Every peer heard of: mostly one hop. For up to a few thousand nodes.
    Full,
    /// Successor lists and fingers only: O(log N) hops at any size.
    Fingers,
}

/// What the host gives to the state machine.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "made, handled and gone: never stored")]
pub enum Input {
    /// Found a ring with this peer as its only member.
    Found(Ring),
    /// Join a ring through any of these addresses; keeps trying until it succeeds.
    Join {
        /// HOST:PORT of peers of the ring.
        seeds: Vec<Arc<str>>,
    },
    /// Take up the membership that was saved before the process stopped.
    Resume(Saved),
    /// A message has arrived. The host has checked that its sender is of the same ring, or of none.
    Message(Message),
    /// A timer has fired.
    Timer(Timer),
    /// The host could not connect to the peer.
    Unreachable(PeerId),
    /// Look up the owner of `target`; answered by [`Event::Lookup`] with the same token.
    Lookup {
        /// Chosen by the host.
        token: u64,
        /// The identifier.
        target: Id,
    },
    /// k has changed. Whoever decides that tells every peer, also one that comes back or joins later.
    Replicas(usize),
    /// From now on home groups are made without this peer.
    Leave,
    /// Say goodbye: everything is handed over.
    Depart,
}

/// What the host has to do, in order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send a message; it may get lost.
    Send(Destination, Message),
    /// Give [`Input::Timer`] back after this time.
    SetTimer(Duration, Timer),
    /// Something happened.
    Event(Event),
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A peer of which more is known.
    Peer(Peer),
    /// Whoever is reached there.
    Address(Arc<str>),
}

/// What the host is woken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Ping the peers that are watched.
    Heartbeat,
    /// A node's maintenance is due.
    Stabilize(u32),
    /// Tell home groups who they are.
    Announce,
    /// Look for other parts of the ring.
    Reconcile,
    /// Nobody of the ring has answered a restarted peer.
    GiveUpResume,
    /// A node that gave way to others tries again.
    Retry(u32),
    /// An operation has waited long enough; the number tells its current timer from earlier ones.
    Operation(OpId, u64),
    /// A lookup that was passed on was not confirmed.
    Hop(FindId, usize),
    /// An own lookup was not answered.
    Lookup(u64),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first node is a member; the rest follow.
    Joined(Ring),
    /// All nodes are members.
    Complete,
    /// [`State::routes`](super::State::routes) would give something new.
    RoutesChanged,
    /// A peer is dead.
    PeerDied(PeerId),
    /// A peer has said goodbye: it has handed everything over and does not come back.
    PeerLeft(PeerId),
    /// A peer that was dead answers again.
    PeerRevived(PeerId),
    /// A lookup has ended.
    Lookup {
        /// The host's token.
        token: u64,
        /// Its end.
        result: Result<Lookup, LookupFailed>,
    },
}

/// What a lookup found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The owner.
    pub owner: Node,
    /// The peers that should hold what it owns.
    pub home: Option<Home>,
    /// Their descriptions and those of the peers on the way, as far as known.
    pub peers: Vec<Peer>,
    /// The way: where it began, then each node it was sent to.
    pub hops: Vec<Hop>,
    /// Peers on the way that did not confirm in time.
    pub timeouts: u32,
    /// From the question to the answer.
    pub elapsed: Duration,
}

/// A lookup was not answered, or this peer is no member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lookup was not answered; the ring may be changing: try again")]
pub struct LookupFailed;

/// Where this peer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// In no ring.
    Idle,
    /// On its way into a ring.
    Joining,
    /// A member.
    Member,
    /// A member that has lost all others and looks for them.
    Island,
    /// Has said goodbye.
    Gone,
}

/// What is kept on disk to take up the membership again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The ring.
    pub ring: Ring,
    /// All peers ever known.
    pub peers: Vec<Peer>,
    /// The addresses that the peer once joined through.
    pub seeds: Vec<Arc<str>>,
}
