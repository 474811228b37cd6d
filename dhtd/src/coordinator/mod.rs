//! Client operations, one file each: find the slot's home group, carry the operation out there, reply.
//!
//! Any peer coordinates any operation. A write is carried out by one replica, which gives it its version, and pushed
//! from there to the others; a read is answered by any replica that is synced, or by the newest that the others hold.

mod batch;
mod catalogue;
mod chain;
mod commit;
mod error;
mod explain;
mod export;
mod get;
mod readers;
mod recover;
mod scan;
pub(crate) mod slots;
mod verify;
mod write;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::{Duration, Instant},
};

use bytes::Bytes;
use dht_core::{
    overlay::Peer,
    record::{KeyspaceId, Record, RecordKey, Version},
    replication::chain::Reads,
    ring::{PeerId, Slot},
};

pub use batch::{Completed, Completion, Operation};
pub use commit::{Done, WriteOutcome};
pub use error::OperationError;
pub use explain::{Explanation, Stand, committed};
pub use get::{Held, Read};
pub use recover::{Findings, RecoverError};
pub use scan::Scan;
pub use verify::VERIFY_TIME;

use self::commit::Queues;
use crate::driver::{Handle, Shared, shards::Shards};

/// What a client's request may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest value in bytes. Default 1 MiB (DESIGN, section 9).
    pub value_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { value_bytes: dhtd_proto::MAX_VALUE_BYTES }
    }
}

/// Which write a value is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// Eventual mode.
    Version(Version),
    /// Chain mode: the number of the write in its slot; 0 if nothing was written.
    Revision(u64),
}

/// A client's command was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Which write it is.
    pub stamp: Stamp,
    /// Replicas that have it on disk, as far as is known.
    pub durable: u32,
    /// The key had a value before.
    pub existed: bool,
    /// What a counter is now.
    pub total: Option<i64>,
}

/// Carries out client operations. Cheap to clone.
#[derive(Clone)]
pub struct Coordinator(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    control: Handle,
    limits: Limits,
    reads: Reads,
    located: Mutex<HashMap<Slot, Located>>,
    queues: Queues,
    /// Another peer is being asked for its catalogue.
    asking: AtomicBool,
    /// Held by the recovery that this peer carries out.
    recovering: tokio::sync::Mutex<()>,
}

/// A home group that was looked up.
struct Located {
    group: Vec<Peer>,
    at: Instant,
}

impl Coordinator {
    /// A coordinator over what the peer's loops share.
    #[must_use]
    pub fn new(shared: Arc<Shared>, control: Handle, limits: Limits, reads: Reads) -> Self {
        let (located, queues, asking, recovering) = Default::default();
        Self(Arc::new(Inner { shared, control, limits, reads, located, queues, asking, recovering }))
    }

    /// Takes in records of another replica; they are on disk on return.
    ///
    /// # Errors
    /// If the store refuses them.
    pub async fn take_in(&self, records: Vec<(RecordKey, Record)>) -> Result<(), OperationError> {
        let shards = self.shards()?;
        shards.merge(records).await?;
        Ok(shards.ticket().await?)
    }

    /// What this peer holds, for another peer that was asked.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub fn read_for_peer(&self, keyspace: u32, key: Bytes) -> Result<(RecordKey, Held), OperationError> {
        let at = Self::key_in(keyspace, key)?;
        self.check_keyspace(at.keyspace)?;
        let held = self.read_here(&at)?;
        Ok((at, held))
    }

    fn shards(&self) -> Result<&Arc<Shards>, OperationError> {
        self.0.shared.shards.get().ok_or(OperationError::NotAMember)
    }

    /// This peer may answer for a slot alone. A peer whose store takes no writes any more misses what is acknowledged
    /// elsewhere from then on, whatever it had taken in before.
    fn synced(&self, slot: Slot) -> bool {
        let synced = self.shards().is_ok_and(|shards| shards.table().synced(slot));
        synced && self.0.shared.store.failure().is_none()
    }

    /// Unix time in milliseconds, as this peer goes by it.
    pub(crate) fn wall_millis(&self) -> u64 {
        self.0.shared.wall_clock.millis()
    }

    fn me(&self) -> PeerId {
        self.0.shared.routes.load().me.id
    }

    fn key_in(keyspace: u32, key: Bytes) -> Result<RecordKey, OperationError> {
        if key.is_empty() || key.len() > dhtd_proto::MAX_KEY_BYTES {
            return Err(OperationError::BadKey { bytes: key.len() });
        }
        Ok(RecordKey { keyspace: KeyspaceId(keyspace), key })
    }

    /// The peers that should hold a slot, live ones first. Asks the ring if this peer does not know.
    async fn home(&self, slot: Slot) -> Result<Vec<Peer>, OperationError> {
        let routes = self.0.shared.routes.load_full();
        let Some(bits) = routes.slot_bits() else { return Err(OperationError::NotAMember) };
        let known: Vec<Peer> = commit::group(&routes, slot).cloned().collect();
        if !known.is_empty() {
            return Ok(known);
        }
        if let Some(group) = self.located(slot) {
            return Ok(group);
        }
        let found = self.0.control.lookup(bits.point(slot)).await.map_err(|_| OperationError::NoReplica)?;
        let home = found.home.ok_or(OperationError::NoReplica)?;
        let peer = |id: &PeerId| found.peers.iter().find(|peer| peer.id == *id).cloned();
        let group: Vec<Peer> = home.group.iter().filter_map(peer).collect();
        let located = Located { group: group.clone(), at: Instant::now() };
        self.0.located.lock().unwrap_or_else(PoisonError::into_inner).insert(slot, located);
        Ok(group)
    }

    fn located(&self, slot: Slot) -> Option<Vec<Peer>> {
        let located = self.0.located.lock().unwrap_or_else(PoisonError::into_inner);
        located.get(&slot).filter(|located| located.at.elapsed() < LOCATED_FOR).map(|located| located.group.clone())
    }

    /// What was looked up for the slot turned out to be wrong.
    fn forget(&self, slot: Slot) {
        self.0.located.lock().unwrap_or_else(PoisonError::into_inner).remove(&slot);
    }
}

/// A home group that was looked up is used for that long. A guess; a wrong one heals at the first refusal.
const LOCATED_FOR: Duration = Duration::from_secs(5);

/// A client's operation is tried for that long if the client sets no deadline of its own.
pub const OPERATION_TIME: Duration = Duration::from_secs(5);

/// Between two attempts at an operation while the ring changes. A guess.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How long another replica may take for its part. A guess.
const REPLICA_TIME: Duration = Duration::from_secs(2);
