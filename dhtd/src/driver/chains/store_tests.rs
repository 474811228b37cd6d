use std::collections::BTreeMap;

use dht_core::{
    catalogue::Keyspace,
    record::KeyspaceId,
    replication::chain::{Outcome, RequestId, Value},
    ring::PeerId,
    view::{Epoch, Member, View},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{driver::chains::table::read_table, storage::MemoryEngine};

const SLOT: Slot = Slot(5);

/// What should be on disk, kept the plain way.
#[derive(Clone, Debug, Default, PartialEq)]
struct Expected {
    applied: Position,
    records: BTreeMap<RecordKey, Record>,
    recorded: BTreeMap<u64, Recorded>,
    pending: Vec<Entry>,
}

impl Expected {
    fn apply(&mut self, count: usize, first_kept: u64) -> Vec<Entry> {
        let entries: Vec<Entry> = self.pending.drain(..count).collect();
        for entry in &entries {
            self.applied = entry.position;
            match entry.result(self.records.get(&entry.at).cloned()) {
                Some(record) => drop(self.records.insert(entry.at.clone(), record)),
                None => drop(self.records.remove(&entry.at)),
            }
            if let Some(request) = entry.request {
                let seq = entry.position.seq;
                self.recorded.insert(seq, Recorded { request, seq, outcome: entry.outcome });
            }
        }
        self.recorded.retain(|seq, _| *seq >= first_kept);
        entries
    }

    /// Whether the key has a value after the last entry.
    fn has(&self, at: &RecordKey) -> bool {
        let last = self.pending.iter().rev().find(|entry| entry.at == *at && entry.effect != Effect::Nothing);
        last.map_or(self.records.contains_key(at), |entry| entry.result(None).is_some())
    }

    fn next(&self) -> u64 {
        self.pending.last().map_or(self.applied.seq, |entry| entry.position.seq) + 1
    }
}

fn acceptor(sealed: bool) -> Acceptor {
    let founder = Member { peer: PeerId::new([1; 16]), incarnation: 1 };
    Acceptor { sealed, ..Acceptor::new(View::founding(SLOT, founder)) }
}

fn at(number: u32) -> RecordKey {
    RecordKey { keyspace: KeyspaceId::DEFAULT, key: format!("key {number}").into() }
}

fn entry(random: &mut ChaCha8Rng, seq: u64, has: impl Fn(&RecordKey) -> bool) -> Entry {
    let at = at(random.random_range(0..6));
    let existed = has(&at);
    let effect = match random.random_range(0..4) {
        0 => Effect::Nothing,
        1 if existed => Effect::Delete,
        2 => Effect::Put(Value::Counter(random.random()), expiry(random)),
        _ => Effect::Put(Value::Bytes(vec![7; random.random_range(0..9)].into()), expiry(random)),
    };
    let request = RequestId { client: random.random(), sequence: seq, floor: 0 };
    Entry {
        position: Position { epoch: Epoch::FIRST, seq },
        at,
        effect,
        request: random.random_bool(0.5).then_some(request),
        outcome: Outcome::Done { revision: seq, total: None, existed },
    }
}

/// Few, so that a key is often given the same one again.
fn expiry(random: &mut ChaCha8Rng) -> Option<Expiry> {
    random.random_bool(0.5).then(|| Expiry(random.random_range(1..4)))
}

fn open(engine: &Arc<dyn Engine>) -> (Store, Option<Stored>) {
    let (store, stored) = Store::open(engine.clone(), Arc::default(), |_| true).expect("it was written here");
    (store, stored.into_iter().find(|(slot, _)| *slot == SLOT).map(|(_, stored)| stored))
}

/// Does something that a state machine might; returns the change that says so.
fn step(random: &mut ChaCha8Rng, expected: &mut Option<Expected>) -> Change {
    let Some(log) = expected else {
        let seq = random.random_range(1..50);
        let records = (0..random.random_range(0..6))
            .map(|number| (at(number), Record { revision: seq, value: Value::Counter(3), expires: expiry(random) }));
        let records: Vec<(RecordKey, Record)> = records.collect();
        let outcome = Outcome::NothingThere;
        let recorded = vec![Recorded { request: RequestId { client: 1, sequence: seq, floor: 0 }, seq, outcome }];
        let applied = Position { epoch: Epoch::FIRST, seq };
        *expected = Some(Expected {
            applied,
            records: records.iter().cloned().collect(),
            recorded: recorded.iter().map(|it| (it.seq, *it)).collect(),
            pending: Vec::new(),
        });
        return Change::Load(Snapshot { epoch: Epoch::FIRST, applied, records, recorded });
    };
    let count = random.random_range(0..=log.pending.len());
    match random.random_range(0..10) {
        0 => {
            *expected = None;
            Change::Scrap
        }
        1 => {
            let (entries, keeps_log) = (log.apply(count, 0), random.random_bool(0.7));
            log.pending.clear();
            if !keeps_log {
                *expected = None;
            }
            Change::Install { acceptor: acceptor(false), entries, keeps_log }
        }
        2..5 => {
            let first_kept = log.applied.seq.saturating_sub(4);
            Change::Apply { entries: log.apply(count, first_kept), first_kept }
        }
        _ => {
            let (next, count) = (log.next(), random.random_range(1..4));
            let mut entries = Vec::new();
            for seq in next..next + count {
                let entry = entry(random, seq, |at| log.has(at));
                log.pending.push(entry.clone());
                entries.push(entry);
            }
            Change::Append(entries)
        }
    }
}

#[test]
fn whatever_is_stored_is_found_again() {
    for seed in 0..200 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
        let mut store = open(&engine).0;
        store.store(SLOT, Change::Acceptor(acceptor(true)));
        let mut expected = None;
        for _ in 0..random.random_range(1..60) {
            let change = step(&mut random, &mut expected);
            store.store(SLOT, change);
            if random.random_bool(0.3) {
                store.flush().expect("it takes writes");
            }
            for number in 0..6 {
                let wanted = expected.as_ref().and_then(|log| log.records.get(&at(number)));
                if expected.is_some() {
                    assert_eq!(store.record(SLOT, &at(number)).flatten().as_ref(), wanted, "seed {seed}");
                }
            }
            let held = expected.as_ref().map_or(0, |log| log.records.len() as u64);
            assert_eq!(store.keys(), held, "seed {seed}");
            let now = random.random_range(0..5);
            if random.random_bool(0.3) {
                let expires = |record: &Record| record.expires.is_some_and(|expiry| expiry.is_past(now));
                let wanted = expected.iter().flat_map(|log| &log.records).filter(|(_, record)| expires(record));
                let wanted: BTreeMap<_, _> = wanted.map(|(at, record)| (at.clone(), record.revision)).collect();
                assert!(wanted.is_empty() || store.with_expired(now) == [SLOT], "seed {seed}");
                assert_eq!(BTreeMap::from_iter(store.expired(SLOT, now)), wanted, "seed {seed}");
            }
            if random.random_bool(0.1) {
                store.flush().expect("it takes writes");
                store = open(&engine).0;
            }
        }
        store.flush().expect("it takes writes");
        let stored = open(&engine).1.expect("its view was stored");
        let wanted = expected.map(|log| StoredLog {
            applied: log.applied,
            recorded: log.recorded.into_values().collect(),
            pending: log.pending,
        });
        assert_eq!(stored.log, wanted, "seed {seed}");
    }
}

