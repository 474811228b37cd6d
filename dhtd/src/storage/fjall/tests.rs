use super::*;
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
};

const JOURNAL: &str = "0.jnl";

struct Store {
    directory: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("temporary directory") }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn open(&self) -> Result<FjallEngine, EngineError> {
        FjallEngine::open(self.path(), FjallOptions::default())
    }

    /// A store of `synced` batches that were synced and `unsynced` that were not, left as a killed process leaves it.
    fn killed(synced: u32, unsynced: u32) -> Self {
        let (running, killed) = (Self::new(), Self::new());
        let engine = running.open().expect("open");
        (0..synced).for_each(|i| put(&engine, i));
        engine.sync().expect("sync");
        (synced..synced + unsynced).for_each(|i| put(&engine, i));
        copy(&running.path(), &killed.path());
        drop(engine);
        killed
    }

    fn journal(&self) -> Vec<u8> {
        fs::read(self.path().join(JOURNAL)).expect("journal")
    }

    /// Offsets at which batches end in the journal.
    fn batch_ends(&self) -> Vec<u64> {
        let journal = self.journal();
        let ends = journal.windows(4).enumerate().filter(|(_, window)| window == b"FJL\x03");
        ends.map(|(at, _)| at as u64 + 4).collect()
    }

    fn edit(&self, file: &str, at: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(self.path().join(file)).expect("open");
        file.write_all_at(bytes, at).expect("write");
    }

    fn expect_corrupt(&self) {
        let before = listing(&self.path());
        let error = self.open().expect_err("refused");
        let message = error.to_string();
        assert!(matches!(error, EngineError::Corrupt { .. }), "{message}");
        assert!(message.contains("new, empty data") && message.contains("keep the directory"), "what to do: {message}");
        assert_eq!(listing(&self.path()), before, "nothing is deleted");
    }

    fn expect_batches(&self, count: u32) {
        let engine = self.open().expect("open");
        for table in Table::ALL {
            let keys: Vec<Bytes> = engine.scan(table, b"", None).map(|entry| entry.expect("scan").0).collect();
            let expected: Vec<Bytes> = (0..count).map(key).collect();
            assert_eq!(keys, expected, "{table:?}");
        }
        put(&engine, count);
        engine.sync().expect("sync");
    }
}

fn key(i: u32) -> Bytes {
    format!("key {i:04}").into()
}

fn put(engine: &FjallEngine, i: u32) {
    let mut batch = Batch::new();
    batch.put(Table::Records, key(i), vec![b'v'; 100]);
    batch.put(Table::Meta, key(i), "");
    engine.put_batch(batch).expect("put");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("create");
    for entry in fs::read_dir(from).expect("list") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).map(drop).expect("copy")
        }
    }
}

/// Every file with its length.
fn listing(path: &Path) -> Vec<(PathBuf, u64)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).expect("list") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            files.extend(listing(&path))
        } else {
            files.push((path.clone(), fs::metadata(path).expect("stat").len()))
        }
    }
    files.sort();
    files
}

#[test]
fn what_was_put_survives_the_process_without_a_sync() {
    Store::killed(0, 5).expect_batches(5);
    Store::killed(3, 5).expect_batches(8);
}

#[test]
fn a_store_is_reopened_again_and_again() {
    let store = Store::new();
    for i in 0..5 {
        store.expect_batches(i);
    }
}

#[test]
fn a_batch_is_visible_whole_or_not_at_all_after_a_crash() {
    let whole = Store::killed(2, 2);
    let ends = whole.batch_ends();
    let [.., before_last, last] = ends[..] else { panic!("{ends:?}") };
    for cut in [before_last + 1, before_last + 14, before_last + 60, last - 40, last - 1] {
        // Once with the zeros that the file was made of behind the tear, once with the file ending there.
        for zeros in [true, false] {
            let torn = Store::new();
            copy(&whole.path(), &torn.path());
            let file = OpenOptions::new().write(true).open(torn.path().join(JOURNAL)).expect("open");
            file.set_len(cut).expect("cut");
            if zeros {
                file.set_len(whole.journal().len() as u64).expect("grow");
            }
            torn.expect_batches(3);
        }
    }
}

#[test]
fn garbage_in_the_unsynced_tail_is_a_torn_tail() {
    let store = Store::killed(2, 1);
    let end = *store.batch_ends().last().expect("batches");
    store.edit(JOURNAL, end, &[0xa5; 3_000]);
    store.expect_batches(3);
}

/// Power may fail while the disk has written the second of two unsynced pages and not the first.
#[test]
fn whole_batches_behind_unsynced_damage_do_not_make_it_corruption() {
    let store = Store::killed(2, 4);
    let ends = store.batch_ends();
    store.edit(JOURNAL, ends[2] + 1, &[0; 20]);
    store.expect_batches(3);
}

#[test]
fn damage_in_the_middle_of_synced_batches_is_refused() {
    let store = Store::killed(4, 2);
    let ends = store.batch_ends();
    for (at, bytes) in [(ends[1], vec![0; 50]), (ends[1], vec![9]), (ends[2] - 1, vec![0]), (ends[0] + 3, vec![0xff])] {
        let damaged = Store::new();
        copy(&store.path(), &damaged.path());
        damaged.edit(JOURNAL, at, &bytes);
        damaged.expect_corrupt();
        fs::remove_file(damaged.path().join("synced")).expect("remove");
        damaged.expect_corrupt();
    }
}

