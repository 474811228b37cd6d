//! One peer, and what it says when others say something to it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::*;
use crate::{
    overlay::{Peer, Routes},
    record::{KeyspaceId, RecordKey},
    view::{
        Heartbeat, Position,
        delta::{Delta, Version},
    },
};

struct NoTable;

impl Table for NoTable {
    fn get(&self, _: Slot, _: &RecordKey) -> Option<Record> {
        None
    }
}

const SLOT: Slot = Slot(0);

fn peer(name: u8) -> PeerId {
    PeerId::new([name; 16])
}

fn member(name: u8, incarnation: u64) -> Member {
    Member { peer: peer(name), incarnation }
}

/// Of three electors the first two hold the slot.
fn view() -> View {
    let (chain, electors) = (vec![member(1, 1), member(2, 1)], vec![peer(1), peer(2), peer(3)]);
    View { chain, electors, epoch: Epoch::FIRST.next(), min_in_sync: 2, ..View::founding(SLOT, member(1, 1)) }
}

fn entry(seq: u64) -> Entry {
    let at = RecordKey { keyspace: KeyspaceId::DEFAULT, key: Bytes::from_static(b"k") };
    let effect = Effect::Put(Value::Bytes(Bytes::from_static(b"v")), None);
    let outcome = Outcome::Done { revision: seq, total: None, existed: false };
    Entry { position: Position { epoch: view().epoch, seq }, at, effect, request: None, outcome }
}

fn process(me: Member, leaving: bool, log: Option<StoredLog>) -> State {
    configured(Config::default(), me, leaving, log)
}

fn configured(config: Config, me: Member, leaving: bool, log: Option<StoredLog>) -> State {
    let stored = Stored { acceptor: Acceptor::new(view()), log };
    let description = Peer { id: me.peer, address: "a:1".into(), incarnation: me.incarnation, nodes: 1, leaving };
    let routes = Arc::new(Routes::outside(description));
    State::new(config, Rules::ALL, me, routes, [(SLOT, stored)], 1)
}

#[test]
fn a_restarted_head_takes_nothing_for_acknowledged_that_it_was_not_told() {
    let log = StoredLog { pending: vec![entry(1), entry(2)], ..StoredLog::default() };
    let mut head = process(member(1, 2), false, Some(log));
    head.start(Duration::ZERO);
    let ack = Body::Ack { epoch: view().epoch, seq: 1, committed: 0 };
    let ack = Input::Message(peer(2), Message::Slot(SLOT, Box::new(ack)));
    head.handle(Duration::from_millis(1), ack, &NoTable);
    assert_eq!(head.log(SLOT).map(|log| log.applied().seq), Some(1));
}

#[test]
fn a_leaving_witness_asks_whether_it_was_let_go() {
    let asked = |leaving: bool| {
        let mut witness = process(member(3, 1), leaving, None);
        witness.start(Duration::ZERO);
        let outputs = witness.handle(Duration::from_secs(2), Input::Timer(Timer::Tick), &NoTable);
        let asks = |to: PeerId| {
            let install = Message::Slot(SLOT, Box::new(Body::Install(view())));
            outputs.contains(&Output::Send(to, install))
        };
        (asks(peer(1)), asks(peer(2)))
    };
    assert_eq!(asked(true), (true, true));
    assert_eq!(asked(false), (false, false));
}

#[test]
fn the_head_takes_no_more_while_too_many_bytes_are_pending() {
    let config = Config { most_pending_bytes: 2 * entry(1).size() + 1, ..Config::default() };
    let mut head = configured(config, member(1, 1), false, Some(StoredLog::default()));
    head.start(Duration::ZERO);
    let command = |action: Action| Command { at: entry(1).at, condition: None, action, expires: None, request: None };
    let write = |head: &mut State, token: Token| {
        let command = command(Action::Put(Bytes::from_static(b"v")));
        let outputs = head.handle(Duration::ZERO, Input::Write(token, SLOT, view().epoch, command), &NoTable);
        outputs.contains(&Output::Reply(token, Reply::Refused(Refusal::Busy)))
    };
    let refused: Vec<bool> = (0..4).map(|token| write(&mut head, token)).collect();
    assert_eq!(refused, [false, false, false, true]);
    head.handle(Duration::ZERO, Input::Synced(u64::MAX), &NoTable);
    let ack = Message::Slot(SLOT, Box::new(Body::Ack { epoch: view().epoch, seq: 3, committed: 0 }));
    head.handle(Duration::ZERO, Input::Message(peer(2), ack), &NoTable);
    assert_eq!(head.log(SLOT).map(Log::pending_bytes), Some(0));
    assert!(!write(&mut head, 4));
}

