//! `KvService`.

use dhtd_proto::v1::{
    self, DeleteRequest, DeleteResponse, ExportRequest, ExportResponse, GetRequest, GetResponse, PutRequest,
    PutResponse, kv_service_server::KvService,
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use crate::{
    coordinator::{Coordinator, Stamp},
    wire,
};

/// Serves `KvService`.
pub struct KvApi(pub Coordinator);

type Items = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<ExportResponse, Status>> + Send>>;

#[tonic::async_trait]
impl KvService for KvApi {
    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let PutRequest { key, value, min_durable } = request.into_inner();
        let done = self.0.put(key, value, min_durable).await?;
        let (version, revision) = stamp(done.stamp);
        Ok(Response::new(PutResponse { version, durable: done.durable, existed: done.existed, revision }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let GetRequest { key } = request.into_inner();
        let read = self.0.get(key).await?;
        let (version, revision) = stamp(read.stamp);
        Ok(Response::new(GetResponse { version, value: read.value, revision }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        let DeleteRequest { key, min_durable } = request.into_inner();
        let done = self.0.delete(key, min_durable).await?;
        let (version, revision) = stamp(done.stamp);
        Ok(Response::new(DeleteResponse { version, durable: done.durable, existed: done.existed, revision }))
    }

    type ExportStream = Items;

    async fn export(&self, _: Request<ExportRequest>) -> Result<Response<Items>, Status> {
        let (pages, receiver) = mpsc::channel(4);
        let (end, ended) = mpsc::channel(1);
        let coordinator = self.0.clone();
        tokio::spawn(async move {
            if let Err(error) = coordinator.export(pages).await {
                let _ = end.send(Err(Status::from(error))).await;
            }
        });
        let pages = ReceiverStream::new(receiver).map(Ok);
        Ok(Response::new(Box::pin(pages.chain(ReceiverStream::new(ended)))))
    }
}

fn stamp(stamp: Stamp) -> (Option<v1::Version>, u64) {
    match stamp {
        Stamp::Version(version) => (Some(wire::version(version)), 0),
        Stamp::Revision(revision) => (None, revision),
    }
}
