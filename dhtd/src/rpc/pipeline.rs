//! `Pipeline`: operations as they come, results as they are there.
//!
//! One task reads the stream and starts whatever has come as one piece, which is carried out by a task of its own, so that
//! an operation that takes long holds up no other. What is under way, and what waits to be fetched, has a bound: beyond it
//! nothing more is read, and the client's side of the stream fills up.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use dhtd_proto::v1::{Operation, OperationResult, PipelineRequest, PipelineResponse, operation_result};
use tokio::{
    sync::{Semaphore, mpsc},
    task::yield_now,
};
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::operations::{carry_out, size_of};
use crate::coordinator::Coordinator;

/// The messages of the stream of results. It ends when everything is answered that was read before the client's end of the
/// stream, or with the error that the latter ended with.
#[derive(Debug)]
pub struct Results {
    results: mpsc::UnboundedReceiver<Result<Charged, Status>>,
    waiting: VecDeque<Result<Charged, Status>>,
    buffer: Vec<Result<Charged, Status>>,
    window: Arc<Semaphore>,
}

/// A result, and how much of the window it takes until it is fetched.
#[derive(Debug)]
struct Charged {
    result: OperationResult,
    charge: u32,
}

/// What reads the stream of operations.
struct Reader {
    coordinator: Coordinator,
    requests: Streaming<PipelineRequest>,
    results: mpsc::UnboundedSender<Result<Charged, Status>>,
    window: Arc<Semaphore>,
}

impl Results {
    /// Carries out what is asked for; the results are this stream. Must be called within a tokio runtime.
    pub(super) fn of(coordinator: Coordinator, requests: Streaming<PipelineRequest>) -> Self {
        let (sender, results, window) = Self::new();
        tokio::spawn(Reader { coordinator, requests, results: sender, window }.run());
        results
    }

    fn new() -> (mpsc::UnboundedSender<Result<Charged, Status>>, Self, Arc<Semaphore>) {
        let (sender, results) = mpsc::unbounded_channel();
        let window = Arc::new(Semaphore::new(WINDOW as usize));
        let (waiting, buffer) = Default::default();
        (sender, Self { results, waiting, buffer, window: window.clone() }, window)
    }

    /// As much of what waits as fits into one message, at least one result. None if the error comes first.
    fn pack(&mut self) -> Option<PipelineResponse> {
        let (mut results, mut bytes, mut charges) = (Vec::with_capacity(self.waiting.len()), 0, 0);
        while let Some(Ok(Charged { result, charge })) = self.waiting.front() {
            bytes += size_of_result(result);
            if bytes > MESSAGE_BYTES && !results.is_empty() {
                break;
            }
            charges += charge;
            results.extend(self.waiting.pop_front().and_then(Result::ok).map(|charged| charged.result));
        }
        self.window.add_permits(charges as usize);
        (!results.is_empty()).then_some(PipelineResponse { results })
    }
}

impl Stream for Results {
    type Item = Result<PipelineResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.waiting.is_empty() {
            if ready!(this.results.poll_recv_many(context, &mut this.buffer, BATCH)) == 0 {
                return Poll::Ready(None);
            }
            this.waiting.extend(this.buffer.drain(..));
        }
        Poll::Ready(match this.pack() {
            Some(message) => Some(Ok(message)),
            None => this.waiting.pop_front().and_then(Result::err).map(Err),
        })
    }
}

/// Nobody fetches results any more: nothing more is read.
impl Drop for Results {
    fn drop(&mut self) {
        self.window.close();
    }
}

impl Reader {
    async fn run(mut self) {
        loop {
            let operations = match self.requests.message().await {
                Ok(Some(request)) => self.whatever_has_come(request).await,
                Ok(None) => return,
                Err(status) => return drop(self.results.send(Err(status))),
            };
            let mut operations = operations.into_iter().peekable();
            while operations.peek().is_some() {
                if self.start(&mut operations).await.is_none() {
                    return; // The client is gone.
                }
            }
        }
    }

    /// Adds the operations of further messages that are there already. An error comes up again with the next message.
    async fn whatever_has_come(&mut self, first: PipelineRequest) -> Vec<Operation> {
        let mut operations = first.operations;
        // Whoever is ready to send comes first.
        yield_now().await;
        while operations.len() < BATCH {
            tokio::select! {
                biased;
                more = self.requests.message() => match more {
                    Ok(Some(more)) => operations.extend(more.operations),
                    Ok(None) => break,
                    Err(status) => {
                        drop(self.results.send(Err(status)));
                        break;
                    }
                },
                () = std::future::ready(()) => break,
            }
        }
        operations
    }

    /// Starts as many operations as make one piece, once there is room for them. None if nobody wants results any more.
    async fn start(&self, operations: &mut impl Iterator<Item = Operation>) -> Option<()> {
        let (mut piece, mut charges, mut total) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH), 0);
        while piece.len() < BATCH && total < WINDOW / 4 {
            let Some(operation) = operations.next() else { break };
            let charge = charge_of(size_of(operation.operation.as_ref())).min(WINDOW / 4);
            piece.push(operation);
            charges.push(charge);
            total += charge;
        }
        self.window.acquire_many(total).await.ok()?.forget();
        let (coordinator, results, window) = (self.coordinator.clone(), self.results.clone(), self.window.clone());
        tokio::spawn(async move {
            let tell = |place: usize, result: OperationResult| {
                // How large a value is shows only once it is read.
                let more = charge_of(size_of_result(&result)).saturating_sub(charges[place]);
                let more = u32::try_from(window.forget_permits(more as usize)).unwrap_or(0);
                drop(results.send(Ok(Charged { result, charge: charges[place] + more })));
            };
            carry_out(&coordinator, piece, tell).await;
        });
        Some(())
    }
}

/// What so many bytes take of the window.
fn charge_of(bytes: usize) -> u32 {
    1 + u32::try_from(bytes / CHARGED_BYTES).unwrap_or(u32::MAX - 1)
}

/// Roughly: what counts is a value that was read.
fn size_of_result(result: &OperationResult) -> usize {
    match &result.result {
        Some(operation_result::Result::Get(found)) => found.value.len() + 64,
        Some(operation_result::Result::Failure(failure)) => failure.message.len() + failure.reason.len() + 32,
        _ => 64,
    }
}

/// Operations that are started at once, and results in one message, at most. As many as a group of chains takes at once.
const BATCH: usize = 1024;

/// Bytes in one message at most, unless a single result is larger: well below gRPC's customary 4 MiB.
const MESSAGE_BYTES: usize = 1 << 20;

/// Operations of a stream that are under way or whose results wait to be fetched, at most; one with more than
/// [`CHARGED_BYTES`] counts for several, so that 16 MiB are kept for a client, and values that turn out to be larger. Guesses.
const WINDOW: u32 = 16 << 10;
const CHARGED_BYTES: usize = 1 << 10;
