//! One peer, put together: start, serve, stop.

mod begin;

use std::{
    io,
    net::SocketAddr,
    num::NonZero,
    sync::Arc,
    time::{Duration, Instant},
};

use dht_core::{
    Rules,
    overlay::{self, Patience, Peer, Phase},
    replication::eventual,
    view::Generation,
};
use dhtd_proto::{DESCRIPTOR_SET, v1};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
};
use tonic::transport::{Server as Tonic, server::TcpIncoming};

use self::begin::{Begin, Stuck};
use crate::{
    config::{Config, Start},
    coordinator::{Coordinator, Limits},
    driver::{Control, Handle, Pulse, Shared, catalogue::Known, control::OpenShards, shards::Shards, sweep},
    rpc::{DeadlineLayer, KvApi, PeerApi, RingApi, report_health},
    storage::{DataDir, DataDirError, Engine, EngineError, FjallEngine, FjallOptions, Syncer},
};

/// A peer could not be started, or had to stop.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The port is taken, or the address is not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The store in it.
    #[error("the store in {dir}: {}", .source.chain())]
    Store {
        /// The data directory.
        dir: String,
        /// What is wrong.
        source: EngineError,
    },
    /// Nothing says how to get into a ring.
    #[error(
        "{0} belongs to no ring yet\nhint: say --bootstrap to found one, --expect N to found one with others, --join HOST:PORT to join one, or --idle to wait for dhtctl join"
    )]
    NoRing(String),
    /// Others remember that this peer holds nothing any more, and so does it itself.
    #[error("the peer in {0} has departed for good\nhint: start a new one with an empty data directory")]
    Departed(String),
    /// The others go on without it, and would refuse it.
    #[error(
        "the peer in {dir} was given up for lost by recovery {counter} (carried out by peer {by}): others may have gone on \
         without what it knows\nhint: keep {dir} if something is missing, and start a new peer with an empty data directory"
    )]
    GivenUp {
        /// The data directory.
        dir: String,
        /// Counts the ring's recoveries.
        counter: u32,
        /// The id of who carried it out.
        by: String,
    },
    /// What was asked for is not what the ring is.
    #[error(
        "{dir} was asked for {what}\nhint: leave the flag out; what a ring was founded with does not change, and dhtctl replicas set changes k"
    )]
    FoundedOtherwise {
        /// The data directory.
        dir: String,
        /// What differs.
        what: String,
    },
    /// The data directory takes no writes.
    #[error("cannot note in {0} which ring it belongs to: none is founded; the log says why")]
    NotFounded(String),
    /// It was settled otherwise with whom it founds a ring, and for good.
    #[error(
        "the peer in {dir} has agreed to found a ring with others: {agreed}\nhint: start it with these flags, or, if that ring \
         will never be founded, start a new peer with an empty data directory; nothing is stored in this one"
    )]
    AgreedOtherwise {
        /// The data directory.
        dir: String,
        /// What was agreed.
        agreed: String,
    },
    /// gRPC could not be served.
    #[error("cannot serve: {0}")]
    Serve(String),
}

/// How many threads a peer's runtime needs on this machine: one for each core, since more wake each other for nothing, and
/// two at least, so that one that reads from the disk does not hold up everything.
#[must_use]
pub fn worker_threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get).max(2)
}

/// A peer that runs.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    pulse: Pulse,
    stop: Option<oneshot::Sender<()>>,
    stopped: JoinHandle<Result<(), ServerError>>,
}

