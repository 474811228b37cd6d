//! The fake peer.

#[path = "fake_keys.rs"]
mod keys;
#[path = "parts.rs"]
mod parts;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use dhtctl::proto::{
    CreateKeyspaceRequest, CreateKeyspaceResponse, DepartRequest, DepartResponse, DropKeyspaceRequest,
    DropKeyspaceResponse, ExplainRequest, ExplainResponse, Hop, HopReason, JoinRequest, JoinResponse, Keyspace,
    ListKeyspacesRequest, ListKeyspacesResponse, LookupRequest, LookupResponse, Mode, Node, OverlayRequest,
    OverlayResponse, Peer, PeerPhase, RecoverRequest, RecoverResponse, SetReplicasRequest, SetReplicasResponse,
    StatusRequest, StatusResponse, VerifyRequest, VerifyResponse,
    kv_service_server::KvServiceServer,
    lookup_request::Target,
    ring_service_server::{RingService, RingServiceServer},
};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::watch,
};
use tokio_stream::iter;
use tonic::{Code, Request, Response, Status, transport::server::TcpIncoming};
use tonic_types::{ErrorDetails, StatusExt};

pub(crate) use self::parts::{known, peer};
use self::parts::{node, ring, state_of};

type Answer<T> = Result<Response<T>, Status>;
type Messages<T> = tokio_stream::Iter<std::vec::IntoIter<Result<T, Status>>>;

/// A running fake peer; it stops when it is dropped.
pub(crate) struct Fake {
    pub(crate) address: String,
    pub(crate) state: Arc<State>,
    /// Its own, so that it takes its connections with it, as a process does.
    runtime: Option<Runtime>,
}

/// What it holds and how it behaves.
pub(crate) struct State {
    pub(crate) store: Mutex<BTreeMap<Bytes, Bytes>>,
    /// Answers to give to the next puts instead of carrying them out.
    pub(crate) refusals: Mutex<VecDeque<Status>>,
    /// While this is false puts wait.
    pub(crate) open: watch::Sender<bool>,
    /// Puts that have arrived.
    pub(crate) arrived: watch::Sender<usize>,
    /// The answer to every read, if it is to be refused.
    pub(crate) read_refusal: Mutex<Option<Status>>,
    pub(crate) overlay: Mutex<OverlayResponse>,
    pub(crate) report: Mutex<VerifyResponse>,
    pub(crate) explanation: Mutex<ExplainResponse>,
    pub(crate) findings: Mutex<RecoverResponse>,
    /// Who was to be given up, and whether only to see what would come of it.
    pub(crate) recovered: Mutex<Vec<(Vec<Bytes>, bool)>>,
    pub(crate) store_failure: Mutex<String>,
    pub(crate) joined_through: Mutex<Vec<String>>,
    pub(crate) departed: Mutex<bool>,
    pub(crate) keyspaces: Mutex<Vec<Keyspace>>,
    pub(crate) slots_syncing: Mutex<u32>,
    /// What the next status says; one less each time.
    pub(crate) slots_changing: Mutex<u32>,
    /// The keyspace of the last put.
    pub(crate) last_keyspace: Mutex<String>,
    pub(crate) last_min_durable: Mutex<u32>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    pub(crate) async fn start_at(address: &str) -> Self {
        let listener = std::net::TcpListener::bind(address).expect("the port is free");
        listener.set_nonblocking(true).expect("it can wait");
        let address = listener.local_addr().expect("it has an address").to_string();
        let state = Arc::new(State::new(&address));
        let services = Service(Arc::clone(&state));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("the listener is fine");
            let server = tonic::transport::Server::builder()
                .add_service(KvServiceServer::new(services.clone()))
                .add_service(RingServiceServer::new(services))
                .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
            server.await.expect("the server runs");
        });
        Self { address, state, runtime: Some(runtime) }
    }

    /// `count` peers in an ideal ring, with two nodes each.
    pub(crate) async fn ring(count: u8) -> Vec<Self> {
        let mut fakes = Vec::new();
        for _ in 0..count {
            fakes.push(Self::start().await);
        }
        let nodes: Vec<Node> =
            (0..2 * count).map(|i| node(i, i % count, &fakes[usize::from(i % count)].address)).collect();
        let peers: Vec<Peer> = (0..count).map(|i| peer(i, &fakes[usize::from(i)].address)).collect();
        for i in 0..count {
            *locked(&fakes[usize::from(i)].state.overlay) = OverlayResponse {
                peer: Some(peers[usize::from(i)].clone()),
                ring: Some(ring()),
                phase: PeerPhase::Member.into(),
                nodes: (0..nodes.len()).filter(|n| nodes[*n].peer_id[0] == i).map(|n| state_of(n, &nodes)).collect(),
                peers: peers.iter().map(known).collect(),
            };
        }
        fakes
    }

    pub(crate) fn stored(&self) -> BTreeMap<Bytes, Bytes> {
        locked(&self.state.store).clone()
    }

    pub(crate) fn put(&self, key: &[u8], value: &[u8]) {
        locked(&self.state.store).insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    }

    pub(crate) fn refuse(&self, times: usize, code: Code, reason: &str) {
        locked(&self.state.refusals).extend((0..times).map(|_| refusal(code, reason)));
    }

    /// Returns once `count` puts have arrived.
    pub(crate) async fn wait_for_puts(&self, count: usize) {
        let mut arrived = self.state.arrived.subscribe();
        arrived.wait_for(|arrived| *arrived >= count).await.expect("the state lives on");
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder has panicked")
}

