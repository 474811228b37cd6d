//! Commands, what comes of them, and what they leave behind.

use bytes::Bytes;
use dht_core::{
    record::RecordKey,
    replication::chain::{
        Action, Command, Condition, Effect, Entry, Outcome, Record, Recorded, Refusal, RequestId, Value,
    },
};
use dhtd_proto::v1::{self, Chosen, chain_record, command as pb_command, log_entry, outcome as pb_outcome};

use super::views::{number, position, position_of};
use crate::wire::{Malformed, decode_expiry, expires_at, expiry, record_key, time_left};

/// More entries than the protocol puts into one message.
pub(super) const MOST_ENTRIES: usize = 4096;

/// An entry of a slot's log.
#[must_use]
pub fn entry(entry: &Entry) -> v1::LogEntry {
    let expires = if let Effect::Put(_, expires) = &entry.effect { *expires } else { None };
    let effect = match &entry.effect {
        Effect::Put(Value::Bytes(value), _) => log_entry::Effect::Put(value.clone()),
        Effect::Put(Value::Counter(total), _) => log_entry::Effect::Counter(*total),
        Effect::Delete => log_entry::Effect::Delete(Chosen {}),
        Effect::Nothing => log_entry::Effect::Nothing(Chosen {}),
    };
    v1::LogEntry {
        position: Some(position(entry.position)),
        keyspace: entry.at.keyspace.0,
        key: entry.at.key.clone(),
        effect: Some(effect),
        request: entry.request.map(request),
        outcome: Some(outcome(entry.outcome)),
        expires_at_ms: expires_at(expires),
    }
}

/// Reads an entry of a slot's log.
///
/// # Errors
/// If a field is missing or out of range.
pub fn decode_entry(entry: v1::LogEntry) -> Result<Entry, Malformed> {
    let expires = decode_expiry(entry.expires_at_ms);
    let effect = match entry.effect.ok_or(Malformed("an entry without an effect"))? {
        log_entry::Effect::Put(value) => Effect::Put(Value::Bytes(value), expires),
        log_entry::Effect::Counter(total) => Effect::Put(Value::Counter(total), expires),
        log_entry::Effect::Delete(_) => Effect::Delete,
        log_entry::Effect::Nothing(_) => Effect::Nothing,
    };
    Ok(Entry {
        position: position_of(entry.position)?,
        at: record_key(entry.keyspace, entry.key)?,
        effect,
        request: entry.request.map(decode_request).transpose()?,
        outcome: outcome_of(entry.outcome)?,
    })
}

/// Entries that follow each other, as those in one message do.
pub(super) fn decode_entries(entries: Vec<v1::LogEntry>) -> Result<Vec<Entry>, Malformed> {
    if entries.len() > MOST_ENTRIES {
        return Err(Malformed("too many entries"));
    }
    let entries = entries.into_iter().map(decode_entry).collect::<Result<Vec<Entry>, _>>()?;
    let follows = |pair: &[Entry]| pair[0].position.seq + 1 == pair[1].position.seq;
    if !entries.windows(2).all(follows) {
        return Err(Malformed("entries with a gap between them"));
    }
    Ok(entries)
}

/// The outcome of a command that names itself.
#[must_use]
pub fn recorded(recorded: Recorded) -> v1::RecordedOutcome {
    let Recorded { request: of, seq, outcome: result } = recorded;
    v1::RecordedOutcome { request: Some(request(of)), seq, outcome: Some(outcome(result)) }
}

/// Reads the outcome of a command that names itself.
///
/// # Errors
/// If a field is missing or out of range.
pub fn decode_recorded(recorded: v1::RecordedOutcome) -> Result<Recorded, Malformed> {
    let request = decode_request(recorded.request.ok_or(Malformed("an outcome of no request"))?)?;
    Ok(Recorded { request, seq: number(recorded.seq)?, outcome: outcome_of(recorded.outcome)? })
}

/// A client's command, as it is sent at this time.
#[must_use]
pub fn command(command: &Command, wall_millis: u64) -> v1::Command {
    let condition = command.condition.as_ref().map(|condition| match condition {
        Condition::Absent => pb_command::Condition::Absent(Chosen {}),
        Condition::Value(value) => pb_command::Condition::Value(value.clone()),
        Condition::Revision(revision) => pb_command::Condition::Revision(*revision),
    });
    let action = match &command.action {
        Action::Put(value) => pb_command::Action::Put(value.clone()),
        Action::Delete => pb_command::Action::Delete(Chosen {}),
        Action::Add(by) => pb_command::Action::Add(*by),
    };
    v1::Command {
        keyspace: command.at.keyspace.0,
        key: command.at.key.clone(),
        condition,
        action: Some(action),
        request: command.request.map(request),
        ttl_ms: time_left(command.expires, wall_millis),
    }
}

/// Reads a client's command, as it has come at this time.
///
/// # Errors
/// If a field is missing or out of range.
pub fn decode_command(command: v1::Command, wall_millis: u64) -> Result<Command, Malformed> {
    let condition = command.condition.map(|condition| match condition {
        pb_command::Condition::Absent(_) => Condition::Absent,
        pb_command::Condition::Value(value) => Condition::Value(value),
        pb_command::Condition::Revision(revision) => Condition::Revision(revision),
    });
    let action = match command.action.ok_or(Malformed("a command that asks for nothing"))? {
        pb_command::Action::Put(value) => Action::Put(value),
        pb_command::Action::Delete(_) => Action::Delete,
        pb_command::Action::Add(by) => Action::Add(by),
    };
    let request = command.request.map(decode_request).transpose()?;
    let expires = expiry(command.ttl_ms, wall_millis);
    Ok(Command { at: record_key(command.keyspace, command.key)?, condition, action, expires, request })
}