impl Server {
    /// Starts a peer; it serves when this returns, but need not be in a ring yet.
    ///
    /// # Errors
    /// See [`ServerError`]. Nothing runs then.
    pub async fn start(config: Config) -> Result<Self, ServerError> {
        // The port first: if it is taken, nothing has been touched.
        let listen_error = |source| ServerError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let dir_name = config.data_dir.display().to_string();
        let (dir, _) = DataDir::open_or_create(&config.data_dir, rand::random)?;
        let dir = Arc::new(dir);
        let me = describe(&config, &dir, address);
        let begin = Begin::new(&config, &dir, &me)?;
        let catalogue = Known::load(dir.clone())?;
        let store = |source| ServerError::Store { dir: dir_name.clone(), source };
        let engine = FjallEngine::open(dir.store_path(), FjallOptions::default()).map_err(store)?;
        let engine: Arc<dyn Engine> = Arc::new(engine);

        tracing::info!(peer = %me.id.short(), address = %me.address, incarnation = me.incarnation, "starting");
        let (trouble, troubles) = mpsc::channel(64);
        let shared = Arc::new(Shared::new(me.clone(), trouble, engine.clone(), catalogue));
        shared.claims.keep_in(dir.clone())?;
        let (handle, inbox) = Handle::new();
        let control = control(&config, me.clone(), &shared, &handle, dir, engine);
        let control = tokio::spawn(control.run(inbox, troubles));

        let seeds = match &config.start {
            Start::Join(seeds) | Start::Idle(seeds) | Start::Expect { seeds, .. } => seeds.clone(),
            Start::Bootstrap | Start::Unsaid => Vec::new(),
        };
        match begin.set_out(&handle).await {
            Ok(()) => {}
            Err(Stuck::NoData) => {
                let source = EngineError::Corrupt { what: "its records can't be read; see the log".to_owned() };
                return Err(store(source));
            }
            Err(Stuck::NotFounded) => return Err(ServerError::NotFounded(dir_name)),
        }
        let (stop, stopping) = oneshot::channel();
        let pulse = Pulse::new(handle.clone(), shared.clone());
        let coordinator = Coordinator::new(shared.clone(), handle.clone(), Limits::default(), config.reads);
        let serving = serve(listener, coordinator, shared.clone(), handle, seeds, stopping, control);
        let banned = dir_name.clone();
        let data = shared.clone();
        let stopped = tokio::spawn(async move {
            if let Some(generation) = serving.await? {
                return Err(given_up(banned, generation));
            }
            let Some(shards) = data.shards.get() else { return Ok(()) };
            shards.flush().await.map_err(|source| ServerError::Store { dir: dir_name, source })
        });
        Ok(Self { address, shared, pulse, stop: Some(stop), stopped })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the peer stands in its life.
    #[must_use]
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.shared.phase.subscribe()
    }

    /// Whether its loops still turn.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Stops serving, keeps the data, and returns when everything is on disk.
    ///
    /// # Errors
    /// If serving had failed before, or the store takes no writes.
    pub async fn stop(mut self) -> Result<(), ServerError> {
        drop(self.stop.take());
        self.ended().await
    }

    /// Waits until the peer has ended by itself: it has departed, or serving has failed.
    ///
    /// # Errors
    /// If serving has failed.
    pub async fn ended(&mut self) -> Result<(), ServerError> {
        (&mut self.stopped).await.unwrap_or_else(|panic| Err(ServerError::Serve(panic.to_string())))
    }
}

fn given_up(dir: String, generation: Generation) -> ServerError {
    let by = generation.by.map_or_else(String::new, |by| by.to_string());
    ServerError::GivenUp { dir, counter: generation.counter, by }
}

fn describe(config: &Config, dir: &DataDir, address: SocketAddr) -> Peer {
    let identity = dir.identity();
    let advertise = config.advertise.clone().unwrap_or_else(|| address.to_string().into());
    let id = dht_core::ring::PeerId::new(identity.peer_id);
    Peer { id, address: advertise, incarnation: identity.incarnation, nodes: 0, leaving: false }
}

fn control(
    config: &Config,
    me: Peer,
    shared: &Arc<Shared>,
    handle: &Handle,
    dir: Arc<DataDir>,
    engine: Arc<dyn Engine>,
) -> Control {
    let (heartbeat_every, suspect_after) = (config.heartbeat_every, config.suspect_after);
    let patience = Patience { suspect_after, probe_for: heartbeat_every * 2, ..Patience::default() };
    let (nodes, routing) = (config.nodes, config.routing);
    let overlay = overlay::Config { nodes, routing, heartbeat_every, patience, ..overlay::Config::default() };
    let (id, fsync, catalogue, clock) = (me.id, config.fsync, shared.catalogue.shared(), shared.wall_clock.clone());
    let open: OpenShards = Box::new(move |bits| {
        let syncer = Syncer::start(engine.clone(), fsync)?;
        Shards::open(engine.clone(), syncer, catalogue.clone(), clock.clone(), bits, id)
    });
    let state = overlay::State::new(overlay, Rules::ALL, me, rand::random());
    Control::new(state, eventual::Config::default(), shared.clone(), handle.clone(), dir, open)
}

