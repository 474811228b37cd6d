//! Sending a slot to another peer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use dht_core::{
    overlay::Peer,
    record::{Record, RecordKey},
    replication::{
        digest::{Parts, SlotDigest},
        eventual::Digests,
    },
    ring::Slot,
    view::{Epoch, Position},
};
use dhtd_proto::v1::{self, peer_call::Call};
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

use super::{Shared, chains::TablePart, shards::Shards};
use crate::{transport::Lane, wire};

/// Sends all records of the slot's sub-ranges that differ from what the other peer holds, and waits until it has them on
/// disk. Returns the digest that the slot had here when it began, or nothing if it was cut off: then some records are
/// there, which does no harm.
pub(super) async fn send_slot(shared: &Shared, slot: Slot, to: &Peer, theirs: SlotDigest) -> Option<SlotDigest> {
    let shards = shared.shards.get()?.clone();
    let digest = shards.table().digest(slot);
    let parts = digest.differing(&theirs);
    let (sender, mut batches) = mpsc::channel(2);
    let scan = spawn_blocking(move || read_slot(&shards, slot, parts, &sender));
    while let Some(records) = batches.recv().await {
        let call = Call::Push(v1::PushCall { records });
        if let Err(error) = shared.calls.call(&to.address, Lane::Background, call, PUSH_TIME_OUT).await {
            tracing::debug!(%slot, to = %to.address, %error, "transfer was cut off");
            return None;
        }
    }
    match scan.await {
        Ok(Ok(())) => Some(digest),
        Ok(Err(error)) => {
            tracing::error!(%slot, %error, "cannot read a slot to send it");
            None
        }
        Err(_) => None,
    }
}

fn read_slot(
    shards: &Arc<Shards>,
    slot: Slot,
    parts: Parts,
    batches: &mpsc::Sender<Vec<v1::StoredRecord>>,
) -> Result<(), crate::storage::EngineError> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for entry in shards.scan(slot) {
        let (at, record): (RecordKey, Record) = entry?;
        if !parts.has(&at) {
            continue;
        }
        bytes += at.key.len() + record.value().map_or(0, |value| value.len());
        batch.push(wire::stored_record(&at, &record));
        if batch.len() >= BATCH_RECORDS || bytes >= BATCH_BYTES {
            bytes = 0;
            if batches.blocking_send(std::mem::take(&mut batch)).is_err() {
                return Ok(()); // Nobody is waiting any more.
            }
        }
    }
    if !batch.is_empty() {
        drop(batches.blocking_send(batch));
    }
    Ok(())
}

/// Sends a slot's chain-mode table, as it was after the entry `applied`, to a peer that copies it. If it is cut off, the
/// other peer uses nothing of it and asks again.
pub(super) async fn send_table(
    shared: Arc<Shared>,
    to: Peer,
    slot: Slot,
    epoch: Epoch,
    applied: Position,
    parts: mpsc::Receiver<TablePart>,
) {
    let Some(channel) = shared.channels.get(&to.address) else { return };
    let mut client = v1::peer_service_client::PeerServiceClient::new(channel);
    let routes = shared.routes.load_full();
    let request = move |part: TablePart| v1::TransferRequest {
        ring_id: wire::ring_id_bytes(routes.ring.as_ref()),
        peer_id: Bytes::copy_from_slice(routes.me.id.as_bytes()),
        slot: slot.0,
        epoch: Some(wire::chain::epoch(epoch)),
        applied: Some(wire::chain::position(applied)),
        records: part.records.iter().map(|(at, record)| wire::chain::record(at, record)).collect(),
        outcomes: part.outcomes.into_iter().map(wire::chain::recorded).collect(),
        done: part.done,
    };
    if let Err(error) = client.transfer(ReceiverStream::new(parts).map(request)).await {
        tracing::debug!(%slot, to = %to.address, %error, "transfer was cut off");
    }
}

/// What one call holds at most: large enough to share an fsync, small enough to leave room for others. Guesses.
const BATCH_RECORDS: usize = 1000;
const BATCH_BYTES: usize = 512 << 10;

/// A batch that takes longer to be written counts as lost. A guess.
const PUSH_TIME_OUT: Duration = Duration::from_secs(10);
