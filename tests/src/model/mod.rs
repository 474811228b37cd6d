//! Small worlds under a model checker (stateright): every schedule, over the code that the daemon runs.
//!
//! - [`overlay`]: peers join a ring while one fails.
//! - [`chain`]: a slot in chain mode changes its view while clients write and read.

pub mod chain;
pub mod overlay;
