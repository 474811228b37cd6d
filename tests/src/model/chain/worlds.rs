//! The worlds that are looked at. Most begin in the middle of something, so that the way to what a rule prevents is short.

use super::{
    Action::{self, Beat, Call, Deliver, Enough, Learn, Notice, Propose, Quiet, Restart, Synced, Wait},
    Aim, Ask, Chain, Place, Start,
    What::{
        Accept, Accepted, Ack, Append, Attach, Entries, Fetch, Grant, Heartbeat, Install, Level, Prepare, Promise,
        Ready, Reject, Snapshot,
    },
    parts::{A, B, C, D, GET, PAIR, QUIET, after, operation, put, twice},
};

/// A world and what it is called.
pub type Named = (&'static str, Chain);

const WITHOUT_C: &[(Place, Aim)] = &[(A, Aim::Without(&[C]))];

/// All leases have run out; then C has heard from B only.
const ONLY_B_GRANTS: &[Action] = &[Wait, Beat(C), Deliver(C, B, Heartbeat, 0), Deliver(B, C, Grant, 0)];

/// Worlds that are looked at whole, within seconds.
pub const WORLDS: &[Named] = &[
    // Nobody changes anything: writes go down the chain, reads go to all.
    ("traffic", Chain { operations: &[put("1"), put("2"), GET, after(2, GET)], serving: &[A, C], ..QUIET }),
    ("old reads", Chain { operations: &[put("1"), GET, GET], serving: &[A, B], start: PAIR, ..QUIET }),
    // One member is dropped while it still holds leases; it reads.
    ("dropped", Chain { attempts: WITHOUT_C, operations: &[put("1"), GET], serving: &[A, C], waits: 1, ..QUIET }),
    (
        "dropped, late",
        Chain {
            before: &[
                Propose(0),
                Deliver(A, B, Prepare, 0),
                Deliver(B, A, Promise, 0),
                Enough(A),
                Deliver(A, B, Level, 0),
                Deliver(B, A, Ready, 0),
                Wait,
                Deliver(A, B, Accept, 0),
                Deliver(B, A, Accepted, 0),
            ],
            attempts: WITHOUT_C,
            operations: &[put("1"), GET],
            serving: &[A, C],
            waits: 1,
            beats: 1,
            beating: &[C],
            ..QUIET
        },
    ),
    (
        "half granted",
        Chain { before: ONLY_B_GRANTS, attempts: WITHOUT_C, operations: &[put("1"), GET], serving: &[A, C], ..QUIET },
    ),
    (
        "half granted, restarted",
        Chain {
            before: ONLY_B_GRANTS,
            attempts: WITHOUT_C,
            operations: &[put("1"), GET],
            serving: &[A, C],
            restarts: 1,
            restarting: &[B],
            waits: 1,
            ..QUIET
        },
    ),
    (
        "granter restarted",
        Chain {
            before: &[Restart(B, 0), Quiet, Wait, Beat(C), Deliver(C, B, Heartbeat, 0)],
            attempts: WITHOUT_C,
            operations: &[put("1"), GET],
            serving: &[A, C],
            ..QUIET
        },
    ),
    // A write is under way when the view changes.
    (
        "writing",
        Chain { attempts: &[(B, Aim::Without(&[C]))], operations: &[put("1"), put("2")], serving: &[A, B], ..QUIET },
    ),
    (
        "pair",
        Chain {
            start: PAIR,
            attempts: &[(B, Aim::Without(&[A]))],
            operations: &[put("1")],
            serving: &[A],
            waits: 1,
            ..QUIET
        },
    ),
    (
        "pair, slow disk",
        Chain {
            start: PAIR,
            attempts: &[(A, Aim::Without(&[B]))],
            operations: &[put("1")],
            serving: &[A],
            slow: &[A],
            restarts: 1,
            restarting: &[A],
            waits: 1,
            ..QUIET
        },
    ),
    // A member holds the slot alone, with two witnesses; one of these has copied it.
    (
        "alone",
        Chain {
            start: Start { members: &[A], electors: &[A, B, C] },
            before: &[Learn(B, A), Quiet],
            attempts: &[(B, Aim::Become(&[B]))],
            operations: &[put("1"), GET],
            serving: &[A, B],
            waits: 1,
            ..QUIET
        },
    ),
    // Two attempts at once.
    ("rivals", Chain { start: PAIR, attempts: &[(A, Aim::Without(&[B])), (B, Aim::Without(&[A]))], ..QUIET }),
    ("dropped, then asked again", Chain { attempts: &[(A, Aim::Without(&[B])), (B, Aim::Without(&[A]))], ..QUIET }),
    // A proposer is restarted in the middle of its attempt, when its own promise is not on disk.
    (
        "proposer restarted",
        Chain {
            before: &[
                Propose(0),
                Deliver(A, B, Prepare, 0),
                Deliver(B, A, Promise, 0),
                Deliver(A, C, Prepare, 0),
                Deliver(C, A, Promise, 0),
                Enough(A),
                Deliver(A, B, Level, 0),
                Deliver(B, A, Ready, 0),
                Deliver(A, C, Level, 0),
                Deliver(C, A, Ready, 0),
                Restart(A, 0),
                Propose(1),
                Synced(A),
                Deliver(A, B, Prepare, 0),
                Deliver(B, A, Promise, 0),
                Enough(A),
                Deliver(A, B, Level, 0),
                Deliver(B, A, Ready, 0),
                Synced(A),
                Deliver(A, B, Accept, 0),
                Wait,
            ],
            attempts: &[(A, Aim::Without(&[B])), (A, Aim::Without(&[C])), (C, Aim::Without(&[A]))],
            slow: &[A],
            ..QUIET
        },
    ),
    // A head is restarted that has an entry which nobody else has, and the others go on without it.
    (
        "head restarted",
        Chain {
            start: PAIR,
            before: &[Call(0, A), Deliver(A, B, Append, 0), Deliver(B, A, Ack, 0), Call(1, A), Restart(A, 0)],
            attempts: &[(B, Aim::Without(&[A]))],
            operations: &[put("1"), put("2"), put("3")],
            serving: &[B],
            waits: 1,
            ..QUIET
        },
    ),
    // The same head; somebody copies the slot from it, and becomes a member.
    (
        "copied when head restarted",
        Chain {
            start: PAIR,
            before: &[
                Call(0, A),
                Deliver(A, B, Append, 0),
                Deliver(B, A, Ack, 0),
                Call(1, A),
                Restart(A, 0),
                Deliver(A, B, Append, 0),
                Deliver(B, A, Ack, 0),
                Learn(D, A),
                Deliver(D, A, Attach, 0),
                Deliver(A, D, Snapshot, 0),
            ],
            attempts: &[(B, Aim::Become(&[B, D]))],
            operations: &[put("1"), put("2"), put("3"), GET],
            serving: &[B, D],
            waits: 1,
            ..QUIET
        },
    ),
    // A member is restarted while a view that lists it comes into force.
    (
        "member restarted",
        Chain {
            start: PAIR,
            before: &[
                Propose(0),
                Deliver(A, B, Prepare, 0),
                Synced(B),
                Deliver(B, A, Promise, 0),
                Deliver(A, C, Prepare, 0),
                Deliver(C, A, Promise, 0),
                Deliver(A, B, Level, 0),
                Synced(B),
                Deliver(B, A, Ready, 0),
                Deliver(A, C, Accept, 0),
                Deliver(C, A, Accepted, 0),
                Beat(A),
                Deliver(A, B, Heartbeat, 0),
                Deliver(A, B, Install, 0),
            ],
            attempts: &[(A, Aim::Order(&[B, A]))],
            operations: &[put("1"), put("2")],
            serving: &[B],
            slow: &[B],
            restarts: 1,
            restarting: &[B],
            ..QUIET
        },
    ),
    // Commands that are tried twice.
    (
        "tried twice",
        Chain { start: PAIR, operations: &[twice(Ask::Replace("1", "2")), put("1"), GET], serving: &[A], ..QUIET },
    ),
    (
        "tried again, late",
        Chain {
            start: PAIR,
            operations: &[twice(Ask::Put("1")), put("2"), put("3"), after(2, GET)],
            serving: &[A],
            window: 1,
            ..QUIET
        },
    ),
    // A copy is made anew, after a key is gone.
    (
        "copied again",
        Chain {
            before: &[Call(0, A), Quiet, Learn(C, B), Quiet, Call(1, A), Quiet, Learn(C, A)],
            start: PAIR,
            attempts: &[(A, Aim::Become(&[C, A]))],
            operations: &[put("1"), operation(Ask::Delete), GET],
            serving: &[A, C],
            waits: 1,
            beats: 1,
            beating: &[C],
            ..QUIET
        },
    ),
    // Two views after each other, and somebody who has missed the first.
    (
        "left behind",
        Chain {
            before: &[
                Call(0, A),
                Propose(0),
                Deliver(B, C, Prepare, 0),
                Deliver(C, B, Promise, 0),
                Wait,
                Enough(B),
                Deliver(B, C, Level, 0),
                Deliver(C, B, Ready, 0),
                Deliver(B, C, Accept, 0),
                Deliver(C, B, Accepted, 0),
                Deliver(B, C, Install, 0),
                Call(1, B),
                Deliver(B, C, Append, 0),
                Deliver(C, B, Ack, 0),
            ],
            attempts: &[(B, Aim::Without(&[A])), (B, Aim::Without(&[]))],
            operations: &[put("1"), put("2")],
            serving: &[],
            ..QUIET
        },
    ),
    // A member gives way to another, and hears of it; the others have not.
    (
        "replaced",
        Chain {
            before: &[
                Learn(D, B),
                Quiet,
                Propose(0),
                Deliver(A, B, Prepare, 0),
                Deliver(B, A, Promise, 0),
                Deliver(A, C, Prepare, 0),
                Deliver(C, A, Promise, 0),
                Deliver(A, B, Level, 0),
                Deliver(B, A, Ready, 0),
                Deliver(A, D, Level, 0),
                Deliver(D, A, Ready, 0),
                Deliver(A, C, Accept, 0),
                Deliver(C, A, Accepted, 0),
                Deliver(A, C, Install, 0),
            ],
            attempts: &[(A, Aim::Become(&[A, B, D])), (B, Aim::Without(&[A]))],
            waits: 1,
            ..QUIET
        },
    ),
    // A newcomer is made level for a view that an elector accepts. Then others, who know nothing of that, have less data.
    (
        "levelled again",
        Chain {
            start: PAIR,
            before: &[
                Learn(D, A),
                Quiet,
                Call(0, A),
                Propose(0),
                Deliver(A, C, Prepare, 0),
                Deliver(C, A, Promise, 0),
                Enough(A),
                Deliver(A, B, Prepare, 0),
                Deliver(A, B, Append, 0),
                Deliver(A, D, Level, 0),
                Deliver(D, A, Fetch, 0),
                Deliver(A, D, Entries, 0),
                Deliver(D, A, Ready, 0),
                Wait,
                Notice(A),
                Propose(1),
                Deliver(B, C, Prepare, 0),
                Deliver(C, B, Promise, 0),
                Enough(B),
                Deliver(B, A, Prepare, 0),
                Deliver(A, C, Accept, 0),
                Deliver(C, A, Reject, 0),
            ],
            attempts: &[(A, Aim::Become(&[A, D])), (B, Aim::Become(&[B, D])), (A, Aim::Without(&[]))],
            operations: &[put("1")],
            serving: &[],
            ..QUIET
        },
    ),
    // A newcomer that nobody asks to copy the slot any more, when it is to become a member.
    (
        "forgotten",
        Chain {
            start: PAIR,
            before: &[Learn(D, B), Quiet],
            attempts: &[(A, Aim::Become(&[A, B, D]))],
            operations: &[put("1"), GET],
            serving: &[A, D],
            forgetting: &[D],
            ..QUIET
        },
    ),
    // A newcomer has copied more than the next view says was written, and is killed when that view comes into force.
    (
        "cut short",
        Chain {
            start: PAIR,
            before: &[
                Call(0, A),
                Learn(D, A),
                Deliver(D, A, Attach, 0),
                Deliver(A, D, Snapshot, 0),
                Deliver(D, A, Fetch, 0),
                Deliver(A, D, Entries, 0),
                Propose(0),
                Deliver(B, C, Prepare, 0),
                Deliver(C, B, Promise, 0),
                Enough(B),
                Deliver(B, D, Level, 0),
                Synced(D),
                Wait,
                Deliver(D, B, Ready, 0),
                Deliver(B, C, Accept, 0),
                Deliver(C, B, Accepted, 0),
                Deliver(B, A, Install, 0),
                Deliver(B, C, Install, 0),
                Deliver(A, B, Append, 0),
                Call(1, B),
                Deliver(B, D, Install, 0),
            ],
            attempts: &[(B, Aim::Become(&[B, D])), (D, Aim::Without(&[]))],
            operations: &[put("1"), put("2")],
            serving: &[B],
            slow: &[D],
            restarts: 1,
            restarting: &[D],
            ..QUIET
        },
    ),
];
