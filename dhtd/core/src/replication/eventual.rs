//! Eventual mode: every replica of a slot comes to hold what any of them held.
//!
//! Writes are pushed to the home group as they happen; this is what repairs the rest: joins, failures, lost pushes,
//! healed splits. The unit is the slot. All of it rests on merging: a push adds what the target lacks and never
//! takes anything away, so pushes may be repeated, crossed and cut off.
//!
//! ```text
//! a member that is not synced      compares with every other live member; synced once it has taken all of them in
//! a member leaves the group        nobody is synced before the others have compared: it may have told its last writes to some only
//! a member that is synced          compares with the others now and then, and when a push to one of them failed
//! a holder outside the home group  compares with every member; drops the slot once all of them have what it holds
//! Compare(x's digest) at y         equal: nothing to do.   Else y pushes the slot to x, and answers, so that x pushes to y
//! Pushed(slot) from y              everything that y held then is here now
//! ```
//!
//! Between two members that differ, both push all they have; a digest of sub-ranges would push less.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use super::digest::SlotDigest;
use crate::{
    overlay::Routes,
    ring::{PeerId, Slot},
};

/// How replication is kept. All defaults but `settle` are guesses.
#[derive(Clone, Debug)]
pub struct Config {
    /// A home group is acted upon once it has not changed for this long. Default 3 s (DESIGN, section 2).
    pub settle: Duration,
    /// How often everything is looked over. Default 250 ms.
    pub tick: Duration,
    /// An unanswered comparison or a push that was not confirmed is begun anew after this time. Default 10 s.
    pub retry_after: Duration,
    /// Time between two comparisons of synced replicas. Default 30 s.
    pub compare_every: Duration,
    /// Slots sent at the same time. Default 8.
    pub transfers: usize,
    /// How long a restarted peer waits for the others before it takes its own copy for whole. Default 30 s.
    pub lonely: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(3),
            tick: Duration::from_millis(250),
            retry_after: Duration::from_secs(10),
            compare_every: Duration::from_secs(30),
            transfers: 8,
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
    /// A transfer has ended; with the digest that the slot had here when it began if everything was confirmed.
    Transferred(Slot, PeerId, Option<SlotDigest>),
    /// A lookup has told who should hold the slot.
    Located(Slot, Vec<PeerId>),
}

/// What the host has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a message; it may get lost.
    Send(PeerId, Message),
    /// Give [`Input::Timer`] back after this time.
    SetTimer(Duration, Timer),
    /// Send all records of the slot to the peer, then report [`Input::Transferred`].
    Transfer(Slot, PeerId),
    /// Delete the slot's records if its digest still is this one.
    Drop(Slot, SlotDigest),
    /// Look up who should hold the slot, then report [`Input::Located`].
    Locate(Slot),
    /// Whether reads of the slot may be answered from here alone.
    Synced(Slot, bool),
}

/// What replicas tell each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// This is what I hold; what do you hold?
    Compare(Vec<(Slot, SlotDigest)>),
    /// The answer: what the sender holds. Where it differs, it pushes.
    Compared(Vec<(Slot, SlotDigest)>),
    /// Everything that the sender held of the slots when they were compared is at the receiver.
    Pushed(Vec<Slot>),
}

/// What the host is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Look everything over.
    Tick,
}

/// What is held here: kept by the host, up to date at every call.
pub trait Digests {
    /// The digest of a slot.
    fn digest(&self, slot: Slot) -> SlotDigest;
}

/// One peer's part in eventual replication.
///
/// Call contract: after [`State::start`], give it inputs as they come with a `now` that never goes back, and carry out
/// the outputs in order.
#[derive(Debug)]
pub struct State {
    config: Config,
    me: PeerId,
    routes: Arc<Routes>,
    started: Duration,
    /// Peers that were known when the process stopped, if it was stopped.
    expected_peers: usize,
    slots: BTreeMap<Slot, Replica>,
    queue: VecDeque<(Slot, PeerId)>,
    running: BTreeSet<(Slot, PeerId)>,
    outputs: Vec<Output>,
}

