//! The state of the world, and what may come of it.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use dht_core::overlay::{
    Input, Message, Node, OpId, Phase, State, Timer,
    invariant::{Census, View},
};

use super::{
    Action, Overlay, Place, What,
    host::{Host, PLACES, PlaceSet, REACH, peer, place_of},
    packet::Packet,
};

/// The peers, the messages on their way, and what may still happen.
#[derive(Clone, Debug)]
pub struct World {
    /// `None` if there is no peer at this place, or none any more.
    hosts: [Option<Arc<Host>>; PLACES],
    /// In the order in which they were sent.
    net: Vec<Arc<Packet>>,
    rounds: [u8; PLACES],
    failures: u8,
    dead: PlaceSet,
    /// Peers that were members when the ring was last settled and still live: as many principals are counted on.
    settled: PlaceSet,
    violation: Option<String>,
}

impl World {
    /// The world as it begins.
    #[must_use]
    pub fn new(overlay: &Overlay) -> Self {
        let mut hosts = [const { None }; PLACES];
        overlay.founders.iter().for_each(|place| hosts[*place] = Some(Arc::new(Host::founder(*place, overlay))));
        overlay.joiners.iter().for_each(|place| hosts[*place] = Some(Arc::new(Host::outsider(*place, overlay.rules))));
        let mut world = Self {
            hosts,
            net: Vec::new(),
            rounds: [overlay.rounds; PLACES],
            failures: overlay.failures,
            dead: PlaceSet::default(),
            settled: PlaceSet::default(),
            violation: None,
        };
        world.settle();
        world
    }

    /// What is wrong with this state, if anything is.
    #[must_use]
    pub fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// All that may happen next.
    #[must_use]
    pub fn actions(&self) -> Vec<Action> {
        let mut actions: Vec<Action> = self.deliveries().collect();
        if self.settled.len() < self.members().count() && self.is_ideal() {
            actions.push(Action::Settle);
        }
        for (place, host) in self.hosts() {
            let node = host.node();
            if host.state.phase() == Phase::Idle {
                actions.extend(self.members().map(|(seed, _)| Action::Join(place, seed)));
            }
            if !node.member {
                continue;
            }
            if host.operation().is_none() && self.rounds[place] > 0 {
                actions.push(Action::Round(place));
            }
            if host.operation().is_some() && !node.waiting().is_empty() {
                actions.push(Action::GiveWay(place));
            }
            if self.failures > 0 && self.survives(place) {
                actions.push(Action::Fail(place));
            }
            let missed = host.state.peers().filter(|known| known.health.usable());
            let missed = missed.filter_map(|known| place_of(known.peer.id)).filter(|place| self.dead.contains(*place));
            actions.extend(missed.map(|dead| Action::Notice(place, dead)));
        }
        actions
    }

    fn deliveries(&self) -> impl Iterator<Item = Action> {
        self.net.iter().enumerate().map(|(index, packet)| {
            let earlier = self.net[..index].iter().filter(|other| other.label() == packet.label());
            let (from, to, what) = packet.label();
            Action::Deliver(from, to, what, earlier.count())
        })
    }

    /// The state after this has happened; `None` if it cannot happen.
    #[must_use]
    pub fn after(&self, action: Action) -> Option<Self> {
        let mut next = self.clone();
        match action {
            Action::Join(who, seed) => next.give(who, Input::Join { seeds: vec![peer(seed).address] })?,
            Action::Fail(who) => next.fail(who)?,
            Action::Settle => next.settle(),
            Action::Round(who) => {
                next.rounds[who] = next.rounds[who].checked_sub(1)?;
                next.give(who, Input::Timer(Timer::Retry(0)))?;
            }
            Action::GiveWay(who) => next.give_way(who)?,
            Action::Notice(who, dead) => {
                // The host could not connect, and the second probe, which waits for nothing here, gets no answer.
                next.give(who, Input::Unreachable(peer(dead).id))?;
                next.give(who, Input::Timer(Timer::Heartbeat))?;
            }
            Action::Deliver(from, to, what, nth) => next.deliver(from, to, what, nth)?,
        }
        next.take_off_what_is_spent();
        if (0..PLACES).any(|place| self.shows(place) != next.shows(place)) {
            next.violation = next.violation_of(&next.census());
        }
        Some(next)
    }

