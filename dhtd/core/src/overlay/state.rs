//! The state machine of one peer: what it takes in, what it puts out, and who handles what.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    directory::{Beat, Directory, Health, Known, Learned},
    homes::{Homes, Routes},
    interface::{Config, Destination, Event, Input, Output, Phase, Routing, Saved, Timer},
    join::Joining,
    lookup::{Asked, Forward},
    message::{Body, FindId, Found, Message},
    node::NodeState,
    peer::{MAX_NODES, Node, Peer, Ring},
};
use crate::{
    Rules,
    ring::{Id, PeerId},
};

/// One peer's part in the overlay.
///
/// Call contract: give it `Found`, `Join` or `Resume` once, then messages and timers as they come, with a `now` that
/// never goes back; carry out the outputs of each call in order before the next one. Timers fire at most once each.
#[derive(Clone, Debug)]
pub struct State {
    pub(super) config: Config,
    pub(super) rules: Rules,
    pub(super) random: ChaCha8Rng,
    pub(super) now: Duration,
    pub(super) me: Peer,
    pub(super) ring: Option<Ring>,
    pub(super) nodes: Vec<NodeState>,
    pub(super) directory: Directory,
    pub(super) joining: Option<Joining>,
    pub(super) seeds: Vec<Arc<str>>,
    pub(super) gone: bool,
    pub(super) asked: BTreeMap<u64, Asked>,
    pub(super) forwards: BTreeMap<(FindId, usize), Forward>,
    /// Lookups of others that have passed by, how often they had come back by then, and when.
    pub(super) seen: BTreeMap<(FindId, usize), Duration>,
    pub(super) homes: Homes,
    /// Every usable node of every known peer, by id; empty with [`Routing::Fingers`].
    pub(super) table: BTreeMap<Id, Node>,
    next_number: u64,
    outputs: Vec<Output>,
    loopback: VecDeque<Message>,
    pub(super) changed: bool,
    revision: u64,
}

impl State {
    /// A peer that belongs to no ring yet: `me.nodes` is 0.
    ///
    /// # Panics
    /// If `config.nodes` is out of range.
    #[must_use]
    pub fn new(config: Config, rules: Rules, me: Peer, seed: u64) -> Self {
        assert!((1..=MAX_NODES).contains(&config.nodes), "a peer hosts 1 to {MAX_NODES} nodes");
        let me = Peer { nodes: 0, leaving: false, ..me };
        let nodes = (0..config.nodes).map(|index| NodeState::new(Node::of(me.id, index))).collect();
        Self {
            directory: Directory::new(config.patience),
            config,
            rules,
            random: ChaCha8Rng::seed_from_u64(seed),
            now: Duration::ZERO,
            me,
            ring: None,
            nodes,
            joining: None,
            seeds: Vec::new(),
            gone: false,
            asked: BTreeMap::new(),
            forwards: BTreeMap::new(),
            seen: BTreeMap::new(),
            homes: Homes::default(),
            table: BTreeMap::new(),
            next_number: 0,
            outputs: Vec::new(),
            loopback: VecDeque::new(),
            changed: false,
            revision: 0,
        }
    }

    /// Takes one input at the time `now` and returns what is to be done.
    pub fn handle(&mut self, now: Duration, input: Input) -> Vec<Output> {
        self.now = now;
        match input {
            Input::Found(ring) => self.found_ring(ring),
            Input::Join { seeds } => self.join(seeds),
            Input::Resume(saved) => self.resume(saved),
            Input::Message(message) => self.receive(message),
            Input::Timer(timer) => self.fire(timer),
            Input::Unreachable(peer) => self.unreachable(peer),
            Input::Lookup { token, target } => self.lookup_for_host(token, target),
            Input::Replicas(replicas) => self.set_replicas(replicas),
            Input::Leave => self.leave(),
            Input::Depart => self.depart(),
        }
        self.settle_outputs()
    }

    /// What is to be done, once all messages of this peer to itself are handled.
    pub(super) fn settle_outputs(&mut self) -> Vec<Output> {
        while let Some(message) = self.loopback.pop_front() {
            self.receive(message);
        }
        if mem::take(&mut self.changed) {
            self.refresh_homes();
            self.revision += 1;
            self.event(Event::RoutesChanged);
        }
        mem::take(&mut self.outputs)
    }

    /// This peer's own description.
    #[must_use]
    pub fn me(&self) -> &Peer {
        &self.me
    }

    /// The ring, once known.
    #[must_use]
    pub fn ring(&self) -> Option<&Ring> {
        self.ring.as_ref()
    }

    /// This peer's nodes, by index.
    #[must_use]
    pub fn nodes(&self) -> &[NodeState] {
        &self.nodes
    }

