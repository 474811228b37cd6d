//! What is wrong with a history, for people.

use std::fmt;

use bytes::Bytes;

use super::{
    calls::{Calls, Placed},
    history::{Action, Operation, Outcome, Reply, Shown, Value},
    model::{Content, Revision},
    search::{Obstacle, Search},
};

/// What the check of a history has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every key is as if its operations had come one after the other.
    Linearizable,
    /// At least one key is not.
    Violation(Box<Violation>),
    /// For some keys the steps were used up before all orders were tried; nothing is wrong with the others.
    Unknown {
        /// These keys.
        keys: Vec<Bytes>,
    },
}

/// Why the operations on a key cannot have come one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The key.
    pub key: Bytes,
    /// The longest order that was found in which every answer is right.
    pub prefix: Vec<Operation>,
    /// What the key holds after it.
    pub holds: Option<Value>,
    /// And the revision of that, if it is known; 0 if nothing was ever written.
    pub revision: Option<u64>,
    /// The operations one of which would have to come next.
    pub stuck: Vec<Stuck>,
    /// How many operations were answered.
    pub answered: usize,
}

/// An operation that cannot come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The operation.
    pub operation: Operation,
    /// Another that could not be placed any more if this one came next; `None` if its own answer is wrong.
    pub ousts: Option<Operation>,
}

impl Verdict {
    /// Whether the history is linearizable for sure.
    #[must_use]
    pub fn is_linearizable(&self) -> bool {
        *self == Self::Linearizable
    }
}

impl Violation {
    /// What is wrong once the longest order is known.
    pub(super) fn new(key: Bytes, history: &[Operation], calls: &Calls, longest: &[Placed]) -> Self {
        let operation = |placed: Placed| history[calls.get(placed).operation].clone();
        // What nobody has observed explains nothing.
        let last = longest.iter().rposition(|placed| matches!(placed, Placed::Known(_)));
        let order = &longest[..last.map_or(0, |last| last + 1)];
        let mut search = Search::new(calls, 0);
        search.follow(order);
        let state = search.state();
        let ousts = |obstacle| match obstacle {
            Obstacle::Answer => None,
            Obstacle::Ousts(other) => Some(operation(other)),
        };
        let stuck = search.obstacles().into_iter();
        let stuck = stuck.map(|(call, obstacle)| Stuck { operation: operation(call), ousts: ousts(obstacle) });
        let prefix: Vec<Operation> = order.iter().copied().map(operation).collect();
        Self {
            key,
            holds: match state.content {
                Content::Nothing => None,
                Content::Value(_) => prefix.iter().rev().find_map(written).map(Value::Bytes),
                Content::Counter(total) => Some(Value::Counter(total)),
            },
            revision: match state.revision {
                Revision::Exactly(revision) => Some(revision),
                Revision::AtLeast(_) => None,
            },
            prefix,
            stuck: stuck.collect(),
            answered: calls.known.len(),
        }
    }
}

/// The value that the operation has put, if it was not refused.
fn written(operation: &Operation) -> Option<Bytes> {
    match (&operation.action, &operation.outcome) {
        (_, Outcome::Answered { reply: Reply::Failed, .. }) => None,
        (Action::Put(value) | Action::CompareAndSet { new: value, .. }, _) => Some(value.clone()),
        _ => None,
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linearizable => write!(f, "linearizable"),
            Self::Violation(violation) => write!(f, "{violation}"),
            Self::Unknown { keys } => {
                write!(f, "unknown: the steps were used up for {} of the keys:", keys.len())?;
                keys.iter().take(SHOWN).try_for_each(|key| write!(f, " {}", Shown(key)))
            }
        }
    }
}

/// Lines: what led there is seldom further back.
const SHOWN: usize = 12;

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, prefix, holds, revision, stuck, answered } = self;
        let placed = prefix.iter().filter(|operation| operation.answered().is_some()).count();
        writeln!(f, "key {} is not linearizable: {placed} of {answered} answers fit into one order", Shown(key))?;
        let left_out = prefix.len().saturating_sub(SHOWN);
        if left_out > 0 {
            writeln!(f, "  ({left_out} before)")?;
        }
        prefix[left_out..].iter().try_for_each(|operation| writeln!(f, "  {operation}"))?;
        write!(f, "now ")?;
        match holds {
            Some(value) => write!(f, "{value} is there")?,
            None => write!(f, "nothing is there")?,
        }
        match revision {
            Some(revision) => writeln!(f, ", revision {revision}")?,
            None => writeln!(f)?,
        }
        write!(f, "one of these would have to come next:")?;
        stuck.iter().try_for_each(|stuck| write!(f, "\n  {stuck}"))
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ousts {
            None => write!(f, "{}: wrong here", self.operation),
            Some(other) => write!(f, "{}: would leave no place for\n    {other}", self.operation),
        }
    }
}
