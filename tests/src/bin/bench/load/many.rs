//! Many operations per message, as clients send them: `KvService.Pipeline`, `BatchWrite` and `BatchGet`.

use std::time::Instant;

use bytes::Bytes;
use dhtd_proto::v1::{
    self, BatchGetRequest, BatchWriteRequest, GetRequest, GetResponse, OperationResult, PipelineRequest, PutRequest,
    kv_service_client::KvServiceClient, operation, operation_result, read_result,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{Draw, Load, Operation, Target, VALUE_BYTES, key, micros};

type Result<T> = std::result::Result<T, String>;

/// What one server is asked for.
struct Source {
    operation: Operation,
    target: Target,
    server: usize,
    /// Only keys that the server holds.
    held: bool,
    draw: Draw,
    deadline: Instant,
}

/// A stream to each server.
pub(super) async fn pipeline(load: &Load, held: bool, target: &Target) -> Result<Vec<u32>> {
    let servers = target.channels.len();
    let mut streams = JoinSet::new();
    for server in 0..servers {
        let source = Source::new(load, held, target, server, server as u64);
        streams.spawn(source.one_stream((load.in_flight / servers).max(1)));
    }
    all(streams).await
}

/// A loop for each batch in flight, spread over the servers in turn.
pub(super) async fn batches(load: &Load, size: usize, held: bool, target: &Target) -> Result<Vec<u32>> {
    enough_keys(load, size, held, target)?;
    let mut loops = JoinSet::new();
    for number in 0..load.in_flight {
        let source = Source::new(load, held, target, number % target.channels.len(), number as u64);
        loops.spawn(source.one_loop(size));
    }
    all(loops).await
}

/// A batch has each key once.
fn enough_keys(load: &Load, size: usize, held: bool, target: &Target) -> Result<()> {
    let mut most = vec![0; target.channels.len()];
    (0..load.keys).for_each(|number| most[target.holder(&key(number))] += 1);
    let fewest = if held { most.into_iter().min() } else { usize::try_from(load.keys).ok() };
    match fewest.filter(|fewest| *fewest < size) {
        Some(fewest) => {
            Err(format!("a batch of {size} can't be made of {fewest} keys: use more keys, or smaller batches"))
        }
        None => Ok(()),
    }
}

async fn all(loops: JoinSet<Result<Vec<u32>>>) -> Result<Vec<u32>> {
    let latencies: Result<Vec<_>> = loops.join_all().await.into_iter().collect();
    Ok(latencies?.concat())
}

impl Source {
    fn new(load: &Load, held: bool, target: &Target, server: usize, stream: u64) -> Self {
        let (operation, target, draw) = (load.operation, target.clone(), Draw::new(load, stream));
        Self { operation, target, server, held, draw, deadline: Instant::now() + load.time }
    }

    fn client(&self) -> KvServiceClient<tonic::transport::Channel> {
        KvServiceClient::new(self.target.channels[self.server].clone())
    }

    fn key(&mut self) -> Bytes {
        loop {
            let key = self.draw.any_key();
            if !self.held || self.target.holder(&key) == self.server {
                return key;
            }
        }
    }

    fn operation(&mut self, tag: u64) -> v1::Operation {
        let key = self.key();
        let operation = match self.operation {
            Operation::Put { .. } => operation::Operation::Put(self.put(key)),
            Operation::Get => operation::Operation::Get(GetRequest { key, ..GetRequest::default() }),
        };
        v1::Operation { tag, operation: Some(operation) }
    }

    fn put(&mut self, key: Bytes) -> PutRequest {
        PutRequest { key, value: self.draw.value(), min_durable: self.operation.min_durable(), ..PutRequest::default() }
    }

    /// Each result is followed by the next operation, those of a message by a message.
    async fn one_stream(mut self, in_flight: usize) -> Result<Vec<u32>> {
        let (requests, receiver) = mpsc::unbounded_channel();
        let mut begun = vec![Instant::now(); in_flight];
        let operations = (0..in_flight as u64).map(|tag| self.operation(tag)).collect();
        requests.send(PipelineRequest { operations }).map_err(|_| ENDED)?;
        let results = self.client().pipeline(UnboundedReceiverStream::new(receiver)).await;
        let mut results = results.map_err(|status| status.to_string())?.into_inner();
        let (mut latencies, mut left) = (Vec::new(), in_flight);
        while left > 0 {
            let message = results.message().await.map_err(|status| status.to_string())?.ok_or(ENDED)?;
            let over = Instant::now() >= self.deadline;
            let mut operations = Vec::with_capacity(message.results.len());
            for result in message.results {
                let place = usize::try_from(result.tag).ok().filter(|place| *place < in_flight);
                let place = place.ok_or("an answer to nothing")?;
                latencies.push(micros(begun[place]));
                check(&result, self.operation)?;
                if over {
                    left -= 1;
                } else {
                    begun[place] = Instant::now();
                    operations.push(self.operation(result.tag));
                }
            }
            if !operations.is_empty() {
                requests.send(PipelineRequest { operations }).map_err(|_| ENDED)?;
            }
        }
        Ok(latencies)
    }

    /// One batch after another.
    async fn one_loop(mut self, size: usize) -> Result<Vec<u32>> {
        let mut client = self.client();
        let mut latencies = Vec::new();
        while Instant::now() < self.deadline {
            let begun = Instant::now();
            if self.operation == Operation::Get {
                let request = BatchGetRequest { keys: self.keys(size), ..BatchGetRequest::default() };
                let answer = client.batch_get(request).await.map_err(|status| status.to_string())?.into_inner();
                let right = |result: &v1::ReadResult| matches!(&result.result, Some(read_result::Result::Get(found)) if is_right(found));
                if answer.results.len() != size || !answer.results.iter().all(right) {
                    return Err(format!("a wrong answer: {:?}", answer.results.iter().find(|result| !right(result))));
                }
            } else {
                let puts: Vec<_> = self.keys(size).into_iter().map(|key| self.put(key)).collect();
                let operations = puts
                    .into_iter()
                    .map(|put| v1::Operation { tag: 0, operation: Some(operation::Operation::Put(put)) })
                    .collect();
                let answer = client.batch_write(BatchWriteRequest { operations }).await;
                let answer = answer.map_err(|status| status.to_string())?.into_inner();
                answer.results.iter().try_for_each(|result| check(result, self.operation))?;
            }
            latencies.push(micros(begun));
        }
        Ok(latencies)
    }

    /// So many different ones.
    fn keys(&mut self, size: usize) -> Vec<Bytes> {
        let mut keys = std::collections::HashSet::with_capacity(size);
        while keys.len() < size {
            keys.insert(self.key());
        }
        keys.into_iter().collect()
    }
}

fn check(result: &OperationResult, operation: Operation) -> Result<()> {
    let right = match (&result.result, operation) {
        (Some(operation_result::Result::Put(put)), Operation::Put { min_durable }) => put.durable >= min_durable,
        (Some(operation_result::Result::Get(found)), Operation::Get) => is_right(found),
        _ => false,
    };
    if right { Ok(()) } else { Err(format!("a wrong answer: {:?}", result.result)) }
}

fn is_right(found: &GetResponse) -> bool {
    found.value.len() == VALUE_BYTES
}

const ENDED: &str = "a stream has ended";