    /// All other peers heard of.
    pub fn peers(&self) -> impl Iterator<Item = &Known> {
        self.directory.iter()
    }

    /// Where this peer stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        if self.gone {
            Phase::Gone
        } else if self.joining.is_some() {
            Phase::Joining
        } else if self.ring.is_none() {
            Phase::Idle
        } else if self.is_island() {
            Phase::Island
        } else {
            Phase::Member
        }
    }

    /// Who should hold what, for the data path: an immutable picture of this moment.
    #[must_use]
    pub fn routes(&self) -> Routes {
        Routes::new(self)
    }

    /// How often there was something new in [`State::routes`], in a node's membership, predecessor or successor list, or
    /// in whom this peer remembers. While it stays the same none of them has changed, not even for a moment.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What to keep on disk.
    #[must_use]
    pub fn saved(&self) -> Option<Saved> {
        let peers = self.directory.iter().filter(|known| known.health != Health::Gone && known.was_member());
        let peers = peers.map(|known| known.peer.clone()).collect();
        self.ring.map(|ring| Saved { ring, peers, seeds: self.seeds.clone() })
    }

    fn receive(&mut self, message: Message) {
        let Message { sender, about, body } = message;
        if sender.id != self.me.id {
            self.learn(&sender);
        }
        about.iter().for_each(|peer| self.learn(peer));
        match body {
            Body::Ping { nonce } => self.send(sender.id, Body::Pong { nonce }),
            Body::Pong { nonce } => self.ponged(sender.id, Duration::from_micros(nonce)),
            Body::Find(find) => self.find_arrived(sender.id, find),
            Body::FindAck { id, hop } => drop(self.forwards.remove(&(id, hop))),
            Body::Found(found) => self.found(found),
            Body::GetNeighbours { op, from, to } => self.asked_for_neighbours(op, from, to),
            Body::Neighbours { op, of, predecessor, successors } => self.neighbours(op, of, predecessor, &successors),
            Body::Busy { op } => self.target_is_busy(op),
            Body::NotMember { op, of } => self.target_is_no_member(op, of),
            Body::Notify { from, to, successors } => self.notified(from, to, &successors),
            Body::Changed { from, to } => self.successor_changed(from, to),
            Body::Home(homes) => self.homes_announced(sender.id, homes),
            Body::Gone => self.bury(sender.id, Health::Gone),
        }
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Heartbeat => self.heartbeat(),
            Timer::Stabilize(node) => self.stabilize(node as usize),
            Timer::Announce => self.announce(),
            Timer::Reconcile => self.reconcile(),
            Timer::GiveUpResume => self.give_up_resume(),
            Timer::Retry(node) => self.retry(node as usize),
            Timer::Operation(op, timer) => self.operation_timed_out(op, timer),
            Timer::Hop(id, hop) => self.hop_timed_out(id, hop),
            Timer::Lookup(number) => self.lookup_timed_out(number),
        }
    }

    /// Sends to a peer that is known, or to this peer itself.
    pub(super) fn send(&mut self, to: PeerId, body: Body) {
        if to == self.me.id {
            let message = Message { sender: self.me.clone(), about: Vec::new(), body };
            return self.loopback.push_back(message);
        }
        let Some(peer) = self.directory.get(to).map(|known| known.peer.clone()) else { return };
        let message = self.message(to, body);
        self.outputs.push(Output::Send(Destination::Peer(peer), message));
    }

    /// Sends to whoever is at an address.
    pub(super) fn send_to_address(&mut self, address: Arc<str>, body: Body) {
        let message = self.message(self.me.id, body);
        self.outputs.push(Output::Send(Destination::Address(address), message));
    }

    fn message(&mut self, to: PeerId, body: Body) -> Message {
        let mut named = Vec::new();
        body.each_peer(|peer| named.push(peer));
        if matches!(body, Body::Neighbours { .. }) && self.config.routing == Routing::Full {
            let places: [[u8; 16]; GOSSIP] = self.random.random();
            named.extend(places.into_iter().filter_map(|place| self.directory.alive_from(PeerId::new(place))));
        }
        named.retain(|peer| *peer != to && *peer != self.me.id);
        named.sort_unstable();
        named.dedup();
        let about = named.iter().filter_map(|id| self.directory.get(*id)).map(|known| known.peer.clone()).collect();
        Message { sender: self.me.clone(), about, body }
    }

    pub(super) fn set_timer(&mut self, after: Duration, timer: Timer) {
        self.outputs.push(Output::SetTimer(after, timer));
    }

    pub(super) fn event(&mut self, event: Event) {
        self.outputs.push(Output::Event(event));
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// The time varied by 20 % either way, so that peers do not act in step.
    pub(super) fn jittered(&mut self, time: Duration) -> Duration {
        time.mul_f64(self.random.random_range(0.8..1.2))
    }

    /// Takes notice of a description of another peer.
    pub(super) fn learn(&mut self, peer: &Peer) {
        if peer.id == self.me.id || peer.nodes > MAX_NODES {
            return;
        }
        match self.directory.learn(peer, self.now) {
            Learned::Nothing => return,
            Learned::Rumour => return self.ping_once(peer.id),
            // A newer incarnation is a new member: none of its nodes is where it was until it has joined again.
            Learned::Newcomer => self.unlist(peer.id),
            Learned::More => {}
        }
        self.add_to_table(peer.id);
        self.changed = true;
        self.consider_all(peer.id);
    }

    /// Any node of the peer may be a better successor of one of ours.
    pub(super) fn consider_all(&mut self, peer: PeerId) {
        let nodes = self.directory.get(peer).map_or(0, |known| known.peer.nodes);
        (0..nodes).for_each(|index| self.consider(Node::of(peer, index)));
    }

    fn ping(&mut self, peer: PeerId, times: u32) {
        let nonce = u64::try_from(self.now.as_micros()).unwrap_or(u64::MAX);
        (0..times).for_each(|_| self.send(peer, Body::Ping { nonce }));
    }

    pub(super) fn ping_once(&mut self, peer: PeerId) {
        self.ping(peer, 1);
    }

    fn ponged(&mut self, from: PeerId, sent: Duration) {
        if sent > self.now {
            return; // An echo of an earlier life of this peer.
        }
        self.nodes.iter_mut().for_each(|node| node.heard(from));
        let before = self.directory.answered(from, self.now, sent);
        if matches!(before, Some(Health::Dead | Health::Unproven)) {
            self.proven(from, before == Some(Health::Dead));
        }
    }

    fn heartbeat(&mut self) {
        let watched = self.watched();
        for beat in self.directory.beat(self.now, &watched) {
            match beat {
                Beat::Ping(peer, times) => self.ping(peer, times),
                Beat::Died(peer) => self.bury(peer, Health::Dead),
            }
        }
        self.set_timer(self.config.heartbeat_every, Timer::Heartbeat);
    }

    fn unreachable(&mut self, peer: PeerId) {
        self.directory.suspect(peer, self.now);
    }

    /// The peers on which something here depends: predecessors, operations, so many successors that the home groups of
    /// the own intervals are among them, and whoever is suspected.
    fn watched(&mut self) -> BTreeSet<PeerId> {
        let depth = self.ring.map_or(1, |ring| ring.replicas);
        let mut watched = BTreeSet::new();
        for node in &self.nodes {
            let mut near = BTreeSet::new();
            for successor in node.successors.iter().filter(|successor| successor.peer != self.me.id) {
                if near.insert(successor.peer) && near.len() >= depth {
                    break;
                }
            }
            watched.extend(near);
            watched.extend(node.predecessor.map(|before| before.peer));
            watched.extend(node.op.map(|op| op.target.peer));
        }
        watched.extend(self.directory.suspects());
        watched.remove(&self.me.id);
        watched
    }

    /// The peer is dead or gone: all its nodes leave all tables at once.
    pub(super) fn bury(&mut self, peer: PeerId, health: Health) {
        let usable = self.directory.usable(peer);
        self.directory.set_health(peer, health);
        if usable {
            self.unlist(peer);
            self.event(Event::PeerDied(peer));
        }
        if health == Health::Gone {
            self.event(Event::PeerLeft(peer));
        }
    }

    /// Takes all nodes of a peer out of all tables.
    fn unlist(&mut self, peer: PeerId) {
        let before: Vec<(Node, Option<Node>)> =
            self.nodes.iter().map(|node| (node.successor(), node.predecessor)).collect();
        self.nodes.iter_mut().for_each(|node| node.forget(|known| known.peer == peer));
        self.table.retain(|_, node| node.peer != peer);
        self.homes.forget(peer);
        self.changed = true;
        for (index, (successor, predecessor)) in before.into_iter().enumerate() {
            if self.nodes[index].predecessor != predecessor {
                self.greet_predecessor(index);
            }
            self.operation_target_died(index, peer);
            if successor.peer == peer {
                self.retry_soon(index);
            }
        }
    }

    /// `Found` carries the descriptions of its peers to the host.
    pub(super) fn describe(&self, found: &Found) -> Vec<Peer> {
        let mut named = Body::Found(found.clone()).peers();
        let own = named.remove(&self.me.id).then(|| self.me.clone());
        let others = named.iter().filter_map(|id| self.directory.get(*id)).map(|known| known.peer.clone());
        own.into_iter().chain(others).collect()
    }
}

/// Descriptions of peers added to each answer about neighbours, so that everyone hears of everyone in time that grows
/// with the logarithm of the ring. A guess.
const GOSSIP: usize = 4;
