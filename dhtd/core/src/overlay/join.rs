//! How a peer gets into the ring, back into it, and out of it; and how a ring that was split becomes one.

use std::{sync::Arc, time::Duration};

use rand::RngExt;

use super::{
    directory::{Health, Known},
    interface::{Event, Saved, Timer},
    lookup::Asker,
    message::{Body, Found},
    peer::{Node, Ring},
    state::State,
};
use crate::ring::PeerId;

/// A peer on its way into a ring. Its nodes join one after the other.
#[derive(Clone, Debug)]
pub(super) struct Joining {
    /// Whom to ask, in turn.
    seeds: Vec<Arc<str>>,
    next_seed: usize,
    /// It was a member before it stopped: if nobody of the ring answers, it takes up its membership by itself.
    resumes: bool,
}

impl State {
    /// All nodes at once: an ideal ring by construction.
    pub(super) fn found_ring(&mut self, ring: Ring) {
        self.ring = Some(ring);
        self.event(Event::Joined(ring));
        self.become_whole();
        self.start_timers();
    }

    pub(super) fn join(&mut self, seeds: Vec<Arc<str>>) {
        if self.joining.is_none() && self.ring.is_none() {
            self.seeds.clone_from(&seeds);
            self.start_joining(seeds, false);
        }
    }

    /// A restarted peer joins again through the peers it knew: to the ring it is a new member. If they were all
    /// stopped together, somebody has to be the first: each calls everyone, waits for a random time and then starts
    /// alone, and those who still wait join it. Rings that start at the same moment merge.
    pub(super) fn resume(&mut self, saved: Saved) {
        self.ring = Some(saved.ring);
        self.seeds = saved.seeds;
        saved.peers.iter().for_each(|peer| self.learn(peer));
        let seeds: Vec<Arc<str>> = saved.peers.iter().map(|peer| peer.address.clone()).collect();
        let wait = RESUME_WAIT.mul_f64(self.random.random_range(1.0..2.0));
        let wait = if seeds.is_empty() { Duration::ZERO } else { wait };
        self.call_everyone();
        self.start_joining(seeds, true);
        self.set_timer(wait, Timer::GiveUpResume);
    }

    fn start_joining(&mut self, seeds: Vec<Arc<str>>, resumes: bool) {
        self.joining = Some(Joining { seeds, next_seed: 0, resumes });
        self.start_timers();
        self.join_next_node();
    }

    pub(super) fn start_timers(&mut self) {
        self.set_timer(Duration::ZERO, Timer::Heartbeat);
        let first = self.jittered(self.config.stabilize_every);
        self.set_timer(first, Timer::Announce);
        let first = self.jittered(self.config.stabilize_every);
        self.set_timer(first, Timer::Reconcile);
    }

    /// The next seed to ask for the way in: of the members that have answered, if there are any.
    pub(super) fn next_seed(&mut self) -> Option<Arc<str>> {
        let joining = self.joining.as_mut()?;
        let since = self.now.saturating_sub(ANSWER_HOLDS);
        let answered: Vec<&Arc<str>> = self.directory.members_heard(since).map(|peer| &peer.address).collect();
        let seeds = if answered.is_empty() { joining.seeds.iter().collect() } else { answered };
        let seed = Arc::clone(seeds.get(joining.next_seed % seeds.len().max(1))?);
        joining.next_seed += 1;
        Some(seed)
    }

    fn join_next_node(&mut self) {
        let index = self.me.nodes as usize;
        match self.nodes.get(index) {
            Some(state) => {
                let target = state.node.id;
                self.start_lookup(Asker::Join { index }, target);
            }
            None => {
                self.joining = None;
                self.event(Event::Complete);
            }
        }
    }

    /// The ring has said where the node belongs: it takes over the list of the node before it.
    pub(super) fn predecessor_found(&mut self, index: usize, found: Found) {
        if index != self.me.nodes as usize || self.nodes[index].member {
            return;
        }
        if self.ring.is_some_and(|ring| ring.id != found.ring.id) {
            return self.join_next_node();
        }
        let joined = self.ring.is_none() || index == 0;
        self.ring = Some(found.ring);
        self.enlist(index);
        let me = self.nodes[index].node;
        let list = found.successors.iter().skip_while(|node| **node == me);
        let list: Vec<Node> = list.copied().take(if self.rules.join_takes_list { usize::MAX } else { 1 }).collect();
        if let Some((head, rest)) = list.split_first() {
            self.adopt(index, *head, rest);
        }
        self.nodes[index].predecessor = Some(found.node).filter(|node| self.may_list(node));
        if joined {
            self.event(Event::Joined(found.ring));
        }
        self.set_timer(Duration::ZERO, Timer::Stabilize(me.index));
        self.join_next_node();
    }

    /// The node counts as a member from now on.
    pub(super) fn enlist(&mut self, index: usize) {
        self.nodes[index].member = true;
        self.me.nodes = self.nodes[index].node.index + 1;
        self.changed = true;
    }

    /// No member of the ring is there: start alone. Whoever comes back finds us.
    pub(super) fn give_up_resume(&mut self) {
        if self.me.nodes > 0 || self.joining.as_ref().is_none_or(|joining| !joining.resumes) {
            return;
        }
        let since = self.now.saturating_sub(ANSWER_HOLDS);
        if self.directory.members_heard(since).next().is_some() {
            // Somebody is: the way in only takes longer. But they may stop, too.
            self.call_everyone();
            return self.set_timer(RESUME_WAIT, Timer::GiveUpResume);
        }
        self.asked.clear();
        if let Some(ring) = self.ring {
            self.event(Event::Joined(ring));
        }
        self.become_whole();
    }

