//! What one key does when operations come one after the other.

/// A key at one moment of a linearization.
///
/// The revision of a write that nobody was told is whatever fits: it is kept as the set of all that do, which is always
/// one number or all from some number on. So a linearization is found if and only if the untold revisions can be
/// filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) content: Content,
    pub(super) revision: Revision,
    /// The last operation was a write of unknown outcome.
    pub(super) unobserved: bool,
}

/// What is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Content {
    Nothing,
    /// By number; see `Calls`.
    Value(u32),
    Counter(i64),
}

/// The revision of what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Revision {
    Exactly(u64),
    /// Any from this one on.
    AtLeast(u64),
}

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ask {
    Put(u32),
    Get,
    Delete,
    CompareAndSet(Condition, u32),
    Increment(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Condition {
    Content(Content),
    Revision(u64),
}

/// What a call has come to if it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Said {
    Done,
    Failed,
    Read(Content),
    /// `None` if the outcome is unknown.
    Total(Option<i64>),
}

/// The sequential behaviour of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Model {
    /// No operation names a higher revision, so all that are higher are alike.
    pub(super) highest: u64,
}

impl State {
    /// Nothing was ever written.
    pub(super) const FIRST: Self =
        Self { content: Content::Nothing, revision: Revision::Exactly(0), unobserved: false };
}

impl Revision {
    /// The lowest that it can be.
    pub(super) fn lowest(self) -> u64 {
        match self {
            Self::Exactly(revision) | Self::AtLeast(revision) => revision,
        }
    }
}

impl Model {
    /// The key after an operation with this answer and this revision in it; `None` if the answer is wrong here.
    pub(super) fn after(self, state: State, ask: Ask, said: Said, told: Option<u64>) -> Option<State> {
        let state = State { unobserved: false, ..state };
        match (ask, said) {
            (Ask::Get, Said::Read(content)) if content == state.content => observed(state, told),
            (Ask::Put(value), Said::Done) => self.written(state, Content::Value(value), told),
            (Ask::Delete, Said::Done) => self.deleted(state, told),
            (Ask::CompareAndSet(condition, new), Said::Done) => {
                self.written(met(state, condition)?, Content::Value(new), told)
            }
            (Ask::CompareAndSet(condition, _), Said::Failed) if may_fail(state, condition, told) => {
                observed(state, told)
            }
            (Ask::Increment(by), Said::Total(claimed)) => {
                let total = match state.content {
                    Content::Nothing => by,
                    Content::Counter(total) => total.checked_add(by)?,
                    Content::Value(_) => return None,
                };
                if claimed.is_some_and(|claimed| claimed != total) {
                    return None;
                }
                self.written(state, Content::Counter(total), told)
            }
            _ => None,
        }
    }

    fn written(self, state: State, content: Content, told: Option<u64>) -> Option<State> {
        let before = state.revision.lowest();
        match told {
            Some(revision) if revision <= before => None,
            Some(revision) => Some(State { content, revision: Revision::Exactly(revision), ..state }),
            None => Some(State { content, revision: self.at_least(before.saturating_add(1)), ..state }),
        }
    }

    /// Where nothing is, a delete may write or not: its revision is its own, or that of the delete before.
    fn deleted(self, state: State, told: Option<u64>) -> Option<State> {
        if state.content != Content::Nothing {
            return self.written(state, Content::Nothing, told);
        }
        let before = state.revision.lowest();
        match told {
            Some(revision) if revision < before => None,
            Some(revision) => Some(State { revision: Revision::Exactly(revision), ..state }),
            None => Some(State { revision: self.at_least(before), ..state }),
        }
    }

    fn at_least(self, revision: u64) -> Revision {
        Revision::AtLeast(revision.min(self.highest.saturating_add(1)))
    }
}

/// What is there was found with this revision.
fn observed(state: State, told: Option<u64>) -> Option<State> {
    let Some(told) = told else { return Some(state) };
    let fits = match state.revision {
        Revision::Exactly(revision) => revision == told,
        Revision::AtLeast(lowest) => lowest <= told,
    };
    fits.then_some(State { revision: Revision::Exactly(told), ..state })
}

/// The condition was found to hold.
fn met(state: State, condition: Condition) -> Option<State> {
    match condition {
        Condition::Content(content) => (state.content == content).then_some(state),
        Condition::Revision(_) if state.content == Content::Nothing => None,
        Condition::Revision(revision) => observed(state, Some(revision)),
    }
}

/// Whether the condition can have been found not to hold.
///
/// That a revision which nobody was told is not the expected one is not remembered.
fn may_fail(state: State, condition: Condition, told: Option<u64>) -> bool {
    match condition {
        Condition::Content(content) => state.content != content,
        Condition::Revision(revision) => {
            state.content == Content::Nothing
                || (state.revision != Revision::Exactly(revision) && told != Some(revision))
        }
    }
}
