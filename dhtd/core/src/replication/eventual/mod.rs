//! Eventual mode: every replica of a slot comes to hold what any of them held.
//!
//! Writes are pushed to the home group as they happen; this is what repairs the rest: joins, failures, lost pushes,
//! healed splits. The unit is the slot. All of it rests on merging: a push adds what the target lacks and never
//! takes anything away, so pushes may be repeated, crossed and cut off.
//!
//! ```text
//! a member that is not synced      compares with every other live member; synced once it has taken all of them in and
//!                                  has a basis
//! a member leaves the group        nobody is synced before the others have compared: it may have told its last writes to some only
//! a member that is synced          compares with the others now and then, and when a push to one of them failed
//! a holder outside the home group  compares with every member; drops the slot once all of them have what it holds, and
//!                                  know whom it knows to hold something
//! Compare(x's digest) at y         equal: nothing to do.   Else y pushes the slot to x, and answers, so that x pushes to y
//! Pushed(slot) from y              everything that y held then is here now
//! ```
//!
//! A *basis* is what makes a copy one of everything that was ever acknowledged: the founder's copies have it, whoever has
//! taken in a copy with a basis has it, and it survives a restart. Without it, a home group made of newcomers only would
//! agree that there is nothing, while those who held the slot before have yet to hand it over.
//!
//! *Deletes stay deleted.* A deletion is a record like others, and may be forgotten once no older version of its key is on
//! any disk. So each replica remembers the *holders* of its slot: every peer that was in its group since there is anything
//! in it, until that says that it holds nothing any more. Once all holders are members and were found to hold the same, the owner moves the
//! slot's *horizon* to a grace before that moment: what they all had then is nowhere in an older version. Replicas forget
//! deletions from before the horizon, and take none of them in any more; whoever hears of a later horizon takes it over.
//! A holder that is down keeps the slot's deletions alive until it comes back. One that has departed holds nothing;
//! whoever has missed its goodbye hears of it in an answer. Answers tell of earlier departures, too, so that they are known as
//! long as anybody is left.
//!
//! Between two members that differ, both push all they have of the sub-ranges that differ.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

mod arbiter;
mod compare;
mod interface;
mod replica;
#[cfg(test)]
mod tests;

pub use arbiter::Arbiter;
pub use interface::{Config, Digests, Holding, Input, Memory, Message, Note, Output, Timer};

use self::replica::Replica;
use super::digest::SlotDigest;
use crate::{
    Rules,
    overlay::Routes,
    ring::{PeerId, Slot},
};

/// One peer's part in eventual replication.
///
/// Call contract: after [`State::start`], give it inputs as they come with a `now` that never goes back, and carry out
/// the outputs in order.
#[derive(Clone, Debug)]
pub struct State {
    config: Config,
    rules: Rules,
    me: PeerId,
    routes: Arc<Routes>,
    started: Duration,
    /// Peers that were known when the process stopped, if it was stopped.
    expected_peers: usize,
    slots: BTreeMap<Slot, Replica>,
    /// Peers that have left for good: they hold nothing.
    departed: BTreeSet<PeerId>,
    /// The last one of these that others were told of unasked.
    last_departed: Option<PeerId>,
    /// Slots to be sent, to whom, and what was held there when the two were compared.
    queue: VecDeque<(Slot, PeerId, SlotDigest)>,
    running: BTreeSet<(Slot, PeerId)>,
    outputs: Vec<Output>,
}

impl State {
    /// A peer that remembers this (a founder: that its copies of all slots of the ring have a basis). `expected_peers` is
    /// how many others it knew when it was stopped.
    #[must_use]
    pub fn new(config: Config, rules: Rules, routes: Arc<Routes>, expected_peers: usize, memory: Memory) -> Self {
        let replica = |(slot, note): (Slot, Note)| {
            (slot, Replica { basis: note.basis, holders: note.holders, ..Replica::default() })
        };
        let slots = memory.notes.into_iter().map(replica).collect();
        Self {
            config,
            rules,
            me: routes.me.id,
            routes,
            started: Duration::ZERO,
            expected_peers,
            slots,
            departed: memory.departed,
            last_departed: None,
            queue: VecDeque::new(),
            running: BTreeSet::new(),
            outputs: Vec::new(),
        }
    }

    /// Begins at the time `now`.
    pub fn start(&mut self, now: Duration) -> Vec<Output> {
        self.started = now;
        vec![Output::SetTimer(self.config.tick, Timer::Tick)]
    }

