//! Operations of clients: from messages, and what becomes of them, to messages.

use bytes::Bytes;
use dht_core::{
    record::{Mode, RecordKey},
    replication::chain::{Action, Command, Condition},
};
use dhtd_proto::v1::{
    self, CompareAndSetRequest, CompareAndSetResponse, DeleteRequest, DeleteResponse, GetRequest, GetResponse,
    IncrementRequest, IncrementResponse, PutRequest, PutResponse, operation, operation_result,
};

use crate::{
    coordinator::{Completed, Completion, Coordinator, Executed, Operation, OperationError, Read, Stamp},
    wire::{self, Malformed},
};

/// A write that a client asks for.
pub(super) struct Write {
    keyspace: String,
    key: Bytes,
    condition: Option<Condition>,
    action: Action,
    ttl_ms: u64,
    request: Option<v1::RequestId>,
    min_durable: u32,
}

/// Which kind of result an operation has.
#[derive(Clone, Copy)]
enum Kind {
    Put,
    Get,
    Delete,
    CompareAndSet,
    Increment,
    /// It was none.
    Nothing,
}

impl Write {
    /// The command, and in how many copies it should be on disk.
    pub(super) async fn command(self, coordinator: &Coordinator) -> Result<(Mode, Command, u32), OperationError> {
        let Self { keyspace, key, condition, action, ttl_ms, request, min_durable } = self;
        let (mode, at) = coordinator.place(&keyspace, key).await?;
        let request = request.map(wire::chain::decode_request).transpose()?;
        let expires = wire::expiry(ttl_ms, coordinator.wall_millis());
        Ok((mode, Command { at, condition, action, expires, request }, min_durable))
    }
}

/// Where the key to read is, and whether any replica may say what it has.
pub(super) async fn read(
    coordinator: &Coordinator,
    request: GetRequest,
) -> Result<(Mode, RecordKey, bool), OperationError> {
    let GetRequest { key, keyspace, any_replica } = request;
    let (mode, at) = coordinator.place(&keyspace, key).await?;
    Ok((mode, at, any_replica))
}

/// Carries operations out and tells of each by its place what became of it. To be run to its end whether or not anybody
/// still waits, so that nothing is left half done.
pub(super) async fn carry_out(
    coordinator: &Coordinator,
    asked: Vec<v1::Operation>,
    mut tell: impl FnMut(usize, v1::OperationResult),
) {
    let (mut operations, mut places) = (Vec::with_capacity(asked.len()), Vec::with_capacity(asked.len()));
    // To find out that there is no such keyspace costs a read of the catalogue: once is enough.
    let mut unknown: Option<(String, OperationError)> = None;
    for (place, v1::Operation { tag, operation: asked }) in asked.into_iter().enumerate() {
        let keyspace = asked.as_ref().map(|asked| key_of(asked).0);
        let refused = unknown.as_ref().filter(|(name, _)| keyspace == Some(name)).map(|(_, error)| error.clone());
        let name = keyspace.unwrap_or_default().to_owned();
        let (kind, prepared) = match refused {
            Some(error) => (Kind::Nothing, Err(error)),
            None => operation(coordinator, asked).await,
        };
        match prepared {
            Ok(operation) => {
                operations.push(operation);
                places.push((place, tag, kind));
            }
            Err(error) => {
                if matches!(error, OperationError::Catalogue(_)) {
                    unknown = Some((name, error.clone()));
                }
                tell(place, result(tag, kind, Err(error)));
            }
        }
    }
    let done = |number: usize, completion| {
        let (place, tag, kind) = places[number];
        tell(place, result(tag, kind, completion));
    };
    coordinator.carry_out(operations, done).await;
}

/// What one of many operations asks for.
async fn operation(
    coordinator: &Coordinator,
    asked: Option<operation::Operation>,
) -> (Kind, Result<Operation, OperationError>) {
    let (kind, write) = match asked {
        Some(operation::Operation::Put(request)) => (Kind::Put, request.into()),
        Some(operation::Operation::Delete(request)) => (Kind::Delete, request.into()),
        Some(operation::Operation::CompareAndSet(request)) => (Kind::CompareAndSet, request.into()),
        Some(operation::Operation::Increment(request)) => (Kind::Increment, request.into()),
        Some(operation::Operation::Get(request)) => {
            let asked = read(coordinator, request).await;
            return (Kind::Get, asked.map(|(mode, at, any)| Operation::Read(mode, at, any)));
        }
        None => return (Kind::Nothing, Err(Malformed("an operation that asks for nothing").into())),
    };
    let command = Write::command(write, coordinator).await;
    (kind, command.map(|(mode, command, min_durable)| Operation::Write(mode, command, min_durable)))
}