/// fjall alone opens such a store, without the batches and without a word.
#[test]
fn the_loss_of_synced_batches_at_the_end_is_refused() {
    let store = Store::killed(4, 0);
    let ends = store.batch_ends();
    store.edit(JOURNAL, ends[2] + 5, &[0xff; 10]);
    store.expect_corrupt();
    // A clean end is no sign of damage, so only the number that the engine ends with tells.
    let store = Store::killed(4, 0);
    let length = store.journal().len() as u64;
    let file = OpenOptions::new().write(true).open(store.path().join(JOURNAL)).expect("open");
    file.set_len(store.batch_ends()[2]).and_then(|()| file.set_len(length)).expect("cut");
    assert!(matches!(store.open(), Err(EngineError::Corrupt { .. })));
}

#[test]
fn a_changed_value_in_the_journal_is_refused() {
    let store = Store::killed(4, 0);
    let at = store.batch_ends()[2] - 150;
    let byte = store.journal()[at as usize];
    store.edit(JOURNAL, at, &[byte ^ 1]);
    store.expect_corrupt();
}

#[test]
fn a_missing_or_cut_part_of_the_layout_is_refused() {
    let store = Store::killed(3, 0);
    let parts = [
        "version",
        "0.jnl",
        "keyspaces",
        "keyspaces/0",
        "keyspaces/1",
        "keyspaces/2/current",
        "keyspaces/3",
        "keyspaces/0/tables",
    ];
    for part in parts {
        let damaged = Store::new();
        copy(&store.path(), &damaged.path());
        let path = damaged.path().join(part);
        if path.is_dir() {
            fs::remove_dir_all(path).expect("remove")
        } else {
            fs::remove_file(path).expect("remove")
        }
        damaged.expect_corrupt();
    }
    for part in ["version", "keyspaces/0/current", "keyspaces/1/current", "keyspaces/1/v0"] {
        let damaged = Store::new();
        copy(&store.path(), &damaged.path());
        let file = OpenOptions::new().write(true).open(damaged.path().join(part)).expect("open");
        let length = file.metadata().expect("stat").len();
        file.set_len(length / 2).expect("cut");
        damaged.expect_corrupt();
    }
}

#[test]
fn a_manifest_with_a_changed_byte_is_refused_before_anything_relies_on_it() {
    let store = Store::killed(3, 0);
    let manifest = fs::read(store.path().join("keyspaces/1/v0")).expect("read");
    for (at, byte) in manifest.iter().enumerate() {
        let damaged = Store::new();
        copy(&store.path(), &damaged.path());
        damaged.edit("keyspaces/1/v0", at as u64, &[byte ^ 0x40]);
        damaged.expect_corrupt();
    }
}

#[test]
fn a_directory_that_is_no_store_is_refused() {
    let store = Store::new();
    fs::create_dir(store.path()).expect("create");
    fs::File::create(store.path().join("holiday.jpg")).and_then(|mut file| file.write_all(b"sun")).expect("write");
    store.expect_corrupt();
}

#[test]
fn a_creation_that_was_cut_off_is_begun_again() {
    let store = Store::new();
    let unfinished = store.directory.path().join("store.creating");
    fs::create_dir(&unfinished).and_then(|()| fs::write(unfinished.join("0.jnl"), "")).expect("leftovers");
    fs::create_dir(store.path()).expect("an empty directory is as good as none");
    store.expect_batches(0);
    assert!(!unfinished.exists());
}

#[test]
fn a_store_in_use_is_refused_and_its_journal_is_left_alone() {
    let store = Store::new();
    let engine = store.open().expect("open");
    put(&engine, 0);
    // What the start of a batch that is just being written looks like.
    store.edit(JOURNAL, *store.batch_ends().last().expect("a batch"), &[1]);
    let before = listing(&store.path());
    assert!(matches!(store.open(), Err(EngineError::InUse)));
    assert_eq!(listing(&store.path()), before);
}

#[test]
fn after_a_failure_writes_are_refused_and_reads_go_on() {
    let store = Store::new();
    let engine = store.open().expect("open");
    put(&engine, 0);
    assert_eq!(engine.failure(), None);
    engine.stop(EngineError::from_io("test", std::io::Error::other("injected")));
    let mut batch = Batch::new();
    batch.put(Table::Records, "a", "");
    assert!(matches!(engine.put_batch(batch), Err(EngineError::ReadOnly { cause }) if cause.contains("injected")));
    assert!(matches!(engine.sync(), Err(EngineError::ReadOnly { .. })));
    assert!(engine.failure().is_some_and(|cause| cause.contains("injected")));
    assert!(engine.get(Table::Records, &key(0)).expect("get").is_some());
    drop(engine);
    store.expect_batches(1);
}

/// Enough to fill the journal's first file, so that the sync has to follow to the next one.
#[test]
fn a_sync_follows_the_journal_to_its_next_file() {
    let store = Store::new();
    let options = FjallOptions { write_buffer_bytes: 1 << 20, ..FjallOptions::default() };
    let engine = FjallEngine::open(store.path(), options.clone()).expect("open");
    // Bytes that don't compress: fjall compresses large values in its journal.
    let mut state = 1_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let noise: Bytes = (0..1 << 19).map(|_| random()).collect::<Vec<u8>>().into();
    let rotated = (0..400_u32).find(|i| {
        let mut batch = Batch::new();
        batch.put(Table::Records, key(*i), noise.slice(*i as usize..));
        batch.put(Table::Meta, key(*i), "");
        engine.put_batch(batch).expect("put");
        engine.sync().expect("sync");
        engine.journal.lock().expect("lock").id() > 0
    });
    let count = rotated.expect("the journal moved on") + 1;
    drop(engine);
    let engine = FjallEngine::open(store.path(), options).expect("reopen");
    assert_eq!(engine.scan(Table::Records, b"", None).count(), count as usize);
    assert_eq!(engine.newest.load(Ordering::Relaxed), u64::from(count));
}
