//! The keys of the fake peer.

use std::pin::Pin;

use bytes::Bytes;
use dhtctl::proto::{
    BatchGetRequest, BatchGetResponse, BatchWriteRequest, BatchWriteResponse, CompareAndSetRequest,
    CompareAndSetResponse, DeleteRequest, DeleteResponse, ExportRequest, ExportResponse, Failure, GetRequest,
    GetResponse, IncrementRequest, IncrementResponse, KeyValue, Mode, Operation, OperationResult, PipelineRequest,
    PipelineResponse, PutRequest, PutResponse, ReadResult, ScanRequest, ScanResponse, Version,
    kv_service_server::KvService, operation::Operation as Asked, operation_result::Result as Outcome, read_result,
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, iter, wrappers::UnboundedReceiverStream};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::StatusExt;

use super::{Answer, Messages, Service, locked, refusal};

fn version() -> Option<Version> {
    Some(Version { clock: 1_700_000_000_000 << 16 | 3, peer_id: vec![0xab; 16].into() })
}

/// How many keys a page of a scan has at most.
const PAGE: usize = 5;

#[tonic::async_trait]
impl KvService for Service {
    async fn put(&self, request: Request<PutRequest>) -> Answer<PutResponse> {
        self.put_one(request.into_inner()).await.map(Response::new)
    }

    async fn get(&self, request: Request<GetRequest>) -> Answer<GetResponse> {
        self.get_one(&request.into_inner().key).map(Response::new)
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Answer<DeleteResponse> {
        Ok(Response::new(self.delete_one(&request.into_inner().key)))
    }

    async fn compare_and_set(&self, request: Request<CompareAndSetRequest>) -> Answer<CompareAndSetResponse> {
        let request = request.into_inner();
        let mut store = locked(&self.0.store);
        if store.get(&request.key) != request.expected.as_ref() {
            return Err(refusal(Code::FailedPrecondition, "CONDITION_FAILED"));
        }
        store.insert(request.key, request.value);
        Ok(Response::new(CompareAndSetResponse { revision: 7, durable: 3 }))
    }

    async fn increment(&self, request: Request<IncrementRequest>) -> Answer<IncrementResponse> {
        let IncrementRequest { key, by, .. } = request.into_inner();
        let mut store = locked(&self.0.store);
        let text = store.get(&key).map(|value| String::from_utf8_lossy(value).into_owned());
        let held: i64 =
            text.map_or(Ok(0), |text| text.parse()).map_err(|_| refusal(Code::FailedPrecondition, "WRONG_TYPE"))?;
        let total = held + by;
        store.insert(key, total.to_string().into());
        Ok(Response::new(IncrementResponse { total, revision: 8, durable: 3 }))
    }

    async fn batch_get(&self, request: Request<BatchGetRequest>) -> Answer<BatchGetResponse> {
        self.0.check_read()?;
        let read = |key: &Bytes| match self.get_one(key) {
            Ok(found) => read_result::Result::Get(found),
            Err(status) => read_result::Result::Failure(failure(&status)),
        };
        let keys = request.into_inner().keys;
        Ok(Response::new(BatchGetResponse {
            results: keys.iter().map(|key| ReadResult { result: Some(read(key)) }).collect(),
        }))
    }

    async fn batch_write(&self, request: Request<BatchWriteRequest>) -> Answer<BatchWriteResponse> {
        let mut results = Vec::new();
        for operation in request.into_inner().operations {
            results.push(self.one(operation).await);
        }
        Ok(Response::new(BatchWriteResponse { results }))
    }

    type PipelineStream = Pin<Box<dyn Stream<Item = Result<PipelineResponse, Status>> + Send>>;

    async fn pipeline(&self, request: Request<Streaming<PipelineRequest>>) -> Answer<Self::PipelineStream> {
        let (mut requests, service) = (request.into_inner(), self.clone());
        let (results, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                for operation in request.operations {
                    let (service, results) = (service.clone(), results.clone());
                    tokio::spawn(async move { drop(results.send(service.one(operation).await)) });
                }
            }
        });
        let results = UnboundedReceiverStream::new(receiver);
        Ok(Response::new(Box::pin(results.map(|result| Ok(PipelineResponse { results: vec![result] })))))
    }

    async fn scan(&self, request: Request<ScanRequest>) -> Answer<ScanResponse> {
        self.0.check_read()?;
        let ScanRequest { prefix, page_size, page_token, keys_only, .. } = request.into_inner();
        let most = if page_size == 0 { PAGE } else { PAGE.min(page_size as usize) };
        let mut items: Vec<KeyValue> =
            self.items().filter(|item| item.key.starts_with(&prefix) && item.key > page_token).take(most + 1).collect();
        let more = items.len() > most;
        items.truncate(most);
        let last = items.last().filter(|_| more).map(|item| item.key.clone());
        if keys_only {
            items.iter_mut().for_each(|item| item.value.clear());
        }
        Ok(Response::new(ScanResponse { items, next_page_token: last.unwrap_or_default() }))
    }

    type ExportStream = Messages<ExportResponse>;

    async fn export(&self, _: Request<ExportRequest>) -> Answer<Self::ExportStream> {
        self.0.check_read()?;
        let items: Vec<KeyValue> = self.items().collect();
        let slots_total = u32::try_from(items.len().div_ceil(7)).unwrap_or(u32::MAX);
        let page =
            |(items, slots_done): (&[KeyValue], u32)| ExportResponse { items: items.to_vec(), slots_done, slots_total };
        let pages: Vec<_> = items.chunks(7).zip(1..).map(page).map(Ok).collect();
        Ok(Response::new(iter(pages)))
    }
}