/// What is known of one slot of which this peer holds something, or should.
#[derive(Debug, Default)]
struct Replica {
    /// Who should hold it, if known, and since when that is so.
    group: Option<Vec<PeerId>>,
    since: Duration,
    /// Members that came into the group with its last change: nothing is sent to them before the group has settled.
    fresh: BTreeSet<PeerId>,
    synced: bool,
    /// Members whose content has been taken in.
    merged: BTreeSet<PeerId>,
    /// Members that have everything that was here when the digest was this.
    handed: BTreeMap<PeerId, SlotDigest>,
    /// When a comparison with them was begun that has not come to its end.
    asked: BTreeMap<PeerId, Duration>,
    /// When synced replicas are compared again.
    next_compare: Duration,
    /// When somebody was last asked who should hold it.
    located: Option<Duration>,
}

impl State {
    /// A peer that holds `stored` slots. `expected_peers` is how many others it knew when it was stopped.
    #[must_use]
    pub fn new(
        config: Config,
        routes: Arc<Routes>,
        expected_peers: usize,
        stored: impl IntoIterator<Item = Slot>,
    ) -> Self {
        Self {
            config,
            me: routes.me.id,
            routes,
            started: Duration::ZERO,
            expected_peers,
            slots: stored.into_iter().map(|slot| (slot, Replica::default())).collect(),
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
            Input::Routes(routes) => self.set_routes(now, routes),
            Input::Message(from, Message::Compare(theirs)) => self.compare(from, &theirs, digests),
            Input::Message(from, Message::Compared(theirs)) => self.compared(from, &theirs, digests),
            Input::Message(from, Message::Pushed(slots)) => self.pushed(now, from, &slots),
            Input::Timer(Timer::Tick) => self.tick(now, digests),
            Input::Diverged(slot, peer) => self.diverged(now, slot, peer),
            Input::Transferred(slot, peer, digest) => self.transferred(slot, peer, digest),
            Input::Located(slot, group) => self.set_group(now, slot, Some(group)),
        }
        self.start_transfers();
        mem::take(&mut self.outputs)
    }

    /// Slots that this peer should hold and has not yet taken in.
    #[must_use]
    pub fn syncing(&self) -> usize {
        self.slots.values().filter(|replica| replica.is_member(self.me) && !replica.synced).count()
    }

    /// Slots with records that this peer should hand over, and has not yet.
    pub fn to_hand_over(&self, digests: &impl Digests) -> usize {
        let outside = self.slots.iter().filter(|(_, replica)| !replica.is_member(self.me));
        outside.filter(|(slot, _)| !digests.digest(**slot).is_empty()).count()
    }

    /// Transfers under way and waiting.
    #[must_use]
    pub fn transfers(&self) -> usize {
        self.running.len() + self.queue.len()
    }

    fn set_routes(&mut self, now: Duration, routes: Arc<Routes>) {
        self.routes = routes.clone();
        let Some(bits) = routes.slot_bits() else { return };
        for slot in bits.iter() {
            match routes.home_of(slot) {
                Some(home) if home.group.contains(&self.me) || self.slots.contains_key(&slot) => {
                    self.set_group(now, slot, Some(home.group.clone()));
                }
                // The owner is silent. What it said last still is the best guess, for a member as for a holder.
                _ => {}
            }
        }
    }

    fn set_group(&mut self, now: Duration, slot: Slot, group: Option<Vec<PeerId>>) {
        let me = self.me;
        let replica = self.slots.entry(slot).or_default();
        if replica.group == group {
            return;
        }
        let before: BTreeSet<PeerId> = replica.group.iter().flatten().copied().collect();
        let after: BTreeSet<PeerId> = group.iter().flatten().copied().collect();
        replica.merged.retain(|peer| after.contains(peer));
        replica.handed.retain(|peer, _| after.contains(peer));
        replica.asked.retain(|peer, _| after.contains(peer));
        replica.group = group;
        replica.since = now;
        replica.fresh = if before.contains(&me) { &after - &before } else { after.clone() };
        if !before.contains(&me) || !before.is_subset(&after) {
            // A newcomer knows nothing; and whoever has left may have told its last writes to some members only.
            replica.set_synced(slot, false, &mut self.outputs);
            replica.merged.clear();
            replica.asked.clear();
        }
    }

