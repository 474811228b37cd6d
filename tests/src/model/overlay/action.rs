//! What may happen, named so that a trace can be read, and pasted into a test.

use std::fmt;

use super::What;

/// A peer, by its place on the circle: 0 to 3, written A to D.
pub type Place = usize;

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A peer begins to join through a member.
    Join(Place, Place),
    /// A member fails without a word.
    Fail(Place),
    /// The ring is ideal and at rest: from now on all its members are counted on.
    Settle,
    /// A node begins a round of maintenance.
    Round(Place),
    /// A node that others wait for drops its operation and answers them.
    GiveWay(Place),
    /// The failure detector of the first finds out that the second has failed.
    Notice(Place, Place),
    /// A message arrives: sender, receiver, what, and which of several such in the order in which they were sent.
    Deliver(Place, Place, What, usize),
}

/// A peer begins to join through a member.
#[must_use]
pub fn join(who: Place, seed: Place) -> Action {
    Action::Join(who, seed)
}

/// A member fails without a word.
#[must_use]
pub fn fail(who: Place) -> Action {
    Action::Fail(who)
}

/// A node begins a round of maintenance.
#[must_use]
pub fn round(who: Place) -> Action {
    Action::Round(who)
}

/// A node that others wait for drops its operation and answers them.
#[must_use]
pub fn give_way(who: Place) -> Action {
    Action::GiveWay(who)
}

/// The failure detector of the first finds out that the second has failed.
#[must_use]
pub fn notice(who: Place, dead: Place) -> Action {
    Action::Notice(who, dead)
}

/// The first such message on its way arrives.
#[must_use]
pub fn deliver(from: Place, to: Place, what: What) -> Action {
    Action::Deliver(from, to, what, 0)
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |place: Place| ["A", "B", "C", "D"][place];
        match *self {
            Self::Join(who, seed) => write!(f, "join({}, {})", name(who), name(seed)),
            Self::Fail(who) => write!(f, "fail({})", name(who)),
            Self::Settle => write!(f, "Action::Settle"),
            Self::Round(who) => write!(f, "round({})", name(who)),
            Self::GiveWay(who) => write!(f, "give_way({})", name(who)),
            Self::Notice(who, dead) => write!(f, "notice({}, {})", name(who), name(dead)),
            Self::Deliver(from, to, what, 0) => write!(f, "deliver({}, {}, {what:?})", name(from), name(to)),
            Self::Deliver(from, to, what, nth) => {
                write!(f, "Action::Deliver({}, {}, {what:?}, {nth})", name(from), name(to))
            }
        }
    }
}