#[test]
fn who_has_promised_with_a_copy_does_not_leave_before_it_knows_what_came_of_it() {
    let mut learner = process(member(4, 1), true, Some(StoredLog::default()));
    learner.start(Duration::ZERO);
    assert_eq!(learner.held(), 0);
    let ballot = Ballot { round: 1, proposer: member(1, 1) };
    let target = View { epoch: view().epoch.next(), chain: vec![member(4, 1)], ..view() };
    let level = Body::Level { ballot, view: view(), target: target.clone(), source: peer(1) };
    learner.handle(Duration::ZERO, Input::Message(peer(1), Message::Slot(SLOT, Box::new(level))), &NoTable);
    assert_eq!(learner.held(), 1);
    let outputs = learner.handle(Duration::from_secs(2), Input::Timer(Timer::Tick), &NoTable);
    let asks = Output::Send(peer(1), Message::Slot(SLOT, Box::new(Body::Install(view()))));
    assert!(outputs.contains(&asks));
    let without = View { chain: vec![member(1, 1)], ..target };
    let install = Message::Slot(SLOT, Box::new(Body::Install(without)));
    learner.handle(Duration::from_secs(2), Input::Message(peer(1), install), &NoTable);
    assert_eq!(learner.held(), 0);
}

#[test]
fn a_view_that_is_overtaken_on_its_way_to_the_disk_does_not_end_the_heartbeats() {
    let other = Slot(1);
    let mut state = process(member(1, 1), false, Some(StoredLog::default()));
    let elsewhere = Acceptor::new(View { slot: other, ..view() });
    state.replicas.insert(other, Replica::new(elsewhere, Some(Log::default())));
    state.start(Duration::ZERO);
    let epoch = |number: u32| (0..number).fold(view().epoch, |epoch, _| epoch.next());
    let install = |state: &mut State, view: View| {
        let message = Message::Slot(SLOT, Box::new(Body::Install(view)));
        state.handle(Duration::ZERO, Input::Message(peer(2), message), &NoTable);
    };
    install(&mut state, View { epoch: epoch(1), ..view() });
    install(&mut state, View { epoch: epoch(2), ..view() });
    state.handle(Duration::ZERO, Input::Synced(u64::MAX), &NoTable);
    let alone = View { epoch: epoch(3), chain: vec![member(1, 1)], electors: vec![peer(1)], ..view() };
    install(&mut state, alone);
    state.handle(Duration::ZERO, Input::Synced(u64::MAX), &NoTable);
    let outputs = state.handle(Duration::ZERO, Input::Timer(Timer::Heartbeat), &NoTable);
    let beats =
        |to: u8| outputs.iter().any(|it| matches!(it, Output::SendSoon(at, Message::Heartbeat(_)) if *at == peer(to)));
    assert!(beats(2) && beats(3), "they share the other slot: {outputs:?}");
}

#[test]
fn a_message_holds_only_so_many_bytes_of_entries() {
    let log = Log::new(Position::default(), Vec::new(), (1..=9).map(entry).collect());
    let sent = |most_bytes| log.from(2, usize::MAX, most_bytes).map(|entries| entries.len());
    let each = entry(1).size();
    assert_eq!(sent(1), Some(1), "one always goes");
    assert_eq!(sent(3 * each), Some(3));
    assert_eq!(sent(usize::MAX), Some(8));
}

