//! Writes that wait for the same shard are carried out together.
//!
//! One task for each shard takes whatever waits, has the shard write it as one batch, and goes on to the next batch,
//! while a task of its own sees the last one through: one push to each other replica, one fsync here. So what a batch
//! costs is shared by the writes in it, and a batch grows with the load. The price: a write waits for the batch before
//! it to be visible, which takes as long as it takes to copy it into the journal; it never waits for another's fsync
//! or for a peer that its own key has nothing to do with.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use dht_core::{
    overlay::{Home, Peer, Routes},
    record::{Content, RecordKey, Version},
    ring::{PeerId, Slot},
};
use dhtd_proto::v1::{self, peer_call::Call};
use tokio::{
    sync::mpsc,
    task::{JoinSet, yield_now},
};

use super::{OperationError, REPLICA_TIME};
use crate::{
    driver::{
        Handle, Shared,
        control::Command,
        shards::{Change, Shards, Written},
    },
    storage::EngineError,
    transport::Lane,
    wire,
};

/// A write that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteOutcome {
    /// Which write it is.
    pub version: Version,
    /// Replicas that had it on disk when enough had.
    pub durable: u32,
    /// The replica that took it had a value for the key before.
    pub existed: bool,
}

/// Whom to tell what became of a write. It may be told by any task, so it must not block.
pub type Done = Box<dyn FnOnce(Result<WriteOutcome, OperationError>) + Send>;

/// A write that this peer is to carry out as a replica.
pub(super) struct Intent {
    pub(super) slot: Slot,
    pub(super) at: RecordKey,
    pub(super) change: Change,
    /// At least 1.
    pub(super) min_durable: u32,
    pub(super) done: Done,
}

/// The queues of all shards. Whoever is in one is carried out, or told why not, unless the process ends.
#[derive(Default)]
pub(super) struct Queues(OnceLock<Vec<mpsc::Sender<Vec<Intent>>>>);

/// The task of one shard.
struct Committer {
    shards: Arc<Shards>,
    shared: Arc<Shared>,
    control: Handle,
}

/// Writes of one batch that are visible here, on their way to disks.
#[derive(Default)]
struct Spreading {
    writes: Vec<Write>,
    /// Other replicas, each with the places in `writes` that it has to hold, until it has answered.
    targets: Vec<(Peer, Vec<usize>)>,
    /// What came of the fsync here.
    synced: Option<Result<(), EngineError>>,
}

struct Write {
    slot: Slot,
    version: Version,
    existed: bool,
    min_durable: u32,
    /// Replicas that have it on disk, this one not counted.
    confirmed: u32,
    /// Replicas that may still confirm it, this one not counted.
    outstanding: u32,
    /// None once it was told.
    done: Option<Done>,
}

impl Queues {
    /// Hands writes of one shard over. Must be called within a tokio runtime.
    pub(super) async fn push(
        &self,
        shared: &Arc<Shared>,
        control: &Handle,
        shards: &Arc<Shards>,
        intents: Vec<Intent>,
    ) {
        let Some(first) = intents.first() else { return };
        let open = |_| {
            let (sender, queue) = mpsc::channel(QUEUE);
            let (shards, shared, control) = (shards.clone(), shared.clone(), control.clone());
            tokio::spawn(Committer { shards, shared, control }.run(queue));
            sender
        };
        let queues = self.0.get_or_init(|| (0..Shards::COUNT).map(open).collect());
        if let Err(returned) = queues[Shards::shard_of(first.slot)].send(intents).await {
            returned.0.into_iter().for_each(|intent| (intent.done)(Err(OperationError::Stopping)));
        }
    }
}

