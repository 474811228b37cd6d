//! A register that carries out operations at single moments, and clients that see them begin and end around these: what
//! they see is linearizable.

use std::time::Duration;

use bytes::Bytes;
use dht_tests::linearizability::{Action, Expected, Operation, Outcome, Reply, Value};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Who does what.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    pub(crate) operations: usize,
    pub(crate) clients: u64,
    /// So many of the clients only read.
    pub(crate) readers: u64,
    pub(crate) kind: Kind,
    /// How often nobody hears what came of an operation. Half of these take effect, some of them late.
    pub(crate) unknown: f64,
    /// How often the revision is told.
    pub(crate) told: f64,
    /// How many of the writes are deletes.
    pub(crate) deletes: f64,
}

/// What is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A new value each time.
    Unique,
    /// One of so many values.
    Values(u64),
    /// Increments by 1 to 3.
    Counters,
    /// Increments by -1 to 2.
    UpAndDown,
}

impl Default for Mix {
    fn default() -> Self {
        Self { operations: 6, clients: 3, readers: 0, kind: Kind::Unique, unknown: 0.0, told: 1.0, deletes: 0.0 }
    }
}

/// Where an operation lies in time.
struct Plan {
    client: u64,
    invoked: u64,
    effective: u64,
    answered: Option<u64>,
    /// Nobody hears of it, and it never takes effect.
    lost: bool,
}

/// What one key went through.
pub(crate) fn run(mix: &Mix, key: Bytes, rng: &mut ChaCha8Rng) -> Vec<Operation> {
    let mut plans = plans(mix, rng);
    plans.sort_by_key(|plan| plan.effective);
    let mut register = Register { content: None, revision: 0, values: 0 };
    let operation = |plan: Plan| {
        let action = register.choose(mix, plan.client < mix.readers, rng);
        let answer = if plan.lost { None } else { Some(register.carry_out(&action, rng)) };
        let outcome = match (plan.answered, answer) {
            (Some(at), Some((reply, revision))) => {
                // A failure to find a revision always tells which was found.
                let by_revision = matches!(&action, Action::CompareAndSet { expected: Expected::Revision(_), .. })
                    && reply == Reply::Failed;
                let told = by_revision || rng.random_bool(mix.told);
                Outcome::Answered { at: micros(at), reply, revision: told.then_some(revision) }
            }
            _ => Outcome::Unknown,
        };
        Operation { client: plan.client, key: key.clone(), action, invoked: micros(plan.invoked), outcome }
    };
    plans.into_iter().map(operation).collect()
}

fn plans(mix: &Mix, rng: &mut ChaCha8Rng) -> Vec<Plan> {
    let mut free: Vec<u64> = (0..mix.clients).map(|_| rng.random_range(0..100)).collect();
    let plan = |_| {
        let client = (0..free.len()).min_by_key(|client| free[*client]).expect("a client");
        let invoked = free[client] + rng.random_range(1..50);
        let unknown = rng.random_bool(mix.unknown);
        let late = if unknown && rng.random_bool(0.3) { 1000 } else { 0 };
        let effective = invoked + rng.random_range(0..100) + rng.random_range(0..=late);
        let answered = effective + rng.random_range(0..100);
        free[client] = if unknown { invoked + 150 } else { answered };
        let lost = unknown && rng.random_bool(0.5);
        Plan { client: client as u64, invoked, effective, answered: (!unknown).then_some(answered), lost }
    };
    (0..mix.operations).map(plan).collect()
}

fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

struct Register {
    content: Option<Value>,
    revision: u64,
    values: u64,
}

impl Register {
    /// What a client might ask now.
    fn choose(&mut self, mix: &Mix, reader: bool, rng: &mut ChaCha8Rng) -> Action {
        if reader || (mix.readers == 0 && rng.random_bool(0.4)) {
            return Action::Get;
        }
        if rng.random_bool(mix.deletes) {
            return Action::Delete;
        }
        match mix.kind {
            Kind::Counters => return Action::Increment(rng.random_range(1..=3)),
            Kind::UpAndDown => return Action::Increment(rng.random_range(-1..=2)),
            Kind::Unique | Kind::Values(_) => {}
        }
        let new = self.new_value(mix.kind, rng);
        if rng.random_bool(0.6) {
            return Action::Put(new);
        }
        let expected = match (rng.random_range(0..4), &self.content) {
            (0, _) => Expected::Absent,
            (1, _) if mix.told > 0.0 => Expected::Revision(self.revision.saturating_sub(rng.random_range(0..2))),
            (1 | 2, Some(Value::Bytes(value))) => Expected::Value(value.clone()),
            _ => Expected::Value(self.new_value(mix.kind, rng)),
        };
        Action::CompareAndSet { expected, new }
    }

