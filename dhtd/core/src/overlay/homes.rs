//! Who should hold what: home groups, and the picture of the ring that the data path works with.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::Duration,
};

use super::{
    directory::Health,
    interface::{Routing, Timer},
    message::{Body, Home},
    peer::{Node, Peer, Ring},
    state::State,
};
use crate::ring::{Id, PeerId, Slot, SlotBits, covers};

/// What the owners of intervals have said, and what this peer says as an owner.
#[derive(Clone, Debug, Default)]
pub(super) struct Homes {
    /// By the owner's id.
    announced: BTreeMap<Id, (Home, Duration)>,
    own: BTreeMap<Id, Home>,
}

impl Homes {
    /// What a dead owner has said holds no longer.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.announced.retain(|_, (home, _)| home.owner.peer != peer);
    }

    /// The owners that have announced themselves, from a point on.
    pub(super) fn owners_from(&self, point: Id) -> impl Iterator<Item = Node> {
        let announced = self.announced.range(point..).chain(self.announced.range(..point));
        announced.map(|(_, (home, _))| home.owner)
    }

    fn get(&self, point: Id) -> Option<&Home> {
        // Of two owners that both claim the point, the nearer one has joined later.
        let claims = |home: &&Home| covers(home.after, point, home.owner.id);
        let announced = self.announced.range(point..).chain(self.announced.range(..point));
        let announced = announced.map(|(_, (home, _))| home).find(claims);
        let own = self.own.range(point..).chain(self.own.range(..point)).map(|(_, home)| home).find(claims);
        own.into_iter().chain(announced).min_by_key(|home| point.distance_to(home.owner.id))
    }
}

impl State {
    /// The home group of an identifier, if an owner has told or is here.
    pub(super) fn home(&self, point: Id) -> Option<&Home> {
        self.homes.get(point)
    }

    /// Periodically: repeats to every home group who it is, and forgets what owners have stopped repeating.
    pub(super) fn announce(&mut self) {
        let again = self.jittered(self.config.stabilize_every);
        self.set_timer(again, Timer::Announce);
        let expired = self.config.stabilize_every * MISSED_ANNOUNCEMENTS;
        let now = self.now;
        let before = self.homes.announced.len();
        self.homes.announced.retain(|_, (_, heard)| now.saturating_sub(*heard) < expired);
        self.changed |= self.homes.announced.len() != before;
        let homes = self.homes.own.values().map(|home| (home.clone(), home.group.clone())).collect();
        self.tell(homes);
        self.forget_lookups();
    }

    /// An owner speaks. Only the owner itself may.
    pub(super) fn homes_announced(&mut self, sender: PeerId, homes: Vec<Home>) {
        for home in homes {
            if home.owner.peer == sender && self.may_list(&home.owner) {
                let known = self.homes.announced.insert(home.owner.id, (home.clone(), self.now));
                self.changed |= known.is_none_or(|(known, _)| known != home);
            }
        }
    }

    /// Works out the home groups of the own intervals anew, and tells those whom a change concerns.
    pub(super) fn refresh_homes(&mut self) {
        let own: BTreeMap<Id, Home> =
            self.nodes.iter().filter_map(|state| self.own_home(state)).map(|home| (home.owner.id, home)).collect();
        if own == self.homes.own {
            return;
        }
        let before = mem::replace(&mut self.homes.own, own);
        let old = |home: &Home| before.get(&home.owner.id);
        let changed: Vec<Home> = self.homes.own.values().filter(|home| old(home) != Some(home)).cloned().collect();
        // Whoever is in the group no more is told too: it would go by the old one until that expires.
        let concerned = |home: Home| {
            let dropped = old(&home).into_iter().flat_map(|old| &old.group).filter(|peer| !home.group.contains(peer));
            let concerned: Vec<PeerId> = home.group.iter().chain(dropped).copied().collect();
            (home, concerned)
        };
        let changed = changed.into_iter().map(concerned).collect();
        self.tell(changed);
    }

    /// The first k distinct peers from the owner on that are not leaving, unless all are.
    fn own_home(&self, state: &super::NodeState) -> Option<Home> {
        let (ring, before) = (self.ring?, state.predecessor?);
        if !state.accepted || self.gone {
            return None;
        }
        let around = std::iter::once(state.node).chain(state.successors.iter().copied());
        let group = |staying_only: bool| {
            let mut group: Vec<PeerId> = Vec::with_capacity(ring.replicas);
            for peer in around.clone().map(|node| node.peer) {
                let stays = !staying_only || !self.is_leaving(peer);
                if group.len() < ring.replicas && stays && !group.contains(&peer) {
                    group.push(peer);
                }
            }
            group
        };
        let group = Some(group(true)).filter(|group| !group.is_empty()).unwrap_or_else(|| group(false));
        Some(Home { after: before.id, owner: state.node, group })
    }

    /// Home groups are of this many peers from now on.
    pub(super) fn set_replicas(&mut self, replicas: usize) {
        if let Some(ring) = self.ring.as_mut().filter(|ring| ring.replicas != replicas) {
            ring.replicas = replicas;
            self.changed = true;
        }
    }

