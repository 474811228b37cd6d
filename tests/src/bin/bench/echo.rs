//! What is measured against: a bare tonic server that answers the same messages at once, without doing anything.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use dhtd_proto::v1::{
    self, BatchGetRequest, BatchGetResponse, BatchWriteRequest, BatchWriteResponse, CallRequest, CallResponse,
    CompareAndSetRequest, CompareAndSetResponse, DeleteRequest, DeleteResponse, ExchangeRequest, ExchangeResponse,
    ExportRequest, ExportResponse, GetRequest, GetResponse, IncrementRequest, IncrementResponse, PeerReply,
    PipelineRequest, PipelineResponse, PutRequest, PutResponse, ScanRequest, ScanResponse, ScanSlotsRequest,
    ScanSlotsResponse, TestifyRequest, TestifyResponse, TransferRequest, TransferResponse,
    kv_service_server::{KvService, KvServiceServer},
    operation, operation_result,
    peer_call::Call,
    peer_reply::Reply,
    peer_service_server::{PeerService, PeerServiceServer},
    read_result,
};
use tokio::{io::AsyncReadExt, net::TcpListener};
use tokio_stream::StreamExt;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

use crate::load::VALUE_BYTES;

/// Some processes that each run [`serve`]; they end with it.
pub(crate) struct Echo {
    processes: Vec<(Child, String)>,
}

impl Echo {
    /// Starts them and waits until they serve.
    pub(crate) fn start(count: usize) -> Self {
        let processes = (0..count).map(|_| start_one()).collect();
        Self { processes }
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.processes.iter().map(|(_, address)| address.clone()).collect()
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(|(child, _)| child.id()).collect()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        for (child, _) in &mut self.processes {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn start_one() -> (Child, String) {
    let program = std::env::current_exe().expect("it runs");
    let (stdin, stdout) = (Stdio::piped(), Stdio::piped());
    let mut child = Command::new(program).arg("echo").stdin(stdin).stdout(stdout).spawn().expect("it can be started");
    let mut address = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut address).expect("it says where it serves");
    (child, address.trim().to_owned())
}

/// Serves on a port of the system's choice, which it prints, until standard input ends.
pub(crate) async fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    println!("{}", listener.local_addr().expect("it is bound"));
    // As a peer does: dhtd/src/server.rs.
    let server = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 2)
        .add_service(KvServiceServer::new(Nothing))
        .add_service(PeerServiceServer::new(Nothing))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
    tokio::select! {
        ended = server => ended.expect("it serves"),
        () = end_of_stdin() => {}
    }
}

async fn end_of_stdin() {
    let mut byte = [0; 64];
    while tokio::io::stdin().read(&mut byte).await.is_ok_and(|count| count > 0) {}
}

/// Answers everything with answers of the size that a peer's have.
struct Nothing;

static VALUE: [u8; VALUE_BYTES] = [b'v'; VALUE_BYTES];

static PEER: [u8; 16] = [b'p'; 16];

/// A clock of today and a peer.
fn version() -> Option<v1::Version> {
    Some(v1::Version { clock: u64::MAX >> 7, peer_id: Bytes::from_static(&PEER) })
}

fn reply(call: Option<Call>) -> Reply {
    match call {
        Some(Call::Write(write)) => {
            Reply::Write(v1::WriteReply { version: version(), durable: write.min_durable, existed: true })
        }
        Some(Call::Read(read)) => {
            let (keyspace, key, value) = (read.keyspace, read.key, Some(Bytes::from_static(&VALUE)));
            let record = v1::StoredRecord { keyspace, key, version: version(), value, replaced: 0, expires_at_ms: 0 };
            Reply::Read(v1::ReadReply { record: Some(record), synced: true })
        }
        // What is not measured.
        Some(
            Call::Push(_)
            | Call::ChainWrite(_)
            | Call::ChainRead(_)
            | Call::View(_)
            | Call::Catalogue(_)
            | Call::Report(_)
            | Call::Survey(_)
            | Call::Recover(_),
        )
        | None => Reply::Push(v1::PushReply {}),
    }
}

