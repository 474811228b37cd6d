//! Simulated processes: how they start, stop, and come back.

use std::{sync::Arc, time::Duration};

use dht_core::{
    overlay::{Input, Peer, Saved, State},
    ring::PeerId,
};
use rand::RngExt;

use super::{World, chains::Chains, data::Data};

/// One simulated process and its disk.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name for life.
    pub id: PeerId,
    /// Where it is reached.
    pub address: Arc<str>,
    /// `None` while it is down.
    pub state: Option<State>,
    /// What it holds; `None` if the world is one of overlays only.
    pub data: Option<Data>,
    /// Its chains; `None` if the world has none.
    pub chains: Option<Chains>,
    /// It stands still until then.
    pub(super) paused_until: Duration,
    /// It will stand still for so long in the middle of what it does next.
    pub(super) stalls: Option<Duration>,
    pub(super) incarnation: u64,
    saved: Option<Saved>,
    /// It has heard that it was given up by hand, and must not run again.
    pub given_up: bool,
    /// Hosts hear each other only within the same part.
    pub(super) part: u8,
}

impl Host {
    pub(super) fn description(&self) -> Peer {
        let (address, incarnation) = (self.address.clone(), self.incarnation);
        Peer { id: self.id, address, incarnation, nodes: 0, leaving: false }
    }

    pub(super) fn overlay_and_data(&mut self) -> Option<(&State, &mut Data)> {
        Some((self.state.as_ref()?, self.data.as_mut()?))
    }
}

impl World {
    /// Starts a peer that founds a ring.
    pub fn found(&mut self) -> usize {
        let host = self.add_host();
        let ring = self.new_ring();
        self.open_data(host, ring, true);
        self.open_chains(host, ring, true);
        self.input(host, Input::Found(ring));
        self.note_ideal();
        host
    }

    /// Starts a peer that joins through any of others.
    pub fn join(&mut self, seeds: &[usize]) -> usize {
        let seeds = seeds.iter().map(|seed| self.hosts[*seed].address.clone()).collect();
        let host = self.add_host();
        self.input(host, Input::Join { seeds });
        host
    }

    /// The process ends without a word. Of what it has written since its last fsync, chance keeps a part.
    pub fn kill(&mut self, host: usize) {
        self.hosts[host].saved = self.hosts[host].state.as_ref().and_then(State::saved);
        if let Some(data) = &mut self.hosts[host].data {
            let kept = self.random.random_range(0..=data.store.unsynced());
            data.crash(kept);
            self.promises.disturbed(self.now);
        }
        if let Some(chains) = &mut self.hosts[host].chains {
            let kept = self.random.random_range(0..=chains.disk.unsynced());
            chains.disk.crash(kept);
            (chains.state, chains.stalled) = (None, None);
        }
        (self.hosts[host].paused_until, self.hosts[host].stalls) = (Duration::ZERO, None);
        self.has_gone(host);
    }

    /// The process says goodbye and ends. It should have been asked to leave some time before.
    pub fn depart(&mut self, host: usize) {
        self.input(host, Input::Depart);
        self.has_gone(host);
        self.hosts[host].data = None;
        self.hosts[host].chains = None;
    }

    /// The process starts again with what was on its disk.
    pub fn restart(&mut self, host: usize) {
        let saved = self.hosts[host].saved.take().expect("it was a member when it was killed");
        self.start(host);
        self.promises.disturbed(self.now);
        self.reopen_data(host, &saved);
        self.input(host, Input::Resume(saved));
        self.start_chains(host);
        self.tell_replicas(host);
    }

    /// Whether the process is down and one of those that it knew is up, and not about to go. If none is, it becomes an island
    /// that nobody can find.
    #[must_use]
    pub fn finds_back(&self, host: usize) -> bool {
        let down = self.hosts[host].state.is_none();
        let known = self.hosts[host].saved.iter().flat_map(|saved| &saved.peers);
        let stays = |host: &Host| host.state.as_ref().is_some_and(|state| !state.me().leaving);
        down && known.into_iter().any(|peer| stays(&self.hosts[self.host_of(peer.id)]))
    }

    /// From now on only hosts of the same part hear each other. Hosts beyond the list are in part 0.
    pub fn split(&mut self, part_of: impl Fn(usize) -> u8) {
        self.hosts.iter_mut().enumerate().for_each(|(place, host)| host.part = part_of(place));
        self.promises.disturbed(self.now);
    }

    /// Everyone hears everyone again.
    pub fn heal(&mut self) {
        self.split(|_| 0);
    }

    /// The process of a peer.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn host_of(&self, peer: PeerId) -> usize {
        self.hosts.iter().position(|host| host.id == peer).expect("it is one of the world's peers")
    }

    /// All live peers.
    pub fn live(&self) -> impl Iterator<Item = (usize, &State)> {
        self.hosts.iter().enumerate().filter_map(|(place, host)| host.state.as_ref().map(|state| (place, state)))
    }

    pub(super) fn add_host(&mut self) -> usize {
        let (place, id) = (self.hosts.len(), PeerId::new(self.random.random()));
        let address: Arc<str> = format!("10.0.{}.{}:7400", place / 256, place % 256).into();
        self.by_address.insert(address.clone(), place);
        let (chains, paused_until, stalls) = (None, Duration::ZERO, None);
        self.hosts.push(Host {
            id,
            address,
            state: None,
            data: None,
            chains,
            paused_until,
            stalls,
            incarnation: 0,
            saved: None,
            given_up: false,
            part: 0,
        });
        self.start(place);
        place
    }

    fn start(&mut self, place: usize) {
        let seed = self.random.random();
        let host = &mut self.hosts[place];
        host.incarnation += 1;
        let me = host.description();
        host.state = Some(State::new(self.config.overlay.clone(), self.config.rules, me, seed));
    }
}