    /// Looks everything over: what has to be compared, what is synced now, what may be dropped.
    fn tick(&mut self, now: Duration, digests: &impl Digests) {
        self.outputs.push(Output::SetTimer(self.config.tick, Timer::Tick));
        let mut compare: BTreeMap<PeerId, Vec<(Slot, SlotDigest)>> = BTreeMap::new();
        let mut gone = Vec::new();
        let mut located = 0;
        for (slot, replica) in &mut self.slots {
            let digest = digests.digest(*slot);
            let member = replica.is_member(self.me);
            if !member && digest.is_empty() {
                gone.push(*slot);
                continue;
            }
            if self.routes.me.leaving || now.saturating_sub(replica.since) >= self.config.settle {
                replica.fresh.clear();
            }
            if self.routes.home_of(*slot).is_none() {
                located += usize::from(replica.locate(now, *slot, located, &self.config, &mut self.outputs));
            }
            let Some(group) = &replica.group else { continue };
            let known = |peer: &&PeerId| **peer != self.me && self.routes.peer(**peer).is_some();
            let others: Vec<PeerId> = group.iter().filter(known).copied().collect();
            let wanted = if member {
                let alone = others.len() + 1 < self.routes.ring.map_or(1, |r| r.replicas).min(self.expected_peers + 1);
                if alone && now.saturating_sub(self.started) < self.config.lonely {
                    continue;
                }
                replica.compare_with(now, *slot, &others, &self.config, &mut self.outputs)
            } else {
                replica.to_hand_over(*slot, &others, digest, &mut self.outputs)
            };
            for peer in wanted.into_iter().filter(|peer| !replica.fresh.contains(peer)) {
                let asked = replica.asked.get(&peer);
                if asked.is_none_or(|asked| now.saturating_sub(*asked) >= self.config.retry_after) {
                    replica.asked.insert(peer, now);
                    compare.entry(peer).or_default().push((*slot, digest));
                }
            }
        }
        gone.iter().for_each(|slot| drop(self.slots.remove(slot)));
        compare.into_iter().for_each(|(peer, slots)| self.outputs.push(Output::Send(peer, Message::Compare(slots))));
    }

    /// Another peer wants to know whether we hold the same.
    fn compare(&mut self, from: PeerId, theirs: &[(Slot, SlotDigest)], digests: &impl Digests) {
        let mut ours = Vec::with_capacity(theirs.len());
        for (slot, their) in theirs {
            let own = digests.digest(*slot);
            if own.same(their) {
                self.equal(*slot, from, own);
            } else if !own.is_empty() {
                self.enqueue(*slot, from);
            }
            ours.push((*slot, own));
        }
        self.outputs.push(Output::Send(from, Message::Compared(ours)));
    }

    /// The answer to a comparison of ours.
    fn compared(&mut self, from: PeerId, theirs: &[(Slot, SlotDigest)], digests: &impl Digests) {
        for (slot, their) in theirs {
            let own = digests.digest(*slot);
            if own.same(their) {
                self.equal(*slot, from, own);
                continue;
            }
            if !own.is_empty() {
                self.enqueue(*slot, from);
            }
            if their.is_empty()
                && let Some(replica) = self.slots.get_mut(slot)
            {
                replica.merged.insert(from); // It has nothing that we lack.
            }
        }
    }

    fn equal(&mut self, slot: Slot, with: PeerId, digest: SlotDigest) {
        if let Some(replica) = self.slots.get_mut(&slot) {
            replica.asked.remove(&with);
            replica.merged.insert(with);
            replica.handed.insert(with, digest);
        }
    }

    fn pushed(&mut self, now: Duration, from: PeerId, slots: &[Slot]) {
        for slot in slots {
            // What a peer outside the group receives it has to hand over again.
            let replica = self.slots.entry(*slot).or_insert_with(|| Replica { since: now, ..Replica::default() });
            replica.merged.insert(from);
            replica.asked.remove(&from);
        }
    }

