//! `RingService`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dht_core::{
    catalogue::{Catalogue, MAX_KEYSPACES},
    overlay::{self, Health, Lookup, Node, Peer, Phase, Routes},
    replication::eventual::Digests,
    ring::{Id, PeerId},
    view::View,
};
use dhtd_proto::v1::{
    self, CreateKeyspaceRequest, CreateKeyspaceResponse, DepartRequest, DepartResponse, DropKeyspaceRequest,
    DropKeyspaceResponse, ExplainRequest, ExplainResponse, JoinRequest, JoinResponse, ListKeyspacesRequest,
    ListKeyspacesResponse, LookupRequest, LookupResponse, OverlayRequest, OverlayResponse, PeerPhase, RecoverRequest,
    RecoverResponse, SetReplicasRequest, SetReplicasResponse, StatusRequest, StatusResponse, VerifyRequest,
    VerifyResponse, lookup_request::Target, ring_service_server::RingService,
};
use tokio::{sync::oneshot, time::timeout};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{deadline, explain, recover, status};
use crate::{
    coordinator::{Coordinator, VERIFY_TIME},
    driver::{Handle, Shared, control::Command},
    wire,
};

/// Serves `RingService`.
pub struct RingApi {
    /// What the loops share.
    pub shared: Arc<Shared>,
    /// The control loop.
    pub control: Handle,
    /// Walks the ring.
    pub coordinator: Coordinator,
    /// When the process started.
    pub started: Instant,
    /// Whom to join through if a join names nobody.
    pub seeds: Vec<Arc<str>>,
}

type Departure = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<DepartResponse, Status>> + Send>>;

#[tonic::async_trait]
impl RingService for RingApi {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        self.describe().await.map(Response::new)
    }

    async fn overlay(&self, _: Request<OverlayRequest>) -> Result<Response<OverlayResponse>, Status> {
        let overlay = self.control.inspect(|state, _| overlay_of(state)).await;
        overlay.map(Response::new).ok_or_else(status::stopping)
    }

    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        let LookupRequest { target } = request.into_inner();
        let id = match target {
            Some(Target::Key(key)) => Id::of_key(&key),
            Some(Target::Id(id)) => {
                Id::new(id.as_ref().try_into().map_err(|_| status::invalid("id", "an identifier has 20 bytes"))?)
            }
            None => return Err(status::invalid("target", "name a key or an identifier")),
        };
        let lookup = self.control.lookup(id).await.map_err(status::lookup_failed)?;
        Ok(Response::new(self.trace(id, &lookup)))
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<VerifyResponse>, Status> {
        let begun = Instant::now();
        // Some of the time is for the answer.
        let limit = deadline::limit(request.metadata().as_ref()).map_or(VERIFY_TIME, |limit| limit.mul_f64(0.9));
        let report = self.coordinator.verify(limit.min(VERIFY_TIME)).await?;
        let elapsed_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ok(Response::new(wire::report(&report, elapsed_us)))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let ExplainRequest { key, keyspace } = request.into_inner();
        let explanation = self.coordinator.explain(&keyspace, key).await?;
        Ok(Response::new(explain::response(&explanation)))
    }

    async fn recover(&self, request: Request<RecoverRequest>) -> Result<Response<RecoverResponse>, Status> {
        let RecoverRequest { dead, dry_run } = request.into_inner();
        let dead = dead.iter().map(|id| wire::peer_id(id)).collect::<Result<BTreeSet<PeerId>, _>>();
        let dead = dead.map_err(|malformed| status::invalid("dead", malformed.0))?;
        let coordinator = self.coordinator.clone();
        // It goes on if the operator does not wait.
        let findings = tokio::spawn(async move { coordinator.recover(dead, dry_run).await });
        let findings = findings.await.map_err(|_| status::stopping())??;
        Ok(Response::new(recover::response(&findings, !dry_run)))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let JoinRequest { seeds } = request.into_inner();
        let seeds =
            if seeds.is_empty() { self.seeds.clone() } else { seeds.iter().map(|s| s.as_str().into()).collect() };
        let (reply, answer) = oneshot::channel();
        self.control.send(Command::Join(seeds, reply)).await;
        let ring = answer.await.map_err(|_| status::stopping())??;
        Ok(Response::new(JoinResponse { ring: Some(wire::public_ring(&ring)) }))
    }

    async fn create_keyspace(
        &self,
        request: Request<CreateKeyspaceRequest>,
    ) -> Result<Response<CreateKeyspaceResponse>, Status> {
        let request = request.into_inner();
        let mode = wire::decode_mode(request.mode()).map_err(|_| status::invalid("mode", "name a mode"))?;
        let keyspace = self.coordinator.change_catalogue(move |it| it.create(&request.name, mode)).await?;
        Ok(Response::new(CreateKeyspaceResponse { keyspace: Some(wire::keyspace(&keyspace)) }))
    }

    async fn drop_keyspace(
        &self,
        request: Request<DropKeyspaceRequest>,
    ) -> Result<Response<DropKeyspaceResponse>, Status> {
        let name = request.into_inner().name;
        let keyspace = self.coordinator.change_catalogue(move |it| it.remove(&name)).await?;
        Ok(Response::new(DropKeyspaceResponse { keyspace: Some(wire::keyspace(&keyspace)) }))
    }

    async fn set_replicas(
        &self,
        request: Request<SetReplicasRequest>,
    ) -> Result<Response<SetReplicasResponse>, Status> {
        let replicas = usize::try_from(request.into_inner().replicas).unwrap_or(usize::MAX);
        let previous = self.coordinator.change_catalogue(move |it| it.set_replicas(replicas)).await?;
        let peers = count(staying(&self.shared.routes.load()));
        Ok(Response::new(SetReplicasResponse { previous: count(previous), peers }))
    }

    async fn list_keyspaces(
        &self,
        request: Request<ListKeyspacesRequest>,
    ) -> Result<Response<ListKeyspacesResponse>, Status> {
        // If the record can't be read soon, the copy has to do.
        drop(timeout(REFRESH_TIME, self.coordinator.refresh_catalogue()).await);
        Ok(Response::new(page_of(&self.shared.catalogue.newest(), &request.into_inner())))
    }

    type DepartStream = Departure;

    async fn depart(&self, _: Request<DepartRequest>) -> Result<Response<Departure>, Status> {
        let (reply, answer) = oneshot::channel();
        self.control.send(Command::Depart(reply)).await;
        let progress = answer.await.map_err(|_| status::stopping())??;
        let progress = ReceiverStream::new(progress).map(move |step| {
            Ok(DepartResponse { slots_left: count(step.left), slots_total: count(step.total), done: step.done })
        });
        Ok(Response::new(Box::pin(progress)))
    }
}