/// Serves until it is told to stop, the peer has departed, or hears that it was given up: by which recovery.
async fn serve(
    listener: TcpListener,
    coordinator: Coordinator,
    shared: Arc<Shared>,
    handle: Handle,
    seeds: Vec<Arc<str>>,
    stopping: oneshot::Receiver<()>,
    mut control: JoinHandle<()>,
) -> Result<Option<Generation>, ServerError> {
    let kv = v1::kv_service_server::KvServiceServer::new(KvApi(coordinator.clone()))
        .max_decoding_message_size(KV_MESSAGE_BYTES);
    let ring = RingApi {
        shared: shared.clone(),
        control: handle.clone(),
        coordinator: coordinator.clone(),
        started: Instant::now(),
        seeds,
    };
    let ring = v1::ring_service_server::RingServiceServer::new(ring);
    let mut beside = JoinSet::new();
    beside.spawn(sweep(shared.clone()));
    beside.spawn(coordinator.clone().watch_catalogue());
    let peer = PeerApi { shared: shared.clone(), control: handle, coordinator };
    let peer = v1::peer_service_server::PeerServiceServer::new(peer)
        .max_decoding_message_size(PEER_MESSAGE_BYTES)
        .max_encoding_message_size(PEER_MESSAGE_BYTES);
    let (health, health_service) = tonic_health::server::health_reporter();
    let stops = watch::Sender::new(false);
    beside.spawn(report_health(shared.clone(), stops.subscribe(), health));
    let reflection = |error: tonic_reflection::server::Error| ServerError::Serve(error.to_string());
    let (shut_down, shut) = oneshot::channel::<()>();
    let server = Tonic::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEP_ALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIME_OUT))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 2)
        .layer(DeadlineLayer)
        .add_service(kv)
        .add_service(ring)
        .add_service(peer)
        .add_service(health_service)
        .add_service(describe_services().build_v1().map_err(reflection)?)
        .add_service(describe_services().build_v1alpha().map_err(reflection)?)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), async { drop(shut.await) });
    let mut server = tokio::spawn(server);
    let mut given_up = None;
    tokio::select! {
        () = stand_down(&shared, stopping, &stops) => {}
        generation = shared.claims.given_up() => given_up = Some(generation),
        _ = &mut control => {} // Departed: the last messages are on their way.
        ended = &mut server => {
            let served = ended.map_err(|error| error.to_string()).and_then(|it| it.map_err(|error| error.to_string()));
            return served.map(|()| None).map_err(ServerError::Serve);
        }
    }
    drop(shut_down);
    control.abort();
    beside.abort_all();
    // Streams of other peers never end by themselves: what is not done soon is cut off.
    if tokio::time::timeout(DRAIN, &mut server).await.is_err() {
        server.abort();
    }
    if let Some(chains) = shared.chains.get() {
        chains.stop().await;
    }
    Ok(given_up)
}

/// Waits until the peer is told to stop, and then until others go on without it, if that does not take too long.
async fn stand_down(shared: &Shared, stopping: oneshot::Receiver<()>, stops: &watch::Sender<bool>) {
    drop(stopping.await);
    stops.send_replace(true);
    let Some(chains) = shared.chains.get() else { return };
    let begun = Instant::now();
    match tokio::time::timeout(STAND_DOWN, chains.stand_down()).await {
        Ok(()) => tracing::info!(ms = begun.elapsed().as_millis(), "others go on without this peer"),
        Err(_) => tracing::warn!("others have not taken over all slots of this peer: they will once they miss it"),
    }
}

fn describe_services() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(DESCRIPTOR_SET)
}

/// A transfer's call and a page of a scan hold several records, the last of which may be as large as a value may be.
const PEER_MESSAGE_BYTES: usize = 16 << 20;

/// What clients send may be larger than it should: what they are told then is to come from the checks of the operations.
const KV_MESSAGE_BYTES: usize = 16 << 20;

/// As clients expect of servers (CONVENTIONS: ping 30-60 s, time-out 20 s).
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIME_OUT: Duration = Duration::from_secs(20);

/// HTTP/2's default of 64 KiB would stall a stream of 1 MiB values at every round trip.
const WINDOW: u32 = 4 << 20;

/// How long a peer that is to stop waits for others to go on without it. They need some tens of milliseconds, unless many
/// slots change at once, or some of them are to stop, too.
const STAND_DOWN: Duration = Duration::from_secs(3);

/// How long requests that are under way may take when the peer stops. A guess.
const DRAIN: Duration = Duration::from_secs(1);