fn found() -> GetResponse {
    GetResponse { version: version(), value: Bytes::from_static(&VALUE), ..GetResponse::default() }
}

fn result(asked: v1::Operation) -> v1::OperationResult {
    let result = match asked.operation {
        Some(operation::Operation::Put(put)) => operation_result::Result::Put(PutResponse {
            version: version(),
            durable: put.min_durable,
            existed: true,
            revision: 0,
        }),
        _ => operation_result::Result::Get(found()),
    };
    v1::OperationResult { tag: asked.tag, result: Some(result) }
}

type Items<T> = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl KvService for Nothing {
    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let durable = request.into_inner().min_durable;
        Ok(Response::new(PutResponse { version: version(), durable, existed: true, revision: 0 }))
    }

    async fn get(&self, _: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        Ok(Response::new(found()))
    }

    async fn delete(&self, _: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        Err(Status::unimplemented("it is not measured"))
    }

    async fn compare_and_set(
        &self,
        _: Request<CompareAndSetRequest>,
    ) -> Result<Response<CompareAndSetResponse>, Status> {
        Err(Status::unimplemented("it is not measured"))
    }

    async fn increment(&self, _: Request<IncrementRequest>) -> Result<Response<IncrementResponse>, Status> {
        Err(Status::unimplemented("it is not measured"))
    }

    async fn batch_get(&self, request: Request<BatchGetRequest>) -> Result<Response<BatchGetResponse>, Status> {
        let found = |_| v1::ReadResult { result: Some(read_result::Result::Get(found())) };
        Ok(Response::new(BatchGetResponse { results: request.into_inner().keys.into_iter().map(found).collect() }))
    }

    async fn batch_write(&self, request: Request<BatchWriteRequest>) -> Result<Response<BatchWriteResponse>, Status> {
        let results = request.into_inner().operations.into_iter().map(result).collect();
        Ok(Response::new(BatchWriteResponse { results }))
    }

    type PipelineStream = Items<PipelineResponse>;

    async fn pipeline(
        &self,
        request: Request<Streaming<PipelineRequest>>,
    ) -> Result<Response<Items<PipelineResponse>>, Status> {
        let results = request
            .into_inner()
            .map(|request| Ok(PipelineResponse { results: request?.operations.into_iter().map(result).collect() }));
        Ok(Response::new(Box::pin(results)))
    }

    async fn scan(&self, _: Request<ScanRequest>) -> Result<Response<ScanResponse>, Status> {
        Err(Status::unimplemented("it is not measured"))
    }

    type ExportStream = Items<ExportResponse>;

    async fn export(&self, _: Request<ExportRequest>) -> Result<Response<Items<ExportResponse>>, Status> {
        Err(Status::unimplemented("it is not measured"))
    }
}

#[tonic::async_trait]
impl PeerService for Nothing {
    async fn exchange(&self, _: Request<Streaming<ExchangeRequest>>) -> Result<Response<ExchangeResponse>, Status> {
        Err(Status::unimplemented("it is not measured"))
    }

    type CallStream = Items<CallResponse>;

    async fn call(&self, request: Request<Streaming<CallRequest>>) -> Result<Response<Items<CallResponse>>, Status> {
        let replies = request.into_inner().map(|request| {
            let calls = request?.calls.into_iter();
            Ok(CallResponse {
                replies: calls.map(|call| PeerReply { tag: call.tag, reply: Some(reply(call.call)) }).collect(),
            })
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn testify(&self, _: Request<TestifyRequest>) -> Result<Response<TestifyResponse>, Status> {
        Err(Status::unimplemented("it is not measured"))
    }

    async fn transfer(&self, _: Request<Streaming<TransferRequest>>) -> Result<Response<TransferResponse>, Status> {
        Err(Status::unimplemented("it is not measured"))
    }

    type ScanSlotsStream = Items<ScanSlotsResponse>;

    async fn scan_slots(&self, _: Request<ScanSlotsRequest>) -> Result<Response<Items<ScanSlotsResponse>>, Status> {
        Err(Status::unimplemented("it is not measured"))
    }
}

/// As a peer's.
const WINDOW: u32 = 4 << 20;
