//! What this peer has promised a recovery by hand, on its disk, and what it hears of others.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
};

use arc_swap::ArcSwap;
use dht_core::{
    replication::chain::Input,
    ring::PeerId,
    view::{Claim, Generation, Heard},
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};

use super::Shared;
use crate::storage::{DataDir, DataDirError, StateFile};

/// `recovery.json`: the last recovery that the peer has heard of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecoveryFile {
    /// Counts the ring's recoveries.
    counter: u32,
    /// Who has carried it out: 32 hexadecimal digits.
    by: String,
    /// Who was given up, by it or by an earlier one.
    banned: Vec<String>,
    /// This peer was. It must not run again.
    #[serde(default)]
    given_up: bool,
}

/// What the peer has promised. Others see a claim only once it is on disk.
#[derive(Debug)]
pub struct Claims {
    me: PeerId,
    known: Arc<ArcSwap<Claim>>,
    /// Set once the peer has one. A lock, since it is set once and read seldom.
    dir: RwLock<Option<Arc<DataDir>>>,
    /// One change at a time.
    changing: Mutex<()>,
    given_up: watch::Sender<Option<Generation>>,
}

impl Claims {
    /// Of a peer that has heard of no recovery so far.
    #[must_use]
    pub fn new(me: PeerId) -> Self {
        let (known, dir, changing) = Default::default();
        Self { me, known, dir, changing, given_up: watch::Sender::new(None) }
    }

    /// Which recovery has given this peer up, if one has: its data directory can't be used any more.
    ///
    /// # Errors
    /// If the file can't be read or does not say what it should.
    pub fn gave_up(dir: &DataDir) -> Result<Option<Generation>, DataDirError> {
        let file: Option<RecoveryFile> = dir.read_json(StateFile::Recovery)?;
        Ok(file.filter(|file| file.given_up).map(|file| file.claim().generation))
    }

    /// From now on claims are kept in this directory; what is in it holds.
    ///
    /// # Errors
    /// If the file can't be read or does not say what it should.
    pub fn keep_in(&self, dir: Arc<DataDir>) -> Result<(), DataDirError> {
        if let Some(file) = dir.read_json::<RecoveryFile>(StateFile::Recovery)? {
            self.known.store(Arc::new(file.claim()));
        }
        *self.dir.write().unwrap_or_else(PoisonError::into_inner) = Some(dir);
        Ok(())
    }

    /// What is promised.
    #[must_use]
    pub fn known(&self) -> Arc<Claim> {
        self.known.load_full()
    }

    /// The same, for whoever looks often.
    #[must_use]
    pub fn shared(&self) -> Arc<ArcSwap<Claim>> {
        self.known.clone()
    }

    /// Promises what a recovery asks for; it is on disk when this returns. Whether it is promised: an earlier recovery, or
    /// another one of the same counter, has no claim any more.
    ///
    /// # Errors
    /// If it can't be written.
    pub async fn promise(&self, claim: Claim) -> Result<bool, DataDirError> {
        let _changing = self.changing.lock().await;
        if !self.known.load().admits(&claim) || claim.banned.contains(&self.me) {
            return Ok(false);
        }
        self.save(claim.clone(), false).await?;
        self.known.store(Arc::new(claim));
        Ok(true)
    }

    /// Somebody goes by this claim. Returns what that means here; what follows from it is on disk.
    ///
    /// # Errors
    /// If it can't be written.
    pub async fn hear(&self, claim: &Claim) -> Result<Heard, DataDirError> {
        if self.known.load().hear(self.me, claim) == Heard::Nothing {
            return Ok(Heard::Nothing);
        }
        let _changing = self.changing.lock().await;
        let known = self.known();
        let heard = known.hear(self.me, claim);
        match heard {
            Heard::Nothing | Heard::Rival => {}
            Heard::Newer => {
                let banned: BTreeSet<PeerId> = known.banned.union(&claim.banned).copied().collect();
                let claim = Claim { banned, ..claim.clone() };
                self.save(claim.clone(), false).await?;
                self.known.store(Arc::new(claim));
            }
            Heard::GivenUp => {
                let saved = self.save(claim.clone(), true).await;
                // Whatever the disk says: it does not go on.
                self.given_up.send_replace(Some(claim.generation));
                saved?;
            }
        }
        Ok(heard)
    }

