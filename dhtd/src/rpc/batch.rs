//! `BatchGet` and `BatchWrite`: many operations in one request.

use std::collections::HashSet;

use dhtd_proto::v1::{
    BatchGetRequest, BatchGetResponse, BatchWriteRequest, BatchWriteResponse, GetRequest, GetResponse, Operation,
    OperationResult, ReadResult, operation, operation_result, read_result,
};

use super::operations::{carry_out, key_of, size_of};
use crate::coordinator::{Coordinator, OperationError};

/// Reads keys, each by itself.
pub(super) async fn get(
    coordinator: &Coordinator,
    request: BatchGetRequest,
) -> Result<BatchGetResponse, OperationError> {
    let BatchGetRequest { keys, keyspace, any_replica } = request;
    check_size(keys.len(), keys.iter().map(|key| key.len()).sum())?;
    let asked = keys.into_iter().map(|key| {
        let get = GetRequest { key, keyspace: keyspace.clone(), any_replica };
        Operation { tag: 0, operation: Some(operation::Operation::Get(get)) }
    });
    let results = in_order(coordinator, asked.collect()).await?;
    let mut room = RESPONSE_BYTES;
    let results = results.into_iter().map(|OperationResult { result, .. }| match result {
        Some(operation_result::Result::Get(found)) => fitting(found, &mut room),
        Some(operation_result::Result::Failure(failure)) => read_result::Result::Failure(failure),
        _ => read_result::Result::Failure(OperationError::KeyNotFound.into()), // Reads have no other results.
    });
    Ok(BatchGetResponse { results: results.map(|result| ReadResult { result: Some(result) }).collect() })
}

/// Carries writes out, each by itself. They go on if the client goes away.
pub(super) async fn write(
    coordinator: &Coordinator,
    request: BatchWriteRequest,
) -> Result<BatchWriteResponse, OperationError> {
    let operations = request.operations;
    check_size(operations.len(), operations.iter().map(|asked| size_of(asked.operation.as_ref())).sum())?;
    let mut keys = HashSet::with_capacity(operations.len());
    for (place, asked) in operations.iter().enumerate() {
        match &asked.operation {
            Some(operation::Operation::Get(_)) => {
                return Err(OperationError::BadBatch(format!("operation {place} is no write")));
            }
            Some(write) if !keys.insert(key_of(write)) => {
                return Err(OperationError::BadBatch(format!("operation {place} writes a key for the second time")));
            }
            _ => {}
        }
    }
    Ok(BatchWriteResponse { results: in_order(coordinator, operations).await? })
}

/// The results in the order of what was asked. All is carried out even if nobody waits any more.
async fn in_order(coordinator: &Coordinator, asked: Vec<Operation>) -> Result<Vec<OperationResult>, OperationError> {
    let coordinator = coordinator.clone();
    let carried_out = tokio::spawn(async move {
        let mut results = vec![OperationResult::default(); asked.len()];
        carry_out(&coordinator, asked, |place, result| results[place] = result).await;
        results
    });
    carried_out.await.map_err(|_| OperationError::Stopping)
}

fn check_size(items: usize, bytes: usize) -> Result<(), OperationError> {
    if items > MOST_ITEMS {
        return Err(OperationError::BadBatch(format!("a batch has at most {MOST_ITEMS} items, not {items}")));
    }
    if bytes > MOST_BYTES {
        return Err(OperationError::BadBatch(format!(
            "the keys and values of a batch have at most {MOST_BYTES} bytes, not {bytes}"
        )));
    }
    Ok(())
}

/// What was found, if there is room for it in the response. There is always room for the first.
fn fitting(found: GetResponse, room: &mut usize) -> read_result::Result {
    let bytes = found.value.len() + 64;
    if *room < RESPONSE_BYTES && *room < bytes {
        *room = 0;
        return read_result::Result::Failure(OperationError::ResponseTooLarge.into());
    }
    *room = room.saturating_sub(bytes);
    read_result::Result::Get(found)
}

/// Items of a batch: as many as a page has (DESIGN, section 2).
const MOST_ITEMS: usize = 1000;

/// Bytes of keys and values, so that the request stays below gRPC's customary 4 MiB with whatever surrounds them.
const MOST_BYTES: usize = 3 << 20;

/// The same for values that were read, unless there is only one.
const RESPONSE_BYTES: usize = 3 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_any_more_is_named_and_the_first_always_fits() {
        let fits = |sizes: &[usize]| -> Vec<bool> {
            let mut room = RESPONSE_BYTES;
            let found = |bytes: &usize| GetResponse { value: vec![0; *bytes].into(), ..GetResponse::default() };
            let fits = |bytes| matches!(fitting(found(bytes), &mut room), read_result::Result::Get(_));
            sizes.iter().map(fits).collect()
        };
        assert_eq!(fits(&[4 << 20, 0, 1]), [true, false, false]);
        assert_eq!(fits(&[2 << 20, 2 << 20, 1]), [true, false, false], "a client reads on where it was cut off");
        assert_eq!(fits(&[1 << 20, 1 << 20, 100]), [true, true, true]);
    }

    #[test]
    fn a_batch_has_a_bound_of_items_and_of_bytes() {
        assert!(check_size(MOST_ITEMS, MOST_BYTES).is_ok());
        assert!(check_size(MOST_ITEMS + 1, 0).is_err_and(|error| error.to_string().contains("1000 items, not 1001")));
        assert!(check_size(1, MOST_BYTES + 1).is_err_and(|error| error.to_string().contains("bytes")));
    }
}
