//! The state of the world, and what may come of it.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use dht_core::{
    replication::chain::{Body, Entry, Input, Message, Refusal, Reply, Timer},
    view::{Epoch, Plan, View},
};

use super::{
    Action, Aim, Chain, Place, What,
    clients::Clients,
    host::{Effects, Host, LEASE, PLACES, SLOT, peer},
    memo::{Memo, Step},
    packet::{Cargo, Packet},
};

/// The peers, the messages on their way, what clients have seen, and what may still happen.
#[derive(Clone, Debug)]
pub struct World {
    chain: Chain,
    memo: Arc<Memo>,
    hosts: [Arc<Host>; PLACES],
    /// In the order in which they were sent.
    net: Vec<Arc<Packet>>,
    now: Duration,
    pub(super) clients: Arc<Clients>,
    left: Left,
    /// The views that came into force anywhere.
    pub(super) decided: Arc<BTreeMap<Epoch, View>>,
    /// The entries that went into any table, by number.
    pub(super) applied: Arc<BTreeMap<u64, Entry>>,
    pub(super) violation: Option<String>,
}

/// What may still happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Left {
    /// A bit for each attempt that was not made.
    attempts: u8,
    waits: u8,
    beats: u8,
    restarts: u8,
    doubled: u8,
}

impl World {
    /// The world as it begins: all have leases, and all is quiet. Then what has happened before.
    ///
    /// # Panics
    /// If that could not happen, or something is wrong after it.
    #[must_use]
    pub fn new(chain: &Chain) -> Self {
        Self::with(chain, Memo::default())
    }

    /// The same, but whatever happens is worked out each time.
    #[must_use]
    pub fn without_memory(chain: &Chain) -> Self {
        Self::with(chain, Memo::none())
    }

    fn with(chain: &Chain, memo: Memo) -> Self {
        let begin = 100 * LEASE;
        let mut world = Self {
            chain: *chain,
            memo: Arc::new(memo),
            hosts: std::array::from_fn(|place| Arc::new(Host::new(place, chain, begin - 2 * LEASE))),
            net: Vec::new(),
            now: begin - 2 * LEASE,
            clients: Arc::new(Clients::new(chain.operations)),
            left: Left {
                attempts: (1 << chain.attempts.len()) - 1,
                waits: u8::MAX,
                beats: u8::MAX,
                restarts: u8::MAX,
                doubled: u8::MAX,
            },
            decided: Arc::default(),
            applied: Arc::default(),
            violation: None,
        };
        // What earlier processes may have granted has run out.
        world = world.after(Action::Wait).and_then(|world| world.after(Action::Wait)).unwrap_or(world);
        for place in (0..PLACES).chain(0..PLACES) {
            world = world.after(Action::Beat(place)).unwrap_or(world);
            world = world.after(Action::Quiet).unwrap_or(world);
        }
        for place in 0..PLACES {
            let _ = Arc::make_mut(&mut world.hosts[place]).take(Input::Timer(Timer::Tick));
        }
        world = world.after_all(chain.before.iter().copied()).expect("what has happened before is possible");
        let Chain { waits, beats, restarts, doubled, .. } = *chain;
        world.left = Left { waits, beats, restarts, doubled, ..world.left };
        world
    }