    fn give(&mut self, who: Place, input: Input) -> Option<()> {
        let sent = Arc::make_mut(self.hosts[who].as_mut()?).take(input);
        sent.into_iter().for_each(|(to, message)| self.send(who, to, message));
        Some(())
    }

    /// Puts a message on its way, unless one like it is left out, or an equal one is there.
    fn send(&mut self, from: Place, to: Place, message: Message) {
        let Some(packet) = Packet::new(from, to, message) else { return };
        let same = |other: &Arc<Packet>| other.digest == packet.digest && other.op == packet.op;
        if !self.net.iter().any(same) {
            self.net.push(Arc::new(packet));
        }
    }

    fn deliver(&mut self, from: Place, to: Place, what: What, nth: usize) -> Option<()> {
        let such = |(_, packet): &(usize, &Arc<Packet>)| packet.label() == (from, to, what);
        let (index, _) = self.net.iter().enumerate().filter(such).nth(nth)?;
        let message = self.net.remove(index).message.clone();
        self.give(to, Input::Message(message))
    }

    /// A list on its way that has no live entry any more gets lost with it.
    fn fail(&mut self, who: Place) -> Option<()> {
        self.failures = self.failures.checked_sub(1)?;
        self.hosts[who].take()?;
        self.dead.insert(who);
        self.settled.remove(who);
        let hosts = &self.hosts;
        let lives = |node: &Node| place_of(node.peer).is_some_and(|place| hosts[place].is_some());
        self.net.retain(|packet| packet.list().is_none_or(|list| list.iter().any(lives)));
        Some(())
    }

    /// The time-outs of the operation go by until it is dropped; the question that is asked again meanwhile gets lost.
    fn give_way(&mut self, who: Place) -> Option<()> {
        let before = self.hosts[who].as_ref()?.operation()?;
        while let Some(timer) = self.hosts[who].as_ref()?.time_out().filter(|_| self.operation(who) == Some(before)) {
            let sent = Arc::make_mut(self.hosts[who].as_mut()?).take(Input::Timer(timer));
            for (to, message) in sent {
                let packet = Packet::new(who, to, message.clone());
                if packet.is_some_and(|packet| packet.what != What::GetNeighbours) {
                    self.send(who, to, message);
                }
            }
        }
        Some(())
    }

    /// Messages to nobody, and those whose arrival changes nothing, now or later.
    fn take_off_what_is_spent(&mut self) {
        let hosts = &self.hosts;
        self.net.retain(|packet| {
            let Some(host) = &hosts[packet.to] else { return false };
            let idle = match packet.what {
                What::Neighbours | What::NotMember => packet.op.is_some_and(|(_, op)| Some(op) != host.operation()),
                What::Changed => host.node().accepted,
                What::Found => host.node().member,
                What::Find | What::GetNeighbours | What::Notify => false,
            };
            !(idle && host.heard.contains(packet.heard))
        });
    }

    pub(super) fn state_mut(&mut self, place: Place) -> Option<&mut State> {
        self.hosts[place].as_mut().map(|host| &mut Arc::make_mut(host).state)
    }

    fn operation(&self, place: Place) -> Option<OpId> {
        self.hosts[place].as_ref()?.operation()
    }

    fn hosts(&self) -> impl Iterator<Item = (Place, &Arc<Host>)> {
        self.hosts.iter().enumerate().filter_map(|(place, host)| host.as_ref().map(|host| (place, host)))
    }

