//! One-way messages to other peers: an outbox and a task for each address.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use dht_core::{
    catalogue::Catalogue,
    overlay::{Peer, Routes},
    ring::PeerId,
    view::{Claim, Generation},
};
use dhtd_proto::{PROTOCOL_VERSION, v1};
use prost::Message as _;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{Channels, by_address::ByAddress, gather};
use crate::{
    clock::unix_millis,
    wire::{self, PeerBody},
};

/// When a message has to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// At once.
    Now,
    /// With the next one that does, or after a few milliseconds.
    Soon,
}

/// Messages could not be delivered.
#[derive(Debug)]
pub struct Trouble {
    /// Where to.
    pub address: Arc<str>,
    /// Who should be there, if known.
    pub peer: Option<PeerId>,
    /// What the other end, or the network, said.
    pub status: Status,
}

impl Trouble {
    /// The other end has given this peer up, in a recovery of that name.
    #[must_use]
    pub fn given_up(&self) -> Option<Generation> {
        let details = self.status.get_error_details();
        let info = details.error_info().filter(|info| info.reason == wire::GIVEN_UP)?;
        let counter = info.metadata.get("counter")?.parse().ok()?;
        Some(Generation { counter, by: info.metadata.get("recovered_by")?.parse().ok() })
    }

    /// Nobody is there: the connection could not be made or was cut, as opposed to being refused for a reason.
    #[must_use]
    pub fn unreachable(&self) -> bool {
        matches!(self.status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded)
    }
}

/// Sends messages; whatever can't be sent soon is dropped.
#[derive(Debug)]
pub struct Exchange {
    outboxes: ByAddress<mpsc::Sender<Letter>>,
    channels: Arc<Channels>,
    routes: Arc<ArcSwap<Routes>>,
    catalogue: Arc<ArcSwap<Catalogue>>,
    claim: Arc<ArcSwap<Claim>>,
    trouble: mpsc::Sender<Trouble>,
}

#[derive(Debug)]
struct Letter {
    receiver: Option<Peer>,
    body: PeerBody,
    urgency: Urgency,
}

/// The task of one address.
struct Postman {
    address: Arc<str>,
    letters: mpsc::Receiver<Letter>,
    channels: Arc<Channels>,
    routes: Arc<ArcSwap<Routes>>,
    catalogue: Arc<ArcSwap<Catalogue>>,
    claim: Arc<ArcSwap<Claim>>,
    trouble: mpsc::Sender<Trouble>,
}

/// A stream that is open, as far as is known.
struct Stream {
    requests: mpsc::Sender<v1::ExchangeRequest>,
    end: oneshot::Receiver<Status>,
}

impl Exchange {
    /// `routes` tells who this peer is, `catalogue` by which one it goes, `claim` what it has promised a recovery; `trouble`
    /// hears of addresses that can't be reached.
    #[must_use]
    pub fn new(
        channels: Arc<Channels>,
        routes: Arc<ArcSwap<Routes>>,
        catalogue: Arc<ArcSwap<Catalogue>>,
        claim: Arc<ArcSwap<Claim>>,
        trouble: mpsc::Sender<Trouble>,
    ) -> Self {
        Self { outboxes: ByAddress::default(), channels, routes, catalogue, claim, trouble }
    }

    /// Sends to an address; `receiver` is who should be there, if known. Must be called within a tokio runtime.
    pub fn send(&self, address: &Arc<str>, receiver: Option<Peer>, body: PeerBody, urgency: Urgency) {
        let outbox = self.outboxes.get_or_open(address, || self.open(address.clone()));
        // A full outbox means that the other end is not taking anything: the message counts as lost.
        drop(outbox.try_send(Letter { receiver, body, urgency }));
    }

    fn open(&self, address: Arc<str>) -> mpsc::Sender<Letter> {
        let (outbox, letters) = mpsc::channel(OUTBOX);
        let (channels, routes, trouble) = (self.channels.clone(), self.routes.clone(), self.trouble.clone());
        let (catalogue, claim) = (self.catalogue.clone(), self.claim.clone());
        tokio::spawn(Postman { address, letters, channels, routes, catalogue, claim, trouble }.run());
        outbox
    }
}

impl Postman {
    async fn run(mut self) {
        let mut stream: Option<Stream> = None;
        let mut letters = Vec::with_capacity(BATCH);
        // Who should be there, as the last message said.
        let mut peer = None;
        loop {
            let failure = tokio::select! {
                status = ended(&mut stream) => Some(status),
                count = self.letters.recv_many(&mut letters, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    self.wait_for_company(&mut letters).await;
                    peer = letters.iter().rev().find_map(|letter| letter.receiver.as_ref().map(|peer| peer.id));
                    self.deliver_all(&mut stream, &mut letters).await.err()
                }
            };
            if let Some(status) = failure {
                stream = None;
                drop(self.trouble.send(Trouble { address: self.address.clone(), peer, status }).await);
                sleep(PAUSE).await;
            }
        }
    }