impl Service {
    /// One of many operations.
    async fn one(&self, Operation { tag, operation }: Operation) -> OperationResult {
        let result = match operation {
            Some(Asked::Put(put)) => self.put_one(put).await.map(Outcome::Put),
            Some(Asked::Get(get)) => self.get_one(&get.key).map(Outcome::Get),
            Some(Asked::Delete(delete)) => Ok(Outcome::Delete(self.delete_one(&delete.key))),
            _ => Err(refusal(Code::InvalidArgument, "MALFORMED_MESSAGE")),
        };
        OperationResult { tag, result: Some(result.unwrap_or_else(|status| Outcome::Failure(failure(&status)))) }
    }

    /// The keyspace is in the mode of the first one that it has.
    async fn put_one(&self, request: PutRequest) -> Result<PutResponse, Status> {
        self.0.arrived.send_modify(|arrived| *arrived += 1);
        let mut open = self.0.open.subscribe();
        open.wait_for(|open| *open).await.map_err(|_| Status::internal("the gate is gone"))?;
        if let Some(refusal) = locked(&self.0.refusals).pop_front() {
            return Err(refusal);
        }
        let chain = locked(&self.0.keyspaces)[0].mode() == Mode::Chain;
        let mut store = locked(&self.0.store);
        match request.if_revision {
            Some(_) if !chain => return Err(refusal(Code::FailedPrecondition, "NEEDS_CHAIN_KEYSPACE")),
            Some(0) if store.contains_key(&request.key) => {
                return Err(refusal(Code::FailedPrecondition, "CONDITION_FAILED"));
            }
            _ => {}
        }
        *locked(&self.0.last_min_durable) = request.min_durable;
        *locked(&self.0.last_keyspace) = request.keyspace;
        let existed = store.insert(request.key, request.value).is_some();
        Ok(PutResponse { version: version(), durable: request.min_durable.max(1), existed, revision: 0 })
    }

    fn get_one(&self, key: &Bytes) -> Result<GetResponse, Status> {
        self.0.check_read()?;
        let value = locked(&self.0.store).get(key).cloned();
        let value = value.ok_or_else(|| refusal(Code::NotFound, "KEY_NOT_FOUND"))?;
        Ok(GetResponse { value, version: version(), ..GetResponse::default() })
    }

    fn delete_one(&self, key: &Bytes) -> DeleteResponse {
        let existed = locked(&self.0.store).remove(key).is_some();
        DeleteResponse { version: version(), durable: 1, existed, revision: 0 }
    }

    fn items(&self) -> impl Iterator<Item = KeyValue> {
        let item = |(key, value)| KeyValue { key, value, version: version(), ..KeyValue::default() };
        locked(&self.0.store).clone().into_iter().map(item)
    }
}

fn failure(status: &Status) -> Failure {
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    let (code, message) = (status.code().into(), status.message().to_owned());
    Failure { code, reason, message, ..Failure::default() }
}
