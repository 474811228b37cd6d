//! What goes into the state machine and what comes out of it.

use std::{sync::Arc, time::Duration};

use crate::{
    overlay::Routes,
    replication::digest::SlotDigest,
    ring::{PeerId, Slot},
};

/// How replication is kept. All defaults but `settle` are guesses.
#[derive(Clone, Debug)]
pub struct Config {
    /// A home group is acted upon once it has not changed for this long. Default 3 s (DESIGN, section 2).
    pub settle: Duration,
    /// How often everything is looked over. Default 250 ms.
    pub tick: Duration,
    /// An unanswered comparison or a push that was not confirmed is begun anew after this time. Default 10 s.
    pub retry_after: Duration,
    /// Time between two comparisons of synced replicas. Default 30 s.
    pub compare_every: Duration,
    /// Slots sent at the same time. Default 8.
    pub transfers: usize,
    /// How long a restarted peer waits for the others before it takes its own copy for whole. Default 30 s.
    pub lonely: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(3),
            tick: Duration::from_millis(250),
            retry_after: Duration::from_secs(10),
            compare_every: Duration::from_secs(30),
            transfers: 8,
            lonely: Duration::from_secs(30),
        }
    }
}

/// What the host gives to the state machine.
#[derive(Clone, Debug)]
pub enum Input {
    /// Who should hold what has changed.
    Routes(Arc<Routes>),
    /// A message has arrived.
    Message(PeerId, Message),
    /// The timer has fired.
    Timer(Timer),
    /// A push to a replica failed: the two differ.
    Diverged(Slot, PeerId),
    /// A transfer has ended; with the digest that the slot had here when it began if everything was confirmed.
    Transferred(Slot, PeerId, Option<SlotDigest>),
    /// A lookup has told who should hold the slot.
    Located(Slot, Vec<PeerId>),
}

/// What the host has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a message; it may get lost.
    Send(PeerId, Message),
    /// Give [`Input::Timer`] back after this time.
    SetTimer(Duration, Timer),
    /// Send all records of the slot to the peer, then report [`Input::Transferred`].
    Transfer(Slot, PeerId),
    /// Delete the slot's records if its digest still is this one.
    Drop(Slot, SlotDigest),
    /// Look up who should hold the slot, then report [`Input::Located`].
    Locate(Slot),
    /// Whether reads of the slot may be answered from here alone.
    Synced(Slot, bool),
    /// Whether the copy of the slot has a basis: to be given back to [`State::new`](super::State::new) after a restart.
    Basis(Slot, bool),
}

/// What replicas tell each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// This is what I hold; what do you hold?
    Compare(Vec<Holding>),
    /// The answer: what the sender holds. Where it differs, it pushes.
    Compared(Vec<Holding>),
    /// Everything that the sender held of the slot when it was compared is at the receiver.
    Pushed {
        /// The slot.
        slot: Slot,
        /// The sender's copy had a basis.
        basis: bool,
    },
}

/// What a peer says that it holds of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The slot.
    pub slot: Slot,
    /// Its content, in short.
    pub digest: SlotDigest,
    /// The copy has a basis.
    pub basis: bool,
}

/// What the host is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Look everything over.
    Tick,
}

/// What is held here: kept by the host, up to date at every call.
pub trait Digests {
    /// The digest of a slot.
    fn digest(&self, slot: Slot) -> SlotDigest;

    /// The slots of which something is held.
    fn held(&self) -> impl Iterator<Item = Slot>;
}