    /// Takes one input at the time `now` and returns what is to be done.
    pub fn handle(&mut self, now: Duration, input: Input, digests: &impl Digests) -> Vec<Output> {
        match input {
            Input::Routes(routes) => self.set_routes(now, routes, digests),
            Input::Message(from, Message::Compare(theirs)) => self.compare(from, &theirs, digests),
            Input::Message(from, Message::Compared { slots, departed }) => {
                departed.into_iter().for_each(|peer| self.left(peer));
                self.compared(now, from, &slots, digests);
            }
            Input::Message(from, Message::Pushed { slot, basis }) => self.pushed(now, from, slot, basis),
            Input::Timer(Timer::Tick) => self.tick(now, digests),
            Input::Diverged(slot, peer) => self.diverged(now, slot, peer),
            Input::Transferred(slot, peer, digest) => self.transferred(slot, peer, digest),
            Input::Located(slot, group) => self.located(now, slot, group, digests),
            Input::Left(peer) => self.left(peer),
        }
        self.start_transfers();
        mem::take(&mut self.outputs)
    }

    /// Slots that this peer should hold and has not yet taken in.
    #[must_use]
    pub fn syncing(&self) -> usize {
        self.slots.values().filter(|replica| replica.is_member(self.me) && !replica.synced).count()
    }

    /// Slots of which others may need what is here: all that a departing peer has to hand over.
    pub fn held(&self, digests: &impl Digests) -> usize {
        let bases = self.slots.iter().filter(|(_, replica)| replica.basis).map(|(slot, _)| *slot);
        digests.held().chain(bases).collect::<BTreeSet<Slot>>().len()
    }

    /// Transfers under way and waiting.
    #[must_use]
    pub fn transfers(&self) -> usize {
        self.running.len() + self.queue.len()
    }

    fn set_routes(&mut self, now: Duration, routes: Arc<Routes>, digests: &impl Digests) {
        self.routes = routes.clone();
        let Some(bits) = routes.slot_bits() else { return };
        for slot in bits.iter() {
            match routes.home_of(slot) {
                Some(home) if home.group.contains(&self.me) || self.slots.contains_key(&slot) => {
                    self.set_group(now, slot, home.group.clone(), digests);
                }
                // The owner is silent. What it said last still is the best guess, for a member as for a holder.
                _ => {}
            }
        }
    }

    /// A lookup's answer may be older than what the owner has told meanwhile.
    fn located(&mut self, now: Duration, slot: Slot, group: Vec<PeerId>, digests: &impl Digests) {
        if self.is_slot(slot) && self.routes.home_of(slot).is_none() {
            self.set_group(now, slot, group, digests);
        }
    }

    fn set_group(&mut self, now: Duration, slot: Slot, group: Vec<PeerId>, digests: &impl Digests) {
        let me = self.me;
        let rules = self.rules;
        let replica = self.slots.entry(slot).or_default();
        if replica.group.as_ref() == Some(&group) {
            return;
        }
        let before: BTreeSet<PeerId> = replica.group.iter().flatten().copied().collect();
        let after: BTreeSet<PeerId> = group.iter().copied().collect();
        replica.merged.retain(|peer| after.contains(peer));
        replica.handed.retain(|peer, _| after.contains(peer));
        replica.asked.retain(|peer, _| after.contains(peer));
        replica.level.clear();
        replica.told.retain(|peer| after.contains(peer));
        if !digests.digest(slot).is_empty() {
            replica.add_holders(slot, before.union(&after), me, &mut self.outputs);
        }
        replica.group = Some(group);
        replica.since = now;
        // It stays a newcomer until it has taken everyone in, however often the group changes meanwhile.
        replica.newcomer |= !before.contains(&me);
        replica.fresh = if replica.newcomer { after.clone() } else { &after - &before };
        if replica.newcomer || (rules.loss_ends_synced && !before.is_subset(&after)) {
            // A newcomer knows nothing; and whoever has left may have told its last writes to some members only.
            replica.set_synced(slot, false, &mut self.outputs);
            replica.merged.clear();
            replica.asked.clear();
        }
    }

