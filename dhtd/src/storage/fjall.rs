//! The engine on disk: fjall 3, an LSM tree with a write-ahead journal.
//!
//! How the contract of [`Engine`] maps to it (read off the source of fjall 3.1.13 and lsm-tree 3.1.10, and measured):
//!
//! - `put_batch` is one atomic batch with `PersistMode::Buffer`: in the journal file (page cache) before it is visible.
//! - `sync` does not use `Database::persist`, because that holds the journal's lock while the disk works, and every `put_batch` would wait for
//!   it. It calls `fdatasync` on an own handle of the active journal file instead (`journal::Active`).
//! - fjall's own back-pressure loops wait for background threads without noticing that those have died on a full disk. So `put_batch` waits
//!   before it enters fjall, and notices (`FjallEngine::wait_for_room`).
//! - fjall cuts a journal silently at the first byte that it can't read, and deletes what it takes for half-created. So the journals and
//!   the layout are checked before fjall gets to see them (`journal`, `layout`); that needs a mark in every batch (about 50 bytes).

mod journal;
mod layout;

use self::journal::Mark;
use super::engine::{Batch, Engine, EngineError, KEY_BYTES_MAX, Operation, Scan, Table, end_of_prefix, means_full};
use bytes::Bytes;
use fjall::{AbstractTree, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use std::{
    ops::Bound,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Sizes of the embedded engine. The defaults suit a machine with 1 GiB of memory or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FjallOptions {
    /// Memory for cached blocks of tables, in bytes. Default 64 MiB: twice fjall's own default (`db_config.rs`), which suits a
    /// library; fjall advises 20-25 % of the memory. A guess for a daemon whose hot records are cached above the engine.
    pub cache_bytes: u64,
    /// Memory of one write buffer of one table, in bytes; up to 4 full ones may wait to be written. Default 64 MiB (fjall's
    /// `keyspace/options.rs`). It takes effect when the store is created.
    pub write_buffer_bytes: u64,
    /// Journal files on disk in total, in bytes, before write buffers are flushed to free the oldest; at least 64 MiB. Default 512 MiB (fjall's
    /// `db_config.rs`). It bounds the time to open a store after a crash.
    pub journal_bytes_max: u64,
    /// Open files kept for reading tables. Default 900 (fjall's `db_config.rs`, chosen below the customary limit of 1,024).
    pub open_files_max: usize,
    /// Background threads that write and merge tables; at least 1. Default `None`: one per core, at most 4 (fjall's `db_config.rs`).
    pub threads: Option<usize>,
}

impl Default for FjallOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            write_buffer_bytes: 64 << 20,
            journal_bytes_max: 512 << 20,
            open_files_max: 900,
            threads: None,
        }
    }
}

/// An [`Engine`] in a directory. Dropping it closes the store (journal flushed, background threads ended).
pub struct FjallEngine {
    path: PathBuf,
    database: Database,
    records: Keyspace,
    meta: Keyspace,
    /// The journal's own handle for `sync`; its lock makes concurrent syncs take turns, never readers or writers.
    journal: Mutex<journal::Active>,
    marks: Keyspace,
    synced_file: layout::SyncedFile,
    /// Number of the newest visible batch ([`Mark::number`]).
    newest: AtomicU64,
    /// Number of the newest batch that is known to be on stable storage; at most `newest`.
    synced: AtomicU64,
    /// Serialises waiting for room and writing, so that no more than one batch can enter fjall after a check. fjall's
    /// journal lock serialises writers anyway.
    writer: Mutex<()>,
    /// The first failed write or sync, for ever.
    failure: OnceLock<Arc<str>>,
}

/// Full write buffers of a table at which `put_batch` waits. fjall itself waits at 4 (`Keyspace::local_backpressure`), without
/// noticing that the threads it waits for have died; one below is never reached by a single batch.
const FULL_BUFFERS_MAX: usize = 3;

/// Overlapping runs of young tables at which `put_batch` waits. fjall itself waits at 30 (`Keyspace::check_write_halt`), as above.
const YOUNG_RUNS_MAX: usize = 28;

/// The only key of the keyspace of marks.
const MARK_KEY: &[u8] = b"batch";

/// How often a waiting `put_batch` looks again.
const ROOM_POLL: Duration = Duration::from_millis(5);

/// Free bytes below which a background failure without a stated cause is taken for a full disk: a guess at what a few write buffers and
/// the merges that follow may need at once (with 65 MiB free it was seen to fail).
const FREE_BYTES_MIN: u64 = 256 << 20;