    fn diverged(&mut self, now: Duration, slot: Slot, peer: PeerId) {
        if let Some(replica) = self.slots.get_mut(&slot) {
            replica.merged.remove(&peer);
            replica.handed.remove(&peer);
            replica.asked.remove(&peer);
            replica.next_compare = now;
        }
    }

    fn enqueue(&mut self, slot: Slot, to: PeerId) {
        if !self.running.contains(&(slot, to)) && !self.queue.contains(&(slot, to)) {
            self.queue.push_back((slot, to));
        }
    }

    fn start_transfers(&mut self) {
        while self.running.len() < self.config.transfers
            && let Some((slot, to)) = self.queue.pop_front()
        {
            if self.routes.peer(to).is_some() {
                self.running.insert((slot, to));
                self.outputs.push(Output::Transfer(slot, to));
            }
        }
    }

    fn transferred(&mut self, slot: Slot, to: PeerId, digest: Option<SlotDigest>) {
        self.running.remove(&(slot, to));
        let Some(digest) = digest else { return };
        self.outputs.push(Output::Send(to, Message::Pushed(vec![slot])));
        if let Some(replica) = self.slots.get_mut(&slot) {
            replica.handed.insert(to, digest);
            if !replica.is_member(self.me) {
                replica.asked.remove(&to);
            }
        }
    }
}

impl Replica {
    fn is_member(&self, me: PeerId) -> bool {
        self.group.as_ref().is_some_and(|group| group.contains(&me))
    }

    fn set_synced(&mut self, slot: Slot, synced: bool, outputs: &mut Vec<Output>) {
        if self.synced != synced {
            self.synced = synced;
            outputs.push(Output::Synced(slot, synced));
        }
    }

    /// Whom a member compares with. It is synced once everyone has been taken in.
    fn compare_with(
        &mut self,
        now: Duration,
        slot: Slot,
        others: &[PeerId],
        config: &Config,
        outputs: &mut Vec<Output>,
    ) -> Vec<PeerId> {
        // Who is new to the group has nothing that the others lack; but a newcomer itself needs all of them.
        let newcomer = self.group.as_ref().is_some_and(|group| group.iter().all(|peer| self.fresh.contains(peer)));
        let needed = |peer: &&PeerId| newcomer || !self.fresh.contains(*peer);
        if !self.synced && others.iter().filter(needed).all(|peer| self.merged.contains(peer)) {
            self.set_synced(slot, true, outputs);
            self.next_compare = now + config.compare_every;
        }
        if self.synced && now >= self.next_compare {
            // Replicas that compare in step would do so for ever: the slot number spreads them.
            self.next_compare = now + config.compare_every + Duration::from_millis(u64::from(slot.0 % 1000));
            self.merged.clear();
        }
        others.iter().copied().filter(|peer| !self.merged.contains(peer)).collect()
    }

    /// Whom a holder outside the group compares with. Once all have what is here, it is dropped.
    fn to_hand_over(
        &self,
        slot: Slot,
        others: &[PeerId],
        digest: SlotDigest,
        outputs: &mut Vec<Output>,
    ) -> Vec<PeerId> {
        let lacks = |peer: &PeerId| self.handed.get(peer).is_none_or(|handed| !handed.same(&digest));
        let lacking: Vec<PeerId> = others.iter().copied().filter(lacks).collect();
        let whole = self.group.as_ref().is_some_and(|group| group.len() == others.len());
        if lacking.is_empty() && whole && !others.is_empty() {
            outputs.push(Output::Drop(slot, digest));
        }
        lacking
    }

    /// Whoever is told nothing asks from time to time who should hold the slot. Returns whether it does.
    fn locate(
        &mut self,
        now: Duration,
        slot: Slot,
        already: usize,
        config: &Config,
        outputs: &mut Vec<Output>,
    ) -> bool {
        let due = self.located.is_none_or(|located| now.saturating_sub(located) >= config.retry_after);
        if due && already < config.transfers {
            self.located = Some(now);
            outputs.push(Output::Locate(slot));
        }
        due
    }
}
