//! Operations in chain mode: find the slot's view, go to its head, or for reads to any member.
//!
//! Views are cached: whoever goes by an old one is told the newer one with the refusal. What was not carried out is
//! tried again while the client waits; what may have been is not, unless the command names itself.

use std::{sync::Arc, time::Duration};

use dht_core::{
    record::RecordKey,
    replication::chain::{Command, Outcome, Record, Refusal},
    ring::{PeerId, Slot},
    view::{Epoch, View},
};
use dhtd_proto::v1::{self, chain_read_reply, chain_write_reply, peer_call::Call, peer_reply::Reply};
use rand::seq::SliceRandom;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{Coordinator, OperationError};
use crate::{
    driver::chains::{Batch, Chains, ReadDone, WriteDone},
    transport::{CallError, Lane},
    wire::{Malformed, chain as wire},
};

/// What came of sending a request to one peer.
pub(super) enum Attempt<T> {
    Done(T),
    /// Nothing was done.
    Refused(Refusal),
    /// The peer can't be reached: nothing was done there.
    NotThere,
    /// It may have been done.
    Unknown,
}

impl Coordinator {
    /// Has the slot's head carry a command out. Returns what came of it, and how many replicas have it on disk.
    pub(super) async fn command(&self, command: Command, wanted: u32) -> Result<(Outcome, u32), OperationError> {
        self.command_again(command, wanted, false).await
    }

