//! `PeerService`: what other peers call.

use std::sync::Arc;

use dht_core::{
    founding::Candidate,
    overlay::{Body, Peer},
    record::KeyspaceId,
    replication::chain::Snapshot,
    ring::Slot,
};
use dhtd_proto::{
    PROTOCOL_VERSION,
    v1::{
        self, CallRequest, ExchangeRequest, ExchangeResponse, PeerCall, PeerReply, ScanSlotsRequest, ScanSlotsResponse,
        TestifyRequest, TestifyResponse, TransferRequest, TransferResponse, peer_call::Call, peer_reply::Reply,
        peer_service_server::PeerService,
    },
};
use tokio::{sync::mpsc, task::coop::consume_budget};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{
    replies::{Replies, ReplySender},
    status::{given_up, refused, stopping},
};
use crate::{
    coordinator::{
        Coordinator, Done, OperationError, WriteOutcome,
        slots::{Page, Part},
    },
    driver::{Handle, KeyRange, Shared, chains::Batch, control::Command},
    wire::{self, Malformed, PeerBody},
};

/// Serves `PeerService`.
pub struct PeerApi {
    /// What the loops share.
    pub shared: Arc<Shared>,
    /// The control loop.
    pub control: Handle,
    /// Carries out what other peers forward.
    pub coordinator: Coordinator,
}

type Pages = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<ScanSlotsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl PeerService for PeerApi {
    async fn exchange(
        &self,
        request: Request<Streaming<ExchangeRequest>>,
    ) -> Result<Response<ExchangeResponse>, Status> {
        let mut requests = request.into_inner();
        while let Some(request) = requests.message().await? {
            self.receive(request).await?;
        }
        Ok(Response::new(ExchangeResponse {}))
    }

    type CallStream = Replies;

    async fn call(&self, request: Request<Streaming<CallRequest>>) -> Result<Response<Replies>, Status> {
        let mut requests = request.into_inner();
        let (sender, replies) = Replies::new();
        let (shared, coordinator) = (self.shared.clone(), self.coordinator.clone());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if let Err(refusal) = check_ring(&shared, &request.ring_id) {
                    drop(sender.send(Err(refusal)));
                    return;
                }
                answer_all(&coordinator, request.calls, &sender).await;
            }
        });
        Ok(Response::new(replies))
    }

    async fn transfer(
        &self,
        request: Request<Streaming<TransferRequest>>,
    ) -> Result<Response<TransferResponse>, Status> {
        let mut parts = request.into_inner();
        let mut snapshot = Snapshot::default();
        while let Some(part) = parts.message().await? {
            check_ring(&self.shared, &part.ring_id)?;
            let from = wire::peer_id(&part.peer_id)?;
            snapshot.epoch = wire::chain::decode_epoch(part.epoch.unwrap_or_default())?;
            snapshot.applied = wire::chain::decode_position(part.applied.unwrap_or_default())?;
            for record in part.records {
                snapshot.records.push(wire::chain::decode_record(record)?);
            }
            for outcome in part.outcomes {
                snapshot.recorded.push(wire::chain::decode_recorded(outcome)?);
            }
            if let Some(chains) = self.shared.chains.get().filter(|_| part.done) {
                chains.snapshot(from, Slot(part.slot), snapshot).await;
                break;
            }
        }
        Ok(Response::new(TransferResponse {}))
    }

    type ScanSlotsStream = Pages;

    async fn scan_slots(&self, request: Request<ScanSlotsRequest>) -> Result<Response<Pages>, Status> {
        let request = request.into_inner();
        let mode = wire::decode_mode(request.mode())?;
        let ScanSlotsRequest { ring_id, slots, keyspace, prefix, after, limit, keys_only, .. } = request;
        check_ring(&self.shared, &ring_id)?;
        let (pages, receiver) = mpsc::channel::<Page>(4);
        let coordinator = self.coordinator.clone();
        tokio::spawn(async move {
            let slots = slots.into_iter().map(Slot).collect();
            let after = (!after.is_empty()).then_some(after);
            let range = KeyRange { keyspace: KeyspaceId(keyspace), prefix, after };
            let part = Part { mode, slots, range, limit: limit as usize, keys_only };
            if let Err(error) = coordinator.read_slots_here(part, pages).await {
                tracing::warn!(%error, "cannot read slots for another peer");
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver).map(Ok))))
    }

    async fn testify(&self, request: Request<TestifyRequest>) -> Result<Response<TestifyResponse>, Status> {
        let TestifyRequest { protocol_version, ring_id } = request.into_inner();
        check_version(protocol_version)?;
        check_ring(&self.shared, &ring_id)?;
        let testimony = self.control.inspect(|overlay, _| overlay.testimony()).await.ok_or_else(stopping)?;
        Ok(Response::new(wire::testimony(&testimony)))
    }
}

