//! The data directory of a peer: what belongs to it, who may use it, and who the peer is.
//!
//! ```text
//! FORMAT          one line, `dhtd 3`; anything else is refused
//! LOCK            locked (flock) while a peer runs; holds its process id
//! identity.json   {"peer_id": "<32 hexadecimal digits>", "incarnation": <number of the current start, from 1>}
//! ring.json       which ring the peer belongs to             (content: the caller's)
//! peers.json      which other peers it has known             (content: the caller's)
//! catalogue.json  the newest catalogue that the peer has known (content: the caller's)
//! founding.json   with whom the peer founds a ring, or did      (content: the caller's)
//! recovery.json   who was given up by hand, and by which recovery (content: the caller's)
//! store/          the engine's
//! ```
//!
//! JSON files are replaced whole: written beside, synced, renamed, directory synced. A reader finds the old or the new one.

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    ffi::OsString,
    fmt::Write as _,
    fs::{self, DirBuilder, File},
    io::{self, Read, Write as _},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

const FORMAT_FILE: &str = "FORMAT";
const LOCK_FILE: &str = "LOCK";
const IDENTITY_FILE: &str = "identity.json";
const STORE_DIRECTORY: &str = "store";

/// What this build writes and reads.
const FORMAT: &str = "dhtd 3\n";

/// What may lie in a directory that counts as empty: leftovers of a creation that was cut off, and what `mkfs` makes.
const COUNTS_AS_EMPTY: [&str; 3] = [LOCK_FILE, "FORMAT.tmp", "lost+found"];

/// A locked data directory. The lock is given back when this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Identity,
    /// Held, never read again.
    _lock: File,
}

/// Who the peer is, and for how many times it has been started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Chosen once, when the data directory was created.
    pub peer_id: [u8; 16],
    /// 1 at the first start, greater at every later one. On stable storage before anybody learns it, so no value is used twice.
    pub incarnation: u64,
}

/// Whether the data directory had to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The peer has just come into being.
    New,
    /// The peer has run before.
    Existing,
}

/// The files of the data directory whose content is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateFile {
    /// `ring.json`
    Ring,
    /// `peers.json`
    Peers,
    /// `catalogue.json`
    Catalogue,
    /// `founding.json`
    Founding,
    /// `recovery.json`
    Recovery,
}

impl StateFile {
    fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring.json",
            Self::Peers => "peers.json",
            Self::Catalogue => "catalogue.json",
            Self::Founding => "founding.json",
            Self::Recovery => "recovery.json",
        }
    }
}

/// Why a data directory can't be used. Unless the variant says otherwise, nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// There is something else.
    #[error("{path} is not a directory: give the peer a data directory of its own")]
    NotADirectory {
        /// The data directory asked for.
        path: String,
    },
    /// There are files, but no `FORMAT`.
    #[error(
        "{path} is not empty and not a data directory (it holds {example:?}): give the peer a new or empty directory"
    )]
    NotEmpty {
        /// The data directory asked for.
        path: String,
        /// One of the files.
        example: OsString,
    },
    /// Written by another version.
    #[error("{path} has the format {found:?}, and this build supports only {:?}: use the version of dhtd that wrote it, or a new data directory", FORMAT.trim_end())]
    UnknownFormat {
        /// The data directory.
        path: String,
        /// The first line of `FORMAT`.
        found: String,
    },
    /// Another peer is running with it.
    #[error("{path} is in use by another dhtd{}: stop that one, or give this peer a data directory of its own", .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    InUse {
        /// The data directory.
        path: String,
        /// The process that has it, if it could be found out.
        pid: Option<u32>,
    },
    /// A file is missing or not what was written.
    #[error(
        "{path} is damaged ({problem}): restore it from a copy, or keep the data directory for inspection and start the \
         peer with a new, empty one; it refills from the other replicas"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The operating system failed. A file that was being written is as it was, or is the new one.
    #[error("{doing} {path} failed ({source}): check that it exists, has room, and belongs to the user that runs dhtd")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file or directory.
        path: String,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    peer_id: String,
    incarnation: u64,
}

impl DataDir {
    /// Opens the data directory in `path`, or makes one where nothing or an empty directory is; `new_peer_id` is then asked for 16 random
    /// bytes. Locks it, and starts a new incarnation.
    ///
    /// # Errors
    /// See [`DataDirError`]; what is refused is left unchanged.
    pub fn open_or_create(path: &Path, new_peer_id: impl FnOnce() -> [u8; 16]) -> Result<(Self, Opened), DataDirError> {
        // Looked at before anything is written, for somebody else's directory must not even get a lock file.
        inspect(path)?;
        create_directory(path)?;
        let lock = lock(path)?;
        // And again, since it may have been created by another peer before this one got the lock.
        if !inspect(path)? {
            replace(path, FORMAT_FILE, FORMAT.as_bytes())?;
        }
        let (identity, opened) = next_identity(path, new_peer_id)?;
        Ok((Self { path: path.to_path_buf(), identity, _lock: lock }, opened))
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who the peer is in this run.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Where the engine keeps its store; it need not exist yet.
    pub fn store_path(&self) -> PathBuf {
        self.path.join(STORE_DIRECTORY)
    }

    /// The content of `file`; `None` if it was never written.
    ///
    /// # Errors
    /// `Damaged` if it does not parse as `T`; `Io`.
    pub fn read_json<T: DeserializeOwned>(&self, file: StateFile) -> Result<Option<T>, DataDirError> {
        read_json(&self.path.join(file.name()))
    }

    /// The error for a file that parses, but does not say what it should.
    #[must_use]
    pub fn damaged(&self, file: StateFile, problem: String) -> DataDirError {
        DataDirError::Damaged { path: text(&self.path.join(file.name())), problem }
    }

    /// Replaces `file` atomically; on return the new content is on stable storage.
    ///
    /// # Errors
    /// `Io`: the file holds the old content or the new one, whole. Also if `content` can't be written as JSON.
    pub fn write_json<T: Serialize>(&self, file: StateFile, content: &T) -> Result<(), DataDirError> {
        write_json(&self.path, file.name(), content)
    }
}

/// Whether `path` is a data directory of this format (else it is fit to become one). Changes nothing.
fn inspect(path: &Path) -> Result<bool, DataDirError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(DataDirError::NotADirectory { path: text(path) });
        }
        Err(error) => return Err(failed("listing", path, error)),
    };
    let format = path.join(FORMAT_FILE);
    match File::open(&format) {
        Ok(file) => return check_format(path, file).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("opening", &format, error)),
    }
    for entry in entries {
        let example = entry.map_err(|error| failed("listing", path, error))?.file_name();
        if !COUNTS_AS_EMPTY.iter().any(|name| example == *name) {
            return Err(DataDirError::NotEmpty { path: text(path), example });
        }
    }
    Ok(false)
}

