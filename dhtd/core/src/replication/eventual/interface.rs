//! What goes into the state machine and what comes out of it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crate::{
    hlc::Timestamp,
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
    /// An unanswered comparison or a push that was not confirmed is begun anew after this time: it costs little. Default 3 s.
    pub retry_after: Duration,
    /// Time between two comparisons of synced replicas. Default 30 s.
    pub compare_every: Duration,
    /// Slots sent at the same time. Default 8.
    pub transfers: usize,
    /// A deletion is kept for at least this long after every holder has it: longer than any message can be on its way,
    /// and than clocks may differ. Default 1 h.
    pub tombstone_grace: Duration,
    /// How long a restarted peer waits for the others before it takes its own copy for whole. Default 30 s.
    pub lonely: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(3),
            tick: Duration::from_millis(250),
            retry_after: Duration::from_secs(3),
            compare_every: Duration::from_secs(30),
            transfers: 8,
            tombstone_grace: Duration::from_secs(3600),
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
    /// A transfer has ended; with the digest that the slot had here when it was compared with what the
    /// other one holds, if everything was confirmed.
    Transferred(Slot, PeerId, Option<SlotDigest>),
    /// A lookup has told who should hold the slot.
    Located(Slot, Vec<PeerId>),
    /// A peer has handed everything over and left for good.
    Left(PeerId),
}

/// What the host has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a message; it may get lost.
    Send(PeerId, Message),
    /// Give [`Input::Timer`] back after this time.
    SetTimer(Duration, Timer),
    /// Send the peer, which has said that it holds this, all records of the sub-ranges in which the slot differs from
    /// that now; then report [`Input::Transferred`].
    Transfer(Slot, PeerId, SlotDigest),
    /// Delete the slot's records if its digest still is this one.
    Drop(Slot, SlotDigest),
    /// Look up who should hold the slot, then report [`Input::Located`].
    Locate(Slot),
    /// Whether reads of the slot may be answered from here alone.
    Synced(Slot, bool),
    /// Keep this on disk before anything that follows is done, and give it back to [`State::new`](super::State::new)
    /// after a restart.
    Note(Slot, Note),
    /// Remember, too, that the peer has left for good.
    Departed(PeerId),
    /// Forget the slot's deletions before this time, and take none of them in any more.
    Reclaim(Slot, Timestamp),
}

/// What a restarted peer remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// By slot.
    pub notes: Vec<(Slot, Note)>,
    /// Peers that have left for good.
    pub departed: BTreeSet<PeerId>,
}

impl Memory {
    /// What whoever founds a ring with these slots remembers: its empty copies are all there is.
    #[must_use]
    pub fn founder(slots: impl IntoIterator<Item = Slot>) -> Self {
        let note = Note { basis: true, ..Note::default() };
        let notes = slots.into_iter().map(|slot| (slot, note.clone())).collect();
        Self { notes, ..Self::default() }
    }
}

/// What has to be remembered of a slot, besides its records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// The copy has a basis.
    pub basis: bool,
    /// The other peers that may have records of the slot on their disks.
    pub holders: BTreeSet<PeerId>,
}

impl Note {
    /// There is nothing to remember.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.basis && self.holders.is_empty()
    }
}

/// What replicas tell each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// This is what I hold; what do you hold?
    Compare(Vec<Holding>),
    /// The answer: where it differs, the sender pushes.
    Compared {
        /// What the sender holds.
        slots: Vec<Holding>,
        /// Those of the holders asked about that have left for good.
        departed: Vec<PeerId>,
    },
    /// Everything that the sender held of the slot when it was compared is at the receiver.
    Pushed {
        /// The slot.
        slot: Slot,
        /// The sender's copy had a basis.
        basis: bool,
    },
}

/// What a peer says that it holds of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The slot.
    pub slot: Slot,
    /// Its content, in short.
    pub digest: SlotDigest,
    /// The copy has a basis.
    pub basis: bool,
    /// Deletions before this time are forgotten.
    pub horizon: Timestamp,
    /// The other peers that may have records of the slot, as far as the sender knows.
    pub holders: Vec<PeerId>,
}

/// What the host is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Look everything over.
    Tick,
}

/// What the host knows at every call: what is held here, and the time of day.
pub trait Digests {
    /// The digest of a slot.
    fn digest(&self, slot: Slot) -> SlotDigest;

    /// The slots of which something is held.
    fn held(&self) -> impl Iterator<Item = Slot>;

    /// Deletions of the slot before this time were forgotten, and are not taken in any more.
    fn horizon(&self, slot: Slot) -> Timestamp;

    /// The time of day, as the versions of writes have it.
    fn wall_clock(&self) -> Timestamp;
}
