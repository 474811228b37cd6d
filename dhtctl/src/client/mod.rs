//! The client: calls with a deadline, over several endpoints.
//!
//! A call goes to the endpoint that answered last. If that one is UNAVAILABLE, a read goes on to the next endpoint. A
//! write does so only if no connection came about, because then it surely was not sent; otherwise it may have been
//! carried out, and the caller is told ([`Error::may_have_executed`]) rather than served twice.

mod batch;
mod endpoint;
mod holders;
mod keys;
mod pipeline;
mod ring;
mod stream;
mod write;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tonic::{Code, Request, Response, Status, transport::Channel};

use self::endpoint::Endpoint;
pub use self::{
    batch::Scan,
    pipeline::Pipeline,
    stream::Messages,
    write::{Write, Written},
};
use crate::error::{Access, Error};

/// A message may hold a value of the largest size that a peer can be configured for, and a page of an export.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// How a client behaves; the default is what the command-line tool uses.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a call may take, over all endpoints tried. The peer is told (`grpc-timeout`), and the call ends here
    /// whether it answers or not. In a stream it bounds the wait for each message.
    pub timeout: Duration,
    /// How long connecting to one endpoint may take, within `timeout`.
    pub connect_timeout: Duration,
}

impl Default for Options {
    /// Guesses: 5 s outlasts the detection of a dead peer several times; 2 s outlasts one lost SYN.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(5), connect_timeout: Duration::from_secs(2) }
    }
}

/// A connection to a ring. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    endpoints: Arc<[Endpoint]>,
    /// The index of the endpoint to try first, shared by all clones.
    preferred: Arc<AtomicUsize>,
    options: Options,
    /// Whose keys are read and written; empty: `default`.
    keyspace: Arc<str>,
    /// Reads may be answered by whichever replica is at hand.
    any_replica: bool,
    /// What is put expires after so many milliseconds; 0: never.
    ttl_ms: u64,
}

impl Client {
    /// Connects to the first of `endpoints` (`HOST:PORT` or `http://HOST:PORT`) that can be reached.
    ///
    /// # Errors
    /// Usage if there is no endpoint or one is malformed; unavailable if none can be reached.
    pub async fn connect(endpoints: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, Error> {
        Self::connect_with(endpoints, Options::default()).await
    }

    /// As [`Client::connect`], with other options than the default ones.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_with(
        endpoints: impl IntoIterator<Item = impl AsRef<str>>,
        options: Options,
    ) -> Result<Self, Error> {
        let client = Self::lazy(endpoints, options)?;
        client.ready().await?;
        Ok(client)
    }

