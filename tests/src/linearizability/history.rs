//! What clients asked, what they were told, and when.

use std::{fmt, time::Duration};

use bytes::Bytes;

/// What clients did, in any order; every key begins with nothing there.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub(super) operations: Vec<Operation>,
}

/// One request of one client, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked. For people only: a client may have many operations under way.
    pub client: u64,
    /// About which key.
    pub key: Bytes,
    /// What was asked.
    pub action: Action,
    /// When, on the one clock of all clients.
    pub invoked: Duration,
    /// What came of it.
    pub outcome: Outcome,
}

/// What is asked of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Replace whatever is there.
    Put(Bytes),
    /// Say what is there.
    Get,
    /// Take away whatever is there.
    Delete,
    /// Replace what is there if it is what is expected.
    CompareAndSet {
        /// The condition.
        expected: Expected,
        /// What is to be there afterwards.
        new: Bytes,
    },
    /// Add to a counter; nothing counts as 0. To a key with a value it cannot be done.
    Increment(i64),
}

/// The condition of a [`Action::CompareAndSet`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing is there.
    Absent,
    /// This value is there.
    Value(Bytes),
    /// Something is there, and this revision wrote it.
    Revision(u64),
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The client got an answer.
    Answered {
        /// When; not before the operation was invoked.
        at: Duration,
        /// What it said.
        reply: Reply,
        /// The revision of what was there after the operation: of an effective write its own, else of what was found.
        revision: Option<u64>,
    },
    /// It takes effect at any moment after it was invoked, however late, or never.
    Unknown,
    /// It has never taken effect and never will: nothing is to be checked.
    NotExecuted,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done: to a put, a delete, or a compare-and-set whose condition held.
    Done,
    /// The condition of a compare-and-set did not hold.
    Failed,
    /// What a get has read.
    Read(Option<Value>),
    /// What a counter has come to by an increment.
    Total(i64),
}

/// What can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// As it was put.
    Bytes(Bytes),
    /// The total of a counter.
    Counter(i64),
}

impl History {
    /// Adds an operation.
    ///
    /// # Panics
    /// If it was answered before it was invoked.
    pub fn push(&mut self, operation: Operation) {
        let answered = operation.answered();
        assert!(answered.is_none_or(|at| operation.invoked <= at), "answered before it was invoked: {operation}");
        self.operations.push(operation);
    }

    /// All operations, as they were added.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }
}

impl Extend<Operation> for History {
    fn extend<T: IntoIterator<Item = Operation>>(&mut self, operations: T) {
        operations.into_iter().for_each(|operation| self.push(operation));
    }
}

impl FromIterator<Operation> for History {
    fn from_iter<T: IntoIterator<Item = Operation>>(operations: T) -> Self {
        let mut history = Self::default();
        history.extend(operations);
        history
    }
}

impl Operation {
    /// When it was answered.
    #[must_use]
    pub fn answered(&self) -> Option<Duration> {
        match self.outcome {
            Outcome::Answered { at, .. } => Some(at),
            Outcome::Unknown | Outcome::NotExecuted => None,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = self.answered().map_or("?".to_string(), |at| format!("{at:?}"));
        write!(f, "client {} [{:?}, {until}] {} -> {}", self.client, self.invoked, self.action, self.outcome)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(value) => write!(f, "put {}", Shown(value)),
            Self::Get => write!(f, "get"),
            Self::Delete => write!(f, "delete"),
            Self::CompareAndSet { expected, new } => write!(f, "put {} if {expected}", Shown(new)),
            Self::Increment(by) => write!(f, "add {by}"),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(f, "nothing is there"),
            Self::Value(value) => write!(f, "{} is there", Shown(value)),
            Self::Revision(revision) => write!(f, "revision {revision} is there"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { reply, revision: Some(revision), .. } => write!(f, "{reply}, revision {revision}"),
            Self::Answered { reply, revision: None, .. } => write!(f, "{reply}"),
            Self::Unknown => write!(f, "unknown"),
            Self::NotExecuted => write!(f, "not executed"),
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => write!(f, "done"),
            Self::Failed => write!(f, "condition failed"),
            Self::Read(Some(value)) => write!(f, "{value}"),
            Self::Read(None) => write!(f, "nothing"),
            Self::Total(total) => write!(f, "total {total}"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{}", Shown(bytes)),
            Self::Counter(total) => write!(f, "total {total}"),
        }
    }
}

/// Bytes as people can read them, the beginning of long ones.
pub(super) struct Shown<'a>(pub(super) &'a [u8]);

/// Bytes: a guess at what fits in a line beside the rest.
const LONGEST_SHOWN: usize = 40;

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = self;
        match bytes.get(..LONGEST_SHOWN) {
            Some(start) if bytes.len() > LONGEST_SHOWN => {
                write!(f, "\"{}...\" ({} bytes)", start.escape_ascii(), bytes.len())
            }
            _ => write!(f, "\"{}\"", bytes.escape_ascii()),
        }
    }
}