    /// As [`Coordinator::command`], after an attempt that failed; with `in_doubt` it may have been carried out.
    pub(super) async fn command_again(
        &self,
        command: Command,
        wanted: u32,
        mut in_doubt: bool,
    ) -> Result<(Outcome, u32), OperationError> {
        if in_doubt && command.request.is_none() {
            return Err(OperationError::OutcomeUnknown);
        }
        let (chains, slot) = (self.chains()?, self.shards()?.slot_of(&command.at.key));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut failure = OperationError::ViewUnknown { slot: slot.0 };
            if !in_doubt {
                self.check_keyspace(command.at.keyspace)?;
            }
            if let Some(view) = timeout_at(deadline, self.view(chains, slot)).await.ok().flatten() {
                let replicas = u32::try_from(view.chain.len()).unwrap_or(u32::MAX);
                let attempt = match view.head() {
                    Some(head) if replicas >= wanted => self.write_at(chains, head, slot, view.epoch, &command).await,
                    _ => Attempt::NotThere,
                };
                match attempt {
                    Attempt::Done(outcome) => return Ok((outcome, replicas)),
                    Attempt::Refused(Refusal::TooOld(_)) if in_doubt => return Err(OperationError::OutcomeUnknown),
                    Attempt::Refused(refusal @ Refusal::TooOld(_)) => return Err(refusal.into()),
                    Attempt::Unknown | Attempt::Refused(Refusal::OutcomeUnknown) if command.request.is_none() => {
                        return Err(OperationError::OutcomeUnknown);
                    }
                    Attempt::Unknown | Attempt::Refused(Refusal::OutcomeUnknown) => in_doubt = true,
                    Attempt::Refused(refusal) => failure = refusal.into(),
                    Attempt::NotThere if replicas < wanted => {
                        failure = OperationError::TooFewPeers { wanted, peers: view.chain.len() };
                    }
                    Attempt::NotThere => failure = Refusal::Unavailable.into(),
                }
                drop(timeout_at(deadline, self.look_for_newer(chains, slot, &view)).await);
            }
            if Instant::now() >= deadline {
                return Err(if in_doubt { OperationError::OutcomeUnknown } else { failure });
            }
            sleep(PAUSE).await;
        }
    }

    /// Reads what is committed under a key, at any member of the slot's chain: this peer, if it is one. With `any`, what
    /// the member has, perhaps from before.
    pub(super) async fn read_chain(&self, at: RecordKey, any: bool) -> Result<Option<Record>, OperationError> {
        let (chains, slot) = (self.chains()?, self.shards()?.slot_of(&at.key));
        if let Some(record) = self.read_chain_here(chains, slot, &at, any) {
            return Ok(record);
        }
        let mut failure = OperationError::ViewUnknown { slot: slot.0 };
        // Whoever is asked then may never answer, and nothing has to be waited for: a read changes nothing.
        let read = timeout(PATIENCE, self.read_somewhere(chains, slot, &at, any, &mut failure)).await;
        read.unwrap_or(Err(failure))
    }

    /// Tries member after member, again and again. `failure` is why none has answered yet.
    async fn read_somewhere(
        &self,
        chains: &Chains,
        slot: Slot,
        at: &RecordKey,
        any: bool,
        failure: &mut OperationError,
    ) -> Result<Option<Record>, OperationError> {
        loop {
            self.check_keyspace(at.keyspace)?;
            if let Some(view) = self.view(chains, slot).await {
                *failure = Refusal::Unavailable.into();
                for peer in self.readers(&view, any) {
                    match self.read_at(chains, peer, slot, at, any).await {
                        Attempt::Done(record) => return Ok(record),
                        Attempt::Refused(refusal) => *failure = refusal.into(),
                        Attempt::NotThere | Attempt::Unknown => *failure = Refusal::Unavailable.into(),
                    }
                }
                self.look_for_newer(chains, slot, &view).await;
            }
            sleep(PAUSE).await;
        }
    }

    /// Hands over what other peers have asked this one for.
    pub async fn carry_out_for_peer(&self, batch: Batch) {
        if let Ok(chains) = self.chains() {
            chains.carry_out(batch).await;
        } // Otherwise nothing was added to it.
    }

    /// Adds to the batch what another peer has asked this one for, as the slot's head.
    pub fn write_chain_for_peer(
        &self,
        call: v1::ChainWriteCall,
        batch: &mut Batch,
        reply: impl FnOnce(Reply) + Send + 'static,
    ) {
        let decoded = || {
            let epoch = wire::decode_epoch(call.epoch.unwrap_or_default())?;
            Ok::<_, Malformed>((epoch, wire::decode_command(call.command.unwrap_or_default(), self.wall_millis())?))
        };
        let checked = decoded().map_err(OperationError::from).and_then(|(epoch, command)| {
            self.check_keyspace(command.at.keyspace)?;
            let chains = self.chains()?.clone();
            Ok((chains, self.shards()?.slot_of(&command.at.key), epoch, command))
        });
        let (chains, slot, epoch, command) = match checked {
            Ok(checked) => checked,
            Err(error) => return reply(Reply::Failure(error.into())),
        };
        let views = chains.clone();
        let done: WriteDone = Box::new(move |result| {
            let view = result.is_err().then(|| views.view(slot)).flatten().map(|view| wire::view(&view));
            let result = Some(match result {
                Ok(outcome) => chain_write_reply::Result::Outcome(wire::outcome(outcome)),
                Err(refusal) => chain_write_reply::Result::Refused(wire::refusal(refusal)),
            });
            reply(Reply::ChainWrite(v1::ChainWriteReply { result, view }));
        });
        batch.write(slot, epoch, command, done);
    }

    /// Reads for another peer, as a member of the slot's chain: at once, or with the batch.
    pub fn read_chain_for_peer(
        &self,
        call: v1::ChainReadCall,
        batch: &mut Batch,
        reply: impl FnOnce(Reply) + Send + 'static,
    ) {
        let any = call.any_replica;
        let checked = Self::key_in(call.keyspace, call.key).and_then(|at| {
            self.check_keyspace(at.keyspace)?;
            let slot = self.shards()?.slot_of(&at.key);
            Ok((self.chains()?.clone(), slot, at))
        });
        let (chains, slot, at) = match checked {
            Ok(checked) => checked,
            Err(error) => return reply(Reply::Failure(error.into())),
        };
        // Whom to ask, the other peer has decided.
        if let Some(record) = if any { chains.read_any(slot, &at) } else { chains.read_clean(slot, &at) } {
            return reply(Reply::ChainRead(read_reply(&at, Ok(record), None)));
        }
        let (views, key) = (chains.clone(), at.clone());
        let done: ReadDone = Box::new(move |result| {
            let view = result.is_err().then(|| views.view(slot)).flatten().map(|view| wire::view(&view));
            reply(Reply::ChainRead(read_reply(&key, result, view)));
        });
        batch.read(slot, at, done);
    }

    /// Which view of a slot this peer knows, for another peer.
    ///
    /// # Errors
    /// If it takes part in no chains.
    pub fn view_for_peer(&self, slot: Slot) -> Result<v1::ViewReply, OperationError> {
        let view = self.chains()?.view(slot);
        Ok(v1::ViewReply { view: view.map(|view| wire::view(&view)) })
    }

    /// Who is the slot's head, as far as is known; asks others for a newer view if that was wrong before.
    pub(super) async fn head(&self, chains: &Chains, slot: Slot, again: bool) -> Option<PeerId> {
        let view = self.view(chains, slot).await?;
        if again {
            self.look_for_newer(chains, slot, &view).await;
        }
        chains.view(slot)?.head()
    }

    pub(super) fn chains(&self) -> Result<&Arc<Chains>, OperationError> {
        self.0.shared.chains.get().ok_or(OperationError::NotAMember)
    }

    async fn write_at(
        &self,
        chains: &Chains,
        head: PeerId,
        slot: Slot,
        epoch: Epoch,
        command: &Command,
    ) -> Attempt<Outcome> {
        if head == self.me() {
            let (done, answer) = oneshot::channel();
            let done: WriteDone = Box::new(|result| _ = done.send(result));
            chains.write(slot, epoch, command.clone(), done).await;
            return match timeout(WRITE_TIME, answer).await {
                Ok(Ok(Ok(outcome))) => Attempt::Done(outcome),
                Ok(Ok(Err(refusal))) => Attempt::Refused(refusal),
                Ok(Err(_)) | Err(_) => Attempt::Unknown,
            };
        }
        let call = v1::ChainWriteCall {
            epoch: Some(wire::epoch(epoch)),
            command: Some(wire::command(command, self.wall_millis())),
        };
        written(chains, self.call(chains, slot, head, Call::ChainWrite(call), WRITE_TIME).await)
    }

    async fn read_at(
        &self,
        chains: &Chains,
        peer: PeerId,
        slot: Slot,
        at: &RecordKey,
        any: bool,
    ) -> Attempt<Option<Record>> {
        if peer == self.me() {
            let (done, answer) = oneshot::channel();
            chains.read(slot, at.clone(), Box::new(|result| _ = done.send(result))).await;
            return match timeout(READ_TIME, answer).await {
                Ok(Ok(Ok(record))) => Attempt::Done(record),
                Ok(Ok(Err(refusal))) => Attempt::Refused(refusal),
                Ok(Err(_)) | Err(_) => Attempt::NotThere,
            };
        }
        let call = v1::ChainReadCall { keyspace: at.keyspace.0, key: at.key.clone(), any_replica: any };
        read(chains, self.call(chains, slot, peer, Call::ChainRead(call), READ_TIME).await)
    }

    /// Whom the slot's group has lost, nothing is sent to: it would lie there until the peer is back, and nobody would know
    /// what came of it.
    async fn call(
        &self,
        chains: &Chains,
        slot: Slot,
        peer: PeerId,
        call: Call,
        limit: Duration,
    ) -> Result<Reply, CallError> {
        let address = self.address_of(chains, slot, peer);
        let address = address.ok_or_else(|| CallError::NotSent("a peer that is gone".into()))?;
        self.0.shared.calls.call(&address, Lane::Foreground, call, limit).await
    }

    pub(super) fn address_of(&self, chains: &Chains, slot: Slot, peer: PeerId) -> Option<Arc<str>> {
        let address = self.0.shared.routes.load().peer(peer).map(|peer| peer.address.clone());
        address.filter(|_| !chains.has_lost(slot, peer))
    }

    /// The newest view that is known here; if there is none, what those say who should hold the slot.
    async fn view(&self, chains: &Chains, slot: Slot) -> Option<Arc<View>> {
        if chains.view(slot).is_none() {
            let home = self.home(slot).await.unwrap_or_default();
            let home = home.into_iter().map(|peer| peer.id).collect();
            self.ask_for_views(chains, slot, home).await;
            self.forget(slot);
        }
        chains.view(slot)
    }

    /// The view has led nowhere: perhaps somebody goes by a newer one. Somebody of it who lives is asked, and somebody
    /// who should hold the slot.
    async fn look_for_newer(&self, chains: &Chains, slot: Slot, view: &View) {
        if chains.view(slot).is_some_and(|known| known.epoch > view.epoch) {
            return;
        }
        let mut peers: Vec<PeerId> = view.peers().collect();
        peers.extend(self.home(slot).await.unwrap_or_default().iter().map(|peer| peer.id));
        peers.shuffle(&mut rand::rng());
        self.ask_for_views(chains, slot, peers).await;
    }

    /// Asks these peers for their view of the slot, until one answers.
    async fn ask_for_views(&self, chains: &Chains, slot: Slot, peers: Vec<PeerId>) {
        let me = self.me();
        for peer in peers.into_iter().filter(|peer| *peer != me) {
            if let Ok(Reply::View(v1::ViewReply { view: Some(view) })) =
                self.call(chains, slot, peer, Call::View(v1::ViewCall { slot: slot.0 }), VIEW_TIME).await
            {
                return learn(chains, Some(view));
            }
        }
    }
}

