//! What [`Engine`] promises, one function per claim, run over every engine.

use super::{Batch, Engine, EngineError, FjallEngine, FjallOptions, MemoryEngine, Table};
use bytes::Bytes;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

macro_rules! contract {
    ($($claim:ident),+ $(,)?) => {
        mod memory {
            $(#[test] fn $claim() { super::$claim(std::sync::Arc::new(super::MemoryEngine::new())); })+
        }
        mod fjall {
            $(#[test] fn $claim() {
                let directory = tempfile::tempdir().expect("temporary directory");
                let engine = super::FjallEngine::open(directory.path().join("store"), super::FjallOptions::default());
                super::$claim(std::sync::Arc::new(engine.expect("open")));
            })+
        }
    };
}

contract! {
    what_was_put_is_visible_on_return,
    a_later_change_in_a_batch_wins,
    the_tables_are_separate,
    a_scan_is_in_key_order_and_within_its_prefix,
    a_scan_can_be_resumed_behind_a_key,
    a_scan_sees_one_snapshot,
    a_concurrent_scan_sees_a_batch_whole_or_not_at_all,
    delete_range_removes_the_prefix_and_nothing_else,
    delete_range_can_be_resumed,
    keys_and_values_outside_the_limits_are_refused_and_nothing_changes,
    reading_keys_that_cannot_exist_finds_nothing,
    an_empty_batch_is_accepted,
    disk_bytes_are_counted,
}

fn put(engine: &dyn Engine, table: Table, entries: &[(&str, &str)]) {
    let mut batch = Batch::new();
    for (key, value) in entries {
        batch.put(table, key.to_string(), value.to_string());
    }
    engine.put_batch(batch).expect("put");
}

fn keys(engine: &dyn Engine, table: Table, prefix: &[u8], after: Option<&[u8]>) -> Vec<Bytes> {
    engine.scan(table, prefix, after).map(|entry| entry.expect("scan").0).collect()
}

fn what_was_put_is_visible_on_return(engine: Arc<dyn Engine>) {
    assert_eq!(engine.get(Table::Records, b"a").expect("get"), None);
    put(&*engine, Table::Records, &[("a", "1"), ("b", "")]);
    assert_eq!(engine.get(Table::Records, b"a").expect("get"), Some(Bytes::from("1")));
    assert_eq!(engine.get(Table::Records, b"b").expect("get"), Some(Bytes::new()));
    engine.sync().expect("sync");
    let mut batch = Batch::new();
    batch.delete(Table::Records, "a");
    batch.delete(Table::Records, "never put");
    engine.put_batch(batch).expect("delete");
    assert_eq!(engine.get(Table::Records, b"a").expect("get"), None);
}

fn a_later_change_in_a_batch_wins(engine: Arc<dyn Engine>) {
    let mut batch = Batch::new();
    batch.put(Table::Records, "a", "1");
    batch.put(Table::Records, "a", "2");
    batch.put(Table::Records, "b", "1");
    batch.delete(Table::Records, "b");
    batch.delete(Table::Records, "c");
    batch.put(Table::Records, "c", "3");
    engine.put_batch(batch).expect("put");
    assert_eq!(engine.get(Table::Records, b"a").expect("get"), Some(Bytes::from("2")));
    assert_eq!(engine.get(Table::Records, b"b").expect("get"), None);
    assert_eq!(engine.get(Table::Records, b"c").expect("get"), Some(Bytes::from("3")));
    assert_eq!(keys(&*engine, Table::Records, b"", None), ["a", "c"]);
}

fn the_tables_are_separate(engine: Arc<dyn Engine>) {
    put(&*engine, Table::Records, &[("a", "record")]);
    put(&*engine, Table::Meta, &[("b", "meta")]);
    assert_eq!(engine.get(Table::Meta, b"a").expect("get"), None);
    assert_eq!(keys(&*engine, Table::Records, b"", None), ["a"]);
    assert_eq!(keys(&*engine, Table::Meta, b"", None), ["b"]);
}

fn a_scan_is_in_key_order_and_within_its_prefix(engine: Arc<dyn Engine>) {
    put(&*engine, Table::Records, &[("b2", ""), ("a", ""), ("c", ""), ("b", ""), ("b10", "")]);
    let mut batch = Batch::new();
    batch.put(Table::Records, vec![0xff, 0xff], "");
    batch.put(Table::Records, vec![0xff, 0xff, 0], "");
    engine.put_batch(batch).expect("put");
    assert_eq!(keys(&*engine, Table::Records, b"b", None), ["b", "b10", "b2"]);
    assert_eq!(keys(&*engine, Table::Records, b"d", None), [] as [&str; 0]);
    assert_eq!(keys(&*engine, Table::Records, &[0xff], None).len(), 2);
    assert_eq!(keys(&*engine, Table::Records, &[0xff, 0xff], None).len(), 2);
    assert_eq!(keys(&*engine, Table::Records, b"", None).len(), 7);
}

fn a_scan_can_be_resumed_behind_a_key(engine: Arc<dyn Engine>) {
    put(&*engine, Table::Records, &[("a", ""), ("b", ""), ("b1", ""), ("b2", ""), ("b3", ""), ("c", "")]);
    let page = |after: Option<&[u8]>| keys(&*engine, Table::Records, b"b", after);
    assert_eq!(page(Some(b"b1")), ["b2", "b3"]);
    assert_eq!(page(Some(b"b11")), ["b2", "b3"], "the key need not exist");
    assert_eq!(page(Some(b"b")), ["b1", "b2", "b3"]);
    assert_eq!(page(Some(b"a")), ["b", "b1", "b2", "b3"], "a key before the prefix skips nothing");
    for behind in [b"b3".as_slice(), b"b\xff", b"c", b"d"] {
        assert_eq!(page(Some(behind)), [] as [&str; 0]);
    }
}

