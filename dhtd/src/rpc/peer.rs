//! `PeerService`: what other peers call.

use std::{collections::HashMap, sync::Arc};

use dht_core::{overlay::Body, record::Content, ring::Slot};
use dhtd_proto::{
    PROTOCOL_VERSION,
    v1::{
        self, CallRequest, CallResponse, ExchangeRequest, ExchangeResponse, PeerCall, PeerReply, ScanSlotsRequest,
        ScanSlotsResponse, TestifyRequest, TestifyResponse, peer_call::Call, peer_reply::Reply,
        peer_service_server::PeerService,
    },
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::status::{refused, stopping};
use crate::{
    coordinator::{Coordinator, OperationError, export::Page},
    driver::{Handle, Shared, control::Command},
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

type Replies = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<CallResponse, Status>> + Send>>;
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
        let (replies, receiver) = mpsc::channel(64);
        let (shared, coordinator) = (self.shared.clone(), self.coordinator.clone());
        tokio::spawn(async move {
            loop {
                let refusal = match requests.message().await {
                    Ok(Some(request)) => match check_ring(&shared, &request.ring_id) {
                        Ok(()) => {
                            answer_all(&coordinator, request.calls, &replies);
                            continue;
                        }
                        Err(refusal) => Some(refusal),
                    },
                    Ok(None) | Err(_) => None,
                };
                if let Some(refusal) = refusal {
                    let _ = replies.send(Err(refusal)).await;
                }
                return;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type ScanSlotsStream = Pages;

    async fn scan_slots(&self, request: Request<ScanSlotsRequest>) -> Result<Response<Pages>, Status> {
        let ScanSlotsRequest { ring_id, slots } = request.into_inner();
        check_ring(&self.shared, &ring_id)?;
        let (pages, receiver) = mpsc::channel::<Page>(4);
        let coordinator = self.coordinator.clone();
        tokio::spawn(async move {
            if let Err(error) = coordinator.scan_here(slots.into_iter().map(Slot).collect(), pages).await {
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
            let message = format!("{} has the peer id of this peer: is its data directory a copy?", sender.address);
            return Err(refused("PEER_ID_IN_USE", message));
        }
        let stranger = wire::ring_id(&request.ring_id)?.is_none();
        check_ring(&self.shared, &request.ring_id)?;
        for message in request.messages {
            let body = wire::decode(&sender, message)?;
            // Who is in no ring may ask for the way in, and whether somebody is there.
            let welcome = match &body {
                PeerBody::Overlay(message) => matches!(message.body, Body::Find(_) | Body::Ping { .. }),
                PeerBody::Replication(_) => false,
            };
            if !stranger || welcome {
                self.control.send(Command::Message(sender.id, body)).await;
            }
        }
        Ok(())
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

/// Works on all calls of a message at once; the replies go out together with whatever else is done by then.
fn answer_all(coordinator: &Coordinator, calls: Vec<PeerCall>, replies: &mpsc::Sender<Result<CallResponse, Status>>) {
    let (pushes, others): (Vec<PeerCall>, Vec<PeerCall>) =
        calls.into_iter().partition(|call| matches!(call.call, Some(Call::Push(_))));
    if !pushes.is_empty() {
        let (coordinator, replies) = (coordinator.clone(), replies.clone());
        tokio::spawn(async move {
            let done = take_in(&coordinator, pushes).await;
            let _ = replies.send(Ok(CallResponse { replies: done })).await;
        });
    }
    for PeerCall { tag, call } in others {
        let (coordinator, replies) = (coordinator.clone(), replies.clone());
        tokio::spawn(async move {
            let reply = match call {
                Some(call) => answer(&coordinator, call).await.unwrap_or_else(|error| Reply::Failure(error.into())),
                None => Reply::Failure(OperationError::from(Malformed("a call that asks for nothing")).into()),
            };
            let _ = replies.send(Ok(CallResponse { replies: vec![PeerReply { tag, reply: Some(reply) }] })).await;
        });
    }
}

/// All pushes of a message become one merge and share one fsync.
async fn take_in(coordinator: &Coordinator, pushes: Vec<PeerCall>) -> Vec<PeerReply> {
    let mut records = Vec::new();
    let mut outcomes: HashMap<u64, Option<v1::Failure>> = HashMap::with_capacity(pushes.len());
    for PeerCall { tag, call } in pushes {
        let Some(Call::Push(push)) = call else { continue };
        let decoded: Result<Vec<_>, _> = push.records.into_iter().map(wire::decode_stored_record).collect();
        match decoded {
            Ok(decoded) => {
                records.extend(decoded);
                outcomes.insert(tag, None);
            }
            Err(malformed) => drop(outcomes.insert(tag, Some(OperationError::from(malformed).into()))),
        }
    }
    let failure = coordinator.take_in(records).await.err().map(v1::Failure::from);
    let reply = |(tag, own): (u64, Option<v1::Failure>)| {
        let reply = own.or_else(|| failure.clone()).map_or(Reply::Push(v1::PushReply {}), Reply::Failure);
        PeerReply { tag, reply: Some(reply) }
    };
    outcomes.into_iter().map(reply).collect()
}

async fn answer(coordinator: &Coordinator, call: Call) -> Result<Reply, OperationError> {
    match call {
        Call::Write(write) => {
            let content = write.value.map_or(Content::Tombstone, Content::Value);
            let done = coordinator.write_for_peer(write.keyspace, write.key, content, write.min_durable).await?;
            let version = Some(wire::version(done.version));
            Ok(Reply::Write(v1::WriteReply { version, durable: done.durable, existed: done.existed }))
        }
        Call::Read(read) => {
            let (at, held) = coordinator.read_for_peer(read.keyspace, read.key)?;
            let record = held.record.map(|record| wire::stored_record(&at, &record));
            Ok(Reply::Read(v1::ReadReply { record, synced: held.synced }))
        }
        Call::Push(_) => Err(OperationError::NoReplica),
    }
}