#[test]
fn what_was_noted_to_expire_is_forgotten_with_its_record() {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let mut store = open(&engine).0;
    let (soon, late) = (Some(Expiry(10)), Some(Expiry(20)));
    let put = |seq, expires| {
        let position = Position { epoch: Epoch::FIRST, seq };
        let outcome = Outcome::Done { revision: seq, total: None, existed: seq > 1 };
        let entry =
            Entry { position, at: at(1), effect: Effect::Put(Value::Counter(1), expires), request: None, outcome };
        Change::Apply { entries: vec![entry], first_kept: 0 }
    };
    store.store(SLOT, put(1, soon));
    assert_eq!((store.with_expired(9), store.with_expired(10)), (vec![], vec![SLOT]));
    assert_eq!(store.expired(SLOT, 10), [(at(1), 1)]);
    assert_eq!(store.expired(SLOT, 10), [(at(1), 1)], "it stays until an entry deletes it");
    store.store(SLOT, put(2, late));
    assert_eq!(store.expired(SLOT, 10), []);
    assert_eq!((store.with_expired(19), store.with_expired(20)), (vec![], vec![SLOT]), "the earlier note is gone");
    store.store(SLOT, put(3, None));
    assert_eq!(store.expired(SLOT, 20), []);
    assert_eq!(store.with_expired(u64::MAX), []);
    store.flush().unwrap();
    assert_eq!(open(&engine).0.with_expired(u64::MAX), []);
}

