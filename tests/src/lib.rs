//! What the tests of dhtd share: the simulator with its checkers, and rings of real processes.

pub mod linearizability;
pub mod model;
pub mod process;
pub mod sim;
pub mod torture;
