//! The directory around fjall: created in one step, and complete before fjall may open it.
//!
//! fjall takes a directory without its `version` file for a new one, takes a keyspace without its manifest for a half-created one and
//! deletes it, and panics on names that it did not choose. None of that may happen to a damaged store.

use super::super::engine::EngineError;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};
use xxhash_rust::xxh3::xxh3_128;

/// fjall's own keyspace of names, then records, meta and marks in the order of their creation.
const KEYSPACE_IDS: [u64; 4] = [0, 1, 2, 3];

const VERSION: &[u8] = b"FJL\x03";

/// Bytes of a `current` file: the manifest's number (u64), its checksum (u128), the kind of the checksum (u8).
const CURRENT_BYTES: u64 = 25;

/// The only kind of checksum that there is.
const XXH3: u8 = 0;

/// Whether a store is to be created at `path`: nothing is there, or an empty directory.
pub(super) fn is_new(path: &Path) -> Result<bool, EngineError> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(EngineError::from_io("looking for the store", error)),
    }
}

/// Lets `fill` create the store beside `path` and moves it there once it is complete and on stable storage.
pub(super) fn create(path: &Path, fill: impl FnOnce(&Path) -> Result<(), EngineError>) -> Result<(), EngineError> {
    let doing = "creating the store";
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".creating");
    let unfinished = path.with_file_name(name);
    match fs::remove_dir_all(&unfinished) {
        // A creation that was cut off. It has never held data.
        Ok(()) => tracing::info!(path = %unfinished.display(), "removed a store whose creation was cut off"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(EngineError::from_io(doing, error)),
    }
    fill(&unfinished)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let publish = || {
        fs::rename(&unfinished, path)?;
        File::open(parent)?.sync_all()
    };
    publish().map_err(|error| EngineError::from_io(doing, error))
}

/// Fails if a part of the store is missing or has the wrong form. Changes nothing.
pub(super) fn check(path: &Path) -> Result<(), EngineError> {
    match fs::read(path.join("version")) {
        Ok(bytes) if bytes == VERSION => {}
        Ok(_) => return Err(damaged(&path.join("version"), "not the format of this build's engine")),
        Err(error) => return Err(sort(&path.join("version"), error)),
    }
    let keyspaces = path.join("keyspaces");
    for id in KEYSPACE_IDS {
        check_manifest(&keyspaces.join(id.to_string()))?;
    }
    for entry in fs::read_dir(&keyspaces).map_err(|error| sort(&keyspaces, error))? {
        let path = entry.map_err(|error| sort(&keyspaces, error))?.path();
        let id = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        if !id.is_some_and(|id: u64| KEYSPACE_IDS.contains(&id)) {
            return Err(damaged(&path, "does not belong to the store"));
        }
    }
    Ok(())
}

/// Takes the lock that fjall holds while the store is open; given back when the file is dropped.
pub(super) fn lock(path: &Path) -> Result<File, EngineError> {
    let path = path.join("lock");
    let file = File::options().read(true).write(true).open(&path).map_err(|error| sort(&path, error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(EngineError::InUse),
        Err(error) => Err(sort(&path, error.into())),
    }
}

/// The manifest that `current` names must be there as it was written: its checksum stands in `current`, but lsm-tree 3.1.10
/// does not compare it, and may end the process over a damaged one.
fn check_manifest(keyspace: &Path) -> Result<(), EngineError> {
    let path = keyspace.join("current");
    let mut current = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(CURRENT_BYTES + 1).read_to_end(&mut current));
    read.map_err(|error| sort(&path, error))?;
    let (number, rest) = current.split_first_chunk::<8>().ok_or_else(|| damaged(&path, "too short"))?;
    let Some((checksum, [XXH3])) = rest.split_first_chunk::<16>() else {
        return Err(damaged(&path, "not a pointer to a manifest"));
    };
    let manifest = keyspace.join(format!("v{}", u64::from_le_bytes(*number)));
    let content = fs::read(&manifest).map_err(|error| sort(&manifest, error))?;
    if xxh3_128(&content) != u128::from_le_bytes(*checksum) {
        return Err(damaged(&manifest, "not what was written there"));
    }
    let tables = keyspace.join("tables");
    fs::metadata(&tables).map_err(|error| sort(&tables, error)).map(drop)
}

/// A number kept beside the journals: the last batch that was synced. It is written after every sync and not synced itself,
/// so it may be too low after a loss of power, but never too high.
#[derive(Debug)]
pub(super) struct SyncedFile {
    file: File,
}

impl SyncedFile {
    /// The number as it was left; 0 if there is none or it was torn.
    pub(super) fn read(store: &Path) -> u64 {
        let read = || -> Option<u64> {
            let bytes = fs::read(Self::path(store)).ok()?;
            let (number, inverse) = bytes.split_first_chunk::<8>()?;
            let (number, inverse) = (u64::from_be_bytes(*number), u64::from_be_bytes(inverse.try_into().ok()?));
            (number == !inverse).then_some(number)
        };
        read().unwrap_or(0)
    }

    pub(super) fn open(store: &Path) -> Result<Self, EngineError> {
        let file = File::options().create(true).truncate(false).write(true).open(Self::path(store));
        file.map(|file| Self { file }).map_err(|error| EngineError::from_io("opening the store", error))
    }

    /// A failure is ignored: the number only makes the next check at opening sharper.
    pub(super) fn write(&self, number: u64) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        bytes[8..].copy_from_slice(&(!number).to_be_bytes());
        let _ = self.file.write_all_at(&bytes, 0);
    }

    fn path(store: &Path) -> PathBuf {
        store.join("synced")
    }
}

fn damaged(path: &Path, what: &str) -> EngineError {
    EngineError::Corrupt { what: format!("{}: {what}", path.display()) }
}

fn sort(path: &Path, error: io::Error) -> EngineError {
    match error.kind() {
        io::ErrorKind::NotFound => damaged(path, "missing"),
        io::ErrorKind::NotADirectory => damaged(path, "not a directory"),
        _ => EngineError::from_io("checking the store", error),
    }
}
