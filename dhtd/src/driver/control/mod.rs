//! The control loop: one task that owns the overlay and replication of this peer.
//!
//! It collects messages, timers and commands, applies them one by one, and carries out what the state machines ask for.
//! No locks; the price is that all control work of a peer shares one task. Data never passes through it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use dht_core::{
    founding::Input as Step,
    overlay::{self, Destination, Lookup, LookupFailed, Phase, Ring, Saved},
    replication::eventual,
    ring::{Id, Slot},
    view::Claim,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep_until,
};

mod command;
mod data;
mod depart;
mod founding;

pub use command::{Command, DepartError, Handle, Inspection, JoinError, OpenShards, Progress};

use self::{
    depart::{DEPART_LOOK_EVERY, Departing},
    founding::Expecting,
};
use super::{Membership, Shared, Standing};
use crate::{
    storage::DataDir,
    transport::{Trouble, Urgency},
    wire::PeerBody,
};

/// The control loop's state.
pub struct Control {
    overlay: overlay::State,
    replication: Option<eventual::State>,
    replication_config: eventual::Config,
    shared: Arc<Shared>,
    handle: Handle,
    dir: Arc<DataDir>,
    open_shards: OpenShards,
    started: Instant,
    timers: BTreeMap<(Duration, u64), Timer>,
    next_timer: u64,
    lookups: BTreeMap<u64, Waiter>,
    next_token: u64,
    routes_changed: bool,
    saved: Option<Saved>,
    joining: Vec<oneshot::Sender<Result<Ring, JoinError>>>,
    departing: Option<Departing>,
    /// The founding that this peer waits for.
    expecting: Option<Expecting>,
    expected_peers: usize,
    /// When this peer began to look for its ring, and how often it has complained since.
    looking: Option<(Instant, u32)>,
    /// The last address that could not be reached.
    unreached: Option<Arc<str>>,
    /// The claim by which replication goes.
    claim: Option<Arc<Claim>>,
}

#[derive(Clone, Debug)]
enum Timer {
    Overlay(overlay::Timer),
    Replication(eventual::Timer),
    Save,
    Depart,
    Founding(dht_core::founding::Timer),
}

enum Waiter {
    Asker(oneshot::Sender<Result<Lookup, LookupFailed>>),
    Locate(Slot),
}

impl Control {
    /// A loop that waits for its first command.
    #[must_use]
    pub fn new(
        overlay: overlay::State,
        replication_config: eventual::Config,
        shared: Arc<Shared>,
        handle: Handle,
        dir: Arc<DataDir>,
        open_shards: OpenShards,
    ) -> Self {
        Self {
            overlay,
            replication: None,
            replication_config,
            shared,
            handle,
            dir,
            open_shards,
            started: Instant::now(),
            timers: BTreeMap::new(),
            next_timer: 0,
            lookups: BTreeMap::new(),
            next_token: 0,
            routes_changed: false,
            saved: None,
            joining: Vec::new(),
            departing: None,
            expecting: None,
            expected_peers: 0,
            looking: None,
            unreached: None,
            claim: None,
        }
    }

