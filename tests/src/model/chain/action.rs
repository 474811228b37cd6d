//! What may happen, named so that a trace can be read.

use std::fmt;

use super::What;

/// A peer: 0 to 3, written A to D.
pub type Place = usize;

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An attempt at this operation arrives at a peer.
    Call(usize, Place),
    /// The attempt at a next view of this number begins.
    Propose(usize),
    /// The time is over for which a proposer waits for more promises than it needs.
    Enough(Place),
    /// Leases that a peer has granted have run out, and it notices.
    Notice(Place),
    /// A message arrives: sender, receiver, what, and which of several such in the order in which they were sent.
    Deliver(Place, Place, What, usize),
    /// The same, and another copy of the message is still on its way.
    Doubled(Place, Place, What, usize),
    /// A lease's length passes.
    Wait,
    /// A peer sends heartbeats.
    Beat(Place),
    /// An fsync ends that covers all that the peer has written.
    Synced(Place),
    /// The process is killed and started again; of its writes that no fsync has covered, so many are on disk.
    Restart(Place, usize),
    /// The first is told to copy the slot from the second.
    Learn(Place, Place),
    /// Nobody has asked the peer for some time to copy the slot, and it gives its copy up.
    Forget(Place),
    /// A read that the peer has allowed looks at the table.
    Look(Place, usize),
    /// Everything on its way arrives, in the order in which it was sent, with all that comes of it.
    Quiet,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |place: Place| ["A", "B", "C", "D"][place];
        match *self {
            Self::Call(number, at) => write!(f, "Call({number}, {})", name(at)),
            Self::Propose(number) => write!(f, "Propose({number})"),
            Self::Enough(at) => write!(f, "Enough({})", name(at)),
            Self::Notice(at) => write!(f, "Notice({})", name(at)),
            Self::Deliver(from, to, what, nth) => {
                write!(f, "Deliver({}, {}, {what:?}, {nth})", name(from), name(to))
            }
            Self::Doubled(from, to, what, nth) => {
                write!(f, "Doubled({}, {}, {what:?}, {nth})", name(from), name(to))
            }
            Self::Wait => write!(f, "Wait"),
            Self::Beat(at) => write!(f, "Beat({})", name(at)),
            Self::Synced(at) => write!(f, "Synced({})", name(at)),
            Self::Restart(at, kept) => write!(f, "Restart({}, {kept})", name(at)),
            Self::Learn(at, from) => write!(f, "Learn({}, {})", name(at), name(from)),
            Self::Forget(at) => write!(f, "Forget({})", name(at)),
            Self::Look(at, number) => write!(f, "Look({}, {number})", name(at)),
            Self::Quiet => write!(f, "Quiet"),
        }
    }
}