/// What another peer's answer to a command says.
pub(super) fn written(chains: &Chains, answer: Result<Reply, CallError>) -> Attempt<Outcome> {
    match answer {
        Ok(Reply::ChainWrite(v1::ChainWriteReply { result, view })) => {
            learn(chains, view);
            match result {
                Some(chain_write_reply::Result::Outcome(outcome)) => {
                    wire::decode_outcome(outcome).map_or(Attempt::Unknown, Attempt::Done)
                }
                Some(chain_write_reply::Result::Refused(refused)) => {
                    wire::decode_refusal(refused).map_or(Attempt::Unknown, Attempt::Refused)
                }
                None => Attempt::Unknown,
            }
        }
        Ok(_) | Err(CallError::Broken(_)) => Attempt::Unknown,
        Err(CallError::NotSent(_) | CallError::Refused(_)) => Attempt::NotThere,
    }
}

/// What another peer's answer to a read says.
pub(super) fn read(chains: &Chains, answer: Result<Reply, CallError>) -> Attempt<Option<Record>> {
    let Ok(Reply::ChainRead(v1::ChainReadReply { result, view })) = answer else { return Attempt::NotThere };
    learn(chains, view);
    match result {
        Some(chain_read_reply::Result::Record(record)) => {
            wire::decode_record(record).map_or(Attempt::NotThere, |(_, record)| Attempt::Done(Some(record)))
        }
        Some(chain_read_reply::Result::Absent(_)) => Attempt::Done(None),
        Some(chain_read_reply::Result::Refused(refused)) => {
            wire::decode_refusal(refused).map_or(Attempt::NotThere, Attempt::Refused)
        }
        None => Attempt::NotThere,
    }
}

