//! Everything a peer keeps on disk: an ordered key-value engine behind a small trait, group fsync, and the data directory.
//!
//! Layers, from the disk upwards:
//!
//! - [`Engine`] is the contract: atomic batches over two tables, ordered scans over a snapshot, one explicit [`Engine::sync`].
//! - [`FjallEngine`] keeps it on disk; [`MemoryEngine`] keeps it in memory and can lie and crash, for simulators and tests.
//! - [`Syncer`] lets any number of writers share one fsync.
//! - [`DataDir`] owns the directory around the engine: its format, its lock and the peer's identity.
//!
//! What the bytes mean (records, views, pending entries) is not known here.

pub mod datadir;
pub mod engine;
pub mod fjall;
pub mod memory;
pub mod sync;

pub use self::{
    datadir::{DataDir, DataDirError, Identity, Opened, StateFile},
    engine::{Batch, Engine, EngineError, Operation, Scan, Table},
    fjall::{FjallEngine, FjallOptions},
    memory::MemoryEngine,
    sync::{FsyncPolicy, Syncer, Ticket, parse_time},
};

#[cfg(test)]
mod contract;