    fn new_value(&mut self, kind: Kind, rng: &mut ChaCha8Rng) -> Bytes {
        self.values += 1;
        let number = match kind {
            Kind::Values(values) => rng.random_range(0..values),
            Kind::Unique | Kind::Counters | Kind::UpAndDown => self.values,
        };
        Bytes::from(format!("v{number}"))
    }

    fn carry_out(&mut self, action: &Action, rng: &mut ChaCha8Rng) -> (Reply, u64) {
        let (content, reply) = match action {
            Action::Get => return (Reply::Read(self.content.clone()), self.revision),
            Action::Delete if self.content.is_none() && rng.random_bool(0.5) => return (Reply::Done, self.revision),
            Action::CompareAndSet { expected, .. } if !self.meets(expected) => return (Reply::Failed, self.revision),
            Action::Delete => (None, Reply::Done),
            Action::Put(new) | Action::CompareAndSet { new, .. } => (Some(Value::Bytes(new.clone())), Reply::Done),
            Action::Increment(by) => {
                let total = match self.content {
                    Some(Value::Counter(total)) => total + by,
                    _ => *by,
                };
                (Some(Value::Counter(total)), Reply::Total(total))
            }
        };
        self.content = content;
        // Other keys have revisions too.
        self.revision += rng.random_range(1..=3);
        (reply, self.revision)
    }

    fn meets(&self, expected: &Expected) -> bool {
        match (expected, &self.content) {
            (Expected::Absent, content) => content.is_none(),
            (Expected::Value(value), Some(Value::Bytes(content))) => value == content,
            (Expected::Revision(revision), Some(_)) => *revision == self.revision,
            (Expected::Value(_) | Expected::Revision(_), _) => false,
        }
    }
}

/// Changes one answer; if anything may change, also when it came, or what revision it tells.
pub(crate) fn change(operations: &mut [Operation], rng: &mut ChaCha8Rng, anything: bool) {
    let reads: Vec<Reply> = operations.iter().filter_map(read).collect();
    let answered: Vec<usize> =
        (0..operations.len()).filter(|index| is_changeable(&operations[*index], anything)).collect();
    if answered.is_empty() {
        return;
    }
    let operation = &mut operations[answered[rng.random_range(0..answered.len())]];
    let Outcome::Answered { at, reply, revision } = &mut operation.outcome else { return };
    match rng.random_range(0..3) {
        0 if anything => *revision = revision.map(|revision| (revision + rng.random_range(0..5)).saturating_sub(2)),
        1 if anything => {
            let moved = micros(rng.random_range(0..600));
            (operation.invoked, *at) = (moved, moved + micros(rng.random_range(0..100)));
        }
        _ => {
            *reply = match &*reply {
                Reply::Done => Reply::Failed,
                Reply::Failed => Reply::Done,
                Reply::Total(total) => Reply::Total(total + [-1, 1][rng.random_range(0..2)]),
                Reply::Read(_) => {
                    let others: Vec<&Reply> = reads.iter().filter(|other| *other != reply).collect();
                    let none = Reply::Read(None);
                    (*others.get(rng.random_range(0..=others.len())).unwrap_or(&&none)).clone()
                }
            }
        }
    }
}

fn read(operation: &Operation) -> Option<Reply> {
    match &operation.outcome {
        Outcome::Answered { reply: Reply::Read(content), .. } => Some(Reply::Read(content.clone())),
        _ => None,
    }
}

fn is_changeable(operation: &Operation, anything: bool) -> bool {
    let Outcome::Answered { revision, .. } = &operation.outcome else { return false };
    match &operation.action {
        // A put cannot fail, nor a delete.
        Action::Put(_) | Action::Delete => anything,
        Action::CompareAndSet { expected: Expected::Revision(_), .. } => revision.is_some(),
        _ => true,
    }
}