    /// Returns once this peer hears that it was given up, and by which recovery.
    pub async fn given_up(&self) -> Generation {
        let mut given_up = self.given_up.subscribe();
        loop {
            if let Some(generation) = *given_up.borrow_and_update() {
                return generation;
            }
            if given_up.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn save(&self, claim: Claim, given_up: bool) -> Result<(), DataDirError> {
        let Some(dir) = self.dir.read().unwrap_or_else(PoisonError::into_inner).clone() else { return Ok(()) };
        let file = RecoveryFile {
            counter: claim.generation.counter,
            by: claim.generation.by.map_or_else(String::new, |by| by.to_string()),
            banned: claim.banned.iter().map(ToString::to_string).collect(),
            given_up,
        };
        let write = tokio::task::spawn_blocking(move || dir.write_json(StateFile::Recovery, &file));
        write.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }
}

impl Shared {
    /// Somebody goes by this claim. What follows from it here is on its way when this returns.
    pub async fn hear_claim(&self, claim: &Claim) {
        let input = match self.claims.hear(claim).await {
            Ok(Heard::Nothing | Heard::GivenUp) => return,
            Ok(Heard::Newer) => Input::Claim((*self.claims.known()).clone()),
            Ok(Heard::Rival) => Input::Rival(claim.generation),
            Err(error) => return tracing::error!(%error, "cannot note who was given up"),
        };
        if let (Input::Rival(_), counter) = (&input, claim.generation.counter) {
            tracing::debug!(counter, "two recoveries of one counter: nothing that they could both serve is served");
        }
        if let Some(chains) = self.chains.get() {
            chains.hear(input).await;
        }
    }
}

impl RecoveryFile {
    fn claim(&self) -> Claim {
        let generation = Generation { counter: self.counter, by: self.by.parse().ok() };
        Claim { generation, banned: self.banned.iter().filter_map(|id| id.parse().ok()).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: u8) -> PeerId {
        PeerId::new([name; 16])
    }

    fn claim(counter: u32, by: u8, banned: &[u8]) -> Claim {
        let generation = Generation { counter, by: Some(peer(by)) };
        Claim { generation, banned: banned.iter().copied().map(peer).collect() }
    }

    fn open(path: &std::path::Path) -> (Arc<DataDir>, Claims) {
        let dir = Arc::new(DataDir::open_or_create(path, || [1; 16]).expect("a directory of its own").0);
        let claims = Claims::new(peer(1));
        claims.keep_in(dir.clone()).expect("it was written here");
        (dir, claims)
    }

    #[tokio::test]
    async fn what_was_promised_holds_after_a_restart() {
        let base = tempfile::tempdir().expect("a directory");
        let (dir, claims) = open(base.path());
        assert!(claims.promise(claim(1, 2, &[8])).await.unwrap());
        assert!(!claims.promise(claim(1, 3, &[8])).await.unwrap(), "another one of the same counter");
        assert!(!claims.promise(claim(2, 3, &[1, 8])).await.unwrap(), "it gives this peer up");
        assert_eq!(claims.hear(&claim(2, 3, &[9])).await.unwrap(), Heard::Newer);
        drop((dir, claims));
        let (dir, claims) = open(base.path());
        assert_eq!(*claims.known(), claim(2, 3, &[8, 9]));
        assert_eq!(Claims::gave_up(&dir).unwrap(), None);
    }

    #[tokio::test]
    async fn who_was_given_up_knows_it_after_a_restart() {
        let base = tempfile::tempdir().expect("a directory");
        let (dir, claims) = open(base.path());
        let last = claim(3, 2, &[1]);
        assert_eq!(claims.hear(&last).await.unwrap(), Heard::GivenUp);
        assert_eq!(claims.given_up().await, last.generation);
        drop((dir, claims));
        let (dir, _) = open(base.path());
        assert_eq!(Claims::gave_up(&dir).unwrap(), Some(last.generation));
    }
}