fn a_scan_sees_one_snapshot(engine: Arc<dyn Engine>) {
    put(&*engine, Table::Records, &[("a", "1"), ("b", "1"), ("c", "1")]);
    let mut scan = engine.scan(Table::Records, b"", None);
    let first = scan.next().expect("an entry").expect("scan");
    put(&*engine, Table::Records, &[("a0", "2"), ("b", "2"), ("d", "2")]);
    let mut batch = Batch::new();
    batch.delete(Table::Records, "c");
    engine.put_batch(batch).expect("delete");
    let rest: Vec<_> = scan.map(|entry| entry.expect("scan")).collect();
    assert_eq!(first, (Bytes::from("a"), Bytes::from("1")));
    assert_eq!(rest, [("b", "1"), ("c", "1")].map(|(key, value)| (Bytes::from(key), Bytes::from(value))));
}

fn a_concurrent_scan_sees_a_batch_whole_or_not_at_all(engine: Arc<dyn Engine>) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..300_u32 {
                let mut batch = Batch::new();
                for key in 0..20_u32 {
                    batch.put(Table::Records, key.to_be_bytes().to_vec(), round.to_be_bytes().to_vec());
                }
                engine.put_batch(batch).expect("put");
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            let values: Vec<Bytes> =
                engine.scan(Table::Records, b"", None).map(|entry| entry.expect("scan").1).collect();
            assert!(values.is_empty() || values.len() == 20, "{} of 20 keys", values.len());
            assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "a mixture of two batches: {values:?}");
        }
    });
}

fn delete_range_removes_the_prefix_and_nothing_else(engine: Arc<dyn Engine>) {
    let mut batch = Batch::new();
    for i in 0..2_500 {
        batch.put(Table::Records, format!("b{i:05}"), "");
    }
    engine.put_batch(batch).expect("put");
    put(&*engine, Table::Records, &[("a", ""), ("c", "")]);
    put(&*engine, Table::Meta, &[("b", "")]);
    assert_eq!(engine.delete_range(Table::Records, b"b").expect("delete"), 2_500);
    assert_eq!(keys(&*engine, Table::Records, b"", None), ["a", "c"]);
    assert_eq!(keys(&*engine, Table::Meta, b"", None), ["b"]);
    assert_eq!(engine.delete_range(Table::Records, b"b").expect("again"), 0);
    assert_eq!(engine.delete_range(Table::Records, b"").expect("all"), 2);
}

/// Cut off is the same as: some of the first keys are gone already.
fn delete_range_can_be_resumed(engine: Arc<dyn Engine>) {
    put(&*engine, Table::Records, &[("b1", ""), ("b2", ""), ("b3", "")]);
    let mut batch = Batch::new();
    batch.delete(Table::Records, "b1");
    engine.put_batch(batch).expect("delete");
    assert_eq!(engine.delete_range(Table::Records, b"b").expect("delete"), 2);
    assert_eq!(keys(&*engine, Table::Records, b"", None), [] as [&str; 0]);
}

fn keys_and_values_outside_the_limits_are_refused_and_nothing_changes(engine: Arc<dyn Engine>) {
    for key in [Vec::new(), vec![b'x'; 65_536]] {
        let mut batch = Batch::new();
        batch.put(Table::Records, "innocent", "");
        batch.put(Table::Records, key.clone(), "");
        assert!(matches!(engine.put_batch(batch), Err(EngineError::Invalid { .. })));
        assert_eq!(engine.get(Table::Records, &key).expect("get"), None);
    }
    assert_eq!(keys(&*engine, Table::Records, b"", None), [] as [&str; 0]);
    let longest = vec![b'x'; 65_535];
    let mut batch = Batch::new();
    batch.put(Table::Records, longest.clone(), "kept");
    engine.put_batch(batch).expect("the longest key, after refusals");
    assert_eq!(engine.get(Table::Records, &longest).expect("get"), Some(Bytes::from("kept")));
}

fn reading_keys_that_cannot_exist_finds_nothing(engine: Arc<dyn Engine>) {
    let (longest, too_long) = (vec![b'x'; 65_535], vec![b'x'; 65_536]);
    let mut batch = Batch::new();
    batch.put(Table::Records, longest.clone(), "");
    batch.put(Table::Records, "y", "");
    engine.put_batch(batch).expect("put");
    assert_eq!(engine.get(Table::Records, b"").expect("get"), None);
    assert_eq!(engine.get(Table::Records, &too_long).expect("get"), None);
    assert_eq!(keys(&*engine, Table::Records, &too_long, None), [] as [&str; 0]);
    assert_eq!(keys(&*engine, Table::Records, b"", Some(&too_long)), ["y"]);
    assert_eq!(keys(&*engine, Table::Records, &longest, None).len(), 1);
}

fn an_empty_batch_is_accepted(engine: Arc<dyn Engine>) {
    engine.put_batch(Batch::new()).expect("put");
    engine.sync().expect("sync");
    let mut batch = Batch::new();
    batch.put(Table::Meta, "a", "");
    assert_eq!((batch.len(), batch.is_empty()), (1, false));
    batch.clear();
    assert_eq!((batch.len(), batch.is_empty()), (0, true));
}

fn disk_bytes_are_counted(engine: Arc<dyn Engine>) {
    put(&*engine, Table::Records, &[("key", "value")]);
    assert!(engine.disk_bytes() >= 8);
}
