//! Put and delete.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use dht_core::{
    overlay::Peer,
    record::{Content, RecordKey, Version},
    ring::{PeerId, Slot},
};
use dhtd_proto::v1::{self, peer_call::Call, peer_reply::Reply};
use tokio::{sync::mpsc, time::sleep};

use super::{Coordinator, OPERATION_TIME, OperationError, REPLICA_TIME, RETRY_PAUSE, known_group};
use crate::{
    driver::control::Command,
    transport::{CallError, Lane},
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

impl Coordinator {
    /// Writes a value; answered when `min_durable` replicas have it on disk (0 means 1).
    ///
    /// # Errors
    /// See [`OperationError`].
    pub async fn put(&self, key: Bytes, value: Bytes, min_durable: u32) -> Result<WriteOutcome, OperationError> {
        let limit = self.0.limits.value_bytes;
        if value.len() > limit {
            return Err(OperationError::ValueTooLarge { bytes: value.len(), limit });
        }
        self.write(Self::key(key)?, Content::Value(value), min_durable).await
    }

    /// Deletes a key; whether it was there makes no difference but in `existed`.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub async fn delete(&self, key: Bytes, min_durable: u32) -> Result<WriteOutcome, OperationError> {
        self.write(Self::key(key)?, Content::Tombstone, min_durable).await
    }

    /// Finds a replica and has it carry the write out. A write whose replica does not answer is given to another one:
    /// the client still waits, so that the later of two versions of it is as good as the earlier.
    async fn write(&self, at: RecordKey, content: Content, min_durable: u32) -> Result<WriteOutcome, OperationError> {
        let slot = self.shards()?.slot_of(&at.key);
        let deadline = Instant::now() + OPERATION_TIME;
        loop {
            let group = self.home(slot).await.unwrap_or_default();
            if group.iter().any(|peer| peer.id == self.me()) {
                return self.write_here(at, content, min_durable).await;
            }
            for peer in &group {
                match self.write_there(peer, &at, &content, min_durable).await {
                    Err(CallError::Refused(failure)) if failure.reason == "NOT_REPLICA" => {}
                    Err(CallError::NotSent(_) | CallError::Broken(_)) => {}
                    Err(CallError::Refused(failure)) => return Err(OperationError::Remote(failure)),
                    Ok(outcome) => return Ok(outcome),
                }
            }
            self.forget(slot);
            if Instant::now() >= deadline {
                return Err(OperationError::NoReplica);
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Carries a write out as a replica. It goes on when the caller stops waiting.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub(super) async fn write_here(
        &self,
        at: RecordKey,
        content: Content,
        min_durable: u32,
    ) -> Result<WriteOutcome, OperationError> {
        let this = self.clone();
        let work = tokio::spawn(async move { this.execute(at, content, min_durable.max(1)).await });
        work.await.unwrap_or(Err(OperationError::Stopping))
    }

    async fn write_there(
        &self,
        peer: &Peer,
        at: &RecordKey,
        content: &Content,
        min_durable: u32,
    ) -> Result<WriteOutcome, CallError> {
        let value = match content {
            Content::Value(value) => Some(value.clone()),
            Content::Tombstone => None,
        };
        let call = Call::Write(v1::WriteCall { keyspace: at.keyspace.0, key: at.key.clone(), value, min_durable });
        let broken = || CallError::Broken(peer.address.clone());
        let limit = REPLICA_TIME + REPLICA_TIME / 2; // Longer than the replica itself waits for others.
        match self.0.shared.calls.call(&peer.address, Lane::Foreground, call, limit).await? {
            Reply::Write(reply) => {
                let version = wire::decode_version(reply.version.as_ref()).map_err(|_| broken())?;
                Ok(WriteOutcome { version, durable: reply.durable, existed: reply.existed })
            }
            _ => Err(broken()),
        }
    }

    async fn execute(&self, at: RecordKey, content: Content, min_durable: u32) -> Result<WriteOutcome, OperationError> {
        let shards = self.shards()?.clone();
        let slot = shards.slot_of(&at.key);
        let group = known_group(&self.0.shared.routes.load(), slot).unwrap_or_default();
        if !group.iter().any(|peer| peer.id == self.me()) {
            return Err(OperationError::NotReplica { slot: slot.0 });
        }
        if group.len() < min_durable as usize {
            return Err(OperationError::TooFewPeers { wanted: min_durable, peers: group.len() });
        }
        let written = shards.write(at.clone(), content).await?;
        let record = wire::stored_record(&at, &written.record);
        let mut confirmed = self.push(slot, &record, group);
        let mut durable = 0;
        let mut local = std::pin::pin!(shards.ticket());
        let mut local_done = false;
        while durable < min_durable || !local_done {
            tokio::select! {
                synced = &mut local, if !local_done => {
                    synced?;
                    local_done = true;
                    durable += 1;
                }
                confirmed = confirmed.recv() => match confirmed {
                    Some(()) => durable += 1,
                    None if local_done => return Err(OperationError::NotDurable { wanted: min_durable, reached: durable }),
                    None => {
                        (&mut local).await?;
                        local_done = true;
                        durable += 1;
                    }
                },
            }
        }
        Ok(WriteOutcome { version: written.record.version, durable, existed: written.existed })
    }

    /// Pushes a record to the other replicas. Each that has it on disk is a message on the channel, which closes when
    /// none can come any more. A replica that does not confirm is compared with later.
    fn push(&self, slot: Slot, record: &v1::StoredRecord, group: Vec<Peer>) -> mpsc::UnboundedReceiver<()> {
        let (confirm, confirmed) = mpsc::unbounded_channel();
        let me: PeerId = self.me();
        for peer in group.into_iter().filter(|peer| peer.id != me) {
            let (inner, confirm) = (Arc::clone(&self.0), confirm.clone());
            let call = Call::Push(v1::PushCall { records: vec![record.clone()] });
            tokio::spawn(async move {
                let pushed = inner.shared.calls.call(&peer.address, Lane::Foreground, call, REPLICA_TIME).await;
                if pushed.is_ok() {
                    let _ = confirm.send(());
                } else {
                    inner.control.try_send(Command::Diverged(slot, peer.id));
                }
            });
        }
        confirmed
    }
}
