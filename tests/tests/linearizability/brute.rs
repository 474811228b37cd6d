//! Linearizability by trying every order. It shares nothing with the checker but the description of operations.

use dht_tests::linearizability::{Action, Expected, Operation, Outcome, Reply, Value};

/// What is there, and the revisions of all writes up to it, the first of which is none; `None`: not told yet.
#[derive(Clone)]
struct Key {
    content: Option<Value>,
    revisions: Vec<Option<u64>>,
}

/// Whether there is an order of operations on one key in which every answer is right.
pub(crate) fn linearizable(operations: &[Operation]) -> bool {
    let begin = Key { content: None, revisions: vec![Some(0)] };
    any_order(operations.iter().filter(|operation| operation.outcome != Outcome::NotExecuted).collect(), &begin)
}

fn any_order(left: Vec<&Operation>, key: &Key) -> bool {
    if left.iter().all(|operation| operation.outcome == Outcome::Unknown) && key.has_fitting_revisions() {
        return true;
    }
    (0..left.len()).any(|index| {
        let mut others = left.clone();
        let next = others.remove(index);
        let may_be_next = others.iter().all(|other| other.answered().is_none_or(|answered| answered >= next.invoked));
        may_be_next && key.after(next).iter().any(|after| any_order(others.clone(), after))
    })
}

impl Key {
    /// All that the operation may lead to.
    fn after(&self, operation: &Operation) -> Vec<Key> {
        let (reply, told) = match &operation.outcome {
            Outcome::Answered { reply, revision, .. } => (Some(reply), *revision),
            _ => (None, None),
        };
        let says = |expected: Reply| reply.is_none_or(|reply| *reply == expected);
        match &operation.action {
            Action::Get if says(Reply::Read(self.content.clone())) => self.observed(told),
            Action::Put(value) if says(Reply::Done) => self.written(Some(Value::Bytes(value.clone())), told),
            Action::Delete if says(Reply::Done) => {
                let mut after = self.written(None, told);
                if self.content.is_none() {
                    after.extend(self.observed(told));
                }
                after
            }
            Action::CompareAndSet { expected, new } => {
                let mut after = Vec::new();
                if says(Reply::Done) {
                    let met = self.meets(expected).into_iter();
                    after.extend(met.flat_map(|key| key.written(Some(Value::Bytes(new.clone())), told)));
                }
                if says(Reply::Failed) && reply.is_some() && self.may_miss(expected, told) {
                    after.extend(self.observed(told));
                }
                after
            }
            Action::Increment(by) => {
                let total = match &self.content {
                    None => *by,
                    Some(Value::Counter(total)) => total + by,
                    Some(Value::Bytes(_)) => return Vec::new(),
                };
                if says(Reply::Total(total)) { self.written(Some(Value::Counter(total)), told) } else { Vec::new() }
            }
            _ => Vec::new(),
        }
    }

    fn written(&self, content: Option<Value>, told: Option<u64>) -> Vec<Key> {
        let revisions = [self.revisions.as_slice(), &[told]].concat();
        vec![Key { content, revisions }]
    }

    fn observed(&self, told: Option<u64>) -> Vec<Key> {
        let mut key = self.clone();
        let last = key.revisions.last_mut().expect("there is always one");
        match (*last, told) {
            (Some(known), Some(told)) if known != told => return Vec::new(),
            (None, Some(_)) => *last = told,
            _ => {}
        }
        vec![key]
    }

    fn meets(&self, expected: &Expected) -> Vec<Key> {
        match (expected, &self.content) {
            (Expected::Absent, None) => self.observed(None),
            (Expected::Value(value), Some(Value::Bytes(content))) if value == content => self.observed(None),
            (Expected::Revision(revision), Some(_)) => self.observed(Some(*revision)),
            _ => Vec::new(),
        }
    }

    /// A failure to find a revision must tell which was found: the checker promises nothing else.
    fn may_miss(&self, expected: &Expected, told: Option<u64>) -> bool {
        match (expected, &self.content) {
            (Expected::Absent, content) => content.is_some(),
            (Expected::Value(value), Some(Value::Bytes(content))) => value != content,
            (Expected::Revision(revision), Some(_)) => told.is_some_and(|told| told != *revision),
            (Expected::Value(_) | Expected::Revision(_), _) => true,
        }
    }

    /// Those that were not told can be filled in so that all of them grow.
    fn has_fitting_revisions(&self) -> bool {
        let grow = |before: u64, revision: &Option<u64>| match revision {
            Some(revision) => (*revision > before).then_some(*revision),
            None => Some(before + 1),
        };
        self.revisions[1..].iter().try_fold(0, grow).is_some()
    }
}