    /// Looks everything over: what has to be compared, what is synced now, what may be dropped.
    fn tick(&mut self, now: Duration, digests: &impl Digests) {
        self.outputs.push(Output::SetTimer(self.config.tick, Timer::Tick));
        // Records come in unasked: what is held of a slot that is no concern of this peer has to be handed over, too.
        for slot in digests.held() {
            self.replica(now, slot);
        }
        let mut compare: BTreeMap<PeerId, Vec<Holding>> = BTreeMap::new();
        let mut gone = Vec::new();
        let mut located = 0;
        for (slot, replica) in &mut self.slots {
            let digest = digests.digest(*slot);
            let member = replica.is_member(self.me);
            if !member && digest.is_empty() && !replica.basis {
                gone.push(*slot);
                self.outputs.push(Output::Note(*slot, Note::default()));
                continue;
            }
            if self.routes.me.leaving || now.saturating_sub(replica.since) >= self.config.settle {
                replica.fresh.clear();
            }
            if self.routes.home_of(*slot).is_none() {
                located += usize::from(replica.locate(now, *slot, located, &self.config, &mut self.outputs));
            }
            if !digest.is_empty() {
                // Whatever is here, they may have been sent.
                replica.add_members(*slot, self.me, &mut self.outputs);
            }
            let Some(group) = &replica.group else { continue };
            let known = |peer: &&PeerId| **peer != self.me && self.routes.peer(**peer).is_some();
            let others: Vec<PeerId> = group.iter().filter(known).copied().collect();
            if let Some(horizon) = replica.next_horizon(now, *slot, self.me, &self.config, self.rules, digests) {
                self.outputs.push(Output::Reclaim(*slot, horizon));
            }
            let wanted = if member {
                let alone = others.len() + 1 < self.routes.ring.map_or(1, |r| r.replicas).min(self.expected_peers + 1);
                if alone && now.saturating_sub(self.started) < self.config.lonely {
                    continue;
                }
                let mut wanted = replica.compare_with(now, *slot, &others, &self.config, self.rules, &mut self.outputs);
                wanted.extend(replica.strays().filter(|peer| self.routes.peer(*peer).is_some()));
                wanted
            } else {
                replica.hand_over(now, *slot, &others, digest, &self.config, &mut self.outputs)
            };
            for peer in wanted.into_iter().filter(|peer| !replica.fresh.contains(peer)) {
                let asked = replica.asked.get(&peer);
                if asked.is_none_or(|asked| now.saturating_sub(*asked) >= self.config.retry_after) {
                    replica.asked.insert(peer, now);
                    compare.entry(peer).or_default().push(replica.holding(*slot, digests));
                }
            }
        }
        gone.iter().for_each(|slot| drop(self.slots.remove(slot)));
        compare.into_iter().for_each(|(peer, slots)| self.outputs.push(Output::Send(peer, Message::Compare(slots))));
    }

    /// What is known of a slot; for one that is new here, who should hold it.
    fn replica(&mut self, now: Duration, slot: Slot) -> &mut Replica {
        self.slots.entry(slot).or_insert_with(|| {
            let group = self.routes.home_of(slot).map(|home| home.group.clone());
            Replica { group, since: now, ..Replica::default() }
        })
    }

    /// Other peers may name slots that there are not.
    fn is_slot(&self, slot: Slot) -> bool {
        self.routes.slot_bits().is_some_and(|bits| slot.0 < bits.slots())
    }

    fn diverged(&mut self, now: Duration, slot: Slot, peer: PeerId) {
        if let Some(replica) = self.slots.get_mut(&slot) {
            replica.merged.remove(&peer);
            replica.handed.remove(&peer);
            replica.asked.remove(&peer);
            replica.level.remove(&peer);
            replica.next_compare = now;
        }
    }

    fn enqueue(&mut self, slot: Slot, to: PeerId, theirs: SlotDigest) {
        if let Some(waiting) = self.queue.iter_mut().find(|waiting| (waiting.0, waiting.1) == (slot, to)) {
            waiting.2 = theirs;
        } else if !self.running.contains(&(slot, to)) {
            self.queue.push_back((slot, to, theirs));
        }
    }

    fn start_transfers(&mut self) {
        while self.running.len() < self.config.transfers
            && let Some((slot, to, theirs)) = self.queue.pop_front()
        {
            if self.routes.peer(to).is_some() {
                self.running.insert((slot, to));
                self.outputs.push(Output::Transfer(slot, to, theirs));
            }
        }
    }

    fn transferred(&mut self, slot: Slot, to: PeerId, digest: Option<SlotDigest>) {
        self.running.remove(&(slot, to));
        let Some(digest) = digest else {
            if let Some(replica) = self.slots.get_mut(&slot) {
                replica.asked.remove(&to);
            }
            return;
        };
        let basis = self.slots.get(&slot).is_some_and(|replica| replica.basis);
        self.outputs.push(Output::Send(to, Message::Pushed { slot, basis }));
        if let Some(replica) = self.slots.get_mut(&slot) {
            replica.handed.insert(to, digest);
            if !replica.is_member(self.me) {
                replica.asked.remove(&to);
            }
        }
    }
}