impl PeerApi {
    async fn receive(&self, request: ExchangeRequest) -> Result<(), Status> {
        check_version(request.protocol_version)?;
        let routes = self.shared.routes.load_full();
        let sender = wire::decode_peer(request.sender.as_ref().ok_or(Malformed("a message without a sender"))?)?;
        if !request.receiver_id.is_empty() && request.receiver_id.as_ref() != routes.me.id.as_bytes() {
            let message = format!("peer {} lives here, not the one that you look for", routes.me.id.short());
            return Err(refused("WRONG_PEER", message));
        }
        if sender.id == routes.me.id {
            if (&sender.address, sender.incarnation) == (&routes.me.address, routes.me.incarnation) {
                return Ok(()); // A seed is this very peer, by whatever name.
            }
            let message = format!("{} has the peer id of this peer: is its data directory a copy?", sender.address);
            return Err(refused("PEER_ID_IN_USE", message));
        }
        let stranger = wire::ring_id(&request.ring_id)?.is_none();
        check_ring(&self.shared, &request.ring_id)?;
        self.coordinator.heard_of_catalogue(&sender, request.catalogue_revision);
        self.hear_claim(&sender, request.claim).await?;
        if let Some(millis) = request.wall_clock {
            self.shared.wall_clock.hear(sender.id, millis, &routes);
        }
        for message in request.messages {
            let body = wire::decode(&sender, message)?;
            // Who is in no ring may ask for the way in, and whether somebody is there.
            let welcome = match &body {
                PeerBody::Overlay(message) => matches!(message.body, Body::Find(_) | Body::Ping { .. }),
                PeerBody::Founding(_) => true,
                PeerBody::Replication(_) | PeerBody::Chain(..) => false,
            };
            if stranger && !welcome {
                continue;
            }
            match (body, self.shared.chains.get()) {
                (PeerBody::Chain(group, message), Some(chains)) => chains.message(group, sender.id, message).await,
                (PeerBody::Chain(..), None) => {}
                (PeerBody::Founding(message), _) => {
                    let from = Candidate { id: sender.id, address: sender.address.clone() };
                    self.control.send(Command::Founding(from, message)).await;
                }
                (PeerBody::Overlay(message), _) => self.control.send(Command::Overlay(message)).await,
                (PeerBody::Replication(message), _) => {
                    self.control.send(Command::Replication(sender.id, message)).await;
                }
            }
        }
        Ok(())
    }
}

impl PeerApi {
    /// What the sender has promised a recovery may be news here; if it was given up, it hears so.
    async fn hear_claim(&self, sender: &Peer, theirs: Option<v1::Claim>) -> Result<(), Status> {
        if let Some(claim) = theirs.map(wire::chain::decode_claim).transpose()? {
            self.shared.hear_claim(&claim).await;
        }
        let known = self.shared.claims.known();
        if known.banned.contains(&sender.id) { Err(given_up(known.generation)) } else { Ok(()) }
    }
}

fn check_version(theirs: u32) -> Result<(), Status> {
    if theirs == PROTOCOL_VERSION {
        return Ok(());
    }
    let message = format!("you speak protocol {theirs}, this peer {PROTOCOL_VERSION}: use the same release");
    Err(refused("PROTOCOL_VERSION", message))
}

/// Messages of another ring are refused; of none, or to a peer that is in none, they are not.
fn check_ring(shared: &Shared, theirs: &[u8]) -> Result<(), Status> {
    let ours = shared.routes.load().ring.map(|ring| ring.id);
    match (ours, wire::ring_id(theirs)?) {
        (Some(ours), Some(theirs)) if ours != theirs => Err(refused(
            "WRONG_RING",
            "this peer belongs to another ring: check the seeds and the data directory".into(),
        )),
        _ => Ok(()),
    }
}

/// The calls of one message by kind.
#[derive(Default)]
struct Calls {
    pushes: Vec<(u64, v1::PushCall)>,
    writes: Vec<(u64, v1::WriteCall)>,
    reads: Vec<(u64, v1::ReadCall)>,
}

