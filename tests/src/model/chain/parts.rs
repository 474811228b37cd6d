//! What worlds are put together from.

use dht_core::Rules;

use super::{Ask, Chain, Operation, Place, Start};

pub(super) const A: Place = 0;
pub(super) const B: Place = 1;
pub(super) const C: Place = 2;
pub(super) const D: Place = 3;

pub(super) const fn operation(ask: Ask) -> Operation {
    Operation { ask, key: "k", attempts: 1, after: None }
}

pub(super) const fn put(value: &'static str) -> Operation {
    operation(Ask::Put(value))
}

pub(super) const GET: Operation = operation(Ask::Get);

pub(super) const fn twice(ask: Ask) -> Operation {
    Operation { attempts: 2, ..operation(ask) }
}

pub(super) const fn after(before: usize, operation: Operation) -> Operation {
    Operation { after: Some(before), ..operation }
}

/// A world in which nothing happens.
pub(super) const QUIET: Chain = Chain {
    rules: Rules::ALL,
    start: Start { members: &[A, B, C], electors: &[A, B, C] },
    before: &[],
    attempts: &[],
    operations: &[],
    serving: &[A, B, C],
    waits: 0,
    beats: 0,
    beating: &[A, B, C],
    restarts: 0,
    restarting: &[A, B, C],
    forgetting: &[],
    slow: &[],
    doubled: 0,
    window: 1000,
};

/// Two members, which a witness decides with.
pub(super) const PAIR: Start = Start { members: &[A, B], electors: &[A, B, C] };
