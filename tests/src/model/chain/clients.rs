//! What clients do, and whether what they are told fits together.

use std::time::Duration;

use bytes::Bytes;
use dht_core::{
    record::{KeyspaceId, RecordKey},
    replication::chain::{Action, Command, Condition, Input, Outcome, Record, Refusal, Reply, RequestId, Token},
    view::Epoch,
};

use super::host::SLOT;
use crate::sim::Finished;

/// One operation of a client.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// What is asked.
    pub ask: Ask,
    /// Of which key.
    pub key: &'static str,
    /// How often it may be sent. More than once: under a name of its own, so that it is carried out once only.
    pub attempts: u8,
    /// The first attempt is made after this operation was answered.
    pub after: Option<usize>,
}

/// What a client asks.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    /// Put this.
    Put(&'static str),
    /// Put this if nothing is there.
    Create(&'static str),
    /// Put the second if the first is there.
    Replace(&'static str, &'static str),
    /// Take away what is there.
    Delete,
    /// Say what is there.
    Get,
}

/// How far an operation has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Progress {
    pub(super) sent: u8,
    /// Attempts that were not carried out.
    refused: u8,
    invoked: u8,
    answered: Option<u8>,
    outcome: Option<Outcome>,
    /// The epoch of who has answered.
    pub(super) epoch: Option<Epoch>,
}

/// All operations, in the order of the world's list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Clients {
    progress: Vec<Progress>,
    /// What was read.
    records: Vec<Option<Record>>,
    /// Counts invocations and answers.
    events: u8,
}

/// The operation that an attempt belongs to.
fn operation_of(token: Token) -> usize {
    (token / ATTEMPTS) as usize
}

/// More than any operation has.
const ATTEMPTS: u64 = 16;

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

impl Operation {
    fn at(&self) -> RecordKey {
        RecordKey { keyspace: KeyspaceId::DEFAULT, key: bytes(self.key) }
    }

    fn command(&self, number: usize) -> Option<Command> {
        let (condition, action) = match self.ask {
            Ask::Put(value) => (None, Action::Put(bytes(value))),
            Ask::Create(value) => (Some(Condition::Absent), Action::Put(bytes(value))),
            Ask::Replace(old, new) => (Some(Condition::Value(bytes(old))), Action::Put(bytes(new))),
            Ask::Delete => (None, Action::Delete),
            Ask::Get => return None,
        };
        // Every revision was known before the first attempt: the slot begins empty.
        let name = RequestId { client: number as u128, sequence: 1, floor: 0 };
        Some(Command { at: self.at(), condition, action, expires: None, request: (self.attempts > 1).then_some(name) })
    }
}

impl Clients {
    pub(super) fn new(operations: &[Operation]) -> Self {
        let count = operations.len();
        Self { progress: vec![Progress::default(); count], records: vec![None; count], events: 0 }
    }

    /// Whether another attempt at the operation may be made.
    pub(super) fn may_call(&self, operations: &[Operation], number: usize) -> bool {
        let operation = &operations[number];
        let first = self.progress[number].sent == 0;
        let ready = operation.after.is_none_or(|before| !first || self.progress[before].answered.is_some());
        ready && self.progress[number].sent < operation.attempts
    }

    /// The next attempt arrives at a peer that goes by the view of this epoch.
    pub(super) fn call(&mut self, operations: &[Operation], number: usize, epoch: Epoch) -> (Token, Input) {
        let progress = &mut self.progress[number];
        if progress.sent == 0 {
            self.events += 1;
            progress.invoked = self.events;
        }
        let token = number as u64 * ATTEMPTS + u64::from(progress.sent);
        progress.sent += 1;
        let input = match operations[number].command(number) {
            Some(command) => Input::Write(token, SLOT, epoch, command),
            None => Input::Read(token, SLOT, operations[number].at()),
        };
        (token, input)
    }

    /// An answer arrives, from a peer that goes by the view of this epoch. Returns what is wrong with it.
    pub(super) fn answered(
        &mut self,
        token: Token,
        answer: &Result<Reply, Option<Record>>,
        epoch: Option<Epoch>,
    ) -> Option<String> {
        let number = operation_of(token);
        let progress = &mut self.progress[number];
        let (outcome, record) = match answer {
            Ok(Reply::Refused(Refusal::OutcomeUnknown)) => return None,
            Ok(Reply::Refused(_)) => {
                progress.refused += 1;
                return None;
            }
            Ok(Reply::Written(outcome)) => (Some(*outcome), None),
            Err(record) => (None, record.clone()),
        };
        if progress.answered.is_some() {
            let same = progress.outcome == outcome;
            return (!same).then(|| format!("operation {number} is answered {:?}, then {outcome:?}", progress.outcome));
        }
        self.events += 1;
        progress.answered = Some(self.events);
        (progress.outcome, progress.epoch, self.records[number]) = (outcome, epoch, record);
        None
    }

    /// Revisions of acknowledged writes, with the epoch of who has acknowledged them.
    pub(super) fn acknowledged(&self) -> impl Iterator<Item = (u64, Epoch)> {
        self.progress.iter().filter_map(|progress| match progress.outcome {
            Some(Outcome::Done { revision, .. }) => Some((revision, progress.epoch?)),
            _ => None,
        })
    }

    /// What is wrong with the history, if anything is.
    pub(super) fn check(&self, operations: &[Operation]) -> Option<String> {
        let time = |event: u8| Duration::from_secs(event.into());
        let under_way = self.progress.iter().enumerate().filter(|(_, it)| it.sent > 0);
        let matters = under_way.filter(|(_, it)| it.answered.is_some() || it.refused < it.sent);
        let finished = matters.map(|(number, progress)| Finished {
            client: number,
            at: operations[number].at(),
            command: operations[number].command(number),
            invoked: time(progress.invoked),
            completed: progress.answered.map(time),
            outcome: progress.outcome,
            record: self.records[number].clone(),
        });
        let mut clients = crate::sim::Clients::default();
        clients.finished.extend(finished);
        let verdict = clients.history().check(STEPS);
        (!verdict.is_linearizable()).then(|| verdict.to_string())
    }
}

/// Of the checker: plenty for so few operations.
const STEPS: u64 = 100_000;