/// What a key maps to.
#[must_use]
pub fn record(at: &RecordKey, record: &Record) -> v1::ChainRecord {
    let value = match &record.value {
        Value::Bytes(value) => chain_record::Value::Bytes(value.clone()),
        Value::Counter(total) => chain_record::Value::Counter(*total),
    };
    v1::ChainRecord {
        keyspace: at.keyspace.0,
        key: at.key.clone(),
        revision: record.revision,
        value: Some(value),
        expires_at_ms: expires_at(record.expires),
    }
}

/// Reads what a key maps to.
///
/// # Errors
/// If a field is missing or out of range.
pub fn decode_record(record: v1::ChainRecord) -> Result<(RecordKey, Record), Malformed> {
    let value = match record.value.ok_or(Malformed("a record without a value"))? {
        chain_record::Value::Bytes(value) => Value::Bytes(value),
        chain_record::Value::Counter(total) => Value::Counter(total),
    };
    Ok((
        record_key(record.keyspace, record.key)?,
        Record { revision: record.revision, value, expires: decode_expiry(record.expires_at_ms) },
    ))
}

/// What came of a command.
#[must_use]
pub fn outcome(outcome: Outcome) -> v1::Outcome {
    use pb_outcome::Result;
    let result = match outcome {
        Outcome::Done { revision, total, existed } => Result::Done(v1::CommandDone { revision, total, existed }),
        Outcome::NothingThere => Result::NothingThere(Chosen {}),
        Outcome::ConditionFailed(revision) => Result::ConditionFailed(v1::ConditionFailed { revision }),
        Outcome::WrongType => Result::WrongType(Chosen {}),
        Outcome::Overflow => Result::Overflow(Chosen {}),
    };
    v1::Outcome { result: Some(result) }
}

/// Reads what came of a command.
///
/// # Errors
/// If nothing is said.
pub fn decode_outcome(outcome: v1::Outcome) -> Result<Outcome, Malformed> {
    outcome_of(Some(outcome))
}

fn outcome_of(outcome: Option<v1::Outcome>) -> Result<Outcome, Malformed> {
    let result = outcome.and_then(|outcome| outcome.result).ok_or(Malformed("an outcome is missing"))?;
    Ok(match result {
        pb_outcome::Result::Done(v1::CommandDone { revision, total, existed }) => {
            Outcome::Done { revision, total, existed }
        }
        pb_outcome::Result::NothingThere(_) => Outcome::NothingThere,
        pb_outcome::Result::ConditionFailed(v1::ConditionFailed { revision }) => Outcome::ConditionFailed(revision),
        pb_outcome::Result::WrongType(_) => Outcome::WrongType,
        pb_outcome::Result::Overflow(_) => Outcome::Overflow,
    })
}

/// Why something was not done.
#[must_use]
pub fn refusal(refusal: Refusal) -> v1::Refused {
    let (refusal, revision) = match refusal {
        Refusal::WrongView => (v1::Refusal::WrongView, 0),
        Refusal::Unavailable => (v1::Refusal::Unavailable, 0),
        Refusal::TooFewInSync => (v1::Refusal::TooFewInSync, 0),
        Refusal::Busy => (v1::Refusal::Busy, 0),
        Refusal::TooOld(revision) => (v1::Refusal::TooOld, revision),
        Refusal::OutcomeUnknown => (v1::Refusal::OutcomeUnknown, 0),
    };
    v1::Refused { refusal: refusal.into(), revision }
}

/// Reads why something was not done.
///
/// # Errors
/// If that is not said, or in words that this build does not know.
pub fn decode_refusal(refused: v1::Refused) -> Result<Refusal, Malformed> {
    // Not `refused.refusal()`, for which a reason that is unknown here is none.
    match v1::Refusal::try_from(refused.refusal) {
        Ok(v1::Refusal::WrongView) => Ok(Refusal::WrongView),
        Ok(v1::Refusal::Unavailable) => Ok(Refusal::Unavailable),
        Ok(v1::Refusal::TooFewInSync) => Ok(Refusal::TooFewInSync),
        Ok(v1::Refusal::Busy) => Ok(Refusal::Busy),
        Ok(v1::Refusal::TooOld) => Ok(Refusal::TooOld(refused.revision)),
        Ok(v1::Refusal::OutcomeUnknown) => Ok(Refusal::OutcomeUnknown),
        Ok(v1::Refusal::Unspecified) | Err(_) => Err(Malformed("a refusal without a reason")),
    }
}

fn request(request: RequestId) -> v1::RequestId {
    let client_id = Bytes::copy_from_slice(&request.client.to_be_bytes());
    v1::RequestId { client_id, sequence: request.sequence, floor: request.floor }
}

/// Reads the name of a client's write.
///
/// # Errors
/// If the client's id has not 16 bytes.
pub fn decode_request(request: v1::RequestId) -> Result<RequestId, Malformed> {
    let client = request.client_id.as_ref().try_into().map_err(|_| Malformed("a client id has 16 bytes"))?;
    Ok(RequestId { client: u128::from_be_bytes(client), sequence: request.sequence, floor: request.floor })
}
