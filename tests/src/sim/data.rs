//! What a simulated peer holds: eventual replication over an engine that crashes, and the way of writes and transfers
//! that the daemon's data path takes (`dhtd::coordinator::write`, `dhtd::driver::transfer`), each call one packet.

mod calls;
mod process;
mod promises;
mod store;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use dht_core::{
    overlay::Routes,
    record::{Record, RecordKey, Version},
    replication::{digest::SlotDigest, eventual},
    ring::{PeerId, Slot},
};

pub use self::{promises::Promises, store::Store};

/// How the peers of a world keep data.
#[derive(Clone, Debug)]
pub struct DataConfig {
    /// Each peer's replication.
    pub eventual: eventual::Config,
    /// Clocks differ from the right time by up to this.
    pub clock_skew: Duration,
    /// How long a replica that answers alone may lack an acknowledged write. Default 10 s: its writer may have gone by a
    /// group of before for 5 s (as long as an owner may be silent), and the next one settles for 3 s.
    pub grace: Duration,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self { eventual: eventual::Config::default(), clock_skew: Duration::ZERO, grace: Duration::from_secs(10) }
    }
}

/// What one process holds and does with it.
#[derive(Clone, Debug)]
pub struct Data {
    /// Its disk.
    pub store: Store,
    /// `None` while the process is down.
    process: Option<Process>,
}

/// What is lost when the process ends.
#[derive(Clone, Debug)]
struct Process {
    replication: eventual::State,
    routes: Arc<Routes>,
    synced: BTreeSet<Slot>,
    calls: BTreeMap<u64, Call>,
    writes: BTreeMap<u64, Write>,
    locating: BTreeMap<u64, Slot>,
}

/// What hosts send each other about data.
#[derive(Clone, Debug)]
pub(super) enum DataPacket {
    Replication(eventual::Message),
    /// Take these in, and say when they are on disk.
    Push {
        call: u64,
        records: Vec<(RecordKey, Record)>,
    },
    Confirmed {
        call: u64,
    },
}

/// What a host is woken for about data.
#[derive(Clone, Debug)]
pub(super) enum DataTimer {
    Replication(eventual::Timer),
    /// Nobody waits for the call's confirmation any longer.
    GiveUp(u64),
    /// An fsync has ended.
    Synced(AfterSync),
    /// A leaving peer looks whether everything is handed over.
    Depart,
}

/// Who waits for an fsync.
#[derive(Clone, Debug)]
pub(super) enum AfterSync {
    Write(u64),
    Confirm { to: usize, call: u64 },
    Send(usize, eventual::Message),
}

/// Records that were sent and are not confirmed yet.
#[derive(Clone, Copy, Debug)]
enum Call {
    /// A write's.
    Push { write: u64, slot: Slot, to: PeerId },
    /// A whole slot, with the digest that it had.
    Transfer { slot: Slot, to: PeerId, digest: SlotDigest },
}

/// A client's write that is under way.
#[derive(Clone, Debug)]
struct Write {
    at: RecordKey,
    version: Version,
    min_durable: usize,
    here: bool,
    durable: BTreeSet<usize>,
}

impl Data {
    /// Whether the peer answers reads of the slot alone.
    #[must_use]
    pub fn synced(&self, slot: Slot) -> bool {
        self.process.as_ref().is_some_and(|process| process.synced.contains(&slot))
    }

    /// The peers that should hold a slot, as this one sees it.
    #[must_use]
    pub fn group(&self, slot: Slot) -> Option<&[PeerId]> {
        let home = self.process.as_ref()?.routes.home_of(slot)?;
        Some(&home.group)
    }

    /// The process ends, and the disk keeps so many of the writes that no fsync has covered.
    pub(super) fn crash(&mut self, kept: usize) {
        self.process = None;
        self.store.crash(kept);
    }
}