impl Committer {
    /// Works until all senders are gone.
    async fn run(self, mut queue: mpsc::Receiver<Vec<Intent>>) {
        while let Some(first) = queue.recv().await {
            // Whoever is ready to write as well comes first.
            yield_now().await;
            let mut batch = Vec::new();
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(intents) = next {
                for intent in intents {
                    bytes += size_of(&intent);
                    batch.push(intent);
                    if bytes >= BATCH_BYTES || batch.len() >= BATCH {
                        bytes = 0;
                        self.carry_out(std::mem::take(&mut batch)).await;
                    }
                }
                next = queue.try_recv().ok();
            }
            self.carry_out(batch).await;
        }
    }

    /// Returns when the writes are visible here.
    async fn carry_out(&self, batch: Vec<Intent>) {
        let routes = self.shared.routes.load_full();
        let (mut changes, mut told) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for Intent { slot, at, change, min_durable, done } in batch {
            match check(&routes, slot, min_durable) {
                Ok(()) => {
                    told.push((slot, at.clone(), min_durable, done));
                    changes.push((slot, at, change));
                }
                Err(refusal) => done(Err(refusal)),
            }
        }
        if changes.is_empty() {
            return;
        }
        let written = match self.shards.write(changes).await {
            Ok(written) => written,
            Err(error) => return told.into_iter().for_each(|(.., done)| done(Err(error.clone().into()))),
        };
        let mut spreading = Spreading::default();
        let mut records = Vec::with_capacity(told.len());
        let me = Bytes::copy_from_slice(routes.me.id.as_bytes());
        for ((slot, at, min_durable, done), written) in told.into_iter().zip(written) {
            match written {
                Ok(written) => {
                    spreading.add(&routes, slot, min_durable, &written, done);
                    records.push(own_record(at, written, &me));
                }
                Err(error) => done(Err(error.into())),
            }
        }
        let (shards, shared, control) = (self.shards.clone(), self.shared.clone(), self.control.clone());
        tokio::spawn(async move { spreading.run(records, &shards, &shared, &control).await });
    }
}

impl Spreading {
    fn add(&mut self, routes: &Routes, slot: Slot, min_durable: u32, written: &Written, done: Done) {
        let (place, me) = (self.writes.len(), routes.me.id);
        let mut outstanding = 0;
        for peer in group(routes, slot).filter(|peer| peer.id != me) {
            outstanding += 1;
            match self.targets.iter_mut().find(|(target, _)| target.id == peer.id) {
                Some((_, places)) => places.push(place),
                None => self.targets.push((peer.clone(), vec![place])),
            }
        }
        let (version, existed) = (written.record.version, written.existed);
        self.writes.push(Write { slot, version, existed, min_durable, confirmed: 0, outstanding, done: Some(done) });
    }

    /// Sees the writes through: each is answered when enough replicas have it on disk, or none can confirm it any
    /// more. A replica that does not confirm is compared with later.
    async fn run(mut self, records: Vec<v1::StoredRecord>, shards: &Shards, shared: &Arc<Shared>, control: &Handle) {
        let mut pushes = JoinSet::new();
        for (number, (peer, places)) in self.targets.iter().enumerate() {
            let records = places.iter().map(|place| records[*place].clone()).collect();
            let (shared, address) = (shared.clone(), peer.address.clone());
            pushes.spawn(async move {
                let call = Call::Push(v1::PushCall { records });
                (number, shared.calls.call(&address, Lane::Foreground, call, REPLICA_TIME).await.is_ok())
            });
        }
        drop(records);
        let mut ticket = std::pin::pin!(shards.ticket());
        loop {
            tokio::select! {
                synced = &mut ticket, if self.synced.is_none() => self.synced(synced),
                Some(pushed) = pushes.join_next() => {
                    // Pushes are neither cancelled nor do they panic.
                    let Ok((number, confirmed)) = pushed else { continue };
                    let (peer, slots) = self.pushed(number, confirmed);
                    slots.into_iter().for_each(|slot| control.try_send(Command::Diverged(slot, peer)));
                }
                else => return,
            }
        }
    }

