//! What a peer has promised about the view after the one it knows.

use super::{Ballot, Generation, View};

/// The durable part of a slot's Paxos instance at one peer. Every change of it is on disk before anybody hears of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Acceptor {
    /// The newest decided view that this peer knows.
    pub view: View,
    /// Nothing of a smaller ballot is accepted.
    pub promised: Option<Ballot>,
    /// The view that was accepted last, and in which ballot.
    pub accepted: Option<(Ballot, View)>,
    /// Takes no write, serves no read, grants nothing in this epoch any more.
    pub sealed: bool,
    /// Another recovery has started the slot again, too, with the same counter: nothing ranks the two. Sealed until there
    /// is a later one.
    pub rival: Option<Generation>,
}

impl Acceptor {
    /// A peer that has just learned of a view: blank.
    #[must_use]
    pub fn new(view: View) -> Self {
        Self { view, promised: None, accepted: None, sealed: false, rival: None }
    }

    /// Whether the ballot is at least what was promised, and nothing stands in the way of a next view.
    #[must_use]
    pub fn admits(&self, ballot: Ballot) -> bool {
        self.rival.is_none() && self.promised.is_none_or(|promised| promised <= ballot)
    }

    /// Promises the ballot, and with it that this epoch is over here.
    pub fn promise(&mut self, ballot: Ballot) {
        self.promised = Some(ballot);
        self.sealed = true;
    }
}
