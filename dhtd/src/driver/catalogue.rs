//! The newest catalogue that this peer knows: for everyone to read, and on disk.

use std::sync::Arc;

use arc_swap::ArcSwap;
use dht_core::{
    catalogue::{Catalogue, Keyspace},
    overlay::Ring,
    record::KeyspaceId,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex, watch},
    task::spawn_blocking,
};

use crate::storage::{DataDir, DataDirError, StateFile};

/// What a peer knows of the catalogue.
#[derive(Debug)]
pub struct Known {
    newest: Arc<ArcSwap<Catalogue>>,
    dir: Arc<DataDir>,
    /// The revision of `newest`, for those who wait for a change.
    changes: watch::Sender<u64>,
    /// Held by whoever learns something newer: files are replaced in the order of revisions.
    learning: Mutex<()>,
}

/// `catalogue.json`: the newest catalogue that the peer knew. Not there before anything was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogueFile {
    revision: u64,
    replicas: usize,
    next_keyspace: u32,
    keyspaces: Vec<KeyspaceEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyspaceEntry {
    name: String,
    id: u32,
    mode: String,
}

impl Known {
    /// What the peer knew before it was started.
    ///
    /// # Errors
    /// If the file can't be read or does not say what it should.
    pub fn load(dir: Arc<DataDir>) -> Result<Self, DataDirError> {
        let file: Option<CatalogueFile> = dir.read_json(StateFile::Catalogue)?;
        let known = file.map(|file| file.catalogue()).transpose();
        let known = known.map_err(|problem| dir.damaged(StateFile::Catalogue, problem))?;
        let newest = Arc::new(ArcSwap::from_pointee(known.unwrap_or_default()));
        Ok(Self { newest, dir, changes: watch::Sender::new(0), learning: Mutex::default() })
    }

    /// The newest catalogue.
    #[must_use]
    pub fn newest(&self) -> Arc<Catalogue> {
        self.newest.load_full()
    }

    /// Where the newest catalogue is found, for those who read it often.
    #[must_use]
    pub fn shared(&self) -> Arc<ArcSwap<Catalogue>> {
        self.newest.clone()
    }

    /// Tells whenever there is a newer one.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The peer knows its ring from now on: as long as it has heard of no change, the catalogue is what follows from that.
    pub fn begin(&self, ring: &Ring) {
        self.newest.rcu(|known| match known.revision {
            0 => Arc::new(Catalogue::founding(ring)),
            _ => known.clone(),
        });
    }

    /// Goes by the catalogue if it is newer than what is known, once it is on disk. Returns whether it is.
    pub async fn learn(&self, catalogue: Catalogue) -> bool {
        let _learning = self.learning.lock().await;
        if catalogue.revision <= self.newest.load().revision {
            return false;
        }
        let (dir, file) = (self.dir.clone(), CatalogueFile::new(&catalogue));
        let saved = spawn_blocking(move || dir.write_json(StateFile::Catalogue, &file)).await;
        // Others have it: a restarted peer hears of it again.
        if let Ok(Err(error)) = saved {
            tracing::error!(%error, "cannot save the catalogue");
        }
        tracing::info!(revision = catalogue.revision, replicas = catalogue.replicas(), "the catalogue has changed");
        let revision = catalogue.revision;
        self.newest.store(Arc::new(catalogue));
        self.changes.send_replace(revision);
        true
    }
}

impl CatalogueFile {
    fn new(catalogue: &Catalogue) -> Self {
        let entry = |keyspace: &Keyspace| KeyspaceEntry {
            name: keyspace.name.to_string(),
            id: keyspace.id.0,
            mode: keyspace.mode.to_string(),
        };
        Self {
            revision: catalogue.revision,
            replicas: catalogue.replicas(),
            next_keyspace: catalogue.next(),
            keyspaces: catalogue.keyspaces().map(entry).collect(),
        }
    }

    fn catalogue(&self) -> Result<Catalogue, String> {
        let keyspace = |entry: &KeyspaceEntry| {
            let mode = entry.mode.parse().map_err(|_| format!("{:?} is no mode", entry.mode))?;
            Ok::<_, String>(Keyspace { id: KeyspaceId(entry.id), name: entry.name.as_str().into(), mode })
        };
        let keyspaces: Vec<Keyspace> = self.keyspaces.iter().map(keyspace).collect::<Result<_, _>>()?;
        Catalogue::assemble(self.revision, self.replicas, self.next_keyspace, keyspaces).map_err(|bad| bad.to_string())
    }
}

#[cfg(test)]
mod tests {
    use dht_core::{overlay::RingId, record::Mode, ring::SlotBits};
    use tempfile::TempDir;

    use super::*;

    fn known(scratch: &TempDir) -> Result<Known, DataDirError> {
        let (dir, _) = DataDir::open_or_create(scratch.path(), || [7; 16])?;
        Known::load(Arc::new(dir))
    }

    fn ring() -> Ring {
        Ring { id: RingId([1; 16]), replicas: 3, slot_bits: SlotBits::DEFAULT, mode: Mode::Eventual }
    }

    #[tokio::test]
    async fn the_newest_catalogue_is_kept_over_restarts_and_an_older_one_is_not_taken_for_it() {
        let scratch = TempDir::new().expect("a temporary directory");
        let before = known(&scratch).expect("it is new");
        before.begin(&ring());
        let founded = before.newest();
        assert_eq!(*founded, Catalogue::founding(&ring()));
        let mut changed = (*founded).clone();
        changed.revision = 7;
        changed.create("users", Mode::Chain).expect("the name is free");
        assert!(before.learn(changed.clone()).await);
        for revision in [6, 7] {
            let mut older = (*founded).clone();
            older.revision = revision;
            assert!(!before.learn(older).await);
        }
        drop(before);
        let after = known(&scratch).expect("it was written here");
        after.begin(&ring());
        assert_eq!(*after.newest(), changed);
    }

    #[tokio::test]
    async fn a_damaged_file_is_named() {
        let scratch = TempDir::new().expect("a temporary directory");
        drop(known(&scratch).expect("it is new"));
        let file = r#"{"revision": 1, "replicas": 3, "next_keyspace": 2, "keyspaces": []}"#;
        std::fs::write(scratch.path().join("catalogue.json"), file).expect("it is ours");
        let message = known(&scratch).expect_err("it lacks default").to_string();
        assert!(message.contains("catalogue.json") && message.contains("default"), "{message}");
    }
}
