//! A discrete-event simulator of whole peers: many state machines in one thread, on one virtual clock, over a network
//! that loses, doubles, delays and cuts from a seed. The same seed gives the same run, event by event.

mod answers;
mod chains;
mod checks;
mod data;
mod delivery;
mod host;
mod net;
pub mod paper;
mod queue;
pub mod scenario;
mod world;

pub use answers::Answers;
pub use chains::{ChainConfig, Chains, Clients, Disk, Finished, Load, Recovery};
pub use data::{Data, DataConfig, Promises, Store};
pub use host::Host;
pub use net::Net;
pub use world::{Maintenance, World, WorldConfig};
