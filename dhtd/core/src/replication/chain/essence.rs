//! For whoever has to try every schedule: a model checker.

use std::{
    hash::{Hash, Hasher},
    time::Duration,
};

use super::{Output, State, replica::Replica};
use crate::{ring::Slot, view::Plan};

/// What of a [`State`] decides how it goes on, whatever comes, if it never ticks again and everything around it stays the
/// same: rules, configuration, routes. Two states with equal essences, at the same time, change alike and send alike.
///
/// Left out is
/// - what only [`Timer::Tick`](super::Timer::Tick) looks at: since when something is as it is, what is wrong with the view,
///   who has copied the slot, who has heard a farewell;
/// - the generator: it decides when an attempt is made, and in which order members are shuffled, both of which ticks do;
/// - how syncs are numbered: only their order counts.
#[derive(Clone, Copy, Debug)]
pub struct Essence<'a> {
    state: &'a State,
    now: Duration,
}

impl State {
    /// What decides how this peer goes on from this time, if it never ticks again.
    #[must_use]
    pub fn essence(&self, now: Duration) -> Essence<'_> {
        Essence { state: self, now }
    }

    /// Begins an attempt at a next view now, whether or not one is needed: by itself the state does so when it ticks.
    pub fn propose_now(&mut self, now: Duration, slot: Slot, plan: Plan) -> Vec<Output> {
        self.now = now;
        self.propose(slot, plan);
        self.finish();
        std::mem::take(&mut self.outputs)
    }

    /// Gives up the copy that this peer makes of the slot, as if nobody had asked for it for some time: by itself the state
    /// does so when it ticks.
    pub fn give_copy_up_now(&mut self, now: Duration, slot: Slot) -> Vec<Output> {
        self.now = now;
        self.give_copy_up(slot);
        self.finish();
        std::mem::take(&mut self.outputs)
    }

    /// Whether this peer copies the slot, and would give that up if nobody asked for it any more.
    #[must_use]
    pub fn copies(&self, slot: Slot) -> bool {
        self.replicas.get(&slot).is_some_and(|replica| replica.learning.is_some())
    }
}

impl Hash for Essence<'_> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Essence { state, now } = self;
        let State { me, accepts_from, disk_ok, leases, replicas, flush, commits, .. } = state;
        let State { unsynced, syncs, after_sync, sampled, inbox, rules, .. } = state;
        (me, accepts_from.max(now), disk_ok, flush, commits, unsynced, inbox).hash(hasher);
        after_sync.iter().for_each(|(needed, step)| (syncs - needed, step).hash(hasher));
        sampled.max(&if rules.lease_sampled_at_use { *now } else { Duration::ZERO }).hash(hasher);
        leases.hash_essence(*now, hasher);
        for (slot, replica) in replicas {
            slot.hash(hasher);
            replica.hash_essence(hasher);
        }
    }
}

impl Replica {
    fn hash_essence(&self, hasher: &mut impl Hasher) {
        let Self { acceptor, log, installing, flow, clients, proposer, levelling, accepting, .. } = self;
        (acceptor, log, installing, clients, levelling, accepting, self.care.last_round).hash(hasher);
        (flow.durable, flow.sent, flow.acked, flow.ack_sent).hash(hasher);
        (flow.committed, flow.confirmed, flow.commit_due).hash(hasher);
        proposer.as_ref().map(|attempt| &attempt.proposer).hash(hasher);
        self.learning.map(|learning| learning.source).hash(hasher);
        self.feeding.keys().for_each(|peer| peer.hash(hasher));
    }
}
