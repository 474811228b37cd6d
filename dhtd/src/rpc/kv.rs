//! `KvService`.

use dht_core::{
    record::RecordKey,
    replication::chain::{Action, Command, Condition},
};
use dhtd_proto::v1::{
    self, CompareAndSetRequest, CompareAndSetResponse, DeleteRequest, DeleteResponse, ExportRequest, ExportResponse,
    GetRequest, GetResponse, IncrementRequest, IncrementResponse, PutRequest, PutResponse,
    kv_service_server::KvService,
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use crate::{
    coordinator::{Coordinator, Executed, Stamp},
    wire,
};

/// Serves `KvService`.
pub struct KvApi(pub Coordinator);

type Items = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<ExportResponse, Status>> + Send>>;

#[tonic::async_trait]
impl KvService for KvApi {
    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let PutRequest { key, value, min_durable, if_revision, request, keyspace } = request.into_inner();
        let (mode, at) = self.0.place(&keyspace, key).await?;
        let command = command(at, if_revision.map(at_revision), Action::Put(value), request)?;
        let Executed { stamp, durable, existed, .. } = self.0.execute(mode, command, min_durable).await?;
        let (version, revision) = shown(stamp);
        Ok(Response::new(PutResponse { version, durable, existed, revision }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let GetRequest { key, keyspace } = request.into_inner();
        let (mode, at) = self.0.place(&keyspace, key).await?;
        let read = self.0.get(mode, at).await?;
        let (version, revision) = shown(read.stamp);
        Ok(Response::new(GetResponse { version, value: read.value, revision, counter: read.counter }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        let DeleteRequest { key, min_durable, if_revision, request, keyspace } = request.into_inner();
        let (mode, at) = self.0.place(&keyspace, key).await?;
        let command = command(at, if_revision.map(at_revision), Action::Delete, request)?;
        let Executed { stamp, durable, existed, .. } = self.0.execute(mode, command, min_durable).await?;
        let (version, revision) = shown(stamp);
        Ok(Response::new(DeleteResponse { version, durable, existed, revision }))
    }

    async fn compare_and_set(
        &self,
        request: Request<CompareAndSetRequest>,
    ) -> Result<Response<CompareAndSetResponse>, Status> {
        let CompareAndSetRequest { key, expected, value, request, keyspace } = request.into_inner();
        let (mode, at) = self.0.place(&keyspace, key).await?;
        let condition = expected.map_or(Condition::Absent, Condition::Value);
        let command = command(at, Some(condition), Action::Put(value), request)?;
        let Executed { stamp, durable, .. } = self.0.execute(mode, command, 1).await?;
        Ok(Response::new(CompareAndSetResponse { revision: shown(stamp).1, durable }))
    }

    async fn increment(&self, request: Request<IncrementRequest>) -> Result<Response<IncrementResponse>, Status> {
        let IncrementRequest { key, by, request, keyspace } = request.into_inner();
        let (mode, at) = self.0.place(&keyspace, key).await?;
        let command = command(at, None, Action::Add(by), request)?;
        let Executed { stamp, durable, total, .. } = self.0.execute(mode, command, 1).await?;
        let total = total.unwrap_or_default(); // An increment that was carried out has one.
        Ok(Response::new(IncrementResponse { total, revision: shown(stamp).1, durable }))
    }

    type ExportStream = Items;

    async fn export(&self, request: Request<ExportRequest>) -> Result<Response<Items>, Status> {
        let (keyspace, mode) = self.0.keyspace(&request.into_inner().keyspace).await?;
        let (items, receiver) = mpsc::channel(8);
        let (end, ended) = mpsc::channel(1);
        let coordinator = self.0.clone();
        tokio::spawn(async move {
            if let Err(error) = coordinator.export(keyspace, mode, items).await {
                let _ = end.send(Err(Status::from(error))).await;
            }
        });
        let items = ReceiverStream::new(receiver).map(Ok);
        Ok(Response::new(Box::pin(items.chain(ReceiverStream::new(ended)))))
    }
}

fn command(
    at: RecordKey,
    condition: Option<Condition>,
    action: Action,
    request: Option<v1::RequestId>,
) -> Result<Command, Status> {
    let request = request.map(wire::chain::decode_request).transpose()?;
    Ok(Command { at, condition, action, request })
}

/// What has no value has never been written.
fn at_revision(revision: u64) -> Condition {
    if revision == 0 { Condition::Absent } else { Condition::Revision(revision) }
}

fn shown(stamp: Stamp) -> (Option<v1::Version>, u64) {
    match stamp {
        Stamp::Version(version) => (Some(wire::version(version)), 0),
        Stamp::Revision(revision) => (None, revision),
    }
}
