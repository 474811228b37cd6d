//! Many operations per message: `PeerService.Call`, a stream to each server.
//!
//! No RPC of `KvService` carries many operations yet. This one does, and it is what a peer uses that passes a client's
//! operations on, so that it tells what batches cost without the unary call that brings each.

use std::time::Instant;

use dht_core::record::KeyspaceId;
use dhtd_proto::v1::{
    self, CallRequest, PeerCall, PeerReply, peer_call::Call, peer_reply::Reply, peer_service_client::PeerServiceClient,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{Draw, Load, Operation, Stop, Target, VALUE_BYTES, key, micros};

/// One task decides what is sent; the tag of a call is the place of its batch among those in flight.
struct Driver<'a> {
    load: &'a Load,
    batch: usize,
    target: &'a Target,
    stop: Stop,
    draw: Draw,
    /// When the batch at each place was sent, and how many answers it still waits for.
    places: Vec<(Instant, usize)>,
    /// Calls that wait until a batch for their server is full.
    drawn: Vec<Vec<Call>>,
    /// What is to be sent next to each server.
    outgoing: Vec<Vec<PeerCall>>,
    taken: u64,
    in_flight: usize,
}

type Replies = Result<Vec<PeerReply>, String>;

/// Batches of `batch` operations for the same server, a message each; those of one operation share messages.
pub(super) async fn run(load: &Load, batch: usize, target: &Target, stop: Stop) -> Result<Vec<u32>, String> {
    let (sender, mut replies) = mpsc::channel::<Replies>(64);
    let (mut lines, mut readers) = (Vec::new(), JoinSet::new());
    for channel in &target.channels {
        let (line, requests) = mpsc::unbounded_channel();
        let mut client = PeerServiceClient::new(channel.clone());
        let sender = sender.clone();
        readers.spawn(async move {
            let failed = match client.call(UnboundedReceiverStream::new(requests)).await {
                Ok(answer) => pass_on(answer.into_inner(), &sender).await,
                Err(status) => Some(status),
            };
            if let Some(status) = failed {
                drop(sender.send(Err(status.to_string())).await);
            }
        });
        lines.push(line);
    }
    drop(sender);
    let now = Instant::now();
    let (places, outgoing) = (vec![(now, 0); load.in_flight], vec![Vec::new(); lines.len()]);
    let (draw, drawn) = (Draw::new(load, 0), vec![Vec::new(); lines.len()]);
    let mut driver = Driver { load, batch, target, stop, draw, places, drawn, outgoing, taken: 0, in_flight: 0 };
    let mut latencies = Vec::new();
    (0..load.in_flight).for_each(|place| driver.begin(place));
    let mut waiting = Vec::new();
    loop {
        driver.send(&lines)?;
        if driver.in_flight == 0 {
            return Ok(latencies);
        }
        if replies.recv_many(&mut waiting, 64).await == 0 {
            return Err("all streams have ended".to_owned());
        }
        for replies in waiting.drain(..) {
            for reply in replies? {
                latencies.extend(driver.take(reply)?);
            }
        }
    }
}

async fn pass_on(
    mut answers: tonic::Streaming<v1::CallResponse>,
    sender: &mpsc::Sender<Replies>,
) -> Option<tonic::Status> {
    loop {
        match answers.message().await {
            Ok(Some(answer)) => drop(sender.send(Ok(answer.replies)).await),
            Ok(None) => return None,
            Err(status) => return Some(status),
        }
    }
}

impl Driver<'_> {
    /// Begins a batch at a place, unless it is over.
    fn begin(&mut self, place: usize) {
        let holder = loop {
            let key = match self.stop {
                Stop::At(deadline) if Instant::now() >= deadline => return,
                Stop::At(_) => self.draw.any_key(),
                Stop::AfterAllKeys if self.taken >= self.load.keys => return,
                Stop::AfterAllKeys => key(self.taken),
            };
            self.taken += 1;
            let holder = self.target.holder(&key);
            let call = match self.load.operation {
                Operation::Put { min_durable } => {
                    let value = Some(self.draw.value());
                    Call::Write(v1::WriteCall { keyspace: KEYSPACE, key, value, min_durable, ttl_ms: 0 })
                }
                Operation::Get => Call::Read(v1::ReadCall { keyspace: KEYSPACE, key }),
            };
            self.drawn[holder].push(call);
            if self.drawn[holder].len() >= self.batch {
                break holder;
            }
        };
        self.in_flight += 1;
        self.places[place] = (Instant::now(), self.batch);
        let calls = self.drawn[holder].drain(..).map(|call| PeerCall { tag: place as u64, call: Some(call) });
        self.outgoing[holder].extend(calls);
    }

    fn send(&mut self, lines: &[mpsc::UnboundedSender<CallRequest>]) -> Result<(), String> {
        let most = if self.batch == 1 { BATCH } else { self.batch };
        for (line, outgoing) in lines.iter().zip(&mut self.outgoing) {
            while !outgoing.is_empty() {
                let calls = outgoing.drain(..outgoing.len().min(most)).collect();
                let request = CallRequest { ring_id: self.target.ring_id.clone(), calls };
                line.send(request).map_err(|_| "a stream has ended".to_owned())?;
            }
        }
        Ok(())
    }

    /// Takes a reply. After the last of a batch begins the next in its place, and returns how long it took, in
    /// microseconds.
    fn take(&mut self, reply: PeerReply) -> Result<Option<u32>, String> {
        let right = match (&reply.reply, self.load.operation) {
            (Some(Reply::Write(write)), Operation::Put { min_durable }) => write.durable >= min_durable,
            (Some(Reply::Read(v1::ReadReply { record: Some(record), .. })), Operation::Get) => {
                record.value.as_ref().is_some_and(|value| value.len() == VALUE_BYTES)
            }
            _ => false,
        };
        if !right {
            return Err(format!("a wrong answer: {:?}", reply.reply));
        }
        let place = usize::try_from(reply.tag).unwrap_or(usize::MAX);
        let (begun, open) = self.places.get_mut(place).ok_or("an answer to nothing")?;
        *open = open.checked_sub(1).ok_or("an answer too many")?;
        if *open > 0 {
            return Ok(None);
        }
        let latency = micros(*begun);
        self.in_flight -= 1;
        self.begin(place);
        Ok(Some(latency))
    }
}

/// The keyspace `default`, the one of `KvService`.
const KEYSPACE: u32 = KeyspaceId::DEFAULT.0;

/// Calls in one message at most, unless batches are larger; as peers do.
const BATCH: usize = 256;