#[tokio::test]
async fn a_table_is_read_as_it_was_when_it_was_asked_for() {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let mut store = open(&engine).0;
    let record = Record { revision: 1, value: Value::Bytes(vec![1; LOAD_BYTES].into()), expires: None };
    let records: Vec<_> = (0..3).map(|number| (at(number), record.clone())).collect();
    let applied = Position { epoch: Epoch::FIRST, seq: 1 };
    store.store(
        SLOT,
        Change::Load(Snapshot { epoch: Epoch::FIRST, applied, records: records.clone(), recorded: Vec::new() }),
    );
    store.flush().unwrap();
    let mut parts = read_table(engine, SLOT, None);
    store.store(SLOT, Change::Scrap);
    store.flush().unwrap();
    let (mut read, mut done) = (Vec::new(), false);
    while let Some(part) = parts.recv().await {
        assert!(!done);
        read.extend(part.records);
        done = part.done;
    }
    assert!(done);
    assert_eq!(read, records);
}

#[test]
fn of_a_dropped_keyspace_nothing_is_taken_in_and_what_is_there_goes_with_its_count() {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let default = Keyspace { id: KeyspaceId::DEFAULT, name: "default".into(), mode: Mode::Chain };
    let mut catalogue = Catalogue::assemble(1, 3, 2, [default]).expect("it can be made");
    let keyspace = catalogue.create("users", Mode::Chain).expect("the name is free").id;
    let known = Arc::new(ArcSwap::from_pointee(catalogue.clone()));
    let reopened = || Store::open(engine.clone(), known.clone(), |_| true).expect("it was written here").0;
    let (here, elsewhere) = (RecordKey { keyspace, ..at(1) }, RecordKey { keyspace: KeyspaceId::SYSTEM, ..at(1) });
    let record = Record { revision: 1, value: Value::Counter(1), expires: None };
    let snapshot = |seq| Snapshot {
        epoch: Epoch::FIRST,
        applied: Position { epoch: Epoch::FIRST, seq },
        records: [here.clone(), elsewhere.clone(), at(1)].map(|at| (at, record.clone())).into(),
        recorded: Vec::new(),
    };
    let mut store = reopened();
    store.store(SLOT, Change::Acceptor(acceptor(false)));
    store.store(SLOT, Change::Load(snapshot(1)));
    assert_eq!(store.keys(), 2, "the ring's own record is no client's");
    assert!(!store.sweep(SLOT, &catalogue), "nothing was dropped");
    catalogue.remove("users").expect("it is there");
    known.store(Arc::new(catalogue.clone()));
    while store.sweep(SLOT, &catalogue) {}
    let position = Position { epoch: Epoch::FIRST, seq: 2 };
    let outcome = Outcome::Done { revision: 2, total: None, existed: false };
    let late =
        Entry { position, at: here.clone(), effect: Effect::Put(Value::Counter(2), None), request: None, outcome };
    store.store(SLOT, Change::Append(vec![late.clone()]));
    store.store(SLOT, Change::Apply { entries: vec![late], first_kept: 0 });
    let check = |store: &Store| {
        assert_eq!(store.record(SLOT, &here), Some(None));
        assert_eq!(store.record(SLOT, &elsewhere), Some(Some(record.clone())));
        assert_eq!(store.record(SLOT, &at(1)), Some(Some(record.clone())));
        assert_eq!(store.keys(), 1);
    };
    assert_eq!(store.applied(SLOT), Some(position), "the log goes on as it does elsewhere");
    check(&store);
    store.flush().unwrap();
    check(&reopened());
    store.store(SLOT, Change::Load(snapshot(3)));
    check(&store);
}