    fn is_leaving(&self, peer: PeerId) -> bool {
        if peer == self.me.id { self.me.leaving } else { self.directory.leaving(peer) }
    }

    fn tell(&mut self, homes: Vec<(Home, Vec<PeerId>)>) {
        let mut by_peer: BTreeMap<PeerId, Vec<Home>> = BTreeMap::new();
        for (home, concerned) in homes {
            for peer in concerned.into_iter().filter(|peer| *peer != self.me.id) {
                by_peer.entry(peer).or_default().push(home.clone());
            }
        }
        by_peer.into_iter().for_each(|(peer, homes)| self.send(peer, Body::Home(homes)));
    }

    /// A peer's nodes may be used for lookups.
    pub(super) fn add_to_table(&mut self, peer: PeerId) {
        if self.config.routing == Routing::Full && self.directory.usable(peer) {
            let nodes = self.directory.get(peer).map_or(0, |known| known.peer.nodes);
            self.table.extend((0..nodes).map(|index| Node::of(peer, index)).map(|node| (node.id, node)));
        }
    }
}

/// A picture of the ring at one moment: who should hold which slot, as far as this peer knows. Immutable, so that the
/// data path reads it without waiting for anybody. All of it is a hint but for the slots of `home_of` whose owner is
/// this peer.
#[derive(Clone, Debug)]
pub struct Routes {
    /// This peer.
    pub me: Peer,
    /// The ring; `None` while the peer is in none.
    pub ring: Option<Ring>,
    homes: Vec<Home>,
    /// Whom the slots belong to: an index into `homes`, or none.
    slots: Vec<Option<u32>>,
    peers: BTreeMap<PeerId, Peer>,
    /// Those of the ring that have not departed, also dead ones, as far as this peer remembers.
    members: BTreeSet<PeerId>,
}

impl Routes {
    pub(super) fn new(state: &State) -> Self {
        let usable = state.directory.iter().filter(|known| known.health.usable());
        let peers = usable.map(|known| known.peer.clone());
        let mut routes = Self::assemble(state.me.clone(), state.ring, peers, |point| state.home(point));
        let members = state.directory.iter().filter(|known| known.health != Health::Gone && known.was_member());
        routes.members = members.map(|known| known.peer.id).chain([state.me.id]).collect();
        routes
    }

    /// A picture made of its parts: this peer, its ring, the other peers, and who should hold an identifier.
    pub fn assemble<'a>(
        me: Peer,
        ring: Option<Ring>,
        others: impl IntoIterator<Item = Peer>,
        home: impl Fn(Id) -> Option<&'a Home>,
    ) -> Self {
        let peers: BTreeMap<PeerId, Peer> =
            others.into_iter().chain([me.clone()]).map(|peer| (peer.id, peer)).collect();
        let members = peers.keys().copied().collect();
        let mut routes = Self { me, ring, homes: Vec::new(), slots: Vec::new(), peers, members };
        if let Some(ring) = ring {
            routes.assign_slots(ring.slot_bits, home);
        }
        routes
    }

    /// A picture of a peer that is in no ring.
    #[must_use]
    pub fn outside(me: Peer) -> Self {
        Self::assemble(me, None, [], |_| None)
    }

    /// The peers that should hold a slot, the owner's first; `None` if this peer does not know.
    #[must_use]
    pub fn home_of(&self, slot: Slot) -> Option<&Home> {
        let index = (*self.slots.get(slot.0 as usize)?)?;
        self.homes.get(index as usize)
    }

    /// The peers of the ring that have not departed, also dead ones, as far as this peer remembers, and itself.
    #[must_use]
    pub fn members(&self) -> &BTreeSet<PeerId> {
        &self.members
    }

    /// The slots that this peer should hold.
    pub fn own_slots(&self) -> impl Iterator<Item = Slot> {
        let mine: Vec<bool> = self.homes.iter().map(|home| home.group.contains(&self.me.id)).collect();
        let slots = (0u32..).zip(&self.slots);
        slots.filter(move |(_, home)| home.is_some_and(|home| mine[home as usize])).map(|(slot, _)| Slot(slot))
    }

    /// A peer that is not known to be dead, by its id.
    #[must_use]
    pub fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(&id)
    }

    /// All peers that are not known to be dead, this one included.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// How the circle is divided.
    #[must_use]
    pub fn slot_bits(&self) -> Option<SlotBits> {
        self.ring.map(|ring| ring.slot_bits)
    }

    fn assign_slots<'a>(&mut self, bits: SlotBits, home: impl Fn(Id) -> Option<&'a Home>) {
        let mut places: BTreeMap<Id, u32> = BTreeMap::new();
        for slot in bits.iter() {
            let Some(home) = home(bits.point(slot)) else {
                self.slots.push(None);
                continue;
            };
            let place = *places.entry(home.owner.id).or_insert_with(|| {
                self.homes.push(home.clone());
                u32::try_from(self.homes.len() - 1).unwrap_or(u32::MAX)
            });
            self.slots.push(Some(place));
        }
    }
}

/// An interval whose owner has been silent for that many periods has no known owner. A guess.
const MISSED_ANNOUNCEMENTS: u32 = 5;