impl FjallEngine {
    /// Opens the store in `path`, or creates it if `path` does not exist or is empty. The parent must exist.
    ///
    /// A journal that ends in the middle of a batch is what a crash leaves, and is recovered: all whole batches before it are there.
    /// Opening reads all journals twice, up to [`FjallOptions::journal_bytes_max`] of them: once to check, once to replay.
    ///
    /// # Errors
    /// `Corrupt` if what is there is damaged, incomplete or no store (nothing but a torn tail, of which a copy is kept, is
    /// removed), `InUse` if it is open elsewhere, `Full` and `Io` from the operating system.
    pub fn open(path: impl AsRef<Path>, options: FjallOptions) -> Result<Self, EngineError> {
        let path = path.as_ref();
        if layout::is_new(path)? {
            // Created under another name, so that a half-created store is never mistaken for a damaged one.
            layout::create(path, |unfinished| open_database(unfinished, &options).map(drop))?;
        }
        layout::check(path)?;
        // What looks like a torn tail may be a batch that another process is writing.
        let lock = layout::lock(path)?;
        let synced = layout::SyncedFile::read(path);
        journal::recover(path, synced)?;
        drop(lock);
        let (database, [records, meta, marks]) = open_database(path, &options)?;
        let newest = newest_number(&marks)?;
        if newest < synced {
            let what = format!("{}: ends at batch {newest}, but batch {synced} had been synced", path.display());
            return Err(EngineError::Corrupt { what });
        }
        Ok(Self {
            path: path.to_path_buf(),
            database,
            records,
            meta,
            marks,
            journal: Mutex::new(journal::Active::open(path)?),
            synced_file: layout::SyncedFile::open(path)?,
            newest: newest.into(),
            // Opening has synced whatever it found (`Database::recover`).
            synced: newest.into(),
            writer: Mutex::default(),
            failure: OnceLock::new(),
        })
    }

    fn keyspace(&self, table: Table) -> &Keyspace {
        match table {
            Table::Records => &self.records,
            Table::Meta => &self.meta,
        }
    }

    fn check_writable(&self) -> Result<(), EngineError> {
        match self.failure.get() {
            Some(cause) => Err(EngineError::ReadOnly { cause: Arc::clone(cause) }),
            None => Ok(()),
        }
    }

    /// Makes the engine read-only because of `error`.
    fn stop(&self, error: EngineError) -> EngineError {
        if self.failure.set(error.chain().into()).is_ok() {
            tracing::error!(store = %self.path.display(), error = error.chain(), "the store is read-only from here");
        }
        error
    }

    /// Waits until the background threads have caught up enough that fjall will not wait inside, and fails if they have died.
    fn wait_for_room(&self) -> Result<(), EngineError> {
        while self.is_behind() {
            self.check_background()?;
            std::thread::sleep(ROOM_POLL);
        }
        Ok(())
    }

    /// Fails if a background thread of fjall has died. Flushing the (always empty) journal buffer is the only public question
    /// whose answer says so.
    fn check_background(&self) -> Result<(), EngineError> {
        self.database.persist(PersistMode::Buffer).map_err(|error| self.sort("background work", error))
    }

    /// Like [`sort`], and finds the cause of a background failure that fjall only logs.
    fn sort(&self, doing: &'static str, error: fjall::Error) -> EngineError {
        if !matches!(error, fjall::Error::Poisoned) {
            return sort(doing, error);
        }
        match rustix::fs::statvfs(&self.path) {
            Ok(fs) if fs.f_bavail.saturating_mul(fs.f_frsize) < FREE_BYTES_MIN => {
                EngineError::Full { doing, source: None }
            }
            _ => sort(doing, error),
        }
    }
}

