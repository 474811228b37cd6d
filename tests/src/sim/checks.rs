//! What is checked after every event.

use dht_core::{
    overlay::{
        Phase,
        invariant::{View, Violation},
    },
    ring::Id,
};

use super::World;

impl World {
    /// Brings the census up to date with one host and checks what that may have broken.
    pub(super) fn take_census(&mut self, host: usize) {
        let Some(state) = &self.hosts[host].state else { return };
        let mut touched = Vec::new();
        let mut accepted = Vec::new();
        for node in state.nodes() {
            if node.member && state.phase() != Phase::Gone && !self.census.has(node) {
                self.census.update(node.node.id, Some(View::from(node)));
                touched.push(node.node.id);
            }
            accepted.extend(node.accepted.then_some(node.node.id));
        }
        if state.phase() != Phase::Gone {
            self.answers.accepted(accepted);
            self.members_changed();
        }
        if self.config.check_invariant && !touched.is_empty() {
            touched.into_iter().for_each(|id| self.check(self.census.check_member(id)));
            self.check_principals();
        }
    }

    /// The host is no member any more.
    pub(super) fn has_gone(&mut self, host: usize) {
        let Some(state) = self.hosts[host].state.take() else { return };
        for node in state.nodes() {
            self.census.update(node.node.id, None);
            self.answers.gone(node.node.id);
        }
        self.settled.remove(&state.me().id);
        self.members_changed();
        if self.config.check_invariant {
            self.check_everyone();
        }
    }

    /// Somebody has joined, was accepted, or is gone: whoever owns now may answer the open lookups.
    fn members_changed(&mut self) {
        self.answers.members_changed(&self.census);
    }

    fn check_everyone(&mut self) {
        let members: Vec<Id> = self.census.members().map(|view| view.node.id).collect();
        members.into_iter().for_each(|id| self.check(self.census.check_member(id)));
        self.check_principals();
    }

    fn check_principals(&mut self) {
        self.check(self.census.check_principals(self.settled.len().min(self.reach() + 1)));
    }

    fn check(&mut self, result: Result<(), Violation>) {
        // A ring of one has no other to list, nor has the one that it grew from until it hears of the first joiner.
        let young = self.settled.len() < 2;
        if let Err(violation) = result
            && self.violation.is_none()
            && !(young && matches!(violation, Violation::NoLiveSuccessor(_)))
        {
            self.violation = Some(format!("at {:?}, event {}: {violation}", self.now, self.events));
        }
    }
}