/// What a peer holds.
#[derive(Default)]
struct Held {
    /// Slots that it has a copy of, or should have.
    slots: usize,
    /// Slots whose home group it is the first of, and whose chain is another one, or not whole.
    changing: usize,
    /// Keys with a value.
    keys: u64,
}

impl RingApi {
    async fn describe(&self) -> Result<StatusResponse, Status> {
        let look = |state: &overlay::State, replication: Option<&dht_core::replication::eventual::State>| {
            let (syncing, transfers) = replication.map_or((0, 0), |r| (r.syncing(), r.transfers()));
            (state.me().clone(), state.ring().copied(), phase_of(state), syncing, transfers)
        };
        let (me, ring, phase, syncing, transfers) = self.control.inspect(look).await.ok_or_else(status::stopping)?;
        let shards = self.shared.shards.get();
        let disk_bytes = shards.map_or(0, |shards| shards.disk_bytes());
        let Held { slots, changing, keys } = self.held().unwrap_or_default();
        Ok(StatusResponse {
            peer: Some(wire::peer(&me)),
            ring: ring.as_ref().map(wire::public_ring),
            phase: phase.into(),
            uptime_seconds: self.started.elapsed().as_secs(),
            slots_held: count(slots),
            slots_changing: count(changing),
            slots_syncing: count(syncing),
            keys,
            lww_discarded: shards.map_or(0, |shards| shards.table().discarded()),
            disk_bytes,
            transfers: count(transfers),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store_failure: self.shared.store.failure().map_or_else(String::new, |cause| cause.to_string()),
        })
    }

    /// What is here in either mode; `None` while the peer is in no ring.
    fn held(&self) -> Option<Held> {
        let (table, chains) = (self.shared.shards.get()?.table(), self.shared.chains.get()?);
        let routes = self.shared.routes.load();
        let (ring, me) = (routes.ring?, routes.me.id);
        let copies = ring.replicas.min(staying(&routes));
        let mut held = Held { keys: chains.keys(), ..Held::default() };
        for slot in ring.slot_bits.iter() {
            let (digest, view) = (table.digest(slot), chains.view(slot));
            let group = routes.home_of(slot).map_or(&[][..], |home| &home.group);
            let in_chain = view.as_ref().is_some_and(|view| view.has(me));
            held.slots += usize::from(in_chain || !digest.is_empty() || group.contains(&me));
            held.keys += digest.values;
            let whole = |view: &Arc<View>| {
                group.len() == copies && view.chain.len() == group.len() && group.iter().all(|peer| view.has(*peer))
            };
            held.changing += usize::from(group.first() == Some(&me) && !view.as_ref().is_some_and(whole));
        }
        Some(held)
    }