/// What the client is told of one of many operations.
fn result(tag: u64, kind: Kind, completion: Completion) -> v1::OperationResult {
    use operation_result::Result;
    let result = match (kind, completion) {
        (_, Ok(Completed::Read(read))) => Result::Get(read.into()),
        (Kind::Put, Ok(Completed::Executed(done))) => Result::Put(done.into()),
        (Kind::Delete, Ok(Completed::Executed(done))) => Result::Delete(done.into()),
        (Kind::CompareAndSet, Ok(Completed::Executed(done))) => Result::CompareAndSet(done.into()),
        (Kind::Increment | Kind::Get | Kind::Nothing, Ok(Completed::Executed(done))) => Result::Increment(done.into()),
        (_, Err(error)) => Result::Failure(error.into()),
    };
    v1::OperationResult { tag, result: Some(result) }
}

/// Roughly, the bytes that an operation takes.
pub(super) fn size_of(asked: Option<&operation::Operation>) -> usize {
    match asked {
        Some(operation::Operation::Put(PutRequest { key, value, .. })) => key.len() + value.len(),
        Some(operation::Operation::Get(GetRequest { key, .. })) => key.len(),
        Some(operation::Operation::Delete(DeleteRequest { key, .. })) => key.len(),
        Some(operation::Operation::CompareAndSet(CompareAndSetRequest { key, expected, value, .. })) => {
            key.len() + expected.as_ref().map_or(0, Bytes::len) + value.len()
        }
        Some(operation::Operation::Increment(IncrementRequest { key, .. })) => key.len(),
        None => 0,
    }
}

/// Keyspace and key of an operation.
pub(super) fn key_of(asked: &operation::Operation) -> (&str, &Bytes) {
    match asked {
        operation::Operation::Put(PutRequest { keyspace, key, .. })
        | operation::Operation::Get(GetRequest { keyspace, key, .. })
        | operation::Operation::Delete(DeleteRequest { keyspace, key, .. })
        | operation::Operation::CompareAndSet(CompareAndSetRequest { keyspace, key, .. })
        | operation::Operation::Increment(IncrementRequest { keyspace, key, .. }) => (keyspace, key),
    }
}

impl From<PutRequest> for Write {
    fn from(asked: PutRequest) -> Self {
        let PutRequest { key, value, min_durable, if_revision, request, keyspace, ttl_ms } = asked;
        let (condition, action) = (if_revision.map(at_revision), Action::Put(value));
        Self { keyspace, key, condition, action, ttl_ms, request, min_durable }
    }
}

impl From<DeleteRequest> for Write {
    fn from(asked: DeleteRequest) -> Self {
        let DeleteRequest { key, min_durable, if_revision, request, keyspace } = asked;
        let condition = if_revision.map(at_revision);
        Self { keyspace, key, condition, action: Action::Delete, ttl_ms: 0, request, min_durable }
    }
}

impl From<CompareAndSetRequest> for Write {
    fn from(asked: CompareAndSetRequest) -> Self {
        let CompareAndSetRequest { key, expected, value, request, keyspace, ttl_ms } = asked;
        let condition = Some(expected.map_or(Condition::Absent, Condition::Value));
        Self { keyspace, key, condition, action: Action::Put(value), ttl_ms, request, min_durable: 1 }
    }
}

impl From<IncrementRequest> for Write {
    fn from(asked: IncrementRequest) -> Self {
        let IncrementRequest { key, by, request, keyspace } = asked;
        Self { keyspace, key, condition: None, action: Action::Add(by), ttl_ms: 0, request, min_durable: 1 }
    }
}

impl From<Executed> for PutResponse {
    fn from(Executed { stamp, durable, existed, .. }: Executed) -> Self {
        let (version, revision) = shown(stamp);
        Self { version, durable, existed, revision }
    }
}

impl From<Executed> for DeleteResponse {
    fn from(Executed { stamp, durable, existed, .. }: Executed) -> Self {
        let (version, revision) = shown(stamp);
        Self { version, durable, existed, revision }
    }
}

impl From<Executed> for CompareAndSetResponse {
    fn from(Executed { stamp, durable, .. }: Executed) -> Self {
        Self { revision: shown(stamp).1, durable }
    }
}

impl From<Executed> for IncrementResponse {
    fn from(Executed { stamp, durable, total, .. }: Executed) -> Self {
        // An increment that was carried out has a total.
        Self { total: total.unwrap_or_default(), revision: shown(stamp).1, durable }
    }
}

impl From<Read> for GetResponse {
    fn from(Read { value, stamp, counter, expires }: Read) -> Self {
        let (version, revision) = shown(stamp);
        Self { value, version, revision, counter, expires_at_ms: wire::expires_at(expires) }
    }
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
