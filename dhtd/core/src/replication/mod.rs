//! How slots are kept equal at the peers that should hold them.
//!
//! - [`digest`]: what a replica holds of a slot, in 16 bytes.
//! - [`chain`]: chain mode: linearizable, or refused.
//! - [`eventual`]: eventual mode: compare, push, drop.

pub mod chain;
pub mod digest;
pub mod eventual;
pub mod recovery;