impl Engine for FjallEngine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        // lsm-tree panics on keys that it could not have stored.
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Ok(None);
        }
        let value = self.keyspace(table).get(key).map_err(|error| sort("reading", error))?;
        Ok(value.map(Bytes::from))
    }

    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>) -> Scan<'_> {
        // As in `get`. No key lies between a too long key and its beginning.
        let after = after.map(|after| &after[..after.len().min(KEY_BYTES_MAX)]);
        let end = end_of_prefix(prefix);
        let behind = matches!((after, &end), (Some(after), Some(end)) if after >= end.as_slice());
        if prefix.len() > KEY_BYTES_MAX || behind {
            return Box::new(std::iter::empty());
        }
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after.to_vec()),
            _ => Bound::Included(prefix.to_vec()),
        };
        let range = (from, end.map_or(Bound::Unbounded, Bound::Excluded));
        let entries = self.database.snapshot().range(self.keyspace(table), range);
        Box::new(entries.map(|entry| {
            let (key, value) = entry.into_inner().map_err(|error| sort("scanning", error))?;
            Ok((key.into(), value.into()))
        }))
    }

    fn put_batch(&self, batch: Batch) -> Result<(), EngineError> {
        let operations = batch.into_checked()?;
        let _turn = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_writable()?;
        self.wait_for_room().map_err(|error| self.stop(error))?;
        let mut batch = self.database.batch().durability(Some(PersistMode::Buffer));
        for operation in operations {
            match operation {
                Operation::Put { table, key, value } => batch.insert(self.keyspace(table), key, value),
                Operation::Delete { table, key } => batch.remove(self.keyspace(table), key),
            }
        }
        let number = self.newest.load(Ordering::Relaxed) + 1;
        batch.insert(&self.marks, MARK_KEY, Mark { number, synced: self.synced.load(Ordering::Acquire) }.encode());
        batch.commit().map_err(|error| self.stop(self.sort("writing the journal", error)))?;
        self.newest.store(number, Ordering::Release);
        Ok(())
    }

    fn is_behind(&self) -> bool {
        [&self.records, &self.meta, &self.marks].into_iter().any(is_behind)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.check_writable()?;
        self.check_background().map_err(|error| self.stop(error))?;
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        // Again, because the turn before may have failed, and the same fsync repeated would succeed without having written.
        self.check_writable()?;
        let newest = self.newest.load(Ordering::Acquire);
        journal.sync().map_err(|error| self.stop(EngineError::from_io("fsync of the journal", error)))?;
        self.synced.store(newest, Ordering::Release);
        self.synced_file.write(newest);
        Ok(())
    }

    fn failure(&self) -> Option<Arc<str>> {
        self.failure.get().cloned()
    }

    fn disk_bytes(&self) -> u64 {
        // Each journal file counts with its preallocated 64 MiB, which need not be on disk yet.
        self.database.disk_space().unwrap_or(0)
    }
}

impl std::fmt::Debug for FjallEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallEngine").field("path", &self.path).field("failure", &self.failure).finish_non_exhaustive()
    }
}

fn open_database(path: &Path, options: &FjallOptions) -> Result<(Database, [Keyspace; 3]), EngineError> {
    let open = || {
        let mut builder = Database::builder(path)
            .cache_size(options.cache_bytes)
            .max_journaling_size(options.journal_bytes_max.max(64 << 20))
            .max_cached_files(Some(options.open_files_max.max(10)));
        if let Some(threads) = options.threads {
            builder = builder.worker_threads(threads.max(1));
        }
        let database = builder.open()?;
        let settings = || KeyspaceCreateOptions::default().max_memtable_size(options.write_buffer_bytes);
        let records = database.keyspace("records", settings)?;
        let meta = database.keyspace("meta", settings)?;
        let marks = database.keyspace("marks", settings)?;
        Ok((database, [records, meta, marks]))
    };
    open().map_err(|error| sort("opening the store", error))
}

fn newest_number(marks: &Keyspace) -> Result<u64, EngineError> {
    if marks.id() != journal::MARKS_KEYSPACE_ID {
        return Err(EngineError::Corrupt { what: format!("keyspace {} of the store is not the third", marks.id()) });
    }
    match marks.get(MARK_KEY).map_err(|error| sort("opening the store", error))? {
        None => Ok(0),
        Some(bytes) => match Mark::decode(&bytes) {
            Some(mark) => Ok(mark.number),
            None => Err(EngineError::Corrupt { what: "the mark of the newest batch is unreadable".to_string() }),
        },
    }
}

fn is_behind(keyspace: &Keyspace) -> bool {
    keyspace.sealed_memtable_count() >= FULL_BUFFERS_MAX || keyspace.tree.l0_run_count() >= YOUNG_RUNS_MAX
}

/// Sorts an error of fjall by whose fault it is.
fn sort(doing: &'static str, error: fjall::Error) -> EngineError {
    use fjall::{Error, LsmError};
    if means_full(&error) {
        // Only these two carry an operating system error.
        if let Error::Io(source) | Error::Storage(LsmError::Io(source)) = error {
            return EngineError::from_io(doing, source);
        }
        return EngineError::Full { doing, source: None };
    }
    match error {
        Error::Io(source) | Error::Storage(LsmError::Io(source)) => match source.kind() {
            // A file that ends too early or is gone was not failed by the disk: it is not what was written.
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::NotFound | std::io::ErrorKind::InvalidData => {
                EngineError::Corrupt { what: format!("{doing}: {source}") }
            }
            _ => EngineError::from_io(doing, source),
        },
        Error::Locked => EngineError::InUse,
        Error::Poisoned => {
            EngineError::ReadOnly { cause: "background work of the store failed; its log says why".into() }
        }
        damage => EngineError::Corrupt { what: format!("{doing}: {damage}") },
    }
}

#[cfg(test)]
#[path = "fjall/tests.rs"]
mod tests;
