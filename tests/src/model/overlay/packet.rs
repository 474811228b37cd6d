//! Messages on their way.

use std::hash::{DefaultHasher, Hash, Hasher};

use dht_core::overlay::{Body, Message, Node, OpId, Purpose};

use super::{
    Place,
    host::{Heard, peer},
};

/// The kinds of messages that are not left out of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in `Body`")]
pub enum What {
    Find,
    Found,
    GetNeighbours,
    Neighbours,
    NotMember,
    Notify,
    Changed,
}

/// A message on its way.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) from: Place,
    pub(super) to: Place,
    pub(super) what: What,
    pub(super) message: Message,
    /// The operation that it asks for or answers, and whose.
    pub(super) op: Option<(Place, OpId)>,
    /// Whom its receiver hears of.
    pub(super) heard: Heard,
    /// Of all but the number of the operation.
    pub(super) digest: u64,
}

impl Packet {
    /// `None` if messages like this one are left out of the model.
    pub(super) fn new(from: Place, to: Place, message: Message) -> Option<Self> {
        let what = What::of(&message.body)?;
        let mut nameless = message.clone();
        let op = number(&mut nameless.body).map(|op| {
            let named = *op;
            op.number = 0;
            (if what == What::GetNeighbours { from } else { to }, named)
        });
        nameless.about.sort_unstable_by_key(|peer| peer.id);
        let mut hasher = DefaultHasher::new();
        (from, to, nameless).hash(&mut hasher);
        let mut heard = Heard::default();
        message.about.iter().chain([&message.sender]).for_each(|peer| heard.add(peer));
        Some(Self { from, to, what, message, op, heard, digest: hasher.finish() })
    }

    /// What an action calls it.
    pub(super) fn label(&self) -> (Place, Place, What) {
        (self.from, self.to, self.what)
    }

    /// What the receiver may make its successor list.
    pub(super) fn list(&self) -> Option<Vec<Node>> {
        let (head, rest) = match &self.message.body {
            Body::Found(found) => (None, &found.successors),
            Body::Neighbours { of, successors, .. } => (Some(*of), successors),
            _ => return None,
        };
        let me = peer(self.to).id;
        Some(head.into_iter().chain(rest.iter().copied()).take_while(|node| node.peer != me).collect())
    }
}

impl What {
    fn of(body: &Body) -> Option<Self> {
        match body {
            Body::Find(find) if find.purpose == Purpose::Predecessor => Some(Self::Find),
            Body::Found(_) => Some(Self::Found),
            Body::GetNeighbours { .. } => Some(Self::GetNeighbours),
            Body::Neighbours { .. } => Some(Self::Neighbours),
            Body::NotMember { .. } => Some(Self::NotMember),
            Body::Notify { .. } => Some(Self::Notify),
            Body::Changed { .. } => Some(Self::Changed),
            Body::Find(_)
            | Body::Ping { .. }
            | Body::Pong { .. }
            | Body::FindAck { .. }
            | Body::Busy { .. }
            | Body::Home(_)
            | Body::Gone => None,
        }
    }
}

fn number(body: &mut Body) -> Option<&mut OpId> {
    match body {
        Body::GetNeighbours { op, .. } | Body::Neighbours { op, .. } | Body::NotMember { op, .. } => Some(op),
        _ => None,
    }
}
