//! Random messages of every kind.

use bytes::Bytes;
use dht_core::{
    record::{Expiry, KeyspaceId, RecordKey},
    replication::{
        chain::{
            Action, Body, Command, Condition, Effect, Entry, Extent, KeyReport, Message, Outcome, Record, Recorded,
            Refusal, Report, RequestId, Value,
        },
        recovery::Survey,
    },
    ring::{PeerId, Slot},
    view::{
        Acceptor, Ballot, Claim, Epoch, Generation, Grant, Heartbeat, Member, Position, Promise, View,
        delta::{Delta, Version},
    },
};
use dhtd_proto::MAX_KEY_BYTES;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// An example of each variant of an enum, in a `Vec`. A variant that is missing here is an error of the compiler.
macro_rules! one_of_each {
    ($type:ty: $($variant:pat => $example:expr,)+) => {{
        let _is_complete = |value: &$type| match value {
            $($variant => {})+
        };
        vec![$({
            let example: $type = $example;
            assert!(matches!(&example, $variant), "{example:?} is no example of {}", stringify!($variant));
            example
        }),+]
    }};
}

/// Draws valid messages, and what they are made of.
pub(super) struct Random(ChaCha8Rng);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// One of each kind, each with the number of a group of slots.
    pub(super) fn messages(&mut self) -> Vec<(u32, Message)> {
        let slot = self.slot();
        let mut messages = one_of_each! { Message:
            Message::Heartbeat(_) => Message::Heartbeat(self.heartbeat()),
            Message::Grant(_) => Message::Grant(self.grant()),
            Message::Slot(..) => Message::Slot(slot, Box::new(Body::AskView)),
        };
        messages.extend(self.bodies(slot).into_iter().map(|body| Message::Slot(slot, Box::new(body))));
        messages.into_iter().map(|message| (self.0.random_range(0..4), message)).collect()
    }

    fn bodies(&mut self, slot: Slot) -> Vec<Body> {
        let (epoch, ballot, source) = (self.epoch(), self.ballot(), self.peer());
        let (view, target) = self.views(slot);
        let committed = self.number();
        one_of_each! { Body:
            Body::Append { .. } => Body::Append { epoch, entries: self.entries(), committed },
            Body::Ack { .. } => Body::Ack { epoch, seq: self.number(), committed },
            Body::Gap(..) => Body::Gap(epoch, self.number()),
            Body::AskFrontier(..) => Body::AskFrontier(epoch, self.number()),
            Body::Frontier(..) => Body::Frontier(epoch, self.number(), committed),
            Body::PreVote(..) => Body::PreVote(epoch, self.peer()),
            Body::Lost(..) => Body::Lost(epoch, self.peer()),
            Body::Prepare(..) => Body::Prepare(ballot, view.clone()),
            Body::Promise(..) => Body::Promise(ballot, self.promise(slot)),
            Body::Reject(..) => Body::Reject(ballot, self.perhaps(Self::ballot)),
            Body::Level { .. } => Body::Level { ballot, view: view.clone(), target: target.clone(), source },
            Body::Ready(_) => Body::Ready(ballot),
            Body::Fetch(..) => Body::Fetch(epoch, self.number()),
            Body::Entries { .. } => Body::Entries { epoch, entries: self.entries(), last: self.number(), committed },
            Body::TooFarBehind(_) => Body::TooFarBehind(epoch),
            Body::Accept { .. } => Body::Accept { ballot, view: view.clone(), target, quorum: self.peers(4) },
            Body::Accepted(_) => Body::Accepted(ballot),
            Body::Install(_) => Body::Install(view.clone()),
            Body::Installed(_) => Body::Installed(epoch),
            Body::AskView => Body::AskView,
            Body::Learn(..) => Body::Learn(view, source),
            Body::Attach(_) => Body::Attach(epoch),
            Body::Learned(..) => Body::Learned(epoch, self.member(), self.number()),
        }
    }

    pub(super) fn report(&mut self) -> (Report, KeyReport) {
        let extent = |random: &mut Self| Extent {
            applied: random.position(),
            last: random.position(),
            committed: random.number(),
        };
        let report = Report {
            view: self.view(),
            sealed: self.0.random(),
            changing: self.0.random(),
            copying: self.0.random(),
            disputed: self.0.random(),
            certain_for: self.perhaps(|random| std::time::Duration::from_micros(random.number() >> 8)),
            log: self.perhaps(extent),
        };
        (report, KeyReport { applied: self.perhaps(Self::any), pending: self.perhaps(Self::any) })
    }

    pub(super) fn claim(&mut self) -> Claim {
        Claim { generation: self.epoch().generation, banned: self.peers(4).into_iter().collect() }
    }

    pub(super) fn survey(&mut self) -> Survey {
        let reports = self.some(3, |random| random.report().0);
        let (incarnation, claim, members) = (self.any(), self.claim(), self.peers(5).into_iter().collect());
        Survey { incarnation, claim, members, leaving: self.0.random(), reports }
    }

    fn heartbeat(&mut self) -> Heartbeat {
        let (nonce, incarnation, stopping) = (self.any(), self.any(), self.0.random());
        Heartbeat { nonce, incarnation, list: self.delta(), coverage_seen: self.version(), stopping }
    }

    fn grant(&mut self) -> Grant {
        let (nonce, incarnation, disk_ok) = (self.any(), self.any(), self.0.random());
        Grant { nonce, incarnation, list_seen: self.version(), coverage: self.delta(), disk_ok }
    }

    fn delta(&mut self) -> Delta<Slot, Epoch> {
        let (a, b, life) = (self.any(), self.any(), self.any());
        let from = self.perhaps(|_| Version { life, number: a.min(b) });
        let changes = self.some(5, |random| (random.slot(), random.perhaps(Self::epoch)));
        Delta { from, to: Version { life, number: a.max(b) }, changes }
    }

    fn version(&mut self) -> Version {
        Version { life: self.any(), number: self.any() }
    }

    fn promise(&mut self, slot: Slot) -> Promise {
        let (incarnation, in_sync, position) = (self.any(), self.0.random(), self.position());
        let accepted = self.perhaps(|random| (random.ballot(), random.view_of(slot)));
        Promise { incarnation, in_sync, position, accepted }
    }

    pub(super) fn acceptor(&mut self) -> Acceptor {
        let slot = self.slot();
        let (view, next) = self.views(slot);
        let accepted = self.perhaps(|random| (random.ballot(), next));
        let rival = self.perhaps(|random| random.epoch().generation);
        Acceptor { view, promised: self.perhaps(Self::ballot), accepted, sealed: self.0.random(), rival }
    }

    pub(super) fn view(&mut self) -> View {
        let slot = self.slot();
        self.view_of(slot)
    }

    /// A view and one that could follow it.
    fn views(&mut self, slot: Slot) -> (View, View) {
        let (a, b) = (self.view_of(slot), self.view_of(slot));
        if a.epoch < b.epoch {
            (a, b)
        } else {
            let next = View { epoch: a.epoch.next(), ..b };
            (a, next)
        }
    }

    fn view_of(&mut self, slot: Slot) -> View {
        let mut chain = self.some(4, Self::member);
        chain.push(self.member());
        let mut electors = self.peers(6);
        if electors.len().is_multiple_of(2) {
            electors.push(self.peer());
        }
        let (epoch, frontier, min_in_sync) = (self.epoch(), self.position(), self.0.random_range(0..9));
        View { slot, epoch, chain, electors, frontier, min_in_sync }
    }

    pub(super) fn epoch(&mut self) -> Epoch {
        let later =
            |random: &mut Self| Generation { counter: random.0.random_range(1..=u32::MAX), by: Some(random.peer()) };
        let generation = self.perhaps(later).unwrap_or_default();
        // One below the largest, so that there is a next one.
        Epoch { generation, number: self.number().saturating_sub(1) }
    }

    pub(super) fn position(&mut self) -> Position {
        Position { epoch: self.epoch(), seq: self.number() }
    }

    fn ballot(&mut self) -> Ballot {
        Ballot { round: self.number(), proposer: self.member() }
    }

    fn member(&mut self) -> Member {
        Member { peer: self.peer(), incarnation: self.any() }
    }

    pub(super) fn commands(&mut self) -> Vec<Command> {
        let conditions = one_of_each! { Condition:
            Condition::Absent => Condition::Absent,
            Condition::Value(_) => Condition::Value(self.value()),
            Condition::Revision(_) => Condition::Revision(self.any()),
        };
        let mut commands = Vec::new();
        for condition in conditions.into_iter().map(Some).chain([None]) {
            let actions = one_of_each! { Action:
                Action::Put(_) => Action::Put(self.value()),
                Action::Delete => Action::Delete,
                Action::Add(_) => Action::Add(self.0.random()),
            };
            let command = |action| Command {
                at: self.key(),
                condition: condition.clone(),
                action,
                expires: self.expiry(),
                request: self.perhaps(Self::request),
            };
            commands.extend(actions.into_iter().map(command));
        }
        commands
    }

    /// Entries that follow each other.
    fn entries(&mut self) -> Vec<Entry> {
        let first = self.number() / 2;
        let mut entries = self.some(4, Self::entry);
        for (seq, entry) in (first..).zip(&mut entries) {
            entry.position.seq = seq;
        }
        entries
    }

    pub(super) fn entries_of_each_effect(&mut self) -> Vec<Entry> {
        self.effects().into_iter().map(|effect| Entry { effect, ..self.entry() }).collect()
    }

    pub(super) fn entry(&mut self) -> Entry {
        let effects = self.effects();
        let outcomes = self.outcomes();
        Entry {
            position: self.position(),
            at: self.key(),
            effect: self.pick(effects),
            request: self.perhaps(Self::request),
            outcome: self.pick(outcomes),
        }
    }

    fn expiry(&mut self) -> Option<Expiry> {
        self.perhaps(|random| Expiry(random.number().max(1)))
    }

    fn effects(&mut self) -> Vec<Effect> {
        one_of_each! { Effect:
            Effect::Put(Value::Bytes(_), _) => Effect::Put(Value::Bytes(self.value()), self.expiry()),
            Effect::Put(Value::Counter(_), _) => Effect::Put(Value::Counter(self.0.random()), self.expiry()),
            Effect::Delete => Effect::Delete,
            Effect::Nothing => Effect::Nothing,
        }
    }

    pub(super) fn outcomes(&mut self) -> Vec<Outcome> {
        one_of_each! { Outcome:
            Outcome::Done { .. } => {
                let total = self.perhaps(|random| random.0.random());
                Outcome::Done { revision: self.any(), total, existed: self.0.random() }
            },
            Outcome::NothingThere => Outcome::NothingThere,
            Outcome::ConditionFailed(_) => Outcome::ConditionFailed(self.perhaps(Self::any)),
            Outcome::WrongType => Outcome::WrongType,
            Outcome::Overflow => Outcome::Overflow,
        }
    }

    pub(super) fn recorded(&mut self) -> Vec<Recorded> {
        let outcomes = self.outcomes();
        outcomes.into_iter().map(|outcome| Recorded { request: self.request(), seq: self.number(), outcome }).collect()
    }

    pub(super) fn records(&mut self) -> Vec<(RecordKey, Record)> {
        let values = one_of_each! { Value:
            Value::Bytes(_) => Value::Bytes(self.value()),
            Value::Counter(_) => Value::Counter(self.0.random()),
        };
        values
            .into_iter()
            .map(|value| (self.key(), Record { revision: self.any(), value, expires: self.expiry() }))
            .collect()
    }

    pub(super) fn refusals(&mut self) -> Vec<Refusal> {
        one_of_each! { Refusal:
            Refusal::WrongView => Refusal::WrongView,
            Refusal::Unavailable => Refusal::Unavailable,
            Refusal::TooFewInSync => Refusal::TooFewInSync,
            Refusal::Busy => Refusal::Busy,
            Refusal::TooOld(_) => Refusal::TooOld(self.any()),
            Refusal::OutcomeUnknown => Refusal::OutcomeUnknown,
        }
    }

    fn request(&mut self) -> RequestId {
        RequestId { client: self.0.random(), sequence: self.any(), floor: self.any() }
    }

    fn key(&mut self) -> RecordKey {
        let length = self.pick(vec![1, 8, 40, MAX_KEY_BYTES]);
        RecordKey { keyspace: KeyspaceId(self.0.random()), key: self.bytes(length) }
    }

    fn value(&mut self) -> Bytes {
        let length = self.pick(vec![0, 1, 100]);
        self.bytes(length)
    }

    /// Changes, drops or adds a few bytes.
    pub(super) fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.0.random_range(1..4) {
            let at = self.0.random_range(0..=bytes.len());
            match self.0.random_range(0..4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.0.random()),
                _ => bytes.get_mut(at).into_iter().for_each(|byte| *byte = self.0.random()),
            }
        }
    }

    fn bytes(&mut self, length: usize) -> Bytes {
        (0..length).map(|_| self.0.random::<u8>()).collect()
    }

    fn peers(&mut self, most: usize) -> Vec<PeerId> {
        self.some(most, Self::peer)
    }

    fn peer(&mut self) -> PeerId {
        PeerId::new(self.0.random())
    }

    fn slot(&mut self) -> Slot {
        Slot(self.any() as u32)
    }

    /// A number that one can be added to, small or large.
    fn number(&mut self) -> u64 {
        self.any() >> 1
    }

    /// Any number, small or large.
    fn any(&mut self) -> u64 {
        self.0.random::<u64>() >> self.0.random_range(0..64)
    }

    fn perhaps<T>(&mut self, draw: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.0.random::<bool>().then(|| draw(self))
    }

    fn some<T>(&mut self, most: usize, draw: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..self.0.random_range(0..=most)).map(|_| draw(self)).collect()
    }

    fn pick<T>(&mut self, mut from: Vec<T>) -> T {
        from.swap_remove(self.0.random_range(0..from.len()))
    }
}