pub(crate) fn refusal(code: Code, reason: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "dhtd", std::collections::HashMap::new());
    Status::with_error_details(code, "refused by the test", details)
}

impl State {
    fn new(address: &str) -> Self {
        let alone = peer(0, address);
        let overlay = OverlayResponse {
            peer: Some(alone.clone()),
            ring: None,
            phase: PeerPhase::Idle.into(),
            nodes: vec![],
            peers: vec![known(&alone)],
        };
        Self {
            store: Mutex::default(),
            refusals: Mutex::default(),
            open: watch::Sender::new(true),
            arrived: watch::Sender::new(0),
            read_refusal: Mutex::default(),
            overlay: Mutex::new(overlay),
            report: Mutex::default(),
            explanation: Mutex::default(),
            findings: Mutex::default(),
            recovered: Mutex::default(),
            store_failure: Mutex::default(),
            joined_through: Mutex::default(),
            departed: Mutex::default(),
            keyspaces: Mutex::new(vec![Keyspace { name: "default".into(), id: 1, mode: Mode::Eventual.into() }]),
            slots_syncing: Mutex::new(2),
            slots_changing: Mutex::default(),
            last_keyspace: Mutex::default(),
            last_min_durable: Mutex::default(),
        }
    }

    fn next_slots_changing(&self) -> u32 {
        let mut left = locked(&self.slots_changing);
        let now = *left;
        *left = now.saturating_sub(1);
        now
    }

    fn check_read(&self) -> Result<(), Status> {
        locked(&self.read_refusal).clone().map_or(Ok(()), Err)
    }
}

#[derive(Clone)]
struct Service(Arc<State>);

#[tonic::async_trait]
impl RingService for Service {
    async fn status(&self, _: Request<StatusRequest>) -> Answer<StatusResponse> {
        self.0.check_read()?;
        let overlay = locked(&self.0.overlay).clone();
        Ok(Response::new(StatusResponse {
            lww_discarded: 0,
            peer: overlay.peer,
            ring: overlay.ring,
            phase: overlay.phase,
            uptime_seconds: 3600,
            slots_held: 1024,
            slots_syncing: *locked(&self.0.slots_syncing),
            slots_changing: self.0.next_slots_changing(),
            keys: locked(&self.0.store).len() as u64,
            disk_bytes: 123_456_789,
            transfers: 1,
            version: "0.1.0".into(),
            store_failure: locked(&self.0.store_failure).clone(),
        }))
    }

    async fn overlay(&self, _: Request<OverlayRequest>) -> Answer<OverlayResponse> {
        self.0.check_read()?;
        Ok(Response::new(locked(&self.0.overlay).clone()))
    }

    async fn lookup(&self, request: Request<LookupRequest>) -> Answer<LookupResponse> {
        let overlay = locked(&self.0.overlay).clone();
        let nodes: Vec<Node> = overlay.nodes.iter().filter_map(|state| state.node.clone()).collect();
        let hop = |node: &Node, reason: HopReason, finger_bit, round_trip_us| Hop {
            node: Some(node.clone()),
            reason: reason.into(),
            finger_bit,
            round_trip_us,
        };
        let id = match request.into_inner().target {
            Some(Target::Id(id)) => id,
            Some(Target::Key(_)) => Bytes::from(vec![0xaa; 20]),
            None => return Err(refusal(Code::InvalidArgument, "TARGET_MISSING")),
        };
        Ok(Response::new(LookupResponse {
            id,
            owner: nodes.last().cloned(),
            hops: vec![hop(&nodes[0], HopReason::Start, 0, 0), hop(&nodes[1], HopReason::Finger, 157, 310)],
            timeouts: 1,
            elapsed_us: 1250,
            slot: 682,
            home_group: overlay.peer.into_iter().collect(),
        }))
    }

