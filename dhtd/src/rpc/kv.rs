//! `KvService`.

use dhtd_proto::v1::{
    BatchGetRequest, BatchGetResponse, BatchWriteRequest, BatchWriteResponse, CompareAndSetRequest,
    CompareAndSetResponse, DeleteRequest, DeleteResponse, ExportRequest, ExportResponse, GetRequest, GetResponse,
    IncrementRequest, IncrementResponse, PipelineRequest, PutRequest, PutResponse, ScanRequest, ScanResponse,
    kv_service_server::KvService,
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{
    batch,
    operations::{Write, read},
    pipeline::Results,
};
use crate::coordinator::{Coordinator, Executed, OperationError, Scan};

/// Serves `KvService`.
pub struct KvApi(pub Coordinator);

type Items = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<ExportResponse, Status>> + Send>>;

#[tonic::async_trait]
impl KvService for KvApi {
    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        Ok(Response::new(self.execute(request.into_inner()).await?.into()))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let (mode, at, any) = read(&self.0, request.into_inner()).await?;
        Ok(Response::new(self.0.get(mode, at, any).await?.into()))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        Ok(Response::new(self.execute(request.into_inner()).await?.into()))
    }

    async fn compare_and_set(
        &self,
        request: Request<CompareAndSetRequest>,
    ) -> Result<Response<CompareAndSetResponse>, Status> {
        Ok(Response::new(self.execute(request.into_inner()).await?.into()))
    }

    async fn increment(&self, request: Request<IncrementRequest>) -> Result<Response<IncrementResponse>, Status> {
        Ok(Response::new(self.execute(request.into_inner()).await?.into()))
    }

    async fn batch_get(&self, request: Request<BatchGetRequest>) -> Result<Response<BatchGetResponse>, Status> {
        Ok(Response::new(batch::get(&self.0, request.into_inner()).await?))
    }

    async fn batch_write(&self, request: Request<BatchWriteRequest>) -> Result<Response<BatchWriteResponse>, Status> {
        Ok(Response::new(batch::write(&self.0, request.into_inner()).await?))
    }

    type PipelineStream = Results;

    async fn pipeline(&self, request: Request<Streaming<PipelineRequest>>) -> Result<Response<Results>, Status> {
        Ok(Response::new(Results::of(self.0.clone(), request.into_inner())))
    }

    async fn scan(&self, request: Request<ScanRequest>) -> Result<Response<ScanResponse>, Status> {
        let ScanRequest { keyspace, prefix, page_size, page_token, keys_only } = request.into_inner();
        if prefix.len() > dhtd_proto::MAX_KEY_BYTES {
            return Err(OperationError::BadKey { bytes: prefix.len() }.into());
        }
        let (keyspace, mode) = self.0.keyspace(&keyspace).await?;
        let limit = if page_size == 0 { PAGE_ITEMS } else { (page_size as usize).min(MOST_PAGE_ITEMS) };
        let scan = Scan { keyspace, mode, prefix, limit, keys_only };
        let (items, next_page_token) = self.0.scan(&scan, &page_token).await?;
        Ok(Response::new(ScanResponse { items, next_page_token }))
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

impl KvApi {
    async fn execute(&self, write: impl Into<Write>) -> Result<Executed, OperationError> {
        let (mode, command, min_durable) = write.into().command(&self.0).await?;
        self.0.execute(mode, command, min_durable).await
    }
}

/// Keys of a page, unless the client says how many it wants (DESIGN, section 2), and at most.
const PAGE_ITEMS: usize = 1000;
const MOST_PAGE_ITEMS: usize = 10_000;