    /// As [`Client::connect`], but connects with the first call.
    ///
    /// # Errors
    /// Usage if there is no endpoint or one is malformed.
    pub fn lazy(endpoints: impl IntoIterator<Item = impl AsRef<str>>, options: Options) -> Result<Self, Error> {
        let endpoints: Vec<_> =
            endpoints.into_iter().map(|endpoint| Endpoint::new(endpoint.as_ref())).collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(Error::usage("no endpoint is given"));
        }
        Ok(Self {
            endpoints: endpoints.into(),
            preferred: Arc::default(),
            options,
            keyspace: "".into(),
            any_replica: false,
            ttl_ms: 0,
        })
    }

    /// Waits for a connection to any of the endpoints.
    ///
    /// # Errors
    /// Unavailable if none can be reached.
    pub async fn ready(&self) -> Result<(), Error> {
        self.channel(Instant::now() + self.options.timeout, 0).await.map(drop)
    }

    /// The same client with another deadline for its calls.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = timeout;
        self
    }

    /// The same client for the keys of another keyspace than `default`.
    #[must_use]
    pub fn in_keyspace(mut self, name: &str) -> Self {
        self.keyspace = name.into();
        self
    }

    /// The same client whose reads any replica may answer, perhaps with an old value: cheaper, and also where most replicas
    /// can't be reached. Otherwise reads in chain mode are linearizable. See `GetRequest.any_replica`.
    #[must_use]
    pub fn at_any_replica(mut self) -> Self {
        self.any_replica = true;
        self
    }

    /// The same client, of which every value that [`Client::put`], [`Client::put_if`] and [`Client::compare_and_set`] store is
    /// gone again after this time, rounded to milliseconds, at least one. See `PutRequest.ttl_ms`. For writes in batches and
    /// pipelines see [`Write::expires_after`].
    #[must_use]
    pub fn expiring_after(mut self, ttl: Duration) -> Self {
        self.ttl_ms = millis(ttl);
        self
    }

    /// A client with the same options that asks the peer at `endpoint`, and only that one.
    ///
    /// # Errors
    /// Usage if the endpoint is malformed.
    pub fn only(&self, endpoint: &str) -> Result<Self, Error> {
        let client = Self::lazy([endpoint], self.options.clone())?;
        Ok(Self { any_replica: self.any_replica, ttl_ms: self.ttl_ms, ..client.in_keyspace(&self.keyspace) })
    }

    /// The endpoints, as `HOST:PORT`, in the order in which they were given.
    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.endpoints.iter().map(Endpoint::address)
    }

    /// One unary call, within the deadline, over as many endpoints as its nature allows.
    async fn call<Q: Clone, R, F>(
        &self,
        access: Access,
        message: Q,
        send: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let deadline = Instant::now() + self.options.timeout;
        let mut tried = 0;
        loop {
            let (index, channel) = self.channel(deadline, tried).await?;
            let address = self.endpoints[index].address();
            let left = deadline.saturating_duration_since(Instant::now());
            let mut request = Request::new(message.clone());
            request.set_timeout(left);
            let answer = match tokio::time::timeout_at(deadline, send(channel, request)).await {
                Ok(answer) => answer.map_err(|status| Error::from_status(address, access, &status)),
                Err(_) => Err(Error::deadline(address, access, self.options.timeout)),
            };
            tried = match self.next_attempt(index, tried, access, answer)? {
                Attempt::Done(response) => return Ok(response.into_inner()),
                Attempt::Again(tried) => tried,
            };
        }
    }

    /// Opens a stream of messages. `idle` bounds the wait for its beginning and for each message.
    async fn stream<Q: Clone, R, F>(
        &self,
        access: Access,
        idle: Option<Duration>,
        message: Q,
        start: impl Fn(Channel, Q) -> F,
    ) -> Result<Messages<R>, Error>
    where
        F: Future<Output = Result<Response<tonic::Streaming<R>>, Status>>,
    {
        let mut tried = 0;
        loop {
            let (index, channel) = self.channel(Instant::now() + self.options.timeout, tried).await?;
            let address = self.endpoints[index].address();
            let answer = stream::within(idle, address, access, start(channel, message.clone())).await;
            tried = match self.next_attempt(index, tried, access, answer)? {
                Attempt::Done(response) => {
                    return Ok(Messages::new(response.into_inner(), address.to_owned(), access, idle));
                }
                Attempt::Again(tried) => tried,
            };
        }
    }

    /// Whether the call is over. If it is to be tried elsewhere, this says how many endpoints have been tried.
    fn next_attempt<T>(
        &self,
        index: usize,
        tried: usize,
        access: Access,
        answer: Result<T, Error>,
    ) -> Result<Attempt<T>, Error> {
        let error = match answer {
            Ok(response) => return Ok(Attempt::Done(response)),
            Err(error) => error,
        };
        if matches!(error.code(), Some(Code::Unavailable | Code::DeadlineExceeded)) {
            self.avoid(index);
        }
        let elsewhere = error.code() == Some(Code::Unavailable) && tried + 1 < self.endpoints.len();
        if elsewhere && (access == Access::Read || error.is_not_connected()) {
            return Ok(Attempt::Again(tried + 1));
        }
        Err(error)
    }

    /// A connection to the preferred endpoint or, failing that, to one of the others; `tried` have been already.
    async fn channel(&self, deadline: Instant, tried: usize) -> Result<(usize, Channel), Error> {
        let count = self.endpoints.len();
        let mut tried = tried;
        loop {
            let index = self.preferred.load(Ordering::Relaxed) % count;
            // So that an endpoint that does not answer at all leaves time for the others.
            let share = deadline.saturating_duration_since(Instant::now())
                / u32::try_from(count.saturating_sub(tried)).unwrap_or(u32::MAX).max(1);
            match self.endpoints[index].channel(share.min(self.options.connect_timeout)).await {
                Ok(channel) => return Ok((index, channel)),
                Err(error) => {
                    self.avoid(index);
                    tried += 1;
                    if tried >= count {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Prefers the endpoint after `index`, unless a concurrent call has moved on already.
    fn avoid(&self, index: usize) {
        let next = (index + 1) % self.endpoints.len();
        _ = self.preferred.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

enum Attempt<T> {
    Done(T),
    Again(usize),
}

/// A time to live.
fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
}
