//! What a shard does with writes, merges and deletions.

use std::time::Duration;

use bytes::Bytes;
use dht_core::{
    catalogue::Keyspace,
    record::{Content, KeyspaceId},
    replication::eventual::Digests,
};

use super::*;
use crate::storage::{FsyncPolicy, MemoryEngine};

pub(super) fn shards(engine: &Arc<dyn Engine>, me: u8) -> Shards {
    shards_of(engine, me, Arc::default())
}

fn shards_of(engine: &Arc<dyn Engine>, me: u8, catalogue: Arc<ArcSwap<Catalogue>>) -> Shards {
    let syncer = Syncer::start(engine.clone(), FsyncPolicy::Always).expect("a thread can be started");
    let me = PeerId::new([me; 16]);
    Shards::open(engine.clone(), syncer, catalogue, Arc::default(), SlotBits::DEFAULT, me).expect("it was written here")
}

pub(super) fn memory() -> Arc<dyn Engine> {
    Arc::new(MemoryEngine::new())
}

fn at(key: &'static str) -> RecordKey {
    RecordKey { keyspace: KeyspaceId::DEFAULT, key: Bytes::from_static(key.as_bytes()) }
}

fn value(value: &'static str) -> Content {
    Content::Value(Bytes::from_static(value.as_bytes()))
}

async fn write(shards: &Shards, key: &'static str, change: Change) -> Written {
    let at = at(key);
    let written = shards.write(vec![(shards.slot_of(&at.key), at, change)]).await.expect("it is open");
    written.into_iter().next().expect("one for each write").expect("it takes writes")
}

#[tokio::test]
async fn a_write_is_read_back_and_a_later_one_replaces_it() {
    let shards = shards(&memory(), 1);
    let first = write(&shards, "k", value("1")).await;
    let second = write(&shards, "k", value("2")).await;
    assert!(!first.existed && second.existed && second.record.version > first.record.version);
    assert_eq!(shards.read(&at("k")).unwrap(), Some(second.record));
}

#[tokio::test]
async fn replicas_that_merge_each_others_records_in_any_order_have_equal_digests() {
    let (one, two) = (shards(&memory(), 1), shards(&memory(), 2));
    let a = write(&one, "k", value("a")).await.record;
    let b = write(&two, "k", Content::Tombstone).await.record;
    one.merge(vec![(at("k"), b.clone())]).await.unwrap();
    two.merge(vec![(at("k"), a.clone()), (at("k"), b)]).await.unwrap();
    assert_eq!((one.table().discarded(), two.table().discarded()), (1, 0), "neither had heard of the other");
    let slot = one.slot_of(b"k");
    assert!(one.table().digest(slot).same(&two.table().digest(slot)));
    assert_eq!(one.read(&at("k")).unwrap(), two.read(&at("k")).unwrap());
}

#[tokio::test]
async fn digests_are_the_same_after_the_store_is_opened_again() {
    let engine = memory();
    let before = shards(&engine, 1);
    write(&before, "k", value("1")).await;
    write(&before, "k", value("2")).await;
    let slot = before.slot_of(b"k");
    assert_eq!(shards(&engine, 1).table().digest(slot), before.table().digest(slot));
}

#[tokio::test]
async fn deletions_before_the_horizon_are_forgotten_for_good() {
    let engine = memory();
    let before = shards(&engine, 1);
    let value = write(&before, "kept", value("v")).await.record;
    let deletion = write(&before, "gone", Content::Tombstone).await.record;
    let (slot, horizon) = (before.slot_of(b"gone"), deletion.version.time.later_by(Duration::from_millis(1)));
    before.reclaim(slot, deletion.version.time).await.unwrap();
    assert_eq!(before.read(&at("gone")).unwrap(), Some(deletion.clone()), "it is not before its own time");
    before.reclaim(slot, horizon).await.unwrap();
    for shards in [before, shards(&engine, 1)] {
        shards.merge(vec![(at("gone"), deletion.clone())]).await.unwrap();
        assert_eq!(shards.read(&at("gone")).unwrap(), None);
        assert_eq!(shards.table().digest(slot).records, 0);
        assert_eq!(shards.table().horizon(slot), horizon);
        assert_eq!(shards.read(&at("kept")).unwrap(), Some(value.clone()));
    }
}

#[tokio::test]
async fn of_a_dropped_keyspace_nothing_is_taken_in_and_what_is_there_goes() {
    let default = Keyspace { id: KeyspaceId::DEFAULT, name: "default".into(), mode: Mode::Eventual };
    let mut before = Catalogue::assemble(1, 3, 2, [default]).expect("it can be made");
    let keyspace = before.create("users", Mode::Eventual).expect("the name is free").id;
    let catalogue = Arc::new(ArcSwap::from_pointee(before.clone()));
    let shards = shards_of(&memory(), 1, catalogue.clone());
    let here = RecordKey { keyspace, key: Bytes::from_static(b"k") };
    let slot = shards.slot_of(b"k");
    let write_here = || async { shards.write(vec![(slot, here.clone(), value("1"))]).await.unwrap().remove(0) };
    let record = write_here().await.expect("it is there").record;
    write(&shards, "k", value("default's")).await;
    assert!(!shards.sweep(slot, Arc::new(before.clone())).await.unwrap(), "nothing was dropped");
    let mut after = before;
    after.remove("users").expect("it is there");
    catalogue.store(Arc::new(after.clone()));
    assert!(matches!(write_here().await, Err(ShardError::Dropped)));
    while shards.sweep(slot, Arc::new(after.clone())).await.unwrap() {}
    shards.merge(vec![(here.clone(), record)]).await.unwrap();
    assert_eq!(shards.read(&here).unwrap(), None);
    assert!(shards.read(&at("k")).unwrap().is_some());
    let alone = shards_of(&memory(), 1, Arc::default());
    alone.merge(vec![(at("k"), shards.read(&at("k")).unwrap().unwrap())]).await.unwrap();
    assert!(shards.table().digest(slot).same(&alone.table().digest(slot)), "the digest is of what is left");
}

#[tokio::test]
async fn a_slot_is_dropped_only_as_it_was_compared() {
    let shards = shards(&memory(), 1);
    write(&shards, "k", value("1")).await;
    let slot = shards.slot_of(b"k");
    assert!(!shards.drop_slot(slot, SlotDigest::default()).await.unwrap());
    assert!(shards.drop_slot(slot, shards.table().digest(slot)).await.unwrap());
    assert_eq!(shards.read(&at("k")).unwrap(), None);
    assert!(shards.table().digest(slot).is_empty());
}