    /// What is wrong with this state, if anything is.
    #[must_use]
    pub fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// All that may happen next, and some that cannot.
    #[must_use]
    pub fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (index, packet) in self.net.iter().enumerate() {
            let nth = self.net[..index].iter().filter(|other| other.label() == packet.label()).count();
            let (from, to, what) = packet.label();
            actions.push(Action::Deliver(from, to, what, nth));
            if self.left.doubled > 0 {
                actions.push(Action::Doubled(from, to, what, nth));
            }
        }
        for number in 0..self.chain.operations.len() {
            if self.clients.may_call(self.chain.operations, number) {
                actions.extend(self.chain.serving.iter().map(|place| Action::Call(number, *place)));
            }
        }
        let attempts = (0..self.chain.attempts.len()).filter(|number| self.left.attempts >> number & 1 == 1);
        actions.extend(attempts.map(Action::Propose));
        if self.left.waits > 0 {
            actions.push(Action::Wait);
        }
        for (place, host) in self.hosts.iter().enumerate() {
            actions.extend(host.enough().map(|_| Action::Enough(place)));
            if host.waits_for_grants() {
                actions.push(Action::Notice(place));
            }
            if self.left.beats > 0 && self.chain.beating.contains(&place) {
                actions.push(Action::Beat(place));
            }
            if host.state.copies(SLOT) && self.chain.forgetting.contains(&place) {
                actions.push(Action::Forget(place));
            }
            if host.sync.is_some() {
                actions.push(Action::Synced(place));
            }
            if self.left.restarts > 0 && self.chain.restarting.contains(&place) {
                actions.extend((0..=host.disk.unsynced()).map(|kept| Action::Restart(place, kept)));
            }
            actions.extend(host.looks().map(|token| Action::Look(place, token as usize)));
        }
        actions
    }

    /// The state after this has happened; `None` if it cannot happen, or changes nothing.
    #[must_use]
    pub fn after(&self, action: Action) -> Option<Self> {
        let mut next = self.clone();
        let left = &mut next.left;
        match action {
            Action::Doubled(..) => left.doubled = left.doubled.checked_sub(1)?,
            Action::Beat(_) => left.beats = left.beats.checked_sub(1)?,
            Action::Restart(..) => left.restarts = left.restarts.checked_sub(1)?,
            Action::Wait => left.waits = left.waits.checked_sub(1)?,
            _ => {}
        }
        match action {
            Action::Call(number, at) => next.call(number, at)?,
            Action::Propose(number) => next.propose(number)?,
            Action::Enough(at) => next.happen(at, "enough", |host| Some(host.take(Input::Timer(host.enough()?))))?,
            Action::Notice(at) => next.happen(at, "notice", Host::notice)?,
            Action::Beat(at) => next.happen(at, "beat", |host| Some(host.take(Input::Timer(Timer::Heartbeat))))?,
            Action::Synced(at) => next.happen(at, "synced", Host::synced)?,
            Action::Forget(at) => next.happen(at, "forget", Host::forget)?,
            Action::Look(at, token) => next.happen(at, ("look", token), |host| host.look(token as u64))?,
            Action::Restart(at, kept) => {
                next.happen(at, ("restart", kept), |host| Some(host.restart(&self.chain, kept)))?;
            }
            Action::Deliver(from, to, what, nth) => {
                let packet = next.net.remove(next.find(from, to, what, nth)?);
                next.arrive(&packet);
            }
            Action::Doubled(from, to, what, nth) => {
                let packet = Arc::clone(&next.net[next.find(from, to, what, nth)?]);
                next.arrive(&packet);
            }
            Action::Wait => {
                next.now += LEASE;
                let now = next.now;
                for place in 0..PLACES {
                    next.happen(place, ("now", now), |host| Some(host.pass(now)));
                }
            }
            Action::Learn(at, from) => {
                let view = next.hosts[from].state.view(SLOT)?.clone();
                let body = Body::Learn(view, peer(from));
                next.arrive(&Packet::new(from, at, Cargo::Message(Message::Slot(SLOT, Box::new(body))))?);
            }
            Action::Quiet => {
                while !next.net.is_empty() {
                    let packet = next.net.remove(0);
                    next.arrive(&packet);
                }
            }
        }
        next.take_off_what_is_spent();
        Some(next)
    }

    fn find(&self, from: Place, to: Place, what: What, nth: usize) -> Option<usize> {
        let such = |(_, packet): &(usize, &Arc<Packet>)| packet.label() == (from, to, what);
        self.net.iter().enumerate().filter(such).nth(nth).map(|(index, _)| index)
    }

    /// An attempt at an operation arrives. One that is refused at once changes nothing.
    fn call(&mut self, number: usize, at: Place) -> Option<()> {
        let epoch = self.hosts[at].state.view(SLOT)?.epoch;
        if !self.clients.may_call(self.chain.operations, number) {
            return None;
        }
        let (token, input) = Arc::make_mut(&mut self.clients).call(self.chain.operations, number, epoch);
        let step = self.memo.step(at, &self.hosts[at], ("call", token), |host| Some(host.take(input)))?;
        let refused = |(_, answer): &(_, Result<Reply, _>)| match answer {
            Ok(Reply::Refused(refusal)) => *refusal != Refusal::OutcomeUnknown,
            _ => false,
        };
        if step.effects.replies.iter().any(refused) {
            return None;
        }
        self.bring_about(at, step);
        Some(())
    }

    fn propose(&mut self, number: usize) -> Option<()> {
        let bit = 1 << number;
        if self.left.attempts & bit == 0 {
            return None;
        }
        self.left.attempts &= !bit;
        let (at, aim) = self.chain.attempts[number];
        let view = self.hosts[at].state.view(SLOT)?;
        view.peers().find(|known| *known == peer(at))?;
        let peers = |places: &[Place]| places.iter().map(|place| peer(*place)).collect();
        let plan = match aim {
            Aim::Without(places) => Plan::Repair(peers(places)),
            Aim::Order(places) => Plan::Reorder(peers(places)),
            Aim::Become(places) => Plan::Become(places.iter().map(|place| self.hosts[*place].member()).collect()),
        };
        self.happen(at, plan.clone(), |host| Some(host.propose(plan)))
    }

    /// Something happens at a peer. Nothing, if it changes nothing.
    fn happen(&mut self, at: Place, name: impl Hash, work: impl FnOnce(&mut Host) -> Option<Effects>) -> Option<()> {
        let step = self.memo.step(at, &self.hosts[at], name, work)?;
        let idle = step.is_idle(&self.hosts[at]);
        self.bring_about(at, step);
        (!idle).then_some(())
    }

    fn arrive(&mut self, packet: &Packet) {
        if let Some(step) = self.step_by(packet) {
            self.bring_about(packet.to, step);
        }
    }

    fn step_by(&self, packet: &Packet) -> Option<Step> {
        let work = |host: &mut Host| Some(host.take(packet.input()));
        self.memo.step(packet.to, &self.hosts[packet.to], packet.digest, work)
    }

    /// Messages whose arrival changes nothing, now or later.
    fn take_off_what_is_spent(&mut self) {
        let mut net = std::mem::take(&mut self.net);
        net.retain(|packet| {
            let epoch = self.hosts[packet.to].state.view(SLOT).map(|view| view.epoch);
            let spent = match packet.what {
                // To somebody who asks for something else now, or goes by a view that is newer than the sender's.
                What::Promise | What::Ready | What::Accepted | What::Install => true,
                What::Ack | What::Gap | What::Frontier | What::Entries | What::TooFarBehind => packet.epoch() < epoch,
                _ => false,
            };
            !(spent && self.step_by(packet).is_some_and(|step| step.is_idle(&self.hosts[packet.to])))
        });
        self.net = net;
    }

    fn bring_about(&mut self, at: Place, step: Step) {
        self.hosts[at] = step.host;
        for packet in &*step.sent {
            if !self.net.iter().any(|other| other.digest == packet.digest) {
                self.net.push(Arc::clone(packet));
            }
        }
        for (view, has_data) in &step.effects.installed {
            self.installed(at, view, *has_data);
        }
        for entry in &step.effects.applied {
            self.applied(entry);
        }
        let epoch = self.hosts[at].state.view(SLOT).map(|view| view.epoch);
        for (token, answer) in &step.effects.replies {
            let wrong = Arc::make_mut(&mut self.clients).answered(*token, answer, epoch);
            self.violation = self.violation.take().or(wrong);
        }
        if !step.effects.replies.is_empty() && self.violation.is_none() {
            self.violation = self.clients.check(self.chain.operations).or_else(|| self.lost());
        }
    }

    /// The state after all of this has happened, one after the other.
    ///
    /// # Errors
    /// The first that could not happen, or after which something is wrong.
    pub fn after_all(&self, actions: impl IntoIterator<Item = Action>) -> Result<Self, String> {
        actions.into_iter().try_fold(self.clone(), |world, action| {
            let next = world.after(action).ok_or(format!("{action} can not happen"))?;
            match next.violation() {
                Some(violation) => Err(format!("{action}: {violation}")),
                None => Ok(next),
            }
        })
    }

    /// All that decides what comes, and nothing else.
    fn key(&self) -> Key<'_> {
        let mut net: Vec<u64> = self.net.iter().map(|packet| packet.digest).collect();
        net.sort_unstable();
        Key {
            hosts: self.hosts.each_ref().map(|host| host.digest),
            net,
            now: self.now,
            clients: &self.clients,
            left: &self.left,
            decided: self.decided.values().collect(),
            applied: &self.applied,
        }
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    hosts: [u64; PLACES],
    net: Vec<u64>,
    now: Duration,
    clients: &'a Clients,
    left: &'a Left,
    decided: Vec<&'a View>,
    applied: &'a BTreeMap<u64, Entry>,
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.key().hash(hasher);
    }
}