    /// Makes a ring of the own nodes alone.
    fn become_whole(&mut self) {
        self.joining = None;
        (0..self.nodes.len()).for_each(|index| self.enlist(index));
        let mut circle: Vec<Node> = self.nodes.iter().map(|state| state.node).collect();
        circle.sort_unstable();
        for (place, node) in circle.iter().enumerate() {
            let state = &mut self.nodes[node.index as usize];
            state.successors = circle[place + 1..].iter().chain(&circle[..place]).copied().collect();
            state.predecessor = Some(circle[(place + circle.len() - 1) % circle.len()]);
            state.accepted = true;
        }
        self.start_maintenance();
        self.event(Event::Complete);
    }

    /// The first round of each node.
    pub(super) fn start_maintenance(&mut self) {
        for index in 0..self.config.nodes {
            let first = self.jittered(self.config.stabilize_every);
            self.set_timer(first, Timer::Stabilize(index));
        }
    }

    pub(super) fn leave(&mut self) {
        self.me.leaving = true;
        self.changed = true;
    }

    /// Tells everyone who may list us that we are gone.
    pub(super) fn depart(&mut self) {
        let others: Vec<PeerId> =
            self.directory.iter().filter(|known| known.health.usable()).map(|known| known.peer.id).collect();
        others.into_iter().for_each(|peer| self.send(peer, Body::Gone));
        self.gone = true;
        self.changed = true;
    }

    /// A member that once knew others and now has none.
    pub(super) fn is_island(&self) -> bool {
        let members = self.directory.iter().filter(|known| known.health != Health::Gone && known.was_member());
        let mut others = members.peekable();
        others.peek().is_some() && !others.any(|known| known.health.usable() && known.peer.nodes > 0)
    }

    /// Periodically: does another peer's view of the ring have us in it? It may be one that was thought dead, or one
    /// of a part that was split off.
    pub(super) fn reconcile(&mut self) {
        let again = self.jittered(self.config.stabilize_every);
        self.set_timer(again, Timer::Reconcile);
        if self.me.nodes == 0 || self.gone {
            return;
        }
        let is_member = |known: &Known| known.health.usable() && known.peer.nodes > 0;
        if !self.directory.iter().any(is_member) {
            // Also if nobody is remembered: those that were known may all have departed, but not its seeds.
            self.call_everyone();
        }
        let remembered: Vec<(PeerId, bool)> = self
            .directory
            .iter()
            .filter(|known| known.health != Health::Gone)
            .map(|known| (known.peer.id, is_member(known)))
            .collect();
        let known = |seed: &&Arc<str>| self.directory.iter().any(|known| known.peer.address == **seed);
        let strangers: Vec<Arc<str>> = self.seeds.iter().filter(|seed| !known(seed)).cloned().collect();
        let chosen = self.random.random_range(0..(remembered.len() + strangers.len()).max(1));
        let Some(&(peer, usable)) = remembered.get(chosen) else {
            // Of those that it was told to join through, nobody here may know.
            if let Some(seed) = strangers.into_iter().nth(chosen - remembered.len()) {
                self.call(seed);
            }
            return;
        };
        if usable {
            let index = self.random.random_range(0..self.me.nodes as usize);
            self.start_lookup_at(peer, index);
        } else {
            self.ping_once(peer);
        }
    }

    /// Asks everyone it ever knew whether they are there.
    fn call_everyone(&mut self) {
        let everyone: Vec<PeerId> = self.directory.iter().map(|known| known.peer.id).collect();
        everyone.into_iter().for_each(|peer| self.ping_once(peer));
        self.seeds.clone().into_iter().for_each(|seed| self.call(seed));
    }

    fn call(&mut self, address: Arc<str>) {
        let nonce = u64::try_from(self.now.as_micros()).unwrap_or(u64::MAX);
        self.send_to_address(address, Body::Ping { nonce });
    }

    /// A peer has completed its first round trip, or the first since it was dead.
    pub(super) fn proven(&mut self, peer: PeerId, was_dead: bool) {
        self.add_to_table(peer);
        self.changed = true;
        if was_dead {
            self.event(Event::PeerRevived(peer));
        }
        self.consider_all(peer);
    }

    /// Another peer's lookup has found the node before one of ours. If that has another successor, there are two rings,
    /// or one that winds around twice, or the node is not listed yet. Each learns of the other; what comes of it is
    /// ordinary maintenance.
    pub(super) fn found_from_elsewhere(&mut self, index: usize, found: &Found) {
        let state = &self.nodes[index];
        let (from, successors) = (state.node, state.successors.clone());
        let Some(next) = found.successors.first().copied().filter(|next| *next != from) else { return };
        if self.may_list(&next) {
            self.send(next.peer, Body::Notify { from, to: next, successors });
        }
        for node in std::iter::once(&found.node).chain(&found.successors) {
            self.consider(*node);
        }
    }
}

/// How long a restarted peer looks for its ring at least, and half of what it does at most, before it starts alone. A
/// guess: long enough for processes that are started together.
const RESUME_WAIT: Duration = Duration::from_secs(1);

/// A member that has answered a peer on its way in counts as there for that long: until the second call after.
const ANSWER_HOLDS: Duration = Duration::from_secs(2);
