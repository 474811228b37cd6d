//! Writes.

use std::{sync::Arc, time::Instant};

use dht_core::{
    overlay::Peer,
    record::{Content, Mode, RecordKey},
    replication::chain::{Action, Command, Outcome},
};
use dhtd_proto::v1::{self, peer_call::Call, peer_reply::Reply};
use tokio::{sync::oneshot, time::sleep};

use super::{
    Coordinator, Executed, OPERATION_TIME, OperationError, REPLICA_TIME, RETRY_PAUSE, Stamp,
    commit::{Done, Intent, WriteOutcome, check},
};
use crate::{
    driver::shards::Shards,
    transport::{CallError, Lane},
    wire,
};

impl Coordinator {
    /// Carries out a client's command in a keyspace of this mode; answered when `min_durable` replicas have it on disk (0 means 1). Eventual mode
    /// knows plain puts and deletes.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub async fn execute(&self, mode: Mode, command: Command, min_durable: u32) -> Result<Executed, OperationError> {
        match self.intended(mode, command)? {
            Intended::Command(command) => {
                let (outcome, replicas) = self.command(command, min_durable).await?;
                executed(outcome, replicas)
            }
            Intended::Change(at, content) => Ok(self.write(at, content, min_durable).await?.into()),
        }
    }

    /// What a command is in a keyspace of this mode.
    ///
    /// # Errors
    /// If it is too large, or can't be done there.
    pub(super) fn intended(&self, mode: Mode, command: Command) -> Result<Intended, OperationError> {
        let limit = self.0.limits.value_bytes;
        if let Action::Put(value) = &command.action
            && value.len() > limit
        {
            return Err(OperationError::ValueTooLarge { bytes: value.len(), limit });
        }
        if mode == Mode::Chain {
            return Ok(Intended::Command(command));
        }
        match (command.action, command.condition) {
            (Action::Put(value), None) => Ok(Intended::Change(command.at, wire::content(Some(value), command.expires))),
            (Action::Delete, None) => Ok(Intended::Change(command.at, Content::Tombstone)),
            _ => Err(OperationError::NeedsChain),
        }
    }

    /// Carries out writes that another peer was asked for. Each is told by its own [`Done`] what became of it; they go
    /// on when the other peer goes away. Returns when all have found a place in a queue.
    pub async fn write_for_peer(&self, calls: impl IntoIterator<Item = (v1::WriteCall, Done)>) {
        let mut by_shard: [Vec<Intent>; Shards::COUNT] = Default::default();
        for (call, done) in calls {
            match self.intent(call, done) {
                Ok(intent) => by_shard[Shards::shard_of(intent.slot)].push(intent),
                Err((refusal, done)) => done(Err(refusal)),
            }
        }
        let Ok(shards) = self.shards() else { return }; // Then nothing has passed the check.
        for intents in by_shard {
            self.commit(shards, intents).await;
        }
    }

    fn intent(&self, call: v1::WriteCall, done: Done) -> Result<Intent, (OperationError, Done)> {
        let checked = Self::key_in(call.keyspace, call.key).and_then(|at| Ok((self.shards()?.slot_of(&at.key), at)));
        match checked {
            Ok((slot, at)) => {
                let change = wire::content(call.value, wire::expiry(call.ttl_ms, self.wall_millis()));
                Ok(Intent { slot, at, change, min_durable: call.min_durable.max(1), done })
            }
            Err(refusal) => Err((refusal, done)),
        }
    }

    /// Has a replica carry the write out: this peer, if it is one. A write whose replica does not answer, or cannot take
    /// it, is given to another one: the client still waits, so that the later of two versions of it is as good as the
    /// earlier.
    pub(super) async fn write(
        &self,
        at: RecordKey,
        content: Content,
        min_durable: u32,
    ) -> Result<WriteOutcome, OperationError> {
        let shards = self.shards()?;
        let slot = shards.slot_of(&at.key);
        let wanted = min_durable.max(1);
        let deadline = Instant::now() + OPERATION_TIME;
        let mut refusal = OperationError::NoReplica;
        loop {
            match check(&self.0.shared.routes.load(), slot, wanted) {
                Ok(()) if self.0.shared.store.failure().is_none() => {
                    let (done, outcome) = oneshot::channel();
                    // The client may have stopped waiting.
                    let done: Done = Box::new(|outcome| drop(done.send(outcome)));
                    let intent = Intent { slot, at, change: content, min_durable: wanted, done };
                    self.commit(shards, vec![intent]).await;
                    return outcome.await.unwrap_or(Err(OperationError::Stopping));
                }
                Err(error @ OperationError::TooFewPeers { .. }) => refusal = error, // A moment after the ring has formed.
                _ => {}
            }
            let me = self.me();
            for peer in self.home(slot).await.unwrap_or_default().iter().filter(|peer| peer.id != me) {
                match self.write_there(peer, &at, &content, wanted).await {
                    Ok(outcome) => return Ok(outcome),
                    Err(CallError::NotSent(_) | CallError::Broken(_)) => {}
                    Err(CallError::Refused(failure)) if another_may(&failure) => {
                        refusal = OperationError::Remote(failure);
                    }
                    Err(CallError::Refused(failure)) => return Err(OperationError::Remote(failure)),
                }
            }
            self.forget(slot);
            let peers = self.largest_group();
            if peers < wanted as usize {
                return Err(OperationError::TooFewPeers { wanted, peers });
            }
            if Instant::now() >= deadline {
                return Err(refusal);
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// How many peers a home group has once the ring has come to rest. Looks at all peers.
    fn largest_group(&self) -> usize {
        let routes = self.0.shared.routes.load();
        routes.ring.map_or(0, |ring| ring.replicas).min(routes.peers().count())
    }

    pub(super) async fn commit(&self, shards: &Arc<Shards>, intents: Vec<Intent>) {
        self.0.queues.push(&self.0.shared, &self.0.control, shards, intents).await;
    }

    async fn write_there(
        &self,
        peer: &Peer,
        at: &RecordKey,
        content: &Content,
        min_durable: u32,
    ) -> Result<WriteOutcome, CallError> {
        let call = write_call(at, content, min_durable, self.wall_millis());
        let limit = REPLICA_TIME + REPLICA_TIME / 2; // Longer than the replica itself waits for others.
        outcome(&peer.address, self.0.shared.calls.call(&peer.address, Lane::Foreground, call, limit).await)
    }
}

/// A client's write, by the mode of its keyspace.
#[derive(Clone)]
pub(super) enum Intended {
    Command(Command),
    Change(RecordKey, Content),
}

impl From<WriteOutcome> for Executed {
    fn from(WriteOutcome { version, durable, existed }: WriteOutcome) -> Self {
        Self { stamp: Stamp::Version(version), durable, existed, total: None }
    }
}

/// What a client is told of what came of its command.
pub(super) fn executed(outcome: Outcome, durable: u32) -> Result<Executed, OperationError> {
    match outcome {
        Outcome::Done { revision, total, existed } => {
            Ok(Executed { stamp: Stamp::Revision(revision), durable, existed, total })
        }
        Outcome::NothingThere => Ok(Executed { stamp: Stamp::Revision(0), durable, existed: false, total: None }),
        Outcome::ConditionFailed(revision) => Err(OperationError::ConditionFailed { revision }),
        Outcome::WrongType => Err(OperationError::WrongType),
        Outcome::Overflow => Err(OperationError::Overflow),
    }
}

/// The call that has another replica carry a write out, as it is sent at this time.
pub(super) fn write_call(at: &RecordKey, content: &Content, min_durable: u32, wall_millis: u64) -> Call {
    let (value, ttl_ms) = (content.value().cloned(), wire::time_left(content.expiry(), wall_millis));
    Call::Write(v1::WriteCall { keyspace: at.keyspace.0, key: at.key.clone(), value, min_durable, ttl_ms })
}

/// What another replica's answer to a write says.
pub(super) fn outcome(address: &Arc<str>, answer: Result<Reply, CallError>) -> Result<WriteOutcome, CallError> {
    let broken = || CallError::Broken(address.clone());
    match answer? {
        Reply::Write(reply) => {
            let version = wire::decode_version(reply.version.as_ref()).map_err(|_| broken())?;
            Ok(WriteOutcome { version, durable: reply.durable, existed: reply.existed })
        }
        _ => Err(broken()),
    }
}

/// Whether another replica may carry out what this answer refuses.
pub(super) fn another_may(failure: &v1::Failure) -> bool {
    ANOTHER_MAY.contains(&failure.reason.as_str())
}

/// Why a replica has not carried a write out that another one may, now or in a moment.
const ANOTHER_MAY: [&str; 4] = ["NOT_REPLICA", "TOO_FEW_PEERS", "STORE_READ_ONLY", "DISK_FULL"];
