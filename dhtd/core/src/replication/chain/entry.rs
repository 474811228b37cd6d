//! What clients ask of a slot in chain mode, and the entries of its log.

use bytes::Bytes;

use crate::{
    record::{Expiry, KeyspaceId, RecordKey},
    view::Position,
};

/// What a key maps to in chain mode.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// The number of the entry that wrote it.
    pub revision: u64,
    /// What it wrote.
    pub value: Value,
    /// When the head is to delete it, if ever. Until that is an entry, too, it counts, whatever a clock shows.
    pub expires: Option<Expiry>,
}

/// What can be stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// Anything.
    Bytes(Bytes),
    /// What increments add to.
    Counter(i64),
}

/// What a client wants to be done to a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Command {
    /// The key.
    pub at: RecordKey,
    /// Do it only if this holds.
    pub condition: Option<Condition>,
    /// What to do.
    pub action: Action,
    /// When what a put stores expires, if ever. An increment leaves that as it is.
    pub expires: Option<Expiry>,
    /// Makes retries do it once only.
    pub request: Option<RequestId>,
}

/// What must hold for a command to be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// The key has no value.
    Absent,
    /// The key has this value.
    Value(Bytes),
    /// The key was last written by this entry.
    Revision(u64),
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Store this.
    Put(Bytes),
    /// Forget the key.
    Delete,
    /// Add to the counter; a key without a value counts from 0.
    Add(i64),
}

/// Names a client's command, so that attempts at it can be told from other commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    /// The client, drawn at random.
    pub client: u128,
    /// Counts its commands.
    pub sequence: u64,
    /// A revision of the slot that was known before the first attempt: that is not recorded before it.
    pub floor: u64,
}

/// One entry of a slot's log: what was decided about a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its place.
    pub position: Position,
    /// The key.
    pub at: RecordKey,
    /// What it does.
    pub effect: Effect,
    /// The command's name, if it has one.
    pub request: Option<RequestId>,
    /// What the client is told.
    pub outcome: Outcome,
}

/// What an entry does to its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The key has this value from now on, and it expires then.
    Put(Value, Option<Expiry>),
    /// The key has no value from now on.
    Delete,
    /// Nothing: the entry only records an outcome.
    Nothing,
}

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was carried out by the entry of this number; with the counter's new total if it was an increment.
    Done {
        /// The entry's number.
        revision: u64,
        /// The new total.
        total: Option<i64>,
        /// The key had a value before.
        existed: bool,
    },
    /// There was nothing to delete.
    NothingThere,
    /// The condition did not hold: the key was last written by this entry, or has no value.
    ConditionFailed(Option<u64>),
    /// An increment of something that is no counter.
    WrongType,
    /// The sum does not fit.
    Overflow,
}

/// What a replica answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a command.
    Written(Outcome),
    /// To either.
    Refused(Refusal),
}

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The peer is not the head, or holds nothing of the slot, or the request goes by another view. Nothing was done.
    #[error("this peer does not serve the slot by that view")]
    WrongView,
    /// Nothing was done: the slot is changing hands, or the peer is cut off.
    #[error("the slot is not served here at the moment")]
    Unavailable,
    /// Nothing was done: too few replicas are in sync.
    #[error("too few replicas of the slot are in sync")]
    TooFewInSync,
    /// Nothing was done: too much is under way.
    #[error("too many writes of the slot are under way")]
    Busy,
    /// This attempt was not carried out, whether an earlier one was is not known any more. With the slot's revision.
    #[error("the request is too old: the slot is at revision {0}")]
    TooOld(u64),
    /// It may have been carried out, or may still be.
    #[error("it is not known whether this was carried out")]
    OutcomeUnknown,
}

impl Command {
    /// What comes of the command where this is held: what to enter into the log as the entry of this number, and what to
    /// tell the client.
    #[must_use]
    pub fn evaluate(&self, current: Option<&Record>, revision: u64) -> (Effect, Outcome) {
        let holds = match &self.condition {
            None => true,
            Some(Condition::Absent) => current.is_none(),
            Some(Condition::Value(value)) => {
                current.is_some_and(|record| matches!(&record.value, Value::Bytes(held) if held == value))
            }
            Some(Condition::Revision(wanted)) => current.is_some_and(|record| record.revision == *wanted),
        };
        if !holds {
            return (Effect::Nothing, Outcome::ConditionFailed(current.map(|record| record.revision)));
        }
        let done = |total| Outcome::Done { revision, total, existed: current.is_some() };
        match (&self.action, current.map(|record| &record.value)) {
            (Action::Put(value), _) => (Effect::Put(Value::Bytes(value.clone()), self.expires), done(None)),
            (Action::Delete, None) => (Effect::Nothing, Outcome::NothingThere),
            (Action::Delete, Some(_)) => (Effect::Delete, done(None)),
            (Action::Add(_), Some(Value::Bytes(_))) => (Effect::Nothing, Outcome::WrongType),
            (Action::Add(by), counter) => {
                let before = if let Some(Value::Counter(total)) = counter { *total } else { 0 };
                match before.checked_add(*by) {
                    Some(total) => {
                        let expires = current.and_then(|record| record.expires);
                        (Effect::Put(Value::Counter(total), expires), done(Some(total)))
                    }
                    None => (Effect::Nothing, Outcome::Overflow),
                }
            }
        }
    }
}