fn check_format(path: &Path, file: File) -> Result<(), DataDirError> {
    let mut content = Vec::new();
    // Bounded, for it may be anything.
    file.take(200).read_to_end(&mut content).map_err(|error| failed("reading", &path.join(FORMAT_FILE), error))?;
    if content == FORMAT.as_bytes() {
        return Ok(());
    }
    let found = String::from_utf8_lossy(&content).lines().next().unwrap_or_default().to_string();
    Err(DataDirError::UnknownFormat { path: text(path), found })
}

/// Creates `path` with its parents, for its owner only: values and promises are nobody else's.
fn create_directory(path: &Path) -> Result<(), DataDirError> {
    let create = || {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
            _ => Ok(()),
        }
    };
    if path.is_dir() { Ok(()) } else { create().map_err(|error| failed("creating", path, error)) }
}

fn lock(path: &Path) -> Result<File, DataDirError> {
    let file_path = path.join(LOCK_FILE);
    let fail = |error| failed("locking", &file_path, error);
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&file_path).map_err(fail)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut content = String::new();
            let read = (&file).take(20).read_to_string(&mut content);
            let pid = read.ok().and_then(|_| content.trim().parse().ok());
            return Err(DataDirError::InUse { path: text(path), pid });
        }
        Err(error) => return Err(fail(error.into())),
    }
    // Only for the message above: nothing depends on it, so it need not be synced.
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(fail)?;
    Ok(file)
}

/// Reads or invents the identity, and writes its next incarnation.
fn next_identity(path: &Path, new_peer_id: impl FnOnce() -> [u8; 16]) -> Result<(Identity, Opened), DataDirError> {
    let file_path = path.join(IDENTITY_FILE);
    let damaged = |problem: &str| DataDirError::Damaged { path: text(&file_path), problem: problem.to_string() };
    let (identity, opened) = match read_json::<IdentityFile>(&file_path)? {
        Some(file) => {
            let peer_id = from_hex(&file.peer_id).ok_or_else(|| damaged("peer_id is not 32 hexadecimal digits"))?;
            let incarnation = file.incarnation.checked_add(1).ok_or_else(|| damaged("incarnation is at its end"))?;
            (Identity { peer_id, incarnation }, Opened::Existing)
        }
        // Without an identity there can be nothing else, unless the creation was cut off before it.
        None if has_state(path) => return Err(damaged("missing")),
        None => (Identity { peer_id: new_peer_id(), incarnation: 1 }, Opened::New),
    };
    let content = IdentityFile { peer_id: to_hex(&identity.peer_id), incarnation: identity.incarnation };
    write_json(path, IDENTITY_FILE, &content)?;
    Ok((identity, opened))
}

fn has_state(path: &Path) -> bool {
    use StateFile::{Catalogue, Founding, Peers, Recovery, Ring};
    let files = [Ring, Peers, Catalogue, Founding, Recovery].map(StateFile::name);
    files.into_iter().chain([STORE_DIRECTORY]).any(|name| path.join(name).exists())
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DataDirError> {
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("reading", path, error)),
    };
    match serde_json::from_slice(&content) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(DataDirError::Damaged { path: text(path), problem: error.to_string() }),
    }
}

fn write_json<T: Serialize>(directory: &Path, name: &str, content: &T) -> Result<(), DataDirError> {
    let mut bytes =
        serde_json::to_vec_pretty(content).map_err(|error| failed("writing", &directory.join(name), error.into()))?;
    bytes.push(b'\n');
    replace(directory, name, &bytes)
}

/// Makes `content` the content of a file, atomically and durably.
fn replace(directory: &Path, name: &str, content: &[u8]) -> Result<(), DataDirError> {
    let path = directory.join(name);
    let temporary = directory.join(format!("{name}.tmp"));
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        // Before the rename: otherwise a loss of power may leave the new name with no content.
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| failed("writing", &path, error))
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<[u8; 16]> {
    let valid = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    valid.then(|| u128::from_str_radix(text, 16).ok())?.map(u128::to_be_bytes)
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> DataDirError {
    DataDirError::Io { doing, path: text(path), source }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
#[path = "datadir_tests.rs"]
mod tests;