    /// The fsync here has ended.
    fn synced(&mut self, result: Result<(), EngineError>) {
        self.synced = Some(result);
        (0..self.writes.len()).for_each(|place| self.settle(place));
    }

    /// A target has all its records on disk, or will not say so. Returns who it is, and the slots that are to be
    /// compared with it.
    fn pushed(&mut self, number: usize, confirmed: bool) -> (PeerId, Vec<Slot>) {
        let (peer, places) = &mut self.targets[number];
        let (peer, places) = (peer.id, std::mem::take(places));
        let mut slots = Vec::new();
        for place in places {
            let write = &mut self.writes[place];
            write.outstanding -= 1;
            if confirmed {
                write.confirmed += 1;
            } else {
                slots.push(write.slot);
            }
            self.settle(place);
        }
        slots.sort_unstable();
        slots.dedup();
        (peer, slots)
    }

    /// Answers a write if it is decided. None is before the fsync here has ended.
    fn settle(&mut self, place: usize) {
        let (write, Some(synced)) = (&mut self.writes[place], &self.synced) else { return };
        let (durable, wanted) = (write.confirmed + 1, write.min_durable);
        let outcome = match synced {
            Err(error) => Err(error.clone().into()),
            Ok(()) if durable >= wanted => Ok(WriteOutcome { version: write.version, durable, existed: write.existed }),
            Ok(()) if write.outstanding == 0 => Err(OperationError::NotDurable { wanted, reached: durable }),
            Ok(()) => return,
        };
        if let Some(done) = write.done.take() {
            done(outcome);
        }
    }
}

/// Whether this peer may carry out a write of the slot.
pub(super) fn check(routes: &Routes, slot: Slot, wanted: u32) -> Result<(), OperationError> {
    if !is_replica(routes, slot) {
        return Err(OperationError::NotReplica { slot: slot.0 });
    }
    let peers = group(routes, slot).count();
    if peers < wanted as usize { Err(OperationError::TooFewPeers { wanted, peers }) } else { Ok(()) }
}

/// Whether the owner of the slot has told this peer that it should hold it.
fn is_replica(routes: &Routes, slot: Slot) -> bool {
    home(routes, slot).contains(&routes.me.id)
}

/// The home group as the owner has told it to this peer; empty if it has not.
pub(super) fn group(routes: &Routes, slot: Slot) -> impl Iterator<Item = &Peer> {
    home(routes, slot).iter().filter_map(|id| routes.peer(*id))
}

fn home(routes: &Routes, slot: Slot) -> &[PeerId] {
    routes.home_of(slot).map_or(&[], |Home { group, .. }| group)
}

/// A record that this peer has just given its version. What is the same in all of them is shared.
fn own_record(at: RecordKey, written: Written, me: &Bytes) -> v1::StoredRecord {
    let version = v1::Version { clock: written.record.version.time.to_bits(), peer_id: me.clone() };
    let replaced = written.record.replaced.to_bits();
    let expires_at_ms = wire::expires_at(written.record.expiry());
    let value = match written.record.content {
        Content::Value(value) | Content::Expiring(value, _) => Some(value),
        Content::Tombstone => None,
    };
    v1::StoredRecord { keyspace: at.keyspace.0, key: at.key, version: Some(version), value, replaced, expires_at_ms }
}

fn size_of(intent: &Intent) -> usize {
    intent.at.key.len() + intent.change.value().map_or(0, Bytes::len) + RECORD_BYTES
}

/// Hand-overs that may wait for a shard before callers have to.
const QUEUE: usize = 4096;

/// Writes in one batch at most. A guess: as many as a shard puts into the engine at once.
const BATCH: usize = 1024;

/// Bytes in one batch at most, but for the last write: a batch is pushed in one call, well below a message's limit.
const BATCH_BYTES: usize = 512 << 10;

/// What a record adds to its key and value, roughly.
const RECORD_BYTES: usize = 64;

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
