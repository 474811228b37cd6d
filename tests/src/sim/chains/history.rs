//! What clients saw, in the words of the checker.

use dht_core::replication::chain::{Action as Asked, Command, Condition, Outcome as Came, Value as Held};

use super::{Clients, Finished};
use crate::linearizability::{Action, Expected, History, Operation, Outcome, Reply, Value};

impl Clients {
    /// All operations of which anything is known.
    #[must_use]
    pub fn history(&self) -> History {
        self.finished.iter().map(operation).collect()
    }
}

fn operation(finished: &Finished) -> Operation {
    let action = finished.command.as_ref().map_or(Action::Get, action);
    let outcome = match (finished.completed, finished.outcome) {
        (None, _) => Outcome::Unknown,
        (Some(at), None) => {
            let value = |held: &Held| match held {
                Held::Bytes(bytes) => Value::Bytes(bytes.clone()),
                Held::Counter(total) => Value::Counter(*total),
            };
            let reply = Reply::Read(finished.record.as_ref().map(|record| value(&record.value)));
            Outcome::Answered { at, reply, revision: finished.record.as_ref().map(|record| record.revision) }
        }
        (Some(at), Some(came)) => {
            let (reply, revision) = match came {
                Came::Done { revision, total: Some(total), .. } => (Reply::Total(total), Some(revision)),
                Came::Done { revision, total: None, .. } => (Reply::Done, Some(revision)),
                Came::NothingThere => (Reply::Done, None),
                Came::ConditionFailed(revision) => (Reply::Failed, revision),
                // No client mixes values and counters, or counts so far: the checker finds this wrong.
                Came::WrongType | Came::Overflow => (Reply::Failed, None),
            };
            Outcome::Answered { at, reply, revision }
        }
    };
    let (client, key, invoked) = (finished.client as u64, finished.at.key.clone(), finished.invoked);
    Operation { client, key, action, invoked, outcome }
}

fn action(command: &Command) -> Action {
    match (&command.action, &command.condition) {
        (Asked::Put(value), None) => Action::Put(value.clone()),
        (Asked::Put(value), Some(condition)) => {
            let expected = match condition {
                Condition::Absent => Expected::Absent,
                Condition::Value(value) => Expected::Value(value.clone()),
                Condition::Revision(revision) => Expected::Revision(*revision),
            };
            Action::CompareAndSet { expected, new: value.clone() }
        }
        (Asked::Delete, _) => Action::Delete,
        (Asked::Add(by), _) => Action::Increment(*by),
    }
}