#[test]
fn a_crash_leaves_the_old_table_or_the_new_one_or_none() {
    let mut seen = BTreeMap::new();
    for kept in 0.. {
        let memory = Arc::new(MemoryEngine::new());
        let engine: Arc<dyn Engine> = memory.clone();
        let mut store = open(&engine).0;
        store.store(SLOT, Change::Acceptor(acceptor(true)));
        let record = Record { revision: 1, value: Value::Bytes(vec![1; LOAD_BYTES].into()), expires: None };
        let load = |seq, numbers: std::ops::Range<u32>| {
            let records = numbers.map(|number| (at(number), record.clone())).collect();
            let applied = Position { epoch: Epoch::FIRST, seq };
            Change::Load(Snapshot { epoch: Epoch::FIRST, applied, records, recorded: Vec::new() })
        };
        store.store(SLOT, load(1, 0..2));
        engine.sync().unwrap();
        store.store(SLOT, load(9, 1..5));
        let done = memory.unsynced() < kept;
        memory.crash(kept);
        let (store, stored) = open(&engine);
        let there = (0..6).filter(|number| store.record(SLOT, &at(*number)).flatten().is_some());
        let applied = stored.expect("the view is there").log.map(|log| log.applied.seq);
        match applied {
            Some(1) => assert_eq!(there.collect::<Vec<_>>(), [0, 1]),
            Some(_) => assert_eq!(there.collect::<Vec<_>>(), [1, 2, 3, 4]),
            None => {}
        }
        *seen.entry(applied).or_insert(0) += 1;
        if done {
            break;
        }
    }
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [None, Some(1), Some(9)]);
}

#[test]
fn a_crash_leaves_the_old_view_with_its_log_or_the_new_one_with_what_it_keeps() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let entries: Vec<Entry> = (2..5).map(|seq| entry(&mut random, seq, |_| false)).collect();
    for keeps_log in [true, false] {
        let mut seen = BTreeMap::new();
        for kept in 0.. {
            let memory = Arc::new(MemoryEngine::new());
            let engine: Arc<dyn Engine> = memory.clone();
            let mut store = open(&engine).0;
            let applied = Position { epoch: Epoch::FIRST, seq: 1 };
            let table = Snapshot { epoch: Epoch::FIRST, applied, records: Vec::new(), recorded: Vec::new() };
            store.store(SLOT, Change::Acceptor(acceptor(true)));
            store.store(SLOT, Change::Load(table));
            store.store(SLOT, Change::Append(entries.clone()));
            store.flush().unwrap();
            engine.sync().unwrap();
            let install = Change::Install { acceptor: acceptor(false), entries: entries[..1].to_vec(), keeps_log };
            store.store(SLOT, install);
            store.flush().unwrap();
            let done = memory.unsynced() < kept;
            memory.crash(kept);
            let stored = open(&engine).1.expect("there is a view");
            let log = stored.log.map(|log| (log.applied.seq, log.pending.len()));
            *seen.entry((stored.acceptor.sealed, log)).or_insert(0) += 1;
            if done {
                break;
            }
        }
        let after = (false, keeps_log.then_some((2, 0)));
        assert_eq!(seen.into_keys().collect::<Vec<_>>(), [after, (true, Some((1, 3)))]);
    }
}
