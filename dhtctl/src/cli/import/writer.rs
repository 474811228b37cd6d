//! Writing a line: over a pipeline that all lines share, tried again while peers are overloaded or away.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dhtctl::{Client, Error, ErrorKind, Pipeline, Write, proto::RequestId};
use tokio::time::Instant;

use crate::cli::{args::OnDuplicate, failure::Failure, kv::quoted, retry};

/// Writes lines; its clones share a pipeline.
#[derive(Clone)]
pub(crate) struct Writer {
    pipeline: Pipeline,
    timeout: Duration,
    on_duplicate: OnDuplicate,
    min_durable: u32,
    shared: Arc<Shared>,
}

struct Shared {
    /// Names the writes of this import.
    client_id: Bytes,
    named: AtomicU64,
    /// The keyspace has turned out to know no conditional writes.
    unconditional: AtomicBool,
}

/// A line that is done.
pub(crate) struct Written {
    pub(crate) line: u64,
    pub(crate) key: Bytes,
    pub(crate) outcome: Result<Done, Failure>,
}

/// What was done about a line.
pub(crate) enum Done {
    Inserted,
    Replaced,
    Skipped,
}

/// What was found under a key.
enum Found {
    Nothing,
    Value,
}

impl Writer {
    pub(crate) fn new(client: &Client, timeout: Duration, on_duplicate: OnDuplicate, min_durable: u32) -> Self {
        let halves = [0, 1].map(|half| RandomState::new().hash_one(half).to_be_bytes());
        let client_id = Bytes::from(halves.concat());
        let shared = Shared { client_id, named: AtomicU64::new(0), unconditional: AtomicBool::new(false) };
        let pipeline = client.pipeline();
        Self { pipeline, timeout, on_duplicate, min_durable, shared: Arc::new(shared) }
    }

    pub(crate) async fn write(self, line: u64, key: Bytes, value: Bytes) -> Written {
        let exists = || Failure::new(ErrorKind::Precondition, format!("the key {} exists", quoted(&key)));
        let outcome = match self.attempt(&key, value).await {
            Ok(Some(done)) => Ok(done),
            Ok(None) if self.on_duplicate == OnDuplicate::Skip => Ok(Done::Skipped),
            Ok(None) => Err(exists()),
            Err(error) => Err(Failure::call(&format!("can't write {}", quoted(&key)), &error)),
        };
        Written { line, key, outcome }
    }

    /// None if the key exists and must not.
    async fn attempt(&self, key: &Bytes, value: Bytes) -> Result<Option<Done>, Error> {
        let deadline = Instant::now() + self.timeout;
        if self.on_duplicate == OnDuplicate::Replace {
            return self.put(deadline, key, value).await.map(Some);
        }
        if !self.shared.unconditional.load(Ordering::Relaxed) {
            match self.put_if_absent(deadline, key, &value).await {
                Err(error) if error.reason() == Some("NEEDS_CHAIN_KEYSPACE") => {
                    self.shared.unconditional.store(true, Ordering::Relaxed);
                }
                done => return Ok(done?.map(|()| Done::Inserted)),
            }
        }
        match retry::until(deadline, |left| self.look(left, key)).await? {
            Found::Value => Ok(None),
            Found::Nothing => self.put(deadline, key, value).await.map(Some),
        }
    }

    async fn look(&self, left: Duration, key: &Bytes) -> Result<Found, Error> {
        let pipeline = self.pipeline.clone().with_timeout(left);
        Ok(if pipeline.get(key.clone()).await?.is_some() { Found::Value } else { Found::Nothing })
    }

    /// Putting the same value twice does no harm.
    async fn put(&self, deadline: Instant, key: &Bytes, value: Bytes) -> Result<Done, Error> {
        let put = |left| self.send(left, Write::put(key.clone(), value.clone()));
        let answer = retry::until(deadline, put).await?;
        Ok(if answer.existed { Done::Replaced } else { Done::Inserted })
    }

    /// None if the key exists. The write has a name: if its outcome was not known, the next attempt is told what it was.
    async fn put_if_absent(&self, deadline: Instant, key: &Bytes, value: &Bytes) -> Result<Option<()>, Error> {
        let sequence = self.shared.named.fetch_add(1, Ordering::Relaxed);
        let (mut floor, in_doubt) = (0, AtomicBool::new(false));
        loop {
            let name = RequestId { client_id: self.shared.client_id.clone(), sequence, floor };
            let put = async |left| {
                let write = Write::put_if(key.clone(), value.clone(), 0).named(name.clone());
                self.send(left, write).await.inspect_err(|error| {
                    in_doubt.fetch_or(error.may_have_executed(), Ordering::Relaxed);
                })
            };
            match retry::until(deadline, put).await {
                Ok(_) => return Ok(Some(())),
                Err(error) if error.condition_failed() => return Ok(None),
                // The slot has been written more often than it remembers. A first attempt may say where it stands now.
                Err(error) if error.reason() == Some("REQUEST_TOO_OLD") && !in_doubt.load(Ordering::Relaxed) => {
                    floor = error.revision().filter(|revision| *revision > floor).ok_or(error)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn send(&self, left: Duration, write: Write) -> Result<dhtctl::Written, Error> {
        self.pipeline.clone().with_timeout(left).write(write.min_durable(self.min_durable)).await
    }
}