    /// Until something has to leave at once, or has waited for long enough.
    async fn wait_for_company(&mut self, letters: &mut Vec<Letter>) {
        gather(&mut self.letters, letters, BATCH).await;
        let until = Instant::now() + COMPANY;
        let mut looked_at = 0;
        while letters.len() < BATCH && letters[looked_at..].iter().all(|letter| letter.urgency == Urgency::Soon) {
            looked_at = letters.len();
            let room = BATCH - looked_at;
            if !matches!(timeout_at(until, self.letters.recv_many(letters, room)).await, Ok(count) if count > 0) {
                return;
            }
        }
    }

    async fn deliver_all(&self, stream: &mut Option<Stream>, letters: &mut Vec<Letter>) -> Result<(), Status> {
        let mut letters = letters.drain(..).peekable();
        while letters.peek().is_some() {
            let request = self.request(&mut letters);
            self.deliver(stream, request).await?;
        }
        Ok(())
    }

    /// Puts a request into the stream, which is opened if need be. That it was put there does not mean that it arrives.
    async fn deliver(&self, stream: &mut Option<Stream>, request: v1::ExchangeRequest) -> Result<(), Status> {
        if stream.is_none() {
            *stream = self.connect();
        }
        let Some(open) = stream else { return Err(Status::unavailable("no address that can be connected to")) };
        match timeout(DELIVERY_TIME_OUT, open.requests.send(request)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(ended(stream).await),
            Err(_) => Err(Status::deadline_exceeded("the peer takes nothing")),
        }
    }

    fn connect(&self) -> Option<Stream> {
        let channel = self.channels.get(&self.address)?;
        let mut client = v1::peer_service_client::PeerServiceClient::new(channel);
        let (requests, receiver) = mpsc::channel(4);
        let (ended, end) = oneshot::channel();
        tokio::spawn(async move {
            let status = match client.exchange(ReceiverStream::new(receiver)).await {
                Ok(_) => Status::unavailable("the peer has closed the stream"),
                Err(status) => status,
            };
            drop(ended.send(status));
        });
        Some(Stream { requests, end })
    }

    /// As many letters as fit into one request.
    fn request(&self, letters: &mut impl Iterator<Item = Letter>) -> v1::ExchangeRequest {
        let routes = self.routes.load();
        let (mut sender, mut receiver, mut bytes) = (None, None, 0);
        let mut messages = Vec::new();
        while bytes < REQUEST_BYTES
            && let Some(letter) = letters.next()
        {
            let message = wire::encode(&letter.body, letter.receiver.as_ref());
            bytes += message.encoded_len();
            messages.push(message);
            // The newest description of this peer: a message may name nodes that have only just joined.
            if let PeerBody::Overlay(message) = letter.body {
                sender = Some(message.sender);
            }
            receiver = letter.receiver.or(receiver);
        }
        let receiver_id = receiver.map_or_else(Bytes::new, |peer: Peer| Bytes::copy_from_slice(peer.id.as_bytes()));
        v1::ExchangeRequest {
            protocol_version: PROTOCOL_VERSION,
            ring_id: wire::ring_id_bytes(routes.ring.as_ref()),
            receiver_id,
            sender: Some(wire::peer(sender.as_ref().unwrap_or(&routes.me))),
            messages,
            // Overlay messages come often enough; what carries data need not be looked at for it.
            wall_clock: sender.is_some().then(unix_millis),
            catalogue_revision: self.catalogue.load().revision,
            claim: Some(self.claim.load()).filter(|it| it.generation.counter > 0).map(|it| wire::chain::claim(&it)),
        }
    }
}

/// How the stream has ended; never, if there is none.
async fn ended(stream: &mut Option<Stream>) -> Status {
    match stream {
        Some(stream) => (&mut stream.end).await.unwrap_or_else(|_| Status::unavailable("the stream has ended")),
        None => std::future::pending().await,
    }
}

/// Messages that may wait for an address; a peer in trouble is told the newest by the next rounds anyway. A guess.
const OUTBOX: usize = 4096;

/// Messages in one request at most.
const BATCH: usize = 256;

/// For how long a message may wait for one that has to leave at once. A guess: a busy peer sends several meanwhile, and what
/// waits (commit frontiers) is asked for by whoever needs it sooner.
const COMPANY: Duration = Duration::from_millis(5);

/// No message is added to a request of so many bytes: well below gRPC's customary 4 MiB, unless the last one is larger.
const REQUEST_BYTES: usize = 512 << 10;

/// After this the stream counts as stuck and is made anew. A guess.
const DELIVERY_TIME_OUT: Duration = Duration::from_secs(1);

/// Between two attempts to reach an address. A guess: a restarted peer is found soon, a dead one costs little.
const PAUSE: Duration = Duration::from_millis(100);
