//! Load in closed loops: a fixed number of operations is in flight, and each that is answered is followed by the next.

mod many;
mod stream;
mod unary;

use std::time::{Duration, Instant};

use bytes::Bytes;
use dht_core::ring::{Id, Slot, SlotBits};
use dhtctl::overlay::RingView;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tonic::transport::{Channel, Endpoint};

/// Bytes of every key.
pub(crate) const KEY_BYTES: usize = 16;

/// Bytes of every value.
pub(crate) const VALUE_BYTES: usize = 100;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Put { min_durable: u32 },
    Get,
}

/// How it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A unary RPC of `KvService` each, over all peers in turn, whoever holds the key.
    Unary,
    /// `PeerService.Call`: streams on which each message holds whatever waits, each operation sent to a replica.
    Stream,
    /// The same, but each message holds so many operations, and what is in flight is messages.
    Batch(usize),
    /// `KvService.Pipeline`: a stream to each peer; with the flag each operation is sent to a replica.
    Pipeline(bool),
    /// `KvService.BatchGet` and `BatchWrite`, of so many operations, with the flag as for pipelines; what is in flight is
    /// batches.
    BatchRpc(usize, bool),
}

/// What is measured at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) operation: Operation,
    pub(crate) way: Way,
    pub(crate) in_flight: usize,
    /// Keys that are written or read, in random order.
    pub(crate) keys: u64,
    pub(crate) time: Duration,
    pub(crate) seed: u64,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) elapsed: Duration,
    pub(crate) operations: usize,
    /// Of each operation, or each batch, in microseconds, ascending.
    pub(crate) latencies: Vec<u32>,
}

/// Servers that take load, each with its connection, and which of them holds what.
#[derive(Clone)]
pub(crate) struct Target {
    channels: Vec<Channel>,
    /// The position in `channels` of the first replica of each slot.
    owners: Vec<usize>,
    bits: SlotBits,
    ring_id: Bytes,
}

impl Load {
    /// Puts the load on `target`.
    ///
    /// # Errors
    /// The first operation that fails, in words: figures of a target that fails mean nothing.
    pub(crate) async fn run(&self, target: &Target) -> Result<Done, String> {
        let begun = Instant::now();
        let mut latencies = match self.way {
            Way::Unary => unary::run(self, target).await?,
            Way::Stream => stream::run(self, 1, target, Stop::At(begun + self.time)).await?,
            Way::Batch(size) => stream::run(self, size, target, Stop::At(begun + self.time)).await?,
            Way::Pipeline(held) => many::pipeline(self, held, target).await?,
            Way::BatchRpc(size, held) => many::batches(self, size, held, target).await?,
        };
        let elapsed = begun.elapsed();
        latencies.sort_unstable();
        let size = if let Way::Batch(size) | Way::BatchRpc(size, _) = self.way { size } else { 1 };
        Ok(Done { elapsed, operations: latencies.len() * size, latencies })
    }

    /// Writes every key once.
    ///
    /// # Errors
    /// As [`Load::run`].
    pub(crate) async fn fill(&self, target: &Target) -> Result<(), String> {
        match self.way {
            Way::Unary | Way::Pipeline(_) | Way::BatchRpc(..) => unary::fill(self, target).await,
            Way::Stream | Way::Batch(_) => stream::run(self, 1, target, Stop::AfterAllKeys).await.map(drop),
        }
    }
}

/// When a closed loop begins nothing more.
#[derive(Clone, Copy)]
enum Stop {
    At(Instant),
    /// Each key is taken once, in order.
    AfterAllKeys,
}

impl Target {
    /// Connects to the peers of `view`, or to as many other servers that stand in for them, in the order of the view.
    ///
    /// # Errors
    /// If one can't be reached, or the view is of no ring.
    pub(crate) async fn connect(addresses: &[String], view: &RingView) -> Result<Self, String> {
        let mut channels = Vec::new();
        for address in addresses {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
            // As a peer does: dhtd/src/transport/channels.rs.
            let endpoint = endpoint
                .tcp_nodelay(true)
                .http2_keep_alive_interval(Duration::from_secs(2))
                .keep_alive_timeout(Duration::from_secs(2))
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW * 2);
            channels.push(endpoint.connect().await.map_err(|error| format!("{address}: {error}"))?);
        }
        let ring = view.ring.as_ref().ok_or("the peers are in no ring")?;
        let bits = SlotBits::new(ring.slot_bits).map_err(|error| error.to_string())?;
        let owner = |slot| owner_of(view, bits.point(slot));
        let owners: Option<Vec<usize>> = bits.iter().map(owner).collect();
        Ok(Self { channels, owners: owners.ok_or("the ring has no nodes")?, bits, ring_id: ring.id.clone() })
    }

    fn holder(&self, key: &[u8]) -> usize {
        let Slot(slot) = self.bits.slot_of(Id::of_key(key));
        self.owners[slot as usize]
    }
}

/// Which peer hosts the first node at or behind an identifier, by its position in the view.
fn owner_of(view: &RingView, point: Id) -> Option<usize> {
    let behind = view.places.iter().find(|place| place.id.as_bytes() >= point.as_bytes());
    let owner = &behind.or(view.places.first())?.node.peer_id;
    view.peers.iter().position(|peer| peer.peer.id == *owner)
}

/// What is written and read, always the same for a seed.
struct Draw {
    random: ChaCha8Rng,
    noise: Bytes,
    keys: u64,
}

impl Draw {
    fn new(load: &Load, stream: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(load.seed);
        let noise: Vec<u8> = (0..VALUE_BYTES * 64).map(|_| random.random()).collect();
        random.set_stream(stream);
        Self { random, noise: noise.into(), keys: load.keys }
    }

    fn any_key(&mut self) -> Bytes {
        key(self.random.random_range(0..self.keys))
    }

    /// Values that do not compress, without a copy.
    fn value(&mut self) -> Bytes {
        let start = self.random.random_range(0..=self.noise.len() - VALUE_BYTES);
        self.noise.slice(start..start + VALUE_BYTES)
    }
}

fn key(number: u64) -> Bytes {
    let text = format!("{number:0width$}", width = KEY_BYTES);
    text.into()
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// As a peer's.
const WINDOW: u32 = 4 << 20;
