//! fjall's journal files, as far as this engine must know them: to sync the active one, and to tell a torn tail from damage.
//!
//! Format (fjall 3.1, `journal/entry.rs`; integers little-endian). Files `<n>.jnl` with growing n; the highest is active. A file is a row of
//! batches, then zeros (files are made 64 MiB long in advance). A batch is
//!
//! ```text
//! start: 1u8, items u32, sequence number u64
//! item:  2u8, kind u8 (0 value, 1 and 2 tombstones), compression u8 (0, 1 = LZ4), keyspace u64, key length u16, value length u32,
//!        stored value length u32, key, stored value                              (or 4u8, keyspace u64: the keyspace was cleared)
//! end:   3u8, checksum of the items u64, "FJL\x03"
//! ```
//!
//! fjall stops reading a file at the first thing that it can't decode and cuts the file there without a word, wherever that is. At the
//! end of the last file that is right: a crash tears the last batch. In the middle it would drop acknowledged batches. The two are told apart
//! by [`Mark`]s: every batch carries its own number and the number of the last batch that was synced before it was written. Damage after
//! batch n is a torn tail if no batch behind it says that more than n was synced; after a loss of power, unsynced pages may be
//! missing in any order, so whole batches behind the damage alone prove nothing.

use super::super::engine::EngineError;
use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// fjall's number of the keyspace that holds the marks: it is the third that [`super::FjallEngine`] creates.
pub(super) const MARKS_KEYSPACE_ID: u64 = 3;

const TRAILER: &[u8; 4] = b"FJL\x03";

/// What every batch says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Number of this batch, counted from 1 over the life of the store.
    pub(super) number: u64,
    /// Number of the last batch that was known to be on stable storage when this one was written; less than `number`.
    pub(super) synced: u64,
}

impl Mark {
    pub(super) fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.number.to_be_bytes());
        bytes[8..].copy_from_slice(&self.synced.to_be_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (number, synced) = bytes.split_first_chunk::<8>()?;
        Some(Self { number: u64::from_be_bytes(*number), synced: u64::from_be_bytes(synced.try_into().ok()?) })
    }
}

/// An own handle of the active journal file, so that a sync does not hold the lock that fjall's writers need.
#[derive(Debug)]
pub(super) struct Active {
    directory: PathBuf,
    id: u64,
    file: File,
}

impl Active {
    pub(super) fn open(directory: &Path) -> Result<Self, EngineError> {
        let doing = "opening the journal";
        let Some((id, path)) = files(directory)?.pop() else {
            return Err(EngineError::Corrupt { what: format!("{}: no journal file", directory.display()) });
        };
        let file = File::open(path).map_err(|error| EngineError::from_io(doing, error))?;
        Ok(Self { directory: directory.to_path_buf(), id, file })
    }

    /// Makes everything that was written to the journal before the call survive a loss of power.
    ///
    /// It is enough to sync the newest file: fjall syncs a file fully (and the directory after creating the next) before the first
    /// batch goes into the next (`Writer::rotate`). `fdatasync` writes the file's length too if reading needs it.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        loop {
            match File::open(file_path(&self.directory, self.id + 1)) {
                Ok(file) => (self.id, self.file) = (self.id + 1, file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        self.file.sync_data()
    }
}

#[cfg(test)]
impl Active {
    pub(super) fn id(&self) -> u64 {
        self.id
    }
}

/// Makes the journals in `directory` fit for fjall: cuts off a torn tail (a copy of it remains in the file `torn`, until the next one), or
/// fails without changing anything if that would cut off batches that had been synced. `synced` is the number of a batch that is
/// known from elsewhere to have been synced (0: none).
///
/// fjall would cut by itself, but only after it has tried to make sense of the garbage.
pub(super) fn recover(directory: &Path, synced: u64) -> Result<(), EngineError> {
    let files = files(directory)?;
    if files.is_empty() {
        return Err(EngineError::Corrupt { what: format!("{}: no journal file", directory.display()) });
    }
    let mut newest = None;
    let mut damage: Option<Damage> = None;
    for (_, path) in files {
        let found = read_file(&path, &mut newest, &mut damage);
        found.map_err(|error| EngineError::from_io("checking the journal", error))?;
    }
    match damage {
        None => Ok(()),
        Some(damage) if damage.synced_later.max(synced) <= damage.after_number => damage.cut(directory),
        Some(Damage { path, offset, .. }) => {
            let what = format!("{}: unreadable at byte {offset}, and what was there had been synced", path.display());
            Err(EngineError::Corrupt { what })
        }
    }
}

/// The first place that is no batch.
struct Damage {
    path: PathBuf,
    offset: u64,
    /// Number of the last batch before it. Without any, every number counts as present, so that only marks in later batches
    /// could speak against it: what the older files held has been moved to tables.
    after_number: u64,
    /// The highest `synced` of all marks behind it.
    synced_later: u64,
    /// What stands there.
    torn: Vec<u8>,
}

impl Damage {
    fn cut(&self, directory: &Path) -> Result<(), EngineError> {
        let (file, offset) = (self.path.display(), self.offset);
        tracing::info!(%file, offset, "the journal ends in a torn batch, as a crash leaves it: cut off");
        if let Err(error) = std::fs::write(directory.join("torn"), &self.torn) {
            // On a full disk, for one; nothing acknowledged is in it.
            tracing::warn!(%error, "the torn batch could not be kept for inspection");
        }
        let cut = File::options().write(true).open(&self.path).and_then(|file| {
            file.set_len(offset)?;
            file.sync_all()
        });
        cut.map_err(|error| EngineError::from_io("cutting a torn batch off the journal", error))
    }
}

fn read_file(path: &Path, newest: &mut Option<Mark>, damage: &mut Option<Damage>) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut offset = 0;
    let mut reader = BufReader::with_capacity(1 << 20, &file);
    while let Some((length, mark)) = read_batch(&mut reader)? {
        offset += length;
        match damage {
            // A file gets its first batch only after the one before it was synced (`Writer::rotate`).
            Some(damage) => damage.synced_later = u64::MAX,
            None => *newest = Some(mark),
        }
    }
    file.seek(SeekFrom::Start(offset))?;
    let rest = read_up_to_zeros(&file)?;
    if rest.is_empty() {
        return Ok(());
    }
    if damage.is_some() {
        // A second one: the first decides, since fjall reads nothing behind it that could matter.
        return Ok(());
    }
    let after_number = match newest {
        Some(mark) => mark.number,
        // What came before has left the journals. The batch just before the next whole one is damaged in any case; if
        // there is none, only the number that the engine ends with tells.
        None => batches_in(&rest).map(|mark| mark.number.saturating_sub(2)).min().unwrap_or(u64::MAX),
    };
    let synced_later = synced_in(&rest, after_number);
    *damage = Some(Damage { path: path.to_path_buf(), offset, after_number, synced_later, torn: rest });
    Ok(())
}

