//! What peers tell each other to keep the ring. Messages may be lost, doubled, reordered and late.

use std::collections::BTreeSet;

use super::peer::{Node, Peer, Ring};
use crate::ring::{Id, PeerId};

/// From one peer to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// Who speaks.
    pub sender: Peer,
    /// Descriptions of the other peers whose nodes the body names, and a few more: membership spreads this way.
    pub about: Vec<Peer>,
    /// What is said.
    pub body: Body,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Are you there? Answered by a [`Body::Pong`] with the same nonce.
    Ping {
        /// The sender's clock in microseconds: the echo gives it the round-trip time.
        nonce: u64,
    },
    /// I am.
    Pong {
        /// The nonce of the ping.
        nonce: u64,
    },
    /// A lookup on its way (Chord: `find_successor`, recursive). The receiver confirms it with [`Body::FindAck`].
    Find(Find),
    /// The lookup has come this far; the sender of it need not look for another way.
    FindAck {
        /// Which lookup.
        id: FindId,
        /// Which of its hops.
        hop: usize,
    },
    /// The end of a lookup, sent straight to the asker.
    Found(Found),
    /// Asks a node for its predecessor and successor list (the first half of stabilize).
    GetNeighbours {
        /// The asking node's operation.
        op: OpId,
        /// Who asks.
        from: Node,
        /// Who is asked.
        to: Node,
    },
    /// The answer.
    Neighbours {
        /// The operation that it answers.
        op: OpId,
        /// Whose neighbours these are.
        of: Node,
        /// Its predecessor, if known.
        predecessor: Option<Node>,
        /// Its successor list, in ring order.
        successors: Vec<Node>,
    },
    /// The asked node is in the middle of an operation of its own; the answer will come when that is over.
    Busy {
        /// The operation that has to wait.
        op: OpId,
    },
    /// The asked node is no member of the ring.
    NotMember {
        /// The operation that asked.
        op: OpId,
        /// Who was asked.
        of: Node,
    },
    /// "I think that I am your predecessor" (Chord: `notify`).
    Notify {
        /// Who thinks so.
        from: Node,
        /// Whose predecessor it would be.
        to: Node,
        /// The successor list of `from`: what a ring that is being merged learns of the other.
        successors: Vec<Node>,
    },
    /// A node's successor list has changed, or its predecessor has: that need not wait for its next round to hear of it.
    Changed {
        /// Whose list has changed.
        from: Node,
        /// Its predecessor.
        to: Node,
    },
    /// The owner of an interval tells its home group.
    Home(Vec<Home>),
    /// The sender has handed everything over and is gone.
    Gone,
}

/// One operation of one node. Answers to another operation are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId {
    /// The asking node's index at the asking peer.
    pub node: u32,
    /// Never used twice by a peer while it runs.
    pub number: u64,
}

/// One lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FindId {
    /// Who asked.
    pub asker: PeerId,
    /// Never used twice by the asker while it runs.
    pub number: u64,
    /// Which attempt. A peer passes each attempt on once only, so that none goes in circles; once more each time that it has
    /// come back from behind its target.
    pub attempt: u32,
}

/// A lookup on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Find {
    /// Which one it is.
    pub id: FindId,
    /// Where the answer goes.
    pub asker: Peer,
    /// The identifier looked up.
    pub target: Id,
    /// Who is looked for.
    pub purpose: Purpose,
    /// The way so far.
    pub hops: Vec<Hop>,
    /// Peers on the way that did not confirm in time.
    pub timeouts: u32,
}

/// Who is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The owner of the target: successor(target).
    Owner,
    /// The node before the target, whose successor list a joiner at the target takes over.
    Predecessor,
}

/// One step of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// Where it led.
    pub node: Node,
    /// Why there.
    pub reason: HopReason,
    /// The sender's smoothed round-trip time to that peer in microseconds; 0 while unknown.
    pub round_trip_us: u64,
}

/// Which entry of its sender's tables led to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HopReason {
    /// It was asked by the client.
    Start,
    /// Finger `bit`.
    Finger(u32),
    /// The successor list.
    Successor,
    /// The successor list of finger `bit`, as it was when that was looked up.
    FingerSuccessor(u32),
    /// The predecessor pointer.
    Predecessor,
    /// The table of all peers.
    Table,
}

/// The end of a lookup.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// Which one.
    pub id: FindId,
    /// The owner, or the predecessor, as asked.
    pub node: Node,
    /// Its successor list.
    pub successors: Vec<Node>,
    /// For an owner: the peers that should hold the target's slot.
    pub home: Option<Home>,
    /// The ring that answered.
    pub ring: Ring,
    /// The way the lookup took.
    pub hops: Vec<Hop>,
    /// Peers on the way that did not confirm in time.
    pub timeouts: u32,
}

/// Who should hold the slots whose points lie in one node's interval.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Home {
    /// The owner's predecessor: the interval is (after, owner].
    pub after: Id,
    /// The node that owns the interval.
    pub owner: Node,
    /// The first k distinct peers from the owner on that are not leaving.
    pub group: Vec<PeerId>,
}

impl Body {
    /// Every peer that the body names.
    #[must_use]
    pub fn peers(&self) -> BTreeSet<PeerId> {
        let mut named = BTreeSet::new();
        self.each_peer(|peer| {
            named.insert(peer);
        });
        named
    }

    /// Every peer that the body names, as often as it does.
    pub(super) fn each_peer(&self, mut see: impl FnMut(PeerId)) {
        let mut nodes = |list: &[Node]| list.iter().for_each(|node| see(node.peer));
        match self {
            Self::Ping { .. } | Self::Pong { .. } | Self::FindAck { .. } | Self::Busy { .. } | Self::Gone => {}
            Self::Find(find) => find.hops.iter().for_each(|hop| see(hop.node.peer)),
            Self::Found(found) => {
                nodes(&[found.node]);
                nodes(&found.successors);
                found.hops.iter().for_each(|hop| see(hop.node.peer));
                found.home.iter().flat_map(|home| &home.group).copied().for_each(&mut see);
            }
            Self::GetNeighbours { from, to, .. } | Self::Changed { from, to } => nodes(&[*from, *to]),
            Self::Neighbours { of, predecessor, successors, .. } => {
                nodes(&[*of]);
                nodes(successors);
                predecessor.iter().for_each(|node| see(node.peer));
            }
            Self::NotMember { of, .. } => nodes(&[*of]),
            Self::Notify { from, to, successors } => {
                nodes(&[*from, *to]);
                nodes(successors);
            }
            Self::Home(homes) => homes.iter().for_each(|home| {
                see(home.owner.peer);
                home.group.iter().copied().for_each(&mut see);
            }),
        }
    }
}
