//! Which keys to read of a slot.

use bytes::Bytes;
use dht_core::{
    record::{KeyspaceId, Mode, RecordKey, storage_key},
    ring::Slot,
};

use crate::storage::{Engine, Scan, Table};

/// Some keys of one keyspace, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// What they begin with.
    pub prefix: Bytes,
    /// Only those after this one, which begins with the prefix.
    pub after: Option<Bytes>,
}

impl KeyRange {
    /// What the engine has of them in a slot, as of now: storage keys and values.
    pub(super) fn scan<'a>(&self, engine: &'a dyn Engine, mode: Mode, slot: Slot) -> Scan<'a> {
        let stored = |key: &Bytes| storage_key(mode, slot, &RecordKey { keyspace: self.keyspace, key: key.clone() });
        let after = self.after.as_ref().map(stored);
        engine.scan(Table::Records, &stored(&self.prefix), after.as_deref())
    }
}