    async fn explain(&self, _: Request<ExplainRequest>) -> Answer<ExplainResponse> {
        self.0.check_read()?;
        Ok(Response::new(locked(&self.0.explanation).clone()))
    }

    async fn recover(&self, request: Request<RecoverRequest>) -> Answer<RecoverResponse> {
        let RecoverRequest { dead, dry_run } = request.into_inner();
        locked(&self.0.recovered).push((dead, dry_run));
        Ok(Response::new(RecoverResponse { done: !dry_run, ..locked(&self.0.findings).clone() }))
    }

    async fn verify(&self, _: Request<VerifyRequest>) -> Answer<VerifyResponse> {
        self.0.check_read()?;
        Ok(Response::new(locked(&self.0.report).clone()))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Answer<JoinResponse> {
        *locked(&self.0.joined_through) = request.into_inner().seeds;
        Ok(Response::new(JoinResponse { ring: Some(ring()) }))
    }

    async fn create_keyspace(&self, request: Request<CreateKeyspaceRequest>) -> Answer<CreateKeyspaceResponse> {
        let CreateKeyspaceRequest { name, mode } = request.into_inner();
        let mut keyspaces = locked(&self.0.keyspaces);
        if keyspaces.iter().any(|keyspace| keyspace.name == name) {
            return Err(refusal(Code::AlreadyExists, "KEYSPACE_EXISTS"));
        }
        let id = u32::try_from(keyspaces.len()).unwrap_or(u32::MAX) + 1;
        let keyspace = Keyspace { name, id, mode };
        keyspaces.push(keyspace.clone());
        Ok(Response::new(CreateKeyspaceResponse { keyspace: Some(keyspace) }))
    }

    /// In pages of two.
    async fn list_keyspaces(&self, request: Request<ListKeyspacesRequest>) -> Answer<ListKeyspacesResponse> {
        let behind = request.into_inner().page_token;
        let mut keyspaces = locked(&self.0.keyspaces).clone();
        keyspaces.sort_by_key(|keyspace| keyspace.name.clone());
        keyspaces.retain(|keyspace| keyspace.name.as_bytes() > behind.as_ref());
        let more = keyspaces.len() > 2;
        keyspaces.truncate(2);
        let last = keyspaces.last().filter(|_| more).map(|last| Bytes::copy_from_slice(last.name.as_bytes()));
        Ok(Response::new(ListKeyspacesResponse { keyspaces, next_page_token: last.unwrap_or_default() }))
    }

    async fn drop_keyspace(&self, request: Request<DropKeyspaceRequest>) -> Answer<DropKeyspaceResponse> {
        let (name, mut keyspaces) = (request.into_inner().name, locked(&self.0.keyspaces));
        let place = keyspaces.iter().position(|keyspace| keyspace.name == name);
        let place = place.ok_or_else(|| refusal(Code::NotFound, "KEYSPACE_NOT_FOUND"))?;
        Ok(Response::new(DropKeyspaceResponse { keyspace: Some(keyspaces.remove(place)) }))
    }

    async fn set_replicas(&self, request: Request<SetReplicasRequest>) -> Answer<SetReplicasResponse> {
        let mut overlay = locked(&self.0.overlay);
        let peers = u32::try_from(overlay.peers.len()).unwrap_or(u32::MAX);
        let ring = overlay.ring.as_mut().ok_or_else(|| refusal(Code::Unavailable, "NOT_A_MEMBER"))?;
        let previous = std::mem::replace(&mut ring.replicas, request.into_inner().replicas);
        *locked(&self.0.slots_changing) = 3;
        Ok(Response::new(SetReplicasResponse { previous, peers }))
    }

    type DepartStream = Messages<DepartResponse>;

    async fn depart(&self, _: Request<DepartRequest>) -> Answer<Self::DepartStream> {
        *locked(&self.0.departed) = true;
        let left = |slots_left, done| Ok(DepartResponse { slots_left, slots_total: 10, done });
        Ok(Response::new(iter(vec![left(10, false), left(4, false), left(0, true)])))
    }
}
