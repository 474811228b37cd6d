//! What a peer has promised about the view after the one it knows.

use super::{Ballot, View};

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
}

impl Acceptor {
    /// A peer that has just learned of a view: blank.
    #[must_use]
    pub fn new(view: View) -> Self {
        Self { view, promised: None, accepted: None, sealed: false }
    }

    /// Whether the ballot is at least what was promised.
    #[must_use]
    pub fn admits(&self, ballot: Ballot) -> bool {
        self.promised.is_none_or(|promised| promised <= ballot)
    }

    /// Promises the ballot, and with it that this epoch is over here.
    pub fn promise(&mut self, ballot: Ballot) {
        self.promised = Some(ballot);
        self.sealed = true;
    }
}
