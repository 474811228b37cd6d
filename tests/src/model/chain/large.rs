//! Worlds of which there is no end.

use super::{
    Action::{Call, Learn, Quiet},
    Aim, Ask, Chain,
    parts::{A, B, C, D, GET, PAIR, QUIET, put, twice},
    worlds::Named,
};

/// They are looked at as far as time goes.
pub const LARGE: &[Named] = &[
    // Two attempts at once, by the head and by the next, about different views; one member still has leases.
    (
        "two attempts",
        Chain {
            attempts: &[(A, Aim::Without(&[C])), (B, Aim::Order(&[B, A]))],
            operations: &[put("1"), GET],
            waits: 1,
            ..QUIET
        },
    ),
    // A pair and its witness: the same, and a restart, a slow disk, a command that is tried twice, a message doubled.
    (
        "pair, all at once",
        Chain {
            start: PAIR,
            attempts: &[(A, Aim::Order(&[B, A])), (B, Aim::Without(&[A]))],
            operations: &[put("1"), twice(Ask::Replace("1", "2")), GET],
            serving: &[A, B],
            waits: 1,
            restarts: 1,
            restarting: &[A, B],
            slow: &[A],
            doubled: 1,
            ..QUIET
        },
    ),
    // Four peers: one replaces a member, while another attempt drops the head, and one of them is restarted.
    (
        "four peers",
        Chain {
            before: &[Call(0, A), Quiet, Learn(D, C), Quiet],
            attempts: &[(A, Aim::Become(&[A, B, D])), (B, Aim::Without(&[A]))],
            operations: &[put("1"), put("2"), twice(Ask::Replace("1", "3")), GET],
            serving: &[A, B, C, D],
            waits: 1,
            beats: 1,
            beating: &[C],
            restarts: 1,
            ..QUIET
        },
    ),
];
