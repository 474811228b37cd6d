//! Many keys in one call.

use std::ops::Range;

use bytes::Bytes;
use dhtd_proto::v1::{
    BatchGetRequest, BatchGetResponse, BatchWriteRequest, GetResponse, KeyValue, Operation, ScanRequest, ScanResponse,
    operation_result, read_result,
};

use super::{
    Client,
    keys::kv,
    write::{Write, Written, found, written},
};
use crate::error::{Access, Error};

impl Client {
    /// Reads keys, each by itself: what came of them, in their order; none where there is no such key. As many calls as it
    /// takes, one after another.
    pub async fn batch_get(
        &self,
        keys: impl IntoIterator<Item = impl Into<Bytes>>,
    ) -> Vec<Result<Option<GetResponse>, Error>> {
        let keys: Vec<Bytes> = keys.into_iter().map(Into::into).collect();
        let mut results = Vec::with_capacity(keys.len());
        while let Some(part) = next_part(results.len(), keys.len(), |place| keys[place].len()) {
            let (keys, keyspace) = (keys[part.clone()].to_vec(), self.keyspace());
            let request = BatchGetRequest { keys, keyspace, any_replica: self.any_replica };
            let send = |channel, request| async { kv(channel).batch_get(request).await };
            match self.call(Access::Read, request, send).await {
                Ok(BatchGetResponse { results: answers }) if !answers.is_empty() && answers.len() <= part.len() => {
                    let outcomes = answers.into_iter().map(|answer| match answer.result {
                        Some(read_result::Result::Get(found)) => Some(operation_result::Result::Get(found)),
                        Some(read_result::Result::Failure(failure)) => Some(operation_result::Result::Failure(failure)),
                        None => None,
                    });
                    let read: Vec<_> = outcomes.map(|outcome| found("", outcome)).collect();
                    // Beyond what fits into a message it is asked again, unless it never fits.
                    let full = |result: &Result<_, Error>| {
                        result.as_ref().is_err_and(|error| error.reason() == Some("RESPONSE_TOO_LARGE"))
                    };
                    let fits = read.iter().position(full).unwrap_or(read.len()).max(1);
                    results.extend(read.into_iter().take(fits));
                }
                Ok(_) => results.extend(part.map(|_| Err(Error::nonsense("", Access::Read)))),
                Err(error) => results.extend(part.map(|_| Err(error.clone()))),
            }
        }
        results
    }

    /// Carries writes out, each by itself: what came of them, in their order. As many calls as it takes, one after another;
    /// which of the writes of one call comes first is not promised, and no key may be in a call twice.
    ///
    /// ```no_run
    /// # async fn example(client: dhtctl::Client) -> Result<(), dhtctl::Error> {
    /// use dhtctl::Write;
    ///
    /// for written in client.batch_write([Write::put("a", "1"), Write::delete("b")]).await {
    ///     println!("on {} disks", written?.durable);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn batch_write(&self, writes: impl IntoIterator<Item = Write>) -> Vec<Result<Written, Error>> {
        let writes: Vec<Write> = writes.into_iter().collect();
        let mut results = Vec::with_capacity(writes.len());
        while let Some(part) = next_part(results.len(), writes.len(), |place| writes[place].size()) {
            let operation =
                |write: &Write| Operation { tag: 0, operation: Some(write.clone().in_keyspace(&self.keyspace)) };
            let request = BatchWriteRequest { operations: writes[part.clone()].iter().map(operation).collect() };
            let send = |channel, request| async { kv(channel).batch_write(request).await };
            match self.call(Access::Write, request, send).await {
                Ok(response) if response.results.len() == part.len() => {
                    results.extend(response.results.into_iter().map(|result| written("", result)));
                }
                Ok(_) => results.extend(part.map(|_| Err(Error::nonsense("", Access::Write)))),
                Err(error) => results.extend(part.map(|_| Err(error.clone()))),
            }
        }
        results
    }

    /// The keyspace's keys that begin with `prefix`, page by page: ordered within each slot, not over all. See
    /// `KvService.Scan` for what it promises while others write.
    pub fn scan(&self, prefix: impl Into<Bytes>) -> Scan {
        let request = ScanRequest { keyspace: self.keyspace(), prefix: prefix.into(), ..ScanRequest::default() };
        Scan { client: self.clone(), request, ended: false }
    }
}

/// A scan under way. It does not hold anything open: pages are calls of their own, which fall over to other endpoints.
#[derive(Clone, Debug)]
pub struct Scan {
    client: Client,
    request: ScanRequest,
    ended: bool,
}

impl Scan {
    /// Without values.
    #[must_use]
    pub fn keys_only(mut self) -> Self {
        self.request.keys_only = true;
        self
    }

    /// How many keys a page has at most; 0: as many as the peer likes.
    #[must_use]
    pub fn page_size(mut self, keys: u32) -> Self {
        self.request.page_size = keys;
        self
    }

    /// Goes on where another scan of the same keyspace and prefix has come to ([`Scan::token`]).
    #[must_use]
    pub fn from_token(mut self, token: impl Into<Bytes>) -> Self {
        self.request.page_token = token.into();
        self
    }

    /// Where the next page begins; empty at the beginning.
    pub fn token(&self) -> &Bytes {
        &self.request.page_token
    }

    /// The next page, which may be empty; none after the last. After an error it can be asked for again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn next_page(&mut self) -> Result<Option<Vec<KeyValue>>, Error> {
        if self.ended {
            return Ok(None);
        }
        let send = |channel, request| async { kv(channel).scan(request).await };
        let page: ScanResponse = self.client.call(Access::Read, self.request.clone(), send).await?;
        self.ended = page.next_page_token.is_empty();
        self.request.page_token = page.next_page_token;
        Ok(Some(page.items))
    }
}

/// Which of `count` items go into one call, if so many have been there before.
fn next_part(done: usize, count: usize, size_of: impl Fn(usize) -> usize) -> Option<Range<usize>> {
    let (mut end, mut bytes) = (done, 0);
    while end < count && end - done < MOST_ITEMS {
        bytes += size_of(end);
        if bytes > MOST_BYTES && end > done {
            break;
        }
        end += 1;
    }
    (end > done).then_some(done..end)
}

/// What a call may hold (`BatchWriteRequest`).
const MOST_ITEMS: usize = 1000;
const MOST_BYTES: usize = 3 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_no_more_items_and_bytes_than_it_may() {
        let parts = |sizes: &[usize]| {
            let mut ends = vec![0];
            while let Some(part) = next_part(ends[ends.len() - 1], sizes.len(), |place| sizes[place]) {
                ends.push(part.end);
            }
            ends
        };
        assert_eq!(parts(&[]), [0]);
        assert_eq!(parts(&[1; 2500]), [0, 1000, 2000, 2500]);
        assert_eq!(parts(&[2 << 20, 1 << 20, 1, 4 << 20, 1]), [0, 2, 3, 4, 5]);
    }
}
