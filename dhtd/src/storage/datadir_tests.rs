use super::*;
use std::collections::BTreeMap;

const ID: [u8; 16] = [0x0f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff];

fn open(path: &Path) -> Result<(DataDir, Opened), DataDirError> {
    DataDir::open_or_create(path, || ID)
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("temporary directory")
}

/// Every file below `path` with its content.
fn snapshot(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let entries = fs::read_dir(path).expect("list").map(|entry| entry.expect("entry"));
    entries.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap_or_default())).collect()
}

fn write(path: &Path, name: &str, content: &str) {
    fs::write(path.join(name), content).expect("write");
}

#[test]
fn a_new_directory_gets_an_identity_that_later_starts_keep() {
    let scratch = scratch();
    let path = scratch.path().join("a/b");
    let (first, opened) = open(&path).expect("create");
    assert_eq!((opened, first.identity()), (Opened::New, Identity { peer_id: ID, incarnation: 1 }));
    assert_eq!((first.path(), first.store_path()), (path.as_path(), path.join("store")));
    assert_eq!(fs::read_to_string(path.join("FORMAT")).expect("format"), "dhtd 3\n");
    drop(first);
    let (second, opened) = DataDir::open_or_create(&path, || panic!("not asked for an id again")).expect("open");
    assert_eq!((opened, second.identity()), (Opened::Existing, Identity { peer_id: ID, incarnation: 2 }));
}

#[test]
fn the_incarnation_is_on_disk_before_it_is_known() {
    let scratch = scratch();
    for expected in 1..=3 {
        let (directory, _) = open(scratch.path()).expect("open");
        let text = fs::read_to_string(scratch.path().join("identity.json")).expect("identity");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["incarnation"], expected);
        assert_eq!(value["peer_id"], "0f0102030405060708090a0b0c0d0eff");
        assert_eq!(directory.identity().incarnation, expected);
    }
}

#[test]
fn an_unknown_format_is_refused_and_nothing_is_changed() {
    let scratch = scratch();
    for format in ["dhtd 4\n", "dhtd 3", "", "something else entirely\nwith lines\n"] {
        write(scratch.path(), "FORMAT", format);
        let before = snapshot(scratch.path());
        let error = open(scratch.path()).expect_err("refused");
        let message = error.to_string();
        assert!(matches!(error, DataDirError::UnknownFormat { .. }), "{message}");
        assert!(message.contains(&format!("{:?}", format.lines().next().unwrap_or(""))), "what was found: {message}");
        assert!(message.contains("\"dhtd 3\""), "what is supported: {message}");
        assert_eq!(snapshot(scratch.path()), before);
    }
}

#[test]
fn somebody_elses_directory_is_refused_and_nothing_is_changed() {
    let scratch = scratch();
    write(scratch.path(), ".bashrc", "");
    let before = snapshot(scratch.path());
    let error = open(scratch.path()).expect_err("refused");
    assert!(matches!(error, DataDirError::NotEmpty { .. }) && error.to_string().contains(".bashrc"), "{error}");
    assert_eq!(snapshot(scratch.path()), before);
}

#[test]
fn a_file_is_no_directory() {
    let scratch = scratch();
    write(scratch.path(), "file", "");
    let error = open(&scratch.path().join("file")).expect_err("refused");
    assert!(matches!(error, DataDirError::NotADirectory { .. }), "{error}");
}

#[test]
fn a_directory_in_use_is_refused_with_its_name_and_process() {
    let scratch = scratch();
    let (first, _) = open(scratch.path()).expect("create");
    let error = open(scratch.path()).expect_err("in use");
    let message = error.to_string();
    assert!(matches!(error, DataDirError::InUse { pid: Some(pid), .. } if pid == std::process::id()), "{message}");
    assert!(message.contains(&text(scratch.path())) && message.contains(&std::process::id().to_string()), "{message}");
    drop(first);
    let (second, _) = open(scratch.path()).expect("free again");
    assert_eq!(second.identity().incarnation, 2, "the refused start was none");
}

#[test]
fn a_creation_that_was_cut_off_is_finished() {
    for leftovers in [
        &[("LOCK", "")][..],
        &[("LOCK", "1\n"), ("FORMAT.tmp", "dh")],
        &[("LOCK", ""), ("FORMAT", FORMAT), ("identity.json.tmp", "{")],
    ] {
        let scratch = scratch();
        leftovers.iter().for_each(|(name, content)| write(scratch.path(), name, content));
        let (directory, opened) = open(scratch.path()).expect("finished");
        assert_eq!((opened, directory.identity().incarnation), (Opened::New, 1));
    }
}

#[test]
fn a_lost_or_unreadable_identity_is_never_replaced() {
    for content in [
        None,
        Some(""),
        Some("{}"),
        Some(r#"{"peer_id": "0f", "incarnation": 1}"#),
        Some(r#"{"peer_id": "+f0102030405060708090a0b0c0d0eff", "incarnation": 1}"#),
    ] {
        let scratch = scratch();
        let (directory, _) = open(scratch.path()).expect("create");
        directory.write_json(StateFile::Ring, &"ring").expect("write");
        drop(directory);
        let identity = scratch.path().join("identity.json");
        match content {
            None => fs::remove_file(&identity).expect("remove"),
            Some(content) => fs::write(&identity, content).expect("write"),
        }
        let error = open(scratch.path()).expect_err("refused");
        assert!(
            matches!(error, DataDirError::Damaged { .. }) && error.to_string().contains("identity.json"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&identity).ok().as_deref(), content);
    }
}

#[test]
fn json_files_are_read_back_as_written_or_refused() {
    let scratch = scratch();
    let (directory, _) = open(scratch.path()).expect("create");
    assert_eq!(directory.read_json::<Vec<u32>>(StateFile::Peers).expect("read"), None);
    directory.write_json(StateFile::Peers, &vec![1, 2]).expect("write");
    directory.write_json(StateFile::Peers, &vec![3]).expect("replace");
    assert_eq!(directory.read_json::<Vec<u32>>(StateFile::Peers).expect("read"), Some(vec![3]));
    assert!(!scratch.path().join("peers.json.tmp").exists());
    write(scratch.path(), "peers.json", "[3");
    let error = directory.read_json::<Vec<u32>>(StateFile::Peers).expect_err("refused");
    assert!(matches!(error, DataDirError::Damaged { .. }) && error.to_string().contains("peers.json"), "{error}");
}
