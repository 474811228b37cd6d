//! One row for each check.

use std::fmt::Debug;

use bytes::Bytes;
use dhtd_proto::{
    MAX_KEY_BYTES,
    v1::{self, chain_message as pb, slot_message::Body},
};

use super::super::{entry::MOST_ENTRIES, lease::MOST_SLOTS, views::MOST_PEERS, *};

type Row<M> = (&'static str, fn(&mut M));

/// Each change must make a good message into one that is refused for that reason.
fn expect_refused<M: Clone, T: Debug + PartialEq>(
    good: &M,
    decode: impl Fn(M) -> Result<T, Malformed>,
    rows: &[Row<M>],
) {
    assert!(decode(good.clone()).is_ok());
    for (reason, change) in rows {
        let mut bad = good.clone();
        change(&mut bad);
        assert_eq!(decode(bad), Err(Malformed(reason)));
    }
}

const TOO_LARGE: u64 = 1 << 63;

fn id(name: u16) -> Bytes {
    Bytes::from([[0; 14].as_slice(), &name.to_be_bytes()].concat())
}

fn an_epoch(number: u64) -> Option<v1::Epoch> {
    Some(v1::Epoch { generation: 2, recovered_by: id(9), number })
}

fn a_position(seq: u64) -> Option<v1::Position> {
    Some(v1::Position { epoch: an_epoch(1), seq })
}

fn a_member(name: u16) -> v1::ChainMember {
    v1::ChainMember { peer_id: id(name), incarnation: 1 }
}

fn a_ballot() -> Option<v1::Ballot> {
    Some(v1::Ballot { round: 1, proposer: Some(a_member(1)) })
}

fn a_view(slot: u32, number: u64) -> Option<v1::View> {
    Some(v1::View {
        slot,
        epoch: an_epoch(number),
        chain: vec![a_member(1), a_member(2)],
        electors: vec![id(1), id(2), id(3)],
        frontier: a_position(7),
        min_in_sync: 2,
    })
}

fn an_accepted_view(slot: u32, number: u64) -> Option<v1::AcceptedView> {
    Some(v1::AcceptedView { ballot: a_ballot(), view: a_view(slot, number) })
}

fn a_request() -> Option<v1::RequestId> {
    Some(v1::RequestId { client_id: id(4), sequence: 1, floor: 0 })
}

fn an_outcome() -> Option<v1::Outcome> {
    Some(outcome(dht_core::replication::chain::Outcome::NothingThere))
}

fn an_entry(seq: u64) -> v1::LogEntry {
    v1::LogEntry {
        position: a_position(seq),
        keyspace: 1,
        key: id(5),
        effect: Some(v1::log_entry::Effect::Counter(3)),
        request: a_request(),
        outcome: an_outcome(),
        expires_at_ms: 0,
    }
}

#[test]
fn views_that_nobody_could_go_by() {
    let rows: [Row<v1::View>; 19] = [
        ("an epoch is missing", |view| view.epoch = None),
        ("a generation and who began it do not agree", |view| view.epoch.as_mut().unwrap().generation = 0),
        ("a generation and who began it do not agree", |view| view.epoch.as_mut().unwrap().recovered_by.clear()),
        ("a peer id has 16 bytes", |view| view.epoch.as_mut().unwrap().recovered_by.truncate(15)),
        ("a number is too large", |view| view.epoch = an_epoch(TOO_LARGE)),
        ("a chain of nobody, or of too many", |view| view.chain.clear()),
        ("a chain of nobody, or of too many", |view| view.chain = vec![a_member(1); MOST_PEERS + 1]),
        ("a peer is in a chain twice", |view| view.chain.push(v1::ChainMember { incarnation: 2, ..a_member(1) })),
        ("a peer id has 16 bytes", |view| view.chain[1].peer_id.truncate(15)),
        ("a peer id has 16 bytes", |view| view.chain[1].peer_id.clear()),
        ("the number of electors is not odd", |view| view.electors.clear()),
        ("the number of electors is not odd", |view| drop(view.electors.pop())),
        ("a peer is listed twice", |view| view.electors[2] = id(1)),
        ("a peer id has 16 bytes", |view| view.electors[2].truncate(15)),
        ("too many peers", |view| view.electors = vec![id(1); MOST_PEERS + 1]),
        ("a position is missing", |view| view.frontier = None),
        ("an epoch is missing", |view| view.frontier.as_mut().unwrap().epoch = None),
        ("a number is too large", |view| view.frontier = a_position(TOO_LARGE)),
        ("a number is too large", |view| view.frontier.as_mut().unwrap().epoch = an_epoch(TOO_LARGE)),
    ];
    expect_refused(&a_view(3, 1).unwrap(), decode_view, &rows);
}

#[test]
fn promises_that_contradict_themselves() {
    let good = v1::Acceptor {
        view: a_view(3, 1),
        promised: a_ballot(),
        accepted: an_accepted_view(3, 2),
        sealed: true,
        rival: None,
    };
    let rows: [Row<v1::Acceptor>; 9] = [
        ("a view is missing", |acceptor| acceptor.view = None),
        ("a member is missing", |acceptor| acceptor.promised.as_mut().unwrap().proposer = None),
        ("a number is too large", |acceptor| acceptor.promised.as_mut().unwrap().round = TOO_LARGE),
        ("a ballot is missing", |acceptor| acceptor.accepted.as_mut().unwrap().ballot = None),
        ("a view is missing", |acceptor| acceptor.accepted.as_mut().unwrap().view = None),
        ("a view of another slot", |acceptor| acceptor.accepted = an_accepted_view(4, 2)),
        ("the next view is not newer", |acceptor| acceptor.accepted = an_accepted_view(3, 1)),
        ("the number of electors is not odd", |acceptor| acceptor.view.as_mut().unwrap().electors.clear()),
        ("a chain of nobody, or of too many", |acceptor| {
            acceptor.accepted.as_mut().unwrap().view.as_mut().unwrap().chain.clear();
        }),
    ];
    expect_refused(&good, decode_acceptor, &rows);
}

#[test]
fn entries_with_holes_in_them() {
    let rows: [Row<v1::LogEntry>; 9] = [
        ("a position is missing", |entry| entry.position = None),
        ("a number is too large", |entry| entry.position = a_position(TOO_LARGE)),
        ("a key is empty or too long", |entry| entry.key.clear()),
        ("a key is empty or too long", |entry| entry.key = vec![0; MAX_KEY_BYTES + 1].into()),
        ("an entry without an effect", |entry| entry.effect = None),
        ("a client id has 16 bytes", |entry| entry.request.as_mut().unwrap().client_id.truncate(15)),
        ("a client id has 16 bytes", |entry| entry.request = Some(v1::RequestId::default())),
        ("an outcome is missing", |entry| entry.outcome = None),
        ("an outcome is missing", |entry| entry.outcome.as_mut().unwrap().result = None),
    ];
    expect_refused(&an_entry(1), decode_entry, &rows);
}

#[test]
fn outcomes_of_nothing() {
    let good = v1::RecordedOutcome { request: a_request(), seq: 1, outcome: an_outcome() };
    let rows: [Row<v1::RecordedOutcome>; 4] = [
        ("an outcome of no request", |recorded| recorded.request = None),
        ("a client id has 16 bytes", |recorded| recorded.request.as_mut().unwrap().client_id.clear()),
        ("a number is too large", |recorded| recorded.seq = TOO_LARGE),
        ("an outcome is missing", |recorded| recorded.outcome = None),
    ];
    expect_refused(&good, decode_recorded, &rows);
    expect_refused(&an_outcome().unwrap(), decode_outcome, &[("an outcome is missing", |it| it.result = None)]);
}

#[test]
fn commands_and_records_with_holes_in_them() {
    let action = Some(v1::command::Action::Add(1));
    let command = v1::Command { keyspace: 1, key: id(5), action, request: a_request(), ..v1::Command::default() };
    let rows: [Row<v1::Command>; 4] = [
        ("a key is empty or too long", |command| command.key.clear()),
        ("a key is empty or too long", |command| command.key = vec![0; MAX_KEY_BYTES + 1].into()),
        ("a command that asks for nothing", |command| command.action = None),
        ("a client id has 16 bytes", |command| command.request.as_mut().unwrap().client_id.truncate(15)),
    ];
    expect_refused(&command, |it| decode_command(it, 0), &rows);
    let value = Some(v1::chain_record::Value::Counter(1));
    let record = v1::ChainRecord { keyspace: 1, key: id(5), revision: 1, value, expires_at_ms: 0 };
    let rows: [Row<v1::ChainRecord>; 3] = [
        ("a key is empty or too long", |record| record.key.clear()),
        ("a key is empty or too long", |record| record.key = vec![0; MAX_KEY_BYTES + 1].into()),
        ("a record without a value", |record| record.value = None),
    ];
    expect_refused(&record, decode_record, &rows);
}

#[test]
fn refusals_without_a_reason() {
    let rows: [Row<v1::Refused>; 2] = [
        ("a refusal without a reason", |refused| refused.refusal = 0),
        ("a refusal without a reason", |refused| refused.refusal = 99),
    ];
    expect_refused(&v1::Refused { refusal: 1, revision: 0 }, decode_refusal, &rows);
}

#[test]
fn heartbeats_and_grants_with_holes_in_them() {
    let version = |number| Some(v1::LeaseVersion { life: 1, number });
    let changes = vec![v1::SlotLease { slot: 3, epoch: an_epoch(1) }, v1::SlotLease { slot: 4, epoch: None }];
    let delta = Some(v1::LeaseDelta { from: version(2), to: version(2), changes });
    let good = v1::LeaseHeartbeat {
        nonce: 1,
        incarnation: 1,
        list: delta.clone(),
        coverage_seen: version(0),
        stopping: false,
    };
    let rows: [Row<v1::LeaseHeartbeat>; 7] = [
        ("a version of a list is missing", |heartbeat| heartbeat.coverage_seen = None),
        ("the changes of a list are missing", |heartbeat| heartbeat.list = None),
        ("a version of a list is missing", |heartbeat| heartbeat.list.as_mut().unwrap().to = None),
        ("a list changes backwards", |heartbeat| {
            heartbeat.list.as_mut().unwrap().from.as_mut().unwrap().number = 3;
        }),
        ("a list changes backwards", |heartbeat| heartbeat.list.as_mut().unwrap().from.as_mut().unwrap().life = 0),
        ("a number is too large", |heartbeat| heartbeat.list.as_mut().unwrap().changes[0].epoch = an_epoch(TOO_LARGE)),
        ("a list of too many slots", |heartbeat| {
            heartbeat.list.as_mut().unwrap().changes = vec![v1::SlotLease::default(); MOST_SLOTS + 1];
        }),
    ];
    expect_refused(&good, lease::decode_heartbeat, &rows);
    let good = v1::LeaseGrant { nonce: 1, incarnation: 1, list_seen: version(0), coverage: delta, disk_ok: true };
    let rows: [Row<v1::LeaseGrant>; 2] = [
        ("a version of a list is missing", |grant| grant.list_seen = None),
        ("the changes of a list are missing", |grant| grant.coverage = None),
    ];
    expect_refused(&good, lease::decode_grant, &rows);
}

#[test]
fn messages_that_say_nothing() {
    let decode = |body| decode_message(v1::ChainMessage { group: 1, body });
    assert_eq!(decode(None), Err(Malformed("a chain message without a body")));
    let empty = v1::SlotMessage { slot: 3, body: None };
    assert_eq!(decode(Some(pb::Body::Slot(empty))), Err(Malformed("a slot message without a body")));
}

fn decode_body(body: Body) -> Result<(u32, Message), Malformed> {
    let message = v1::SlotMessage { slot: 3, body: Some(body) };
    decode_message(v1::ChainMessage { group: 0, body: Some(pb::Body::Slot(message)) })
}

/// For each body, what is found to be missing first if everything is.
#[test]
fn bodies_that_leave_everything_out() {
    let (epoch, ballot, view) = ("an epoch is missing", "a ballot is missing", "a view is missing");
    let rows = [
        (epoch, Body::Append(v1::Append::default())),
        (epoch, Body::Ack(v1::Ack::default())),
        (epoch, Body::Gap(v1::Gap::default())),
        (epoch, Body::AskFrontier(v1::AskFrontier::default())),
        (epoch, Body::Frontier(v1::Frontier::default())),
        (epoch, Body::PreVote(v1::PreVote::default())),
        (epoch, Body::Lost(v1::Lost::default())),
        (ballot, Body::Prepare(v1::Prepare::default())),
        ("a position is missing", Body::Promise(v1::Promise::default())),
        (ballot, Body::Promise(v1::Promise { position: a_position(1), ..v1::Promise::default() })),
        (ballot, Body::Reject(v1::Reject::default())),
        (view, Body::Level(v1::Level::default())),
        (ballot, Body::Ready(v1::Ready::default())),
        (epoch, Body::Fetch(v1::Fetch::default())),
        (epoch, Body::Entries(v1::Entries::default())),
        (epoch, Body::TooFarBehind(v1::TooFarBehind::default())),
        (view, Body::Accept(v1::Accept::default())),
        (ballot, Body::Accepted(v1::Accepted::default())),
        (view, Body::Install(v1::Install::default())),
        (epoch, Body::Installed(v1::Installed::default())),
        (view, Body::Learn(v1::Learn::default())),
        (epoch, Body::Attach(v1::Attach::default())),
        (epoch, Body::Learned(v1::Learned::default())),
        ("a member is missing", Body::Learned(v1::Learned { epoch: an_epoch(1), ..v1::Learned::default() })),
    ];
    for (reason, body) in rows {
        assert_eq!(decode_body(body), Err(Malformed(reason)));
    }
}

/// Everything else about the bodies: what is there, but must not be.
#[test]
fn bodies_that_make_no_sense() {
    let epoch = || an_epoch(1);
    let append = |entries, committed| Body::Append(v1::Append { epoch: epoch(), entries, committed });
    let entries = |last, committed| Body::Entries(v1::Entries { epoch: epoch(), entries: vec![], last, committed });
    let ack = |seq, committed| Body::Ack(v1::Ack { epoch: epoch(), seq, committed });
    let frontier = |number, committed| Body::Frontier(v1::Frontier { epoch: epoch(), number, committed });
    let prepare = |view| Body::Prepare(v1::Prepare { ballot: a_ballot(), view });
    let level =
        |target, source_id| Body::Level(v1::Level { ballot: a_ballot(), view: a_view(3, 1), target, source_id });
    let accept = |view, target, quorum| Body::Accept(v1::Accept { ballot: a_ballot(), view, target, quorum });
    let promise = v1::Promise {
        ballot: a_ballot(),
        incarnation: 1,
        in_sync: true,
        position: a_position(1),
        accepted: an_accepted_view(4, 2),
    };
    let learned = v1::Learned { epoch: epoch(), member: Some(a_member(1)), seq: TOO_LARGE };
    let too_many = (0..=2 * MOST_PEERS).map(|name| id(u16::try_from(name).unwrap())).collect();
    let (large, gap, other) = ("a number is too large", "entries with a gap between them", "a view of another slot");
    let (old, short) = ("the next view is not newer", "a peer id has 16 bytes");
    let rows = [
        (gap, append(vec![an_entry(1), an_entry(3)], 0)),
        (gap, append(vec![an_entry(2), an_entry(1)], 0)),
        (gap, append(vec![an_entry(1), an_entry(1)], 0)),
        ("too many entries", append(vec![an_entry(1); MOST_ENTRIES + 1], 0)),
        (large, append(vec![], TOO_LARGE)),
        (large, entries(TOO_LARGE, 0)),
        (large, entries(0, TOO_LARGE)),
        (large, ack(TOO_LARGE, 0)),
        (large, ack(0, TOO_LARGE)),
        (large, Body::Gap(v1::Gap { epoch: epoch(), next: TOO_LARGE })),
        (large, Body::Fetch(v1::Fetch { epoch: epoch(), next: TOO_LARGE })),
        (large, Body::AskFrontier(v1::AskFrontier { epoch: epoch(), number: TOO_LARGE })),
        (large, frontier(TOO_LARGE, 0)),
        (large, frontier(0, TOO_LARGE)),
        (large, Body::Learned(learned)),
        (short, Body::PreVote(v1::PreVote { epoch: epoch(), peer_id: Bytes::new() })),
        (short, Body::Lost(v1::Lost { epoch: epoch(), peer_id: Bytes::new() })),
        (short, Body::Learn(v1::Learn { view: a_view(3, 1), source_id: Bytes::new() })),
        (short, level(a_view(3, 2), Bytes::new())),
        (short, accept(a_view(3, 1), a_view(3, 2), vec![Bytes::new()])),
        ("a view is missing", level(None, id(1))),
        ("a view is missing", prepare(None)),
        (other, prepare(a_view(4, 1))),
        (other, level(a_view(4, 2), id(1))),
        (other, accept(a_view(4, 1), a_view(3, 2), vec![])),
        (other, accept(a_view(3, 1), a_view(4, 2), vec![])),
        (other, Body::Promise(promise)),
        (other, Body::Install(v1::Install { view: a_view(4, 1) })),
        (other, Body::Learn(v1::Learn { view: a_view(4, 1), source_id: id(1) })),
        (old, level(a_view(3, 1), id(1))),
        (old, accept(a_view(3, 2), a_view(3, 1), vec![])),
        ("a peer is listed twice", accept(a_view(3, 1), a_view(3, 2), vec![id(1), id(1)])),
        ("too many peers", accept(a_view(3, 1), a_view(3, 2), too_many)),
    ];
    for (reason, body) in rows {
        assert_eq!(decode_body(body), Err(Malformed(reason)));
    }
    let reject = v1::Reject { ballot: a_ballot(), promised: Some(v1::Ballot::default()) };
    assert_eq!(decode_body(Body::Reject(reject)), Err(Malformed("a member is missing")));
}
