//! What the tests of dhtd share: the simulator and its checkers.

pub mod sim;
