//! Thousands of operations in flight on one stream.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use dhtd_proto::v1::{
    GetRequest, GetResponse, Operation, OperationResult, PipelineRequest, PipelineResponse,
    operation::Operation as Asked,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::yield_now,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::{
    Client, Messages,
    keys::kv,
    write::{Write, Written, found, written},
};
use crate::error::{Access, Error};

/// A stream to one peer that carries any number of operations at once; cheap to clone. Operations that wait share messages.
/// If the stream breaks, the operations on it end with an error, and the next one opens another stream, to another endpoint
/// if need be. It ends when all clones are dropped.
///
/// Operations are carried out in no promised order: await one before you begin another that must come after it.
///
/// ```no_run
/// # async fn example(client: dhtctl::Client) -> Result<(), dhtctl::Error> {
/// use dhtctl::Write;
///
/// let pipeline = client.pipeline();
/// let mut writes = tokio::task::JoinSet::new();
/// for number in 0..10_000 {
///     let pipeline = pipeline.clone();
///     writes.spawn(async move { pipeline.write(Write::put(format!("key {number}"), "value")).await });
/// }
/// while let Some(Ok(written)) = writes.join_next().await {
///     written?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Pipeline {
    client: Client,
    waiting: mpsc::Sender<Submitted>,
}

#[derive(Debug)]
struct Submitted {
    asked: Asked,
    answer: Answer,
}

/// The endpoint that answered, and what it said.
type Answer = oneshot::Sender<Result<(Arc<str>, OperationResult), Error>>;

struct Line {
    requests: mpsc::Sender<PipelineRequest>,
    results: Messages<PipelineResponse>,
}

struct Operator {
    client: Client,
    waiting: mpsc::Receiver<Submitted>,
    in_flight: HashMap<u64, (Access, Answer)>,
    next_tag: u64,
}

impl Client {
    /// A pipeline, which opens its stream with its first operation. Must be called within a tokio runtime.
    #[must_use]
    pub fn pipeline(&self) -> Pipeline {
        let (sender, waiting) = mpsc::channel(QUEUE);
        let operator = Operator { client: self.clone(), waiting, in_flight: HashMap::new(), next_tag: 0 };
        tokio::spawn(operator.run());
        Pipeline { client: self.clone(), waiting: sender }
    }

    async fn open_pipeline(&self) -> Result<Line, Error> {
        let open = Mutex::new(None);
        let start = |channel: Channel, ()| {
            let (requests, receiver) = mpsc::channel(4);
            *open.lock().unwrap_or_else(PoisonError::into_inner) = Some(requests);
            async move { kv(channel).pipeline(ReceiverStream::new(receiver)).await }
        };
        // Nothing was sent yet: it may be tried everywhere.
        let results = self.stream(Access::Read, None, (), start).await?;
        let requests = open.into_inner().unwrap_or_else(PoisonError::into_inner);
        let requests = requests.ok_or_else(|| Error::nonsense("", Access::Read))?; // A stream was opened with it.
        Ok(Line { requests, results })
    }
}

impl Pipeline {
    /// The same pipeline with another deadline for each of its operations than the client's.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.client = self.client.with_timeout(timeout);
        self
    }

    /// Carries a write out.
    ///
    /// # Errors
    /// See [`Error`]; check [`Error::may_have_executed`].
    pub async fn write(&self, write: Write) -> Result<Written, Error> {
        let asked = write.in_keyspace(&self.client.keyspace);
        let (endpoint, result) = self.ask(Access::Write, asked).await?;
        written(&endpoint, result)
    }

    /// Reads a key; none if there is no such key.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<GetResponse>, Error> {
        let get =
            GetRequest { key: key.into(), keyspace: self.client.keyspace(), any_replica: self.client.any_replica };
        let (endpoint, result) = self.ask(Access::Read, Asked::Get(get)).await?;
        found(&endpoint, result.result)
    }

    async fn ask(&self, access: Access, asked: Asked) -> Result<(Arc<str>, OperationResult), Error> {
        let (answer, answered) = oneshot::channel();
        let limit = self.client.options.timeout;
        let exchange = async {
            let stopped = |_| Error::nonsense("", access);
            self.waiting.send(Submitted { asked, answer }).await.map_err(|_| Error::nonsense("", access))?;
            answered.await.map_err(stopped)?
        };
        timeout(limit, exchange).await.unwrap_or_else(|_| Err(Error::deadline("", access, limit)))
    }
}

impl Operator {
    async fn run(mut self) {
        let mut batch = Vec::new();
        while self.waiting.recv_many(&mut batch, BATCH).await > 0 {
            let error = match self.client.open_pipeline().await {
                Ok(line) => self.serve(line, &mut batch).await,
                Err(error) => {
                    batch.drain(..).for_each(|submitted: Submitted| drop(submitted.answer.send(Err(error.clone()))));
                    None
                }
            };
            for (access, answer) in self.in_flight.drain().map(|(_, waiting)| waiting) {
                let error = error.clone().unwrap_or_else(|| Error::nonsense("", access));
                drop(answer.send(Err(error.of(access))));
            }
        }
    }

    /// Works on one stream until it ends. Returns why it did, if there was an error.
    async fn serve(&mut self, mut line: Line, batch: &mut Vec<Submitted>) -> Option<Error> {
        let endpoint: Arc<str> = line.results.endpoint().into();
        loop {
            if !batch.is_empty() {
                let operations = batch.drain(..).map(|submitted| self.tagged(submitted)).collect();
                // If it ends here, the results say why.
                drop(line.requests.send(PipelineRequest { operations }).await);
            }
            tokio::select! {
                results = line.results.next() => match results {
                    Ok(Some(response)) => response.results.into_iter().for_each(|result| self.take(&endpoint, result)),
                    Ok(None) => return None,
                    Err(error) => return Some(error),
                },
                count = self.waiting.recv_many(batch, BATCH) => {
                    if count == 0 {
                        return None;
                    }
                    // Whoever is ready to ask as well shares the message.
                    yield_now().await;
                    while batch.len() < BATCH && let Ok(submitted) = self.waiting.try_recv() {
                        batch.push(submitted);
                    }
                }
            }
        }
    }

    fn tagged(&mut self, Submitted { asked, answer }: Submitted) -> Operation {
        self.next_tag += 1;
        let access = if matches!(asked, Asked::Get(_)) { Access::Read } else { Access::Write };
        self.in_flight.insert(self.next_tag, (access, answer));
        Operation { tag: self.next_tag, operation: Some(asked) }
    }

    fn take(&mut self, endpoint: &Arc<str>, result: OperationResult) {
        if let Some((_, answer)) = self.in_flight.remove(&result.tag) {
            drop(answer.send(Ok((endpoint.clone(), result))));
        }
    }
}

/// Operations that may wait before those who ask have to, and that share a message at most.
const QUEUE: usize = 1024;
const BATCH: usize = 256;
