//! The storage contract: what the rest of the daemon may rely on, whichever engine keeps the bytes.
//!
//! Three levels of "written" are kept apart throughout:
//!
//! 1. *visible*: [`Engine::put_batch`] has returned; every later read sees the batch;
//! 2. *survives the process*: the batch was handed to the operating system, which is so as soon as `put_batch` returns;
//! 3. *survives the power*: [`Engine::sync`] was called after `put_batch` returned, and has returned `Ok`.
//!
//! A crash keeps a prefix of the batches in the order in which they became visible, and never a part of a batch.

use bytes::Bytes;
use std::{error::Error as StdError, io, sync::Arc};

/// Bytes of a key at most. Longer keys would not fit the 16-bit length field of the engine's journal.
pub const KEY_BYTES_MAX: usize = u16::MAX as usize;

/// Bytes of a value at most. The engine's journal has a 32-bit length field; 1 GiB is far above anything the daemon
/// accepts from a client and far below that, so that sums of a few lengths can't overflow 32 bits either.
pub const VALUE_BYTES_MAX: usize = 1 << 30;

/// Keys removed per batch by [`Engine::delete_range`]. A guess: large enough that the cost of a batch disappears, small
/// enough (4 MiB with the longest client key) that other writers are not held up.
const DELETE_BATCH_KEYS: usize = 1_000;

/// One of the two ordered maps of an engine. A batch is atomic across both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// What users stored, and what replication needs per record.
    Records,
    /// What the peer must remember about itself, its slots and its views.
    Meta,
}

impl Table {
    /// Both tables, in a fixed order.
    pub const ALL: [Self; 2] = [Self::Records, Self::Meta];
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The key has this value from now on.
    Put {
        /// Where.
        table: Table,
        /// 1 to [`KEY_BYTES_MAX`] bytes.
        key: Bytes,
        /// 0 to [`VALUE_BYTES_MAX`] bytes.
        value: Bytes,
    },
    /// The key has no value from now on. It need not have had one.
    Delete {
        /// Where.
        table: Table,
        /// 1 to [`KEY_BYTES_MAX`] bytes.
        key: Bytes,
    },
}

/// Changes that happen together or not at all, also across the two tables. Later changes of a key win over earlier ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    operations: Vec<Operation>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, table: Table, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.operations.push(Operation::Put { table, key: key.into(), value: value.into() });
    }

    /// Removes `key`; no error if it does not exist.
    pub fn delete(&mut self, table: Table, key: impl Into<Bytes>) {
        self.operations.push(Operation::Delete { table, key: key.into() });
    }

    /// Number of changes.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether the batch changes nothing.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Forgets all changes and keeps the memory, so that one batch can be filled again and again.
    pub fn clear(&mut self) {
        self.operations.clear();
    }

    /// The changes in the order in which they were added.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The changes, moved out for an engine to apply. A batch within the limits is returned whole; a key or value outside of
    /// them is the caller's fault ([`EngineError::Invalid`]), and nothing is returned.
    pub fn into_checked(self) -> Result<Vec<Operation>, EngineError> {
        for operation in &self.operations {
            check(operation)?;
        }
        Ok(self.operations)
    }
}

/// The entries of one scan, in ascending order of their keys (bytewise). After an error the scan has ended.
pub type Scan<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), EngineError>> + Send + 'a>;

/// An ordered, crash-safe key-value store with two tables. See the module for what survives what.
///
/// All methods block (some on disk) and may be called from any thread at any time. After [`EngineError::Full`] or
/// [`EngineError::Io`] from `put_batch` or `sync` the engine refuses every further write until it is opened again, because nobody
/// can say any more what of the unsynced data is on disk (Rebello et al., *Can applications recover from fsync failures?*, USENIX
/// ATC 2020); reads go on.
pub trait Engine: Send + Sync + 'static {
    /// The value of `key`, if it has one.
    ///
    /// # Errors
    /// `Io` or `Corrupt` if the disk could not be read; nothing has changed.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// All entries whose key begins with `prefix`, over one snapshot taken now: no batch is seen in part, and none that
    /// is put later. An empty `prefix` means the whole table. With `after`, only keys greater than it: pass the last key of a page
    /// to get the next page (over a new snapshot).
    ///
    /// Drop the scan soon: a snapshot keeps overwritten data from being reclaimed.
    ///
    /// # Errors
    /// Yielded in place of an entry, as for [`Engine::get`].
    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>) -> Scan<'_>;

    /// Applies `batch` atomically. On return it is visible to every reader and survives the end of the process (`kill -9`),
    /// but not a loss of power before [`Engine::sync`].
    ///
    /// # Errors
    /// `Invalid` (a key or value outside the limits) and `ReadOnly`: nothing has changed. `Full` and `Io`: the batch is not visible,
    /// but may be found after a restart, whole; the engine is read-only from here.
    fn put_batch(&self, batch: Batch) -> Result<(), EngineError>;

    /// Whether `put_batch` would now wait for background work to catch up. Others may change that at any time.
    fn is_behind(&self) -> bool {
        false
    }

    /// Returns when every batch whose `put_batch` returned before this call is on stable storage.
    ///
    /// # Errors
    /// `Full`, `Io`: what was put since the last successful sync may or may not survive a loss of power, and the engine is
    /// read-only from here. `ReadOnly`: it already was.
    fn sync(&self) -> Result<(), EngineError>;

    /// Why the engine takes no writes any more; `None` while it takes them. It never turns back while the store is open.
    /// Set before the first write that it concerns is refused.
    fn failure(&self) -> Option<Arc<str>>;

    /// Bytes that the engine occupies on disk (approximately; for metrics and for warnings before a disk is full).
    fn disk_bytes(&self) -> u64;

    /// Removes every key with `prefix` and returns how many there were. It is no single atomic step: it works in bounded batches, in key
    /// order, so memory stays bounded; if it is cut off, calling it again removes the rest. Keys that are put meanwhile
    /// may or may not be removed. Like any batch, it survives a loss of power only after [`Engine::sync`].
    ///
    /// # Errors
    /// As for `scan` and `put_batch`; the batches before the failing one remain applied.
    fn delete_range(&self, table: Table, prefix: &[u8]) -> Result<u64, EngineError> {
        let mut removed = 0;
        let mut last: Option<Bytes> = None;
        loop {
            // Each page starts behind the previous one, so that it does not wade through the tombstones just written.
            let page: Vec<Bytes> = self
                .scan(table, prefix, last.as_deref())
                .take(DELETE_BATCH_KEYS)
                .map(|entry| entry.map(|(key, _)| key))
                .collect::<Result<_, _>>()?;
            last = page.last().cloned();
            if last.is_none() {
                return Ok(removed);
            }
            removed += page.len() as u64;
            let mut batch = Batch::new();
            page.into_iter().for_each(|key| batch.delete(table, key));
            self.put_batch(batch)?;
        }
    }
}

