//! Messages on their way.

use std::hash::{DefaultHasher, Hash, Hasher};

use dht_core::{
    replication::chain::{Body, Input, Message, Snapshot},
    view::Epoch,
};

use super::{
    Place,
    host::{SLOT, peer},
};

/// The kinds of messages that are not left out of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in `Body`")]
pub enum What {
    Heartbeat,
    Grant,
    Append,
    Ack,
    Gap,
    AskFrontier,
    Frontier,
    Prepare,
    Promise,
    Reject,
    Level,
    Ready,
    Fetch,
    Entries,
    TooFarBehind,
    Accept,
    Accepted,
    Install,
    AskView,
    Learn,
    Attach,
    Snapshot,
}

/// What is on its way.
#[derive(Clone, Debug, Hash)]
pub(super) enum Cargo {
    Message(Message),
    Snapshot(Snapshot),
}

/// A message on its way.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) from: Place,
    pub(super) to: Place,
    pub(super) what: What,
    pub(super) cargo: Cargo,
    pub(super) digest: u64,
}

impl Packet {
    /// `None` if messages like this one are left out of the model.
    pub(super) fn new(from: Place, to: Place, cargo: Cargo) -> Option<Self> {
        let what = match &cargo {
            Cargo::Snapshot(_) => What::Snapshot,
            Cargo::Message(Message::Heartbeat(_)) => What::Heartbeat,
            Cargo::Message(Message::Grant(_)) => What::Grant,
            Cargo::Message(Message::Slot(_, body)) => What::of(body)?,
        };
        let mut hasher = DefaultHasher::new();
        (from, to, &cargo).hash(&mut hasher);
        Some(Self { from, to, what, cargo, digest: hasher.finish() })
    }

    pub(super) fn input(&self) -> Input {
        match self.cargo.clone() {
            Cargo::Message(message) => Input::Message(peer(self.from), message),
            Cargo::Snapshot(snapshot) => Input::Snapshot(peer(self.from), SLOT, snapshot),
        }
    }

    /// By which view the sender goes, if the message says so.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        let Cargo::Message(Message::Slot(_, body)) = &self.cargo else { return None };
        match &**body {
            Body::Ack { epoch, .. } | Body::Entries { epoch, .. } => Some(*epoch),
            Body::Gap(epoch, _) | Body::Frontier(epoch, ..) | Body::TooFarBehind(epoch) => Some(*epoch),
            _ => None,
        }
    }

    /// What an action calls it.
    pub(super) fn label(&self) -> (Place, Place, What) {
        (self.from, self.to, self.what)
    }
}

impl What {
    fn of(body: &Body) -> Option<Self> {
        Some(match body {
            Body::Append { .. } => Self::Append,
            Body::Ack { .. } => Self::Ack,
            Body::Gap(..) => Self::Gap,
            Body::AskFrontier(..) => Self::AskFrontier,
            Body::Frontier(..) => Self::Frontier,
            Body::Prepare(..) => Self::Prepare,
            Body::Promise(..) => Self::Promise,
            Body::Reject(..) => Self::Reject,
            Body::Level { .. } => Self::Level,
            Body::Ready(_) => Self::Ready,
            Body::Fetch(..) => Self::Fetch,
            Body::Entries { .. } => Self::Entries,
            Body::TooFarBehind(_) => Self::TooFarBehind,
            Body::Accept { .. } => Self::Accept,
            Body::Accepted(_) => Self::Accepted,
            Body::Install(_) => Self::Install,
            Body::AskView => Self::AskView,
            Body::Learn(..) => Self::Learn,
            Body::Attach(_) => Self::Attach,
            Body::PreVote(..) | Body::Lost(..) | Body::Installed(_) | Body::Learned(..) => return None,
        })
    }
}