/// Works on all calls of a message at once, those of a kind together; each reply goes out with whatever else is done
/// by then.
async fn answer_all(coordinator: &Coordinator, calls: Vec<PeerCall>, replies: &ReplySender) {
    let (mut by_kind, mut chains) = (Calls::default(), Batch::default());
    for PeerCall { tag, call } in calls {
        match call {
            Some(Call::Push(push)) => by_kind.pushes.push((tag, push)),
            Some(Call::Write(write)) => by_kind.writes.push((tag, write)),
            Some(Call::Read(read)) => by_kind.reads.push((tag, read)),
            Some(Call::ChainWrite(call)) => {
                let replies = replies.clone();
                coordinator.write_chain_for_peer(call, &mut chains, move |answer| reply(&replies, tag, answer));
            }
            Some(Call::ChainRead(call)) => {
                let replies = replies.clone();
                coordinator.read_chain_for_peer(call, &mut chains, move |answer| reply(&replies, tag, answer));
                // A store that has to go to the disk must not hold up everything else.
                consume_budget().await;
            }
            Some(Call::Catalogue(call)) => {
                let coordinator = coordinator.clone();
                let answer = async move { coordinator.catalogue_for_peer(call).await };
                answer_later(replies, tag, answer, Reply::Catalogue);
            }
            Some(Call::View(call)) => {
                let view = coordinator.view_for_peer(Slot(call.slot));
                reply(replies, tag, view.map_or_else(|error| Reply::Failure(error.into()), Reply::View));
            }
            Some(Call::Report(call)) => {
                let coordinator = coordinator.clone();
                let answer = async move { coordinator.report_for_peer(call).await };
                answer_later(replies, tag, answer, Reply::Report);
            }
            Some(Call::Survey(call)) => {
                let coordinator = coordinator.clone();
                let answer = async move { coordinator.survey_for_peer(call).await };
                answer_later(replies, tag, answer, Reply::Survey);
            }
            Some(Call::Recover(call)) => {
                let coordinator = coordinator.clone();
                let answer = async move { coordinator.recover_for_peer(call).await };
                answer_later(replies, tag, answer, Reply::Recover);
            }
            None => {
                let nothing = OperationError::from(Malformed("a call that asks for nothing"));
                reply(replies, tag, Reply::Failure(nothing.into()));
            }
        }
    }
    coordinator.carry_out_for_peer(chains).await;
    let Calls { pushes, writes, reads } = by_kind;
    if !pushes.is_empty() {
        let (coordinator, replies) = (coordinator.clone(), replies.clone());
        tokio::spawn(async move { take_in(&coordinator, pushes, &replies).await });
    }
    if !reads.is_empty() {
        let (coordinator, replies) = (coordinator.clone(), replies.clone());
        tokio::spawn(async move {
            for (tag, call) in reads {
                reply(&replies, tag, read(&coordinator, call).unwrap_or_else(|error| Reply::Failure(error.into())));
                // A store that has to go to the disk must not hold up everything else.
                consume_budget().await;
            }
        });
    }
    let writes = writes.into_iter().map(|(tag, write)| (write, write_done(replies.clone(), tag)));
    coordinator.write_for_peer(writes).await;
}

/// What waits for something does not hold up the calls behind it.
fn answer_later<T: 'static>(
    replies: &ReplySender,
    tag: u64,
    answer: impl Future<Output = Result<T, OperationError>> + Send + 'static,
    into_reply: fn(T) -> Reply,
) {
    let replies = replies.clone();
    tokio::spawn(async move {
        reply(&replies, tag, answer.await.map_or_else(|error| Reply::Failure(error.into()), into_reply));
    });
}

/// All pushes of a message become one merge and share one fsync.
async fn take_in(coordinator: &Coordinator, pushes: Vec<(u64, v1::PushCall)>, replies: &ReplySender) {
    let (mut records, mut tags) = (Vec::new(), Vec::with_capacity(pushes.len()));
    for (tag, push) in pushes {
        let decoded: Result<Vec<_>, _> = push.records.into_iter().map(wire::decode_stored_record).collect();
        match decoded {
            Ok(decoded) => {
                records.extend(decoded);
                tags.push(tag);
            }
            Err(malformed) => reply(replies, tag, Reply::Failure(OperationError::from(malformed).into())),
        }
    }
    let failure = coordinator.take_in(records).await.err().map(v1::Failure::from);
    for tag in tags {
        reply(replies, tag, failure.clone().map_or(Reply::Push(v1::PushReply {}), Reply::Failure));
    }
}

fn read(coordinator: &Coordinator, read: v1::ReadCall) -> Result<Reply, OperationError> {
    let (at, held) = coordinator.read_for_peer(read.keyspace, read.key)?;
    let record = held.record.map(|record| wire::stored_record(&at, &record));
    Ok(Reply::Read(v1::ReadReply { record, synced: held.synced }))
}

fn write_done(replies: ReplySender, tag: u64) -> Done {
    Box::new(move |outcome| {
        let done = |done: WriteOutcome| {
            let version = Some(wire::version(done.version));
            Reply::Write(v1::WriteReply { version, durable: done.durable, existed: done.existed })
        };
        reply(&replies, tag, outcome.map_or_else(|error| Reply::Failure(error.into()), done));
    })
}

/// The other peer may have gone.
fn reply(replies: &ReplySender, tag: u64, reply: Reply) {
    drop(replies.send(Ok(PeerReply { tag, reply: Some(reply) })));
}