/// Why a storage operation failed. The variant says whose fault it is and whether anything has changed; errors can be cloned,
/// since one failed sync has many waiters.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// The disk has no room left (ENOSPC) or the quota is used up (EDQUOT). Nothing that was synced is lost. The engine is read-only
    /// until it is opened again; reads go on.
    #[error(
        "the disk is full ({doing}): free some space, then restart the peer; what was acknowledged is safe, reads go on"
    )]
    Full {
        /// What was being done.
        doing: &'static str,
        /// The operating system's answer; `None` if the engine failed in the background and only the full disk tells why.
        #[source]
        source: Option<Arc<io::Error>>,
    },
    /// The operating system failed a read or a write. After a failed write or sync the engine is read-only until it is opened again.
    #[error("the disk failed ({doing}): check the kernel log and the disk, then restart the peer")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The operating system's answer.
        #[source]
        source: Arc<io::Error>,
    },
    /// What is on disk is not what was written. Nothing was deleted.
    #[error(
        "the store is damaged ({what}): keep the directory for inspection and start the peer with a new, empty data \
         directory; it refills from the other replicas"
    )]
    Corrupt {
        /// What was found, and where.
        what: String,
    },
    /// An earlier failure has made the engine read-only. Nothing has changed; reads go on.
    #[error("the store is read-only since an earlier failure ({cause}): mend the cause, then restart the peer")]
    ReadOnly {
        /// The earlier failure.
        cause: Arc<str>,
    },
    /// Another process (or another part of this one) has the store open. Nothing has changed.
    #[error("the store is in use: stop the other process that has it open")]
    InUse,
    /// The caller broke a limit of the contract. Nothing has changed.
    #[error("a bug in the caller: {what}")]
    Invalid {
        /// Which limit.
        what: &'static str,
    },
}

impl EngineError {
    /// Sorts an error of the operating system into [`EngineError::Full`] or [`EngineError::Io`], looking through all of its causes.
    pub fn from_io(doing: &'static str, error: io::Error) -> Self {
        let source = Arc::new(error);
        if means_full(&*source) { Self::Full { doing, source: Some(source) } } else { Self::Io { doing, source } }
    }

    /// The message with all its causes on one line, as [`EngineError::ReadOnly`] keeps it.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

/// Whether ENOSPC or EDQUOT stands anywhere in the chain of causes.
pub(super) fn means_full(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            if matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                return true;
            }
            // A custom io::Error names its payload's cause as its source, not the payload itself.
            next = io.get_ref().map(|inner| inner as &(dyn StdError + 'static)).or_else(|| error.source());
        } else {
            next = error.source();
        }
    }
    false
}

/// The smallest key greater than all keys that begin with `prefix`; `None` if there is no such key.
pub(super) fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

fn check(operation: &Operation) -> Result<(), EngineError> {
    let (key, value_len) = match operation {
        Operation::Put { key, value, .. } => (key, value.len()),
        Operation::Delete { key, .. } => (key, 0),
    };
    match (key.len(), value_len) {
        (0, _) => Err(EngineError::Invalid { what: "an empty key" }),
        (n, _) if n > KEY_BYTES_MAX => Err(EngineError::Invalid { what: "a key of more than 65,535 bytes" }),
        (_, n) if n > VALUE_BYTES_MAX => Err(EngineError::Invalid { what: "a value of more than 1 GiB" }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_recognised_anywhere_in_the_chain() {
        let full = || io::Error::from_raw_os_error(28);
        let quota = io::Error::from_raw_os_error(122);
        assert!(matches!(EngineError::from_io("t", full()), EngineError::Full { .. }));
        assert!(matches!(EngineError::from_io("t", quota), EngineError::Full { .. }));
        let wrapped = io::Error::other(io::Error::other(full()));
        assert!(matches!(EngineError::from_io("t", wrapped), EngineError::Full { .. }));
        let other = io::Error::other(io::Error::from_raw_os_error(5));
        assert!(matches!(EngineError::from_io("t", other), EngineError::Io { .. }));
    }

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_that_does_not_have_it() {
        assert_eq!(end_of_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(end_of_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(end_of_prefix(b"\xff"), None);
        assert_eq!(end_of_prefix(b""), None);
    }

    #[test]
    fn the_chain_of_an_error_names_its_cause() {
        let error = EngineError::from_io("writing", io::Error::other("cable pulled"));
        assert!(error.chain().contains("writing") && error.chain().ends_with("cable pulled"), "{}", error.chain());
    }
}
