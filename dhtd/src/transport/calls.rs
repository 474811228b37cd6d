//! Requests to other peers with answers: one stream for each peer and lane, many requests in flight.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use dht_core::overlay::Routes;
use dhtd_proto::v1::{self, peer_call::Call, peer_reply::Reply};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Channels, by_address::ByAddress, gather};
use crate::wire;

/// Which stream to a peer is used, so that bulk does not hold up what a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Clients wait for it.
    Foreground,
    /// Transfers of slots.
    Background,
}

/// A call had no answer.
#[derive(Clone, Debug, Error)]
pub enum CallError {
    /// It never left this peer: nothing has changed.
    #[error("could not reach {0}")]
    NotSent(Arc<str>),
    /// It was sent, and whether it was carried out is not known.
    #[error("{0} did not answer")]
    Broken(Arc<str>),
    /// The peer refused it: nothing has changed unless the reason says otherwise.
    #[error("{}", .0.message)]
    Refused(v1::Failure),
}

/// Calls to all other peers.
#[derive(Debug)]
pub struct Calls {
    /// One for each [`Lane`].
    lanes: [ByAddress<mpsc::Sender<Pending>>; 2],
    channels: Arc<Channels>,
    routes: Arc<ArcSwap<Routes>>,
}

/// Whom to tell what came of a call; dropped if nobody ever will. It must not block.
pub type Answer = Box<dyn FnOnce(Result<Reply, CallError>) + Send>;

struct Pending {
    call: Call,
    answer: Answer,
}

/// The task of one lane to one address.
struct Operator {
    address: Arc<str>,
    waiting: mpsc::Receiver<Pending>,
    channels: Arc<Channels>,
    routes: Arc<ArcSwap<Routes>>,
    in_flight: HashMap<u64, Answer>,
    next_tag: u64,
}

struct Line {
    requests: mpsc::Sender<v1::CallRequest>,
    replies: Streaming<v1::CallResponse>,
}

impl Calls {
    /// `routes` tells which ring this peer belongs to.
    #[must_use]
    pub fn new(channels: Arc<Channels>, routes: Arc<ArcSwap<Routes>>) -> Self {
        Self { lanes: Default::default(), channels, routes }
    }

    /// Sends a call and waits for its answer, for at most `limit`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If there is no answer, or the peer refuses.
    pub async fn call(&self, address: &Arc<str>, lane: Lane, call: Call, limit: Duration) -> Result<Reply, CallError> {
        let (told, answered) = oneshot::channel();
        let answer: Answer = Box::new(|result| drop(told.send(result)));
        let exchange = async {
            self.submit(address, lane, [(call, answer)]).await;
            answered.await.unwrap_or_else(|_| Err(CallError::Broken(address.clone())))
        };
        timeout(limit, exchange).await.unwrap_or_else(|_| Err(CallError::Broken(address.clone())))
    }

    /// Sends calls; each is told by its own [`Answer`] what came of it, or nobody is for as long as the peer says nothing.
    /// Returns when all have found a place in a queue. Must be called within a tokio runtime.
    pub async fn submit(&self, address: &Arc<str>, lane: Lane, calls: impl IntoIterator<Item = (Call, Answer)>) {
        let sender = self.lane(address, lane);
        for (call, answer) in calls {
            if let Err(returned) = sender.send(Pending { call, answer }).await {
                (returned.0.answer)(Err(CallError::NotSent(address.clone())));
            }
        }
    }

    fn lane(&self, address: &Arc<str>, lane: Lane) -> mpsc::Sender<Pending> {
        self.lanes[lane as usize].get_or_open(address, || self.open(address))
    }

    fn open(&self, address: &Arc<str>) -> mpsc::Sender<Pending> {
        let (sender, waiting) = mpsc::channel(QUEUE);
        let operator = Operator {
            address: address.clone(),
            waiting,
            channels: self.channels.clone(),
            routes: self.routes.clone(),
            in_flight: HashMap::new(),
            next_tag: 0,
        };
        tokio::spawn(operator.run());
        sender
    }
}