    fn members(&self) -> impl Iterator<Item = (Place, &Arc<Host>)> {
        self.hosts().filter(|(_, host)| host.node().member)
    }

    fn census(&self) -> Census {
        let mut census = Census::default();
        self.members().for_each(|(_, host)| census.update(host.node().node.id, Some(View::from(host.node()))));
        census
    }

    /// What the checks see of a peer.
    fn shows(&self, place: Place) -> Option<(bool, View)> {
        let node = self.hosts[place].as_ref()?.node();
        Some((node.member, View::from(node)))
    }

    /// Nobody is on the way in, and everyone agrees on who follows whom.
    fn is_ideal(&self) -> bool {
        let whole = |host: &Host| host.state.phase() == Phase::Idle || host.node().accepted;
        self.hosts().all(|(_, host)| whole(host)) && self.census().not_ideal(REACH).is_none()
    }

    /// Lists that may be older than what their receivers have get lost; all members are counted on from now on.
    fn settle(&mut self) {
        self.net.retain(|packet| packet.list().is_none());
        let mut members = PlaceSet::default();
        self.members().for_each(|(place, _)| members.insert(place));
        self.settled = members;
    }

    fn violation_of(&self, census: &Census) -> Option<String> {
        let members = || self.members().map(|(_, host)| host.node());
        let broken = members().find_map(|node| census.check_member(node.node.id).err());
        let needed = self.settled.len().min(REACH + 1);
        broken.or_else(|| census.check_principals(needed).err()).map(|violation| violation.to_string())
    }

    /// The peers that take themselves for the owner of a peer's node.
    #[must_use]
    pub fn owners_of(&self, target: Place) -> Vec<Place> {
        let target = Node::of(peer(target).id, 0).id;
        self.members().filter(|(_, host)| host.node().owns(target)).map(|(place, _)| place).collect()
    }

    /// The state after all of this has happened, one after the other.
    ///
    /// # Errors
    /// The first that could not happen, or after which something is wrong.
    pub fn after_all(&self, actions: impl IntoIterator<Item = Action>) -> Result<Self, String> {
        actions.into_iter().try_fold(self.clone(), |world, action| {
            let possible = world.actions().contains(&action);
            let next = world.after(action).filter(|_| possible).ok_or(format!("{action} can not happen"))?;
            match next.violation() {
                Some(violation) => Err(format!("{action}: {violation}")),
                None => Ok(next),
            }
        })
    }

    /// The ring can bear that this member fails: that alone breaks nothing.
    fn survives(&self, who: Place) -> bool {
        let mut without = self.clone();
        without.fail(who).is_some() && without.settled.len() > 1 && without.violation_of(&without.census()).is_none()
    }

    /// All that decides what comes, and nothing else: of operations only whether they are current.
    fn key(&self) -> Key {
        let current = |who: Place, op| self.operation(who) == Some(op);
        let host = |host: &Option<Arc<Host>>| {
            let host = host.as_ref()?;
            let waiting = host.node().waiting().iter().filter_map(|(asker, op)| Some((place_of(asker.peer)?, op)));
            let waiting = waiting.map(|(asker, op)| 1 << (2 * asker + usize::from(current(asker, *op))));
            Some((host.digest, waiting.sum()))
        };
        let mut net: Vec<(u64, bool)> = self
            .net
            .iter()
            .map(|packet| (packet.digest, packet.op.is_some_and(|(asker, op)| current(asker, op))))
            .collect();
        net.sort_unstable();
        net.dedup();
        Key {
            hosts: self.hosts.each_ref().map(host),
            net,
            rounds: self.rounds,
            failures: self.failures,
            dead: self.dead,
            settled: self.settled,
        }
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    hosts: [Option<(u64, u32)>; PLACES],
    net: Vec<(u64, bool)>,
    rounds: [u8; PLACES],
    failures: u8,
    dead: PlaceSet,
    settled: PlaceSet,
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
