//! Deleting what is left of keyspaces that were dropped (decision 0007).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use dht_core::{
    catalogue::Catalogue,
    record::{KeyspaceId, Mode, keyspace_prefix, parse_storage_key, slot_prefix},
    ring::Slot,
};
use tokio::time::sleep;

use super::Shared;
use crate::storage::{Engine, EngineError, Table};

/// A storage key and what is stored under it.
pub(super) type Stored = (Bytes, Bytes);

/// Whenever keyspaces have been dropped, deletes what this peer holds of them, slot by slot. Never ends while the peer
/// lives.
pub async fn sweep(shared: Arc<Shared>) {
    let mut changes = shared.catalogue.changes();
    let mut swept = 0;
    loop {
        changes.mark_unchanged();
        let catalogue = shared.catalogue.newest();
        if catalogue.dropped() > swept {
            sleep(GRACE).await;
            sweep_all(&shared, &catalogue).await;
            swept = catalogue.dropped();
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn sweep_all(shared: &Shared, catalogue: &Arc<Catalogue>) {
    let (Some(shards), Some(chains)) = (shared.shards.get(), shared.chains.get()) else { return };
    let Some(bits) = shared.routes.load().slot_bits() else { return };
    for slot in bits.iter() {
        // A page at a time, so that whatever else the slot's threads have to do comes in between.
        while chains.sweep(slot, catalogue.clone()).await {}
        let more = loop {
            match shards.sweep(slot, catalogue.clone()).await {
                Ok(true) => {}
                other => break other,
            }
        };
        if let Err(error) = more {
            return tracing::error!(%slot, %error, "cannot delete what is left of a dropped keyspace");
        }
    }
    tracing::info!(keyspaces = catalogue.dropped(), "nothing is left here of the keyspaces that were dropped");
}

/// Some of the slot's records whose keyspace was dropped; none if there are no more.
pub(super) fn leftovers(
    engine: &dyn Engine,
    mode: Mode,
    slot: Slot,
    catalogue: &Catalogue,
) -> Result<Vec<Stored>, EngineError> {
    let mut behind = Bytes::copy_from_slice(&slot_prefix(mode, slot));
    loop {
        // From keyspace to keyspace, however many keys each has.
        let first = engine.scan(Table::Records, &slot_prefix(mode, slot), Some(&behind)).next().transpose()?;
        let Some((key, _)) = first else { return Ok(Vec::new()) };
        let Some((_, at)) = parse_storage_key(&key) else {
            return Err(EngineError::Corrupt {
                what: "the store holds a key that no dhtd peer has written".to_owned(),
            });
        };
        if catalogue.is_dropped(at.keyspace) {
            return page(engine, &keyspace_prefix(mode, slot, at.keyspace));
        }
        behind = keyspace_prefix(mode, slot, KeyspaceId(at.keyspace.0.saturating_add(1)));
    }
}

fn page(engine: &dyn Engine, prefix: &[u8]) -> Result<Vec<Stored>, EngineError> {
    let (mut page, mut bytes) = (Vec::new(), 0);
    for entry in engine.scan(Table::Records, prefix, None) {
        let (key, value) = entry?;
        bytes += key.len() + value.len();
        page.push((key, value));
        if page.len() >= PAGE_KEYS || bytes >= PAGE_BYTES {
            break;
        }
    }
    Ok(page)
}

/// For how long a dropped keyspace is left alone: nobody who was reading it when it was dropped is then any more, and finds
/// half of it. A guess: twice what an operation may take.
const GRACE: Duration = Duration::from_secs(10);

/// What is deleted at once, as one batch. Guesses: a page takes a few milliseconds.
const PAGE_KEYS: usize = 1000;
const PAGE_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use dht_core::record::{RecordKey, storage_key};

    use super::*;
    use crate::storage::{Batch, MemoryEngine};

    #[test]
    fn only_what_belongs_to_nobody_is_left_over() {
        let (engine, slot) = (MemoryEngine::new(), Slot(3));
        let default =
            dht_core::catalogue::Keyspace { id: KeyspaceId::DEFAULT, name: "default".into(), mode: Mode::Chain };
        let catalogue = Catalogue::assemble(1, 3, 4, [default]).expect("it can be made");
        let key = |mode, slot, keyspace, key: &'static str| {
            storage_key(mode, slot, &RecordKey { keyspace: KeyspaceId(keyspace), key: key.into() })
        };
        let dropped = [key(Mode::Chain, slot, 2, "a"), key(Mode::Chain, slot, 3, "a"), key(Mode::Chain, slot, 3, "b")];
        let others = [
            key(Mode::Chain, slot, 0, "catalogue"),
            key(Mode::Chain, slot, 1, "a"),
            key(Mode::Chain, slot, 4, "a"), // Created a moment ago: this peer has not heard of it.
            key(Mode::Chain, Slot(4), 2, "a"),
            key(Mode::Eventual, slot, 2, "a"),
        ];
        let mut batch = Batch::new();
        dropped.iter().chain(&others).for_each(|key| batch.put(Table::Records, key.clone(), Bytes::new()));
        engine.put_batch(batch).expect("it takes writes");
        let mut found = Vec::new();
        loop {
            let page = leftovers(&engine, Mode::Chain, slot, &catalogue).expect("it can be read");
            let mut batch = Batch::new();
            page.iter().for_each(|(key, _)| batch.delete(Table::Records, key.clone()));
            engine.put_batch(batch).expect("it takes writes");
            found.extend(page.into_iter().map(|(key, _)| key));
            if leftovers(&engine, Mode::Chain, slot, &catalogue).expect("it can be read").is_empty() {
                break;
            }
        }
        assert_eq!(found, dropped);
    }
}