    fn trace(&self, id: Id, lookup: &Lookup) -> LookupResponse {
        let peers: BTreeMap<PeerId, &Peer> = lookup.peers.iter().map(|peer| (peer.id, peer)).collect();
        let node = |node: &Node| wire::node(node, peers.get(&node.peer).map_or("", |peer| &peer.address));
        let hops = lookup.hops.iter().map(|hop| {
            let (reason, finger_bit) = wire::hop_reason(hop.reason);
            let round_trip_us = hop.round_trip_us;
            v1::Hop { node: Some(node(&hop.node)), reason: reason.into(), finger_bit, round_trip_us }
        });
        let group = lookup.home.iter().flat_map(|home| &home.group);
        LookupResponse {
            id: Bytes::copy_from_slice(id.as_bytes()),
            owner: Some(node(&lookup.owner)),
            hops: hops.collect(),
            timeouts: lookup.timeouts,
            elapsed_us: u64::try_from(lookup.elapsed.as_micros()).unwrap_or(u64::MAX),
            slot: self.shared.routes.load().slot_bits().map_or(0, |bits| bits.slot_of(id).0),
            home_group: group.filter_map(|id| peers.get(id)).map(|peer| wire::peer(peer)).collect(),
        }
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Peers that home groups are made of.
fn staying(routes: &Routes) -> usize {
    routes.peers().filter(|peer| !peer.leaving && (peer.nodes > 0 || peer.id == routes.me.id)).count()
}

/// The keyspaces behind the one that the token names.
fn page_of(catalogue: &Catalogue, request: &ListKeyspacesRequest) -> ListKeyspacesResponse {
    let size = usize::try_from(request.page_size).ok().filter(|size| (1..=MAX_KEYSPACES).contains(size));
    let behind = catalogue.keyspaces().filter(|keyspace| keyspace.name.as_bytes() > request.page_token.as_ref());
    let mut keyspaces: Vec<v1::Keyspace> = behind.map(wire::keyspace).collect();
    let size = size.unwrap_or(MAX_KEYSPACES);
    let more = keyspaces.len() > size;
    keyspaces.truncate(size);
    let last = keyspaces.last().filter(|_| more).map(|last| Bytes::copy_from_slice(last.name.as_bytes()));
    ListKeyspacesResponse { keyspaces, next_page_token: last.unwrap_or_default() }
}

fn phase_of(state: &overlay::State) -> PeerPhase {
    match state.phase() {
        Phase::Idle => PeerPhase::Idle,
        Phase::Joining => PeerPhase::Joining,
        Phase::Gone => PeerPhase::Left,
        _ if state.me().leaving => PeerPhase::Leaving,
        Phase::Member => PeerPhase::Member,
        Phase::Island => PeerPhase::Island,
    }
}

fn overlay_of(state: &overlay::State) -> OverlayResponse {
    let mut addresses: BTreeMap<PeerId, Arc<str>> =
        state.peers().map(|known| (known.peer.id, known.peer.address.clone())).collect();
    addresses.insert(state.me().id, state.me().address.clone());
    let node = |node: &Node| wire::node(node, addresses.get(&node.peer).map_or("", |address| address));
    let nodes = state.nodes().iter().map(|state| v1::NodeState {
        node: Some(node(&state.node)),
        member: state.member,
        predecessor: state.predecessor.as_ref().map(node),
        successors: state.successors.iter().map(node).collect(),
        fingers: state.fingers().map(|(bit, finger)| v1::Finger { bit, node: Some(node(&finger)) }).collect(),
    });
    let me = v1::KnownPeer { peer: Some(wire::peer(state.me())), alive: true, round_trip_us: 0 };
    let in_ring = state.peers().filter(|known| known.health != Health::Gone && known.was_member());
    let others = in_ring.map(|known| v1::KnownPeer {
        peer: Some(wire::peer(&known.peer)),
        alive: known.health.usable(),
        round_trip_us: u64::try_from(known.round_trip().as_micros()).unwrap_or(u64::MAX),
    });
    OverlayResponse {
        peer: Some(wire::peer(state.me())),
        ring: state.ring().map(wire::public_ring),
        phase: phase_of(state).into(),
        nodes: nodes.collect(),
        peers: std::iter::once(me).chain(others).collect(),
    }
}

/// How long reading the catalogue's record may take before the copy is listed. A guess.
const REFRESH_TIME: Duration = Duration::from_secs(1);
