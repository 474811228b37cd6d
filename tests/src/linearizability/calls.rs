//! The operations on one key, ready for the search.

use std::{collections::HashMap, ops::Range, time::Duration};

use bytes::Bytes;

use super::{
    history::{Action, Expected, Operation, Outcome, Reply, Value},
    model::{Ask, Condition, Content, Model, Said},
};

/// What is to be placed.
///
/// Values are numbers here. All values that no get returned and no condition names are the number 0: nothing can tell
/// them apart.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    /// The answered ones, in the order in which they were invoked.
    pub(super) known: Vec<Call>,
    /// Writes of unknown outcome, class by class, in each class in the order in which they were invoked.
    pub(super) unknown: Vec<Call>,
    /// Those in `unknown` that do the same.
    pub(super) classes: Vec<Range<usize>>,
    pub(super) model: Model,
    /// The highest number of a value.
    pub(super) values: u32,
}

/// A call, by its number among the answered ones, or among those of unknown outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    Known(usize),
    Unknown(usize),
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// Its place in the history.
    pub(super) operation: usize,
    pub(super) invoked: Duration,
    /// `None`: of unknown outcome.
    pub(super) answered: Option<Duration>,
    pub(super) ask: Ask,
    pub(super) said: Said,
    /// The revision in the answer.
    pub(super) told: Option<u64>,
}

impl Calls {
    /// The operations at these places in the history, all of the same key.
    pub(super) fn new(history: &[Operation], places: &[usize]) -> Self {
        let numbers = Numbers::new(places.iter().map(|place| &history[*place]));
        let calls = places.iter().filter_map(|place| numbers.call(*place, &history[*place]));
        let (mut known, unknown): (Vec<Call>, Vec<Call>) = calls.partition(|call| call.answered.is_some());
        known.sort_by_key(|call| call.invoked);
        let (unknown, classes) = classes(unknown);
        let highest = known.iter().chain(&unknown).filter_map(Call::highest_named).max();
        let model = Model { highest: highest.unwrap_or(0) };
        Self { known, unknown, classes, model, values: numbers.numbers.len() as u32 }
    }

    pub(super) fn get(&self, placed: Placed) -> &Call {
        match placed {
            Placed::Known(number) => &self.known[number],
            Placed::Unknown(number) => &self.unknown[number],
        }
    }

    /// The class of a call of unknown outcome.
    pub(super) fn class_of(&self, unknown: usize) -> usize {
        self.classes.partition_point(|class| class.end <= unknown)
    }
}

impl Call {
    /// It finds out about what is there, and changes nothing.
    pub(super) fn only_observes(&self) -> bool {
        matches!(self.said, Said::Read(_) | Said::Failed)
    }

    /// It replaces whatever is there.
    pub(super) fn overwrites(&self) -> bool {
        matches!(self.ask, Ask::Put(_) | Ask::Delete)
    }

    fn highest_named(&self) -> Option<u64> {
        let expected = match self.ask {
            Ask::CompareAndSet(Condition::Revision(revision), _) => Some(revision),
            _ => None,
        };
        expected.max(self.told)
    }
}

/// Puts together those that do the same.
fn classes(mut unknown: Vec<Call>) -> (Vec<Call>, Vec<Range<usize>>) {
    unknown.sort_by_key(|call| call.invoked);
    let mut by_ask: Vec<Vec<Call>> = Vec::new();
    let mut class_of = HashMap::new();
    for call in unknown {
        let class = *class_of.entry(call.ask).or_insert(by_ask.len());
        if class == by_ask.len() {
            by_ask.push(Vec::new());
        }
        by_ask[class].push(call);
    }
    let mut end = 0;
    let ranges = by_ask.iter().map(|class| {
        end += class.len();
        end - class.len()..end
    });
    let ranges = ranges.collect();
    (by_ask.concat(), ranges)
}

/// The numbers of the values that somebody can tell apart.
struct Numbers<'a> {
    numbers: HashMap<&'a Bytes, u32>,
}

impl<'a> Numbers<'a> {
    fn new(operations: impl Iterator<Item = &'a Operation>) -> Self {
        let mut numbers = HashMap::new();
        for value in operations.filter_map(noticed) {
            let next = numbers.len() as u32 + 1;
            numbers.entry(value).or_insert(next);
        }
        Self { numbers }
    }

    fn number(&self, value: &Bytes) -> u32 {
        self.numbers.get(value).copied().unwrap_or(0)
    }

    /// `None` if there is nothing to be placed.
    fn call(&self, place: usize, operation: &Operation) -> Option<Call> {
        let ask = self.ask(&operation.action);
        let (answered, said, told) = match &operation.outcome {
            Outcome::Answered { at, reply, revision } => (Some(*at), self.said(reply), *revision),
            Outcome::Unknown if ask == Ask::Get => return None,
            Outcome::Unknown if matches!(ask, Ask::Increment(_)) => (None, Said::Total(None), None),
            Outcome::Unknown => (None, Said::Done, None),
            Outcome::NotExecuted => return None,
        };
        Some(Call { operation: place, invoked: operation.invoked, answered, ask, said, told })
    }

    fn ask(&self, action: &Action) -> Ask {
        match action {
            Action::Put(value) => Ask::Put(self.number(value)),
            Action::Get => Ask::Get,
            Action::Delete => Ask::Delete,
            Action::CompareAndSet { expected, new } => Ask::CompareAndSet(self.condition(expected), self.number(new)),
            Action::Increment(by) => Ask::Increment(*by),
        }
    }

    fn condition(&self, expected: &Expected) -> Condition {
        match expected {
            Expected::Absent => Condition::Content(Content::Nothing),
            Expected::Value(value) => Condition::Content(Content::Value(self.number(value))),
            Expected::Revision(revision) => Condition::Revision(*revision),
        }
    }

    fn said(&self, reply: &Reply) -> Said {
        match reply {
            Reply::Done => Said::Done,
            Reply::Failed => Said::Failed,
            Reply::Read(None) => Said::Read(Content::Nothing),
            Reply::Read(Some(Value::Bytes(value))) => Said::Read(Content::Value(self.number(value))),
            Reply::Read(Some(Value::Counter(total))) => Said::Read(Content::Counter(*total)),
            Reply::Total(total) => Said::Total(Some(*total)),
        }
    }
}

/// The value that an operation tells from others.
fn noticed(operation: &Operation) -> Option<&Bytes> {
    match (&operation.action, &operation.outcome) {
        (Action::CompareAndSet { expected: Expected::Value(value), .. }, _) => Some(value),
        (_, Outcome::Answered { reply: Reply::Read(Some(Value::Bytes(value))), .. }) => Some(value),
        _ => None,
    }
}
