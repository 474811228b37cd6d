//! Operations in few words. Times are in milliseconds; everything is about one key.

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use dht_tests::linearizability::{Action, Expected, History, Operation, Outcome, Reply, Value, Verdict};

/// For each key; more than any history here needs that can be decided at all.
pub(crate) const STEPS: u64 = 1_000_000;

pub(crate) fn operation(client: u64, when: Range<u64>, action: Action, reply: Reply) -> Operation {
    let outcome = Outcome::Answered { at: Duration::from_millis(when.end), reply, revision: None };
    Operation { client, key: Bytes::from("key"), action, invoked: Duration::from_millis(when.start), outcome }
}

pub(crate) fn put(client: u64, when: Range<u64>, value: &str) -> Operation {
    operation(client, when, Action::Put(bytes(value)), Reply::Done)
}

pub(crate) fn get(client: u64, when: Range<u64>, value: &str) -> Operation {
    operation(client, when, Action::Get, Reply::Read(Some(Value::Bytes(bytes(value)))))
}

pub(crate) fn get_nothing(client: u64, when: Range<u64>) -> Operation {
    operation(client, when, Action::Get, Reply::Read(None))
}

pub(crate) fn get_total(client: u64, when: Range<u64>, total: i64) -> Operation {
    operation(client, when, Action::Get, Reply::Read(Some(Value::Counter(total))))
}

pub(crate) fn delete(client: u64, when: Range<u64>) -> Operation {
    operation(client, when, Action::Delete, Reply::Done)
}

pub(crate) fn increment(client: u64, when: Range<u64>, by: i64, total: i64) -> Operation {
    operation(client, when, Action::Increment(by), Reply::Total(total))
}

pub(crate) fn put_if(client: u64, when: Range<u64>, expected: Expected, new: &str) -> Operation {
    operation(client, when, Action::CompareAndSet { expected, new: bytes(new) }, Reply::Done)
}

pub(crate) fn put_if_failed(client: u64, when: Range<u64>, expected: Expected, new: &str) -> Operation {
    operation(client, when, Action::CompareAndSet { expected, new: bytes(new) }, Reply::Failed)
}

pub(crate) fn value(value: &str) -> Expected {
    Expected::Value(bytes(value))
}

pub(crate) fn bytes(value: &str) -> Bytes {
    Bytes::copy_from_slice(value.as_bytes())
}

/// Nobody knows what came of it.
pub(crate) fn unknown(operation: Operation) -> Operation {
    Operation { outcome: Outcome::Unknown, ..operation }
}

/// The answer told this revision.
pub(crate) fn at(revision: u64, operation: Operation) -> Operation {
    let outcome = match operation.outcome {
        Outcome::Answered { at, reply, .. } => Outcome::Answered { at, reply, revision: Some(revision) },
        other => other,
    };
    Operation { outcome, ..operation }
}

pub(crate) fn check(operations: impl IntoIterator<Item = Operation>) -> Verdict {
    operations.into_iter().collect::<History>().check(STEPS)
}

#[track_caller]
pub(crate) fn good(operations: impl IntoIterator<Item = Operation>) {
    let verdict = check(operations);
    assert!(verdict.is_linearizable(), "{verdict}");
}

/// It is a violation, which is printed like this.
#[track_caller]
pub(crate) fn bad(operations: impl IntoIterator<Item = Operation>, printed: &str) {
    let verdict = check(operations);
    assert!(matches!(verdict, Verdict::Violation(_)), "{verdict}");
    assert!(verdict.to_string().contains(printed), "{verdict}");
}