/// The highest `synced` of the whole batches in `rest`, wherever they begin. Numbers up to `after` are not of batches but of data that
/// looks like one (somebody may store journals as values).
fn synced_in(rest: &[u8], after: u64) -> u64 {
    batches_in(rest).filter(|mark| mark.number > after).map(|mark| mark.synced).max().unwrap_or(0)
}

fn batches_in(rest: &[u8]) -> impl Iterator<Item = Mark> + '_ {
    let starts = rest.iter().enumerate().filter(|(_, byte)| **byte == 1);
    starts
        .filter_map(|(at, _)| read_batch(&mut &rest[at..]).ok().flatten())
        .map(|(_, mark)| mark)
        .filter(|mark| mark.number > 0)
}

/// Reads one batch: its length in bytes and its mark (zero if it has none). `None` if what stands there is no whole batch.
fn read_batch(reader: &mut impl Read) -> io::Result<Option<(u64, Mark)>> {
    match try_batch(reader) {
        Ok(found) => Ok(found),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn try_batch(reader: &mut impl Read) -> io::Result<Option<(u64, Mark)>> {
    if array::<1>(reader)? != [1] {
        return Ok(None);
    }
    let items = u32::from_le_bytes(array(reader)?);
    let _sequence_number = array::<8>(reader)?;
    let mut length = 13;
    let mut mark = Mark::default();
    for _ in 0..items {
        match array(reader)? {
            [2] => {
                let Some((item_length, item_mark)) = try_item(reader)? else { return Ok(None) };
                length += 1 + item_length;
                mark = item_mark.unwrap_or(mark);
            }
            [4] => length += 1 + array::<8>(reader)?.len() as u64,
            _ => return Ok(None),
        }
    }
    let end: [u8; 13] = array(reader)?;
    Ok((end[0] == 3 && end.ends_with(TRAILER)).then_some((length + 13, mark)))
}

/// Reads an item behind its tag: its length, and its mark if it is one.
fn try_item(reader: &mut impl Read) -> io::Result<Option<(u64, Option<Mark>)>> {
    let [kind, compression] = array(reader)?;
    let keyspace = u64::from_le_bytes(array(reader)?);
    let key_length = u64::from(u16::from_le_bytes(array(reader)?));
    let value_length = u32::from_le_bytes(array(reader)?);
    let stored_length = u32::from_le_bytes(array(reader)?);
    if !matches!(kind, 0..=2) || compression > 1 || (compression == 0 && value_length != stored_length) {
        return Ok(None);
    }
    let length = 20 + key_length + u64::from(stored_length);
    skip(reader, key_length)?;
    if keyspace == MARKS_KEYSPACE_ID && stored_length == 16 {
        return Ok(Some((length, Mark::decode(&array::<16>(reader)?))));
    }
    skip(reader, u64::from(stored_length))?;
    Ok(Some((length, None)))
}

fn array<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn skip(reader: &mut impl Read, bytes: u64) -> io::Result<()> {
    let skipped = io::copy(&mut reader.take(bytes), &mut io::sink())?;
    if skipped < bytes { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// The rest of the file without the zeros at its end.
fn read_up_to_zeros(mut file: &File) -> io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    let mut chunk = vec![0; 1 << 20];
    let nothing = vec![0; chunk.len()];
    let mut zeros = 0_usize;
    loop {
        let length = file.read(&mut chunk)?;
        if length == 0 {
            return Ok(rest);
        }
        // Most chunks of a new file are zeros: comparing them as a whole is much quicker than looking at each byte.
        let empty = chunk[..length] == nothing[..length];
        let used =
            if empty { 0 } else { chunk[..length].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1) };
        if used > 0 {
            // Zeros are held back as a count, since most files end in 64 MiB of them.
            rest.resize(rest.len() + zeros, 0);
            rest.extend_from_slice(&chunk[..used]);
            zeros = 0;
        }
        zeros += length - used;
    }
}

/// The journal files in `directory`, oldest first.
fn files(directory: &Path) -> Result<Vec<(u64, PathBuf)>, EngineError> {
    let list = || -> io::Result<Vec<_>> {
        let entries = std::fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
        let ids = entries.iter().filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".jnl")?.parse().ok());
        let mut files: Vec<(u64, PathBuf)> = ids.map(|id| (id, file_path(directory, id))).collect();
        files.sort();
        Ok(files)
    };
    list().map_err(|error| EngineError::from_io("listing the journals", error))
}

fn file_path(directory: &Path, id: u64) -> PathBuf {
    directory.join(format!("{id}.jnl"))
}