impl Entry {
    /// What a recovery adds to the log: it does nothing, but from here on numbers are those of the new history.
    #[must_use]
    pub(super) fn of_recovery(position: Position) -> Self {
        let at = RecordKey { keyspace: KeyspaceId::DEFAULT, key: Bytes::new() };
        Self { position, at, effect: Effect::Nothing, request: None, outcome: Outcome::NothingThere }
    }

    /// About how many bytes it takes, in memory and on its way.
    #[must_use]
    pub fn size(&self) -> usize {
        let value = if let Effect::Put(Value::Bytes(value), _) = &self.effect { value.len() } else { 0 };
        ENTRY_OVERHEAD + self.at.key.len() + value
    }

    /// What the key maps to after this entry, where `before` was held.
    #[must_use]
    pub fn result(&self, before: Option<Record>) -> Option<Record> {
        match &self.effect {
            Effect::Put(value, expires) => {
                Some(Record { revision: self.position.seq, value: value.clone(), expires: *expires })
            }
            Effect::Delete => None,
            Effect::Nothing => before,
        }
    }
}

/// What an entry takes besides key and value. A guess.
const ENTRY_OVERHEAD: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn command(condition: Option<Condition>, action: Action) -> Command {
        let at = RecordKey { keyspace: KeyspaceId::DEFAULT, key: Bytes::from_static(b"k") };
        Command { at, condition, action, expires: None, request: None }
    }

    fn held(value: Value) -> Option<Record> {
        Some(Record { revision: 3, value, expires: None })
    }

    #[test]
    fn conditions_go_by_absence_value_and_revision() {
        let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        let current = held(Value::Bytes(a.clone()));
        let outcome = |condition, current: &Option<Record>| {
            command(Some(condition), Action::Put(b.clone())).evaluate(current.as_ref(), 9).1
        };
        let done = |existed| Outcome::Done { revision: 9, total: None, existed };
        assert_eq!(outcome(Condition::Absent, &None), done(false));
        assert_eq!(outcome(Condition::Absent, &current), Outcome::ConditionFailed(Some(3)));
        assert_eq!(outcome(Condition::Value(a), &current), done(true));
        assert_eq!(outcome(Condition::Value(b.clone()), &None), Outcome::ConditionFailed(None));
        assert_eq!(outcome(Condition::Revision(3), &current), done(true));
        assert_eq!(outcome(Condition::Revision(2), &current), Outcome::ConditionFailed(Some(3)));
    }

    #[test]
    fn counters_count_from_nothing_and_do_not_overflow() {
        let add = |by, current: Option<Record>| command(None, Action::Add(by)).evaluate(current.as_ref(), 9).1;
        let total = |total, existed| Outcome::Done { revision: 9, total: Some(total), existed };
        assert_eq!(add(2, None), total(2, false));
        assert_eq!(add(-5, held(Value::Counter(2))), total(-3, true));
        assert_eq!(add(1, held(Value::Counter(i64::MAX))), Outcome::Overflow);
        assert_eq!(add(1, held(Value::Bytes(Bytes::new()))), Outcome::WrongType);
    }

    #[test]
    fn a_put_says_anew_when_the_key_expires_and_an_increment_does_not() {
        let (soon, late) = (Some(Expiry(5)), Some(Expiry(9)));
        let put = Command { expires: late, ..command(None, Action::Put(Bytes::new())) };
        let held = Record { expires: soon, ..held(Value::Counter(1)).unwrap() };
        assert!(matches!(put.evaluate(Some(&held), 9).0, Effect::Put(_, expires) if expires == late));
        let effect = |action| command(None, action).evaluate(Some(&held), 9).0;
        assert!(matches!(effect(Action::Put(Bytes::new())), Effect::Put(_, None)));
        assert!(matches!(effect(Action::Add(1)), Effect::Put(Value::Counter(2), expires) if expires == soon));
    }
}
