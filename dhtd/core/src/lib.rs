//! The protocols of dhtd, pure: no clock, no I/O, no global randomness.
//!
//! Every protocol is a `State` with `handle(now, input) -> outputs`. `now` is a monotonic duration since the host
//! started; randomness comes from a seeded generator; containers iterate in a defined order. So the same code runs
//! in the daemon, under the simulator (many peers in one thread, faults from a seed, bit-identical replay) and under
//! the model checker. The host gives a state machine its inputs (messages, timers that have fired, commands) and
//! carries out its outputs, in order.
//!
//! - [`ring`]: identifiers, intervals, slots.
//! - [`overlay`]: the Chord ring: who is there, who follows whom, who should hold what.
//! - [`founding`]: how some peers found one ring together.
//! - [`replication`]: how slots are kept equal at the peers that should hold them.
//! - [`view`]: who holds a slot's chain-mode data now, and by what right.
//! - [`catalogue`]: what the ring agrees on after its founding: keyspaces, and k.
//! - [`record`], [`hlc`]: what is stored, and what orders it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod catalogue;
pub mod founding;
pub mod hlc;
pub mod overlay;
pub mod record;
pub mod replication;
pub mod ring;
mod rules;
pub mod view;

pub use rules::Rules;