#[test]
fn what_is_kept_for_copies_is_bounded_in_entries_and_in_bytes() {
    let each = entry(1).size();
    let first_kept = |entries, bytes| {
        let mut log = Log::new(Position::default(), Vec::new(), (1..=9).map(entry).collect());
        assert_eq!(log.apply(8, Kept { entries, bytes }, 100).len(), 8);
        (1..=9).find(|seq| log.from(*seq, usize::MAX, usize::MAX).is_some())
    };
    assert_eq!(first_kept(3, usize::MAX), Some(6));
    assert_eq!(first_kept(100, 2 * each), Some(7));
    assert_eq!(first_kept(100, each - 1), Some(9), "what is pending is there in any case");
}

#[test]
fn reads_go_to_the_nearest_member_or_to_the_tail_alone() {
    let view = View { chain: vec![member(1, 1), member(2, 1), member(3, 1)], ..view() };
    let random = &mut ChaCha8Rng::seed_from_u64(1);
    assert_eq!(Reads::Any.order(&view, peer(2), random)[0], peer(2));
    let firsts: BTreeSet<PeerId> = (0..99).map(|_| Reads::Any.order(&view, peer(9), random)[0]).collect();
    assert_eq!(firsts.len(), 3, "who is no member spreads its reads");
    assert_eq!(Reads::Tail.order(&view, peer(2), random), [peer(3)]);
}

/// What a member says in a heartbeat.
fn beat(nonce: u64, incarnation: u64, stopping: bool) -> Message {
    let list = Delta { from: None, to: Version { life: incarnation, number: nonce }, changes: Vec::new() };
    Message::Heartbeat(Heartbeat { nonce, incarnation, list, coverage_seen: Version::default(), stopping })
}

/// The second member of a slot that takes writes with so many.
fn second_of(min_in_sync: usize) -> State {
    let mut state = process(member(2, 1), false, None);
    let acceptor = Acceptor::new(View { min_in_sync, ..view() });
    state.replicas.insert(SLOT, Replica::new(acceptor, Some(Log::default())));
    state.start(Duration::ZERO);
    state
}

/// Whether it begins to decide on a next view when the first member says this.
fn goes_on(state: &mut State, heartbeat: Message) -> bool {
    let outputs = state.handle(Duration::from_millis(1), Input::Message(peer(1), heartbeat), &NoTable);
    let prepares = |output: &Output| matches!(output, Output::Send(_, Message::Slot(_, body)) if matches!(**body, Body::Prepare(..)));
    outputs.iter().any(prepares)
}

#[test]
fn others_go_on_at_once_without_a_member_that_says_that_it_stops_if_they_can() {
    assert!(goes_on(&mut second_of(1), beat(1, 1, true)));
    assert!(!goes_on(&mut second_of(1), beat(1, 1, false)));
    assert!(!goes_on(&mut second_of(2), beat(1, 1, true)), "the slot would take no writes");
    let (mut stops, mut restarted) = (second_of(1), second_of(1));
    stops.handle(Duration::ZERO, Input::Stop, &NoTable);
    assert!(!goes_on(&mut stops, beat(1, 1, true)), "nobody would stay");
    goes_on(&mut restarted, beat(1, 2, false));
    restarted.handle(Duration::ZERO, Input::Message(peer(1), beat(2, 1, true)), &NoTable);
    assert!(!restarted.leases.is_stopping(peer(1)), "an earlier process has said so");
}

#[test]
fn whoever_stops_says_so_at_once_and_copies_nothing_any_more() {
    let mut state = second_of(1);
    assert_eq!(state.handing_over(), 0);
    let outputs = state.handle(Duration::ZERO, Input::Stop, &NoTable);
    let says = |to: u8| {
        let says =
            |it: &Output| matches!(it, Output::Send(at, Message::Heartbeat(it)) if *at == peer(to) && it.stopping);
        outputs.iter().any(says)
    };
    assert!(says(1) && says(3));
    assert_eq!(state.handing_over(), 1);
    let next = View { epoch: view().epoch.next(), chain: vec![member(1, 1)], min_in_sync: 1, ..view() };
    let learn = Body::Learn(next, peer(1));
    state.handle(Duration::ZERO, Input::Message(peer(1), Message::Slot(SLOT, Box::new(learn))), &NoTable);
    assert_eq!(state.handing_over(), 0);
    assert!(!state.copies(SLOT));
}