impl Operator {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.waiting.recv_many(&mut batch, BATCH).await > 0 {
            match self.connect().await {
                Ok(line) => self.serve(line, &mut batch).await,
                Err(_) => batch.drain(..).for_each(|pending| self.not_sent(pending)),
            }
            self.in_flight.drain().for_each(|(_, answer)| answer(Err(CallError::Broken(self.address.clone()))));
        }
    }

    async fn connect(&mut self) -> Result<Line, Status> {
        let channel = self.channels.get(&self.address).ok_or_else(|| Status::unavailable("no address"))?;
        let mut client = v1::peer_service_client::PeerServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        let (requests, receiver) = mpsc::channel(4);
        let replies = client.call(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Line { requests, replies })
    }

    /// Works on one stream until it ends. `batch` is what is to be sent first.
    async fn serve(&mut self, mut line: Line, batch: &mut Vec<Pending>) {
        loop {
            while let Some(request) = self.take_request(batch) {
                if line.requests.send(request).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                reply = line.replies.message() => match reply {
                    Ok(Some(response)) => response.replies.into_iter().for_each(|reply| self.take_reply(reply)),
                    Ok(None) | Err(_) => return,
                },
                count = self.waiting.recv_many(batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    gather(&mut self.waiting, batch, BATCH).await;
                }
            }
        }
    }

    /// As much of the batch as fits into one message.
    fn take_request(&mut self, batch: &mut Vec<Pending>) -> Option<v1::CallRequest> {
        let mut bytes = 0;
        let fits = |pending: &&Pending| {
            bytes += size_of_call(&pending.call);
            bytes <= REQUEST_BYTES
        };
        let count = batch.iter().take_while(fits).count().max(1).min(batch.len());
        if count == 0 {
            return None;
        }
        let mut calls = Vec::with_capacity(count);
        for Pending { call, answer } in batch.drain(..count) {
            self.next_tag += 1;
            self.in_flight.insert(self.next_tag, answer);
            calls.push(v1::PeerCall { tag: self.next_tag, call: Some(call) });
        }
        Some(v1::CallRequest { ring_id: wire::ring_id_bytes(self.routes.load().ring.as_ref()), calls })
    }

    fn take_reply(&mut self, reply: v1::PeerReply) {
        if let Some(answer) = self.in_flight.remove(&reply.tag) {
            answer(match reply.reply {
                Some(Reply::Failure(failure)) => Err(CallError::Refused(failure)),
                Some(reply) => Ok(reply),
                None => Err(CallError::Broken(self.address.clone())),
            });
        }
    }

    fn not_sent(&self, pending: Pending) {
        (pending.answer)(Err(CallError::NotSent(self.address.clone())));
    }
}

/// Roughly: what counts are keys and values.
fn size_of_call(call: &Call) -> usize {
    match call {
        Call::Push(push) => push.records.iter().map(size_of_record).sum(),
        Call::Write(write) => write.key.len() + write.value.as_ref().map_or(0, |v| v.len()) + 32,
        Call::Read(read) => read.key.len() + 32,
        Call::ChainWrite(write) => size_of_command(write.command.as_ref()),
        Call::ChainRead(read) => read.key.len() + 32,
        Call::View(_) => 32,
        Call::Catalogue(call) => 32 + call.catalogue.as_ref().map_or(0, prost::Message::encoded_len),
        Call::Report(report) => report.key.len() + 32,
        Call::Survey(survey) => survey.claim.as_ref().map_or(0, |claim| claim.banned.len() * 18) + 64,
        Call::Recover(recover) => recover.views.len() * 256 + 64,
    }
}

fn size_of_command(command: Option<&v1::Command>) -> usize {
    let value = command.and_then(|command| match &command.action {
        Some(v1::command::Action::Put(value)) => Some(value.len()),
        _ => None,
    });
    command.map_or(0, |command| command.key.len()) + value.unwrap_or(0) + 64
}

fn size_of_record(record: &v1::StoredRecord) -> usize {
    record.key.len() + record.value.as_ref().map_or(0, |value| value.len()) + 64
}

/// Calls that may wait for a lane before callers have to.
const QUEUE: usize = 4096;

/// Calls in one message at most.
const BATCH: usize = 256;

/// Bytes in one message at most, unless a single call is larger: well below gRPC's customary 4 MiB.
const REQUEST_BYTES: usize = 1 << 20;

/// A transfer's call holds several records, the last of which may be as large as a value may be.
const MESSAGE_BYTES: usize = 16 << 20;