    /// Runs until the peer has departed or every handle is gone.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<Command>, mut trouble: mpsc::Receiver<Trouble>) {
        self.set_timer(SAVE_EVERY, Timer::Save);
        let mut commands = Vec::with_capacity(BATCH);
        while self.overlay.phase() != Phase::Gone {
            let next = self.timers.first_key_value().map_or(Duration::from_secs(60), |((at, _), _)| *at);
            tokio::select! {
                count = inbox.recv_many(&mut commands, BATCH) => if count == 0 {
                    return;
                },
                Some(trouble) = trouble.recv() => self.in_trouble(trouble),
                () = sleep_until((self.started + next).into()) => {}
            }
            for command in commands.drain(..) {
                self.take(command);
            }
            self.fire_timers();
            self.look_at_claim();
            self.publish();
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Overlay(message) => self.overlay(overlay::Input::Message(message)),
            Command::Replication(from, message) => self.replication(eventual::Input::Message(from, message)),
            Command::Lookup(target, reply) => self.lookup(target, Waiter::Asker(reply)),
            Command::Found(ring) => _ = self.found(ring),
            Command::Expect(state) => self.expect(state),
            Command::Founding(from, message) => self.heard_of_founding(from, message),
            Command::Resume(mut saved) => {
                self.expected_peers = saved.peers.len();
                let catalogue = self.shared.catalogue.newest();
                if catalogue.revision > 0 {
                    saved.ring.replicas = catalogue.replicas();
                }
                self.know_ring(saved.ring, false);
                self.overlay(overlay::Input::Resume(saved));
            }
            Command::Join(seeds, reply) => self.join(seeds, reply),
            Command::Depart(reply) => self.depart(reply),
            Command::LetGo(true) => self.end_departing(),
            Command::LetGo(false) => self.set_timer(DEPART_LOOK_EVERY, Timer::Depart),
            Command::Diverged(slot, peer) => self.replication(eventual::Input::Diverged(slot, peer)),
            Command::Transferred(slot, peer, digest) => {
                self.replication(eventual::Input::Transferred(slot, peer, digest));
            }
            Command::Catalogue => self.follow_catalogue(),
            Command::Inspect(look) => look(&self.overlay, self.replication.as_ref()),
        }
    }

    fn overlay(&mut self, input: overlay::Input) {
        for output in self.overlay.handle(self.started.elapsed(), input) {
            match output {
                overlay::Output::Send(to, message) => {
                    let (address, receiver) = match to {
                        Destination::Peer(peer) => (peer.address.clone(), Some(peer)),
                        Destination::Address(address) => (address, None),
                    };
                    self.shared.exchange.send(&address, receiver, PeerBody::Overlay(message), Urgency::Now);
                }
                overlay::Output::SetTimer(after, timer) => self.set_timer(after, Timer::Overlay(timer)),
                overlay::Output::Event(event) => self.happened(event),
            }
        }
    }

    fn happened(&mut self, event: overlay::Event) {
        match event {
            overlay::Event::Joined(ring) => {
                tracing::info!(ring = %ring_name(&ring), "joined");
                self.know_ring(ring, false);
                self.follow_catalogue();
                if let Err(error) = Membership::save_ring(&self.dir, &ring, Standing::Member) {
                    tracing::error!(%error, "cannot save the ring's name: a restart will not find back into it");
                }
                self.routes_changed = true; // From now on messages carry the ring's name.
                self.publish();
            }
            overlay::Event::Complete => {
                tracing::info!(nodes = self.overlay.me().nodes, "all nodes are members");
                if let Some(ring) = self.overlay.ring().copied() {
                    self.joining.drain(..).for_each(|reply| drop(reply.send(Ok(ring))));
                }
            }
            overlay::Event::RoutesChanged => self.routes_changed = true,
            overlay::Event::PeerDied(peer) => tracing::warn!(peer = %peer.short(), "a peer is dead or has left"),
            overlay::Event::PeerLeft(peer) => self.replication(eventual::Input::Left(peer)),
            overlay::Event::PeerRevived(peer) => tracing::info!(peer = %peer.short(), "a dead peer answers again"),
            overlay::Event::Lookup { token, result } => match self.lookups.remove(&token) {
                Some(Waiter::Asker(reply)) => drop(reply.send(result)),
                Some(Waiter::Locate(slot)) => {
                    if let Some(home) = result.ok().and_then(|found| found.home) {
                        self.replication(eventual::Input::Located(slot, home.group));
                    }
                }
                None => {}
            },
        }
    }

    fn lookup(&mut self, target: Id, waiter: Waiter) {
        self.next_token += 1;
        let token = self.next_token;
        self.lookups.insert(token, waiter);
        self.overlay(overlay::Input::Lookup { token, target });
    }

    fn join(&mut self, seeds: Vec<Arc<str>>, reply: oneshot::Sender<Result<Ring, JoinError>>) {
        if self.overlay.phase() != Phase::Idle {
            return drop(reply.send(Err(JoinError::AlreadyJoined)));
        }
        if seeds.is_empty() {
            return drop(reply.send(Err(JoinError::NoSeeds)));
        }
        self.expecting = None;
        self.joining.push(reply);
        self.overlay(overlay::Input::Join { seeds });
    }

    fn in_trouble(&mut self, trouble: Trouble) {
        if let Some(generation) = trouble.given_up() {
            let (shared, me) = (self.shared.clone(), self.overlay.me().id);
            tokio::spawn(async move { shared.hear_claim(&Claim { generation, banned: [me].into() }).await });
            return;
        }
        let Trouble { address, peer, status } = &trouble;
        if trouble.unreachable() {
            tracing::debug!(%address, message = status.message(), "cannot reach a peer");
            self.unreached = Some(address.clone());
            self.cannot_reach(address);
            if let Some(peer) = *peer {
                self.overlay(overlay::Input::Unreachable(peer));
            }
        } else {
            tracing::warn!(%address, message = status.message(), "a peer refuses our messages");
            if self.overlay.phase() == Phase::Joining {
                let refusal = JoinError::Refused(address.clone(), status.message().to_owned());
                self.joining.drain(..).for_each(|reply| drop(reply.send(Err(refusal.clone()))));
            }
        }
    }

    fn set_timer(&mut self, after: Duration, timer: Timer) {
        self.next_timer += 1;
        self.timers.insert((self.started.elapsed() + after, self.next_timer), timer);
    }

    fn fire_timers(&mut self) {
        let now = self.started.elapsed();
        while let Some(entry) = self.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Timer::Overlay(timer) => self.overlay(overlay::Input::Timer(timer)),
                Timer::Replication(timer) => self.replication(eventual::Input::Timer(timer)),
                Timer::Save => self.save(),
                Timer::Depart => self.continue_departing(),
                Timer::Founding(timer) => self.founding(Step::Timer(timer)),
            }
        }
    }

    /// Whoever was given up does not come back: nothing has to be remembered for its sake.
    fn look_at_claim(&mut self) {
        let claim = self.shared.claims.known();
        if self.replication.is_none() || self.claim.as_ref().is_some_and(|known| Arc::ptr_eq(known, &claim)) {
            return;
        }
        claim.banned.iter().for_each(|peer| self.replication(eventual::Input::Left(*peer)));
        self.claim = Some(claim);
    }

    /// Gives the data path a new picture of the ring, if anything has changed.
    fn publish(&mut self) {
        if std::mem::take(&mut self.routes_changed) {
            let routes = Arc::new(self.overlay.routes());
            self.shared.routes.store(routes.clone());
            self.replication(eventual::Input::Routes(routes));
        }
        let phase = self.overlay.phase();
        self.shared.phase.send_if_modified(|known| std::mem::replace(known, phase) != phase);
    }

    /// Says every few seconds why this peer is not in its ring yet.
    fn complain(&mut self) {
        self.say_what_is_expected();
        if self.overlay.phase() != Phase::Joining {
            self.looking = None;
            return;
        }
        let (since, complaints) = self.looking.get_or_insert_with(|| (Instant::now(), 0));
        if since.elapsed() < COMPLAIN_EVERY * (*complaints + 1) {
            return;
        }
        *complaints += 1;
        let seconds = since.elapsed().as_secs();
        match self.unreached.take() {
            Some(address) => tracing::warn!(%address, seconds, "not in a ring yet: cannot reach a seed; trying on"),
            None => tracing::warn!(
                advertise = %self.overlay.me().address,
                seconds,
                "not in a ring yet: seeds take our messages, but no answer comes; can they reach us at this address?"
            ),
        }
    }

    /// Keeps whom we know, if that has changed.
    fn save(&mut self) {
        self.set_timer(SAVE_EVERY, Timer::Save);
        self.complain();
        let saved = self.overlay.saved();
        if saved == self.saved {
            return;
        }
        self.saved.clone_from(&saved);
        let dir = self.dir.clone();
        tokio::task::spawn_blocking(move || {
            if let Some(Err(error)) = saved.map(|saved| Membership::save_peers(&dir, &saved)) {
                tracing::error!(%error, "cannot save the known peers");
            }
        });
    }
}

fn ring_name(ring: &Ring) -> String {
    ring.id.0[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Commands taken at once.
const BATCH: usize = 256;

/// How often a peer says that it is not in a ring yet. A guess.
const COMPLAIN_EVERY: Duration = Duration::from_secs(5);

/// How soon after a change the known peers are on disk. A guess; losing the newest does little harm.
const SAVE_EVERY: Duration = Duration::from_secs(1);
