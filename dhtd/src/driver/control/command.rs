//! What the control loop is asked, and by which way.

use std::sync::Arc;

use dht_core::{
    founding,
    overlay::{self, Lookup, LookupFailed, Ring, Saved},
    replication::{digest::SlotDigest, eventual},
    ring::{Id, PeerId, Slot, SlotBits},
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::{driver::shards::Shards, storage::EngineError};

/// What the control loop is asked.
#[allow(clippy::large_enum_variant, reason = "most commands are messages, the large variant")]
pub enum Command {
    /// A message of the overlay has arrived.
    Overlay(overlay::Message),
    /// A message of eventual replication has arrived.
    Replication(PeerId, eventual::Message),
    /// Look up who owns an identifier.
    Lookup(Id, oneshot::Sender<Result<Lookup, LookupFailed>>),
    /// Found a ring.
    Found(Ring),
    /// Found one together with others.
    Expect(founding::State),
    /// A message of a founding by several has arrived.
    Founding(founding::Candidate, founding::Message),
    /// Take up a membership again.
    Resume(Saved),
    /// Join a ring; answered once all nodes are members.
    Join(Vec<Arc<str>>, oneshot::Sender<Result<Ring, JoinError>>),
    /// Hand everything over and leave; `true` is sent when it is done.
    Depart(oneshot::Sender<Result<mpsc::Receiver<Progress>, DepartError>>),
    /// Whether chains have let this peer go, which is about to depart.
    LetGo(bool),
    /// A push to a replica failed.
    Diverged(Slot, PeerId),
    /// A transfer has ended.
    Transferred(Slot, PeerId, Option<SlotDigest>),
    /// A newer catalogue is known.
    Catalogue,
    /// Look at the state machines.
    Inspect(Inspection),
}

/// Something that looks at the state machines.
pub type Inspection = Box<dyn FnOnce(&overlay::State, Option<&eventual::State>) + Send>;

/// How far a departure has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Slots with data that others still need.
    pub left: usize,
    /// Slots with data when it began.
    pub total: usize,
    /// Everything is handed over and the peer is gone.
    pub done: bool,
}

/// A peer cannot join.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JoinError {
    /// It is in a ring, or on its way.
    #[error("this peer is already in a ring or on its way into one")]
    AlreadyJoined,
    /// Nobody was named.
    #[error("no seeds: name at least one peer of the ring")]
    NoSeeds,
    /// A seed would not have it.
    #[error("{0} refused: {1}")]
    Refused(Arc<str>, String),
}

/// A peer cannot depart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DepartError {
    /// It is in no ring yet, or not back in its own.
    #[error("this peer is in no ring, or still on its way into one")]
    NotAMember,
    /// There is nobody to hand the data to.
    #[error("the last peer of a ring cannot depart: its data would be lost")]
    LastPeer,
    /// It cannot note on disk what it has handed over.
    #[error(
        "this peer's store takes no writes any more: mend the cause and restart it first, or stop it for good and let \
         the others restore its copies"
    )]
    StoreFailed,
}

/// Opens the data once the ring is known.
pub type OpenShards = Box<dyn Fn(SlotBits) -> Result<Shards, EngineError> + Send>;

/// The way to the control loop. Cheap to clone.
#[derive(Clone)]
pub struct Handle(mpsc::Sender<Command>);

impl Handle {
    /// A handle and what the loop reads from.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Command>) {
        let (sender, receiver) = mpsc::channel(INBOX);
        (Self(sender), receiver)
    }

    /// Gives the loop something to do; waits while it is behind. Nothing happens once the peer has stopped.
    pub async fn send(&self, command: Command) {
        drop(self.0.send(command).await);
    }

    /// As [`Handle::send`], but gives up at once if the loop is behind.
    pub fn try_send(&self, command: Command) {
        drop(self.0.try_send(command));
    }

    /// Who owns an identifier.
    ///
    /// # Errors
    /// If nobody answers in time.
    pub async fn lookup(&self, target: Id) -> Result<Lookup, LookupFailed> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Lookup(target, reply)).await;
        answer.await.unwrap_or(Err(LookupFailed))
    }

    /// Looks at the state machines; `None` once the peer has stopped.
    pub async fn inspect<T: Send + 'static>(
        &self,
        look: impl FnOnce(&overlay::State, Option<&eventual::State>) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let inspection: Inspection = Box::new(|overlay, replication| drop(reply.send(look(overlay, replication))));
        self.send(Command::Inspect(inspection)).await;
        answer.await.ok()
    }
}

/// Commands that may wait for the loop. A guess.
const INBOX: usize = 8192;
