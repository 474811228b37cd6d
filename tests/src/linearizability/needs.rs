//! What the answered calls that are still to be placed need to find.
//!
//! A state that one of them needs and that can never come again must not be left before. That is no part of the search
//! as it was published, but it is what makes it quick: a wrong turn is seen where it is taken, not where the operation
//! that was left behind must return.

use super::{
    calls::{Call, Calls},
    model::{Ask, Condition, Content, Said, State},
};

/// Counts of what is needed.
#[derive(Clone, Debug)]
pub(super) struct Needs {
    /// Revisions only grow.
    revisions: Ladder<u64>,
    /// Totals, where they only grow.
    totals: Option<Ladder<i64>>,
    /// How many calls find nothing, or the value of this number; see [`place`].
    finders: Vec<u32>,
    /// How many calls, also of unknown outcome, bring that about.
    bringers: Vec<u32>,
}

impl Needs {
    pub(super) fn new(calls: &Calls) -> Self {
        let contents = calls.values as usize + 2;
        let totals = only_grows(calls).then(|| Ladder::new(calls.known.iter().map(total)));
        let mut needs = Self {
            revisions: Ladder::new(calls.known.iter().map(|call| call.told)),
            totals,
            finders: vec![0; contents],
            bringers: vec![0; contents],
        };
        for call in calls.known.iter().chain(&calls.unknown) {
            needs.count(call, |count| *count += 1);
        }
        needs
    }

    /// The answered call of this number is placed.
    pub(super) fn take(&mut self, number: usize, call: &Call) {
        self.revisions.take(number);
        self.totals.iter_mut().for_each(|totals| totals.take(number));
        self.count(call, |count| *count -= 1);
    }

    /// It is not placed any more.
    pub(super) fn put_back(&mut self, number: usize, call: &Call) {
        self.revisions.put_back(number);
        self.totals.iter_mut().for_each(|totals| totals.put_back(number));
        self.count(call, |count| *count += 1);
    }

    /// A call of unknown outcome is placed.
    pub(super) fn take_unknown(&mut self, call: &Call) {
        self.count(call, |count| *count -= 1);
    }

    /// It is not placed any more.
    pub(super) fn put_back_unknown(&mut self, call: &Call) {
        self.count(call, |count| *count += 1);
    }

    /// Whether some call cannot be placed any more once the state has changed in this way.
    pub(super) fn lost(&self, before: State, after: State) -> bool {
        self.revisions.lowest().is_some_and(|revision| revision < after.revision.lowest())
            || self.totals.as_ref().and_then(Ladder::lowest).is_some_and(|total| is_beyond(after, total))
            || self.is_gone(before, after) && place(before.content).is_some_and(|content| self.finders[content] > 0)
    }

    /// Whether it is this one that cannot be placed any more.
    pub(super) fn is_lost(&self, call: &Call, before: State, after: State) -> bool {
        call.told.is_some_and(|revision| revision < after.revision.lowest())
            || self.totals.is_some() && total(call).is_some_and(|total| is_beyond(after, total))
            || self.is_gone(before, after) && found(call) == Some(before.content)
    }

    /// Whether what was there before never comes again.
    fn is_gone(&self, before: State, after: State) -> bool {
        before.content != after.content && place(before.content).is_some_and(|content| self.bringers[content] == 0)
    }

    fn count(&mut self, call: &Call, change: impl Fn(&mut u32)) {
        if let Some(content) = found(call).filter(|_| call.answered.is_some()).and_then(place) {
            change(&mut self.finders[content]);
        }
        if let Some(content) = brought(call).and_then(place) {
            change(&mut self.bringers[content]);
        }
    }
}

/// Where a content is counted. Totals are not: how to come to them again is not known.
fn place(content: Content) -> Option<usize> {
    match content {
        Content::Nothing => Some(0),
        Content::Value(value) => Some(value as usize + 1),
        Content::Counter(_) => None,
    }
}

/// What the call must find.
fn found(call: &Call) -> Option<Content> {
    match (call.ask, call.said) {
        (_, Said::Read(content)) | (Ask::CompareAndSet(Condition::Content(content), _), Said::Done) => Some(content),
        _ => None,
    }
}

/// What is there after the call.
fn brought(call: &Call) -> Option<Content> {
    match (call.ask, call.said) {
        (Ask::Put(value) | Ask::CompareAndSet(_, value), Said::Done) => Some(Content::Value(value)),
        (Ask::Delete, _) => Some(Content::Nothing),
        _ => None,
    }
}

/// Whether every write makes the key's total greater.
fn only_grows(calls: &Calls) -> bool {
    let grows = |call: &Call| match call.ask {
        Ask::Increment(by) => by > 0,
        Ask::Get => true,
        Ask::Put(_) | Ask::Delete | Ask::CompareAndSet(..) => call.said == Said::Failed,
    };
    calls.known.iter().chain(&calls.unknown).all(grows)
}

/// The total that the call must find, nothing being 0.
fn total(call: &Call) -> Option<i64> {
    match (call.ask, call.said) {
        (Ask::Increment(by), Said::Total(Some(total))) => total.checked_sub(by),
        (_, Said::Read(Content::Counter(total))) => Some(total),
        (_, Said::Read(Content::Nothing)) => Some(0),
        _ => None,
    }
}

fn is_beyond(state: State, total: i64) -> bool {
    matches!(state.content, Content::Counter(now) if now > total)
}

/// How many calls need each rung, and the lowest that is needed.
#[derive(Clone, Debug)]
struct Ladder<T> {
    rungs: Vec<T>,
    needed: Vec<u32>,
    /// No rung below is needed.
    lowest: usize,
    /// The rung of each call.
    rung_of: Vec<Option<usize>>,
}

impl<T: Copy + Ord> Ladder<T> {
    /// What each call needs, in the order of the calls.
    fn new(needs: impl Iterator<Item = Option<T>>) -> Self {
        let needs: Vec<Option<T>> = needs.collect();
        let mut rungs: Vec<T> = needs.iter().flatten().copied().collect();
        rungs.sort_unstable();
        rungs.dedup();
        let rung_of: Vec<Option<usize>> = needs.iter().map(|need| rungs.binary_search(&(*need)?).ok()).collect();
        let mut needed = vec![0; rungs.len()];
        rung_of.iter().flatten().for_each(|rung| needed[*rung] += 1);
        Self { rungs, needed, lowest: 0, rung_of }
    }

    fn lowest(&self) -> Option<T> {
        self.rungs.get(self.lowest).copied()
    }

    fn take(&mut self, call: usize) {
        let Some(rung) = self.rung_of[call] else { return };
        self.needed[rung] -= 1;
        while self.needed.get(self.lowest) == Some(&0) {
            self.lowest += 1;
        }
    }

    fn put_back(&mut self, call: usize) {
        let Some(rung) = self.rung_of[call] else { return };
        self.needed[rung] += 1;
        self.lowest = self.lowest.min(rung);
    }
}
