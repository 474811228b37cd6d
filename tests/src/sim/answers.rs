//! The lookups of a test, and whether their answers are right.

use std::collections::{BTreeMap, BTreeSet};

use dht_core::{
    overlay::{Lookup, LookupFailed, invariant::Census},
    ring::Id,
};

/// All lookups that were asked for.
///
/// An answer is right if the node named was the owner at any moment between question and answer. A node that has joined
/// but that its successor has not yet accepted does not answer for its interval: until then the owner is the next one
/// that is accepted, and either is right.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// How each ended, by token.
    pub ended: BTreeMap<u64, Result<Lookup, LookupFailed>>,
    /// Those that named a node which was not the owner at any moment.
    pub wrong: Vec<u64>,
    open: BTreeMap<u64, Open>,
    accepted: BTreeSet<Id>,
    last_token: u64,
}

#[derive(Clone, Debug)]
struct Open {
    target: Id,
    owners: BTreeSet<Id>,
}

impl Answers {
    /// How many have not ended yet.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// The test looks for this identifier. It is random: no peer asks for the same of its own accord.
    pub(super) fn looks_for(&self, target: Id) -> bool {
        self.open.values().any(|open| open.target == target)
    }

    /// Those that have ended with an owner.
    pub fn found(&self) -> impl Iterator<Item = &Lookup> {
        self.ended.values().filter_map(|result| result.as_ref().ok())
    }

    pub(super) fn ask(&mut self, target: Id, census: &Census) -> u64 {
        self.last_token += 1;
        let owners = self.owners(target, census);
        self.open.insert(self.last_token, Open { target, owners });
        self.last_token
    }

    pub(super) fn answered(&mut self, token: u64, result: Result<Lookup, LookupFailed>) {
        let Some(open) = self.open.remove(&token) else { return };
        if result.as_ref().is_ok_and(|lookup| !open.owners.contains(&lookup.owner.id)) {
            self.wrong.push(token);
        }
        self.ended.insert(token, result);
    }

    pub(super) fn accepted(&mut self, nodes: impl IntoIterator<Item = Id>) {
        self.accepted.extend(nodes);
    }

    pub(super) fn gone(&mut self, node: Id) {
        self.accepted.remove(&node);
    }

    pub(super) fn members_changed(&mut self, census: &Census) {
        let mut open = std::mem::take(&mut self.open);
        for lookup in open.values_mut() {
            lookup.owners.extend(self.owners(lookup.target, census));
        }
        self.open = open;
    }

    fn owners(&self, target: Id, census: &Census) -> BTreeSet<Id> {
        let mut from_target = census.from(target).map(|view| view.node.id);
        let joined = from_target.next();
        let accepted = joined.into_iter().chain(from_target).find(|id| self.accepted.contains(id));
        joined.into_iter().chain(accepted).collect()
    }
}