fn read_reply(at: &RecordKey, result: Result<Option<Record>, Refusal>, view: Option<v1::View>) -> v1::ChainReadReply {
    let result = Some(match result {
        Ok(Some(record)) => chain_read_reply::Result::Record(wire::record(at, &record)),
        Ok(None) => chain_read_reply::Result::Absent(true),
        Err(refusal) => chain_read_reply::Result::Refused(wire::refusal(refusal)),
    });
    v1::ChainReadReply { result, view }
}

/// Another peer's word for a view is enough: nobody sends one that was not decided.
fn learn(chains: &Chains, view: Option<v1::View>) {
    if let Some(view) = view.and_then(|view| wire::decode_view(view).ok()) {
        chains.learn(view);
    }
}

/// Between two attempts. A guess: a head that has died is replaced within about a second.
const PAUSE: Duration = Duration::from_millis(20);

/// For how long what was refused is tried again: longer than it takes to replace a peer that has died. A guess.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a write may take until nothing is known of it: together with [`PATIENCE`] less than clients usually wait.
pub(super) const WRITE_TIME: Duration = Duration::from_millis(2500);

/// How long a member may take to read, before another one is asked. A guess.
pub(super) const READ_TIME: Duration = Duration::from_millis(700);

/// How long a peer may take to say which view it knows. A guess.
const VIEW_TIME: Duration = Duration::from_millis(500);
