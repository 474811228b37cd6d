//! Clients of chains: each has one operation under way, sends it to whom it takes for the right replica, and tries again
//! where that is safe. What was asked and answered, and when, is the history that is checked.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use dht_core::{
    record::{KeyspaceId, RecordKey},
    replication::chain::{Action, Command, Condition, Outcome, Record, Refusal, Reply, RequestId, Token},
    ring::{Id, Slot},
    view::Epoch,
};
use rand::{RngExt, seq::IndexedRandom};

use crate::sim::{World, delivery::Due};

/// What clients do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many there are.
    pub clients: usize,
    /// Keys that hold values, and as many that hold counters.
    pub keys: u32,
    /// The time between two operations of a client is up to this.
    pub pause: Duration,
}

impl Default for Load {
    fn default() -> Self {
        Self { clients: 8, keys: 3, pause: Duration::from_millis(100) }
    }
}

/// All clients of a world.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    load: Option<Load>,
    running: BTreeMap<usize, Running>,
    /// By token: whose attempt it is.
    attempts: BTreeMap<Token, usize>,
    last_token: Token,
    last_value: u64,
    sequence: u64,
    /// They start nothing new.
    pub(super) stopped: bool,
    /// What is over.
    pub finished: Vec<Finished>,
}

/// An operation that is over, or of which nobody knows whether it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Whose.
    pub client: usize,
    /// On what.
    pub at: RecordKey,
    /// What was asked; `None`: a read.
    pub command: Option<Command>,
    /// When the first attempt set out.
    pub invoked: Duration,
    /// When the answer came; `None`: it may take effect at any time, or never.
    pub completed: Option<Duration>,
    /// What a command came to.
    pub outcome: Option<Outcome>,
    /// What was read.
    pub record: Option<Record>,
}

/// An operation under way.
#[derive(Clone, Debug)]
struct Running {
    at: RecordKey,
    command: Option<Command>,
    invoked: Duration,
    token: Token,
    /// An attempt is out of which the outcome is not known.
    unsure: bool,
}

/// What arrives at a host.
#[derive(Clone, Debug)]
pub(in crate::sim) enum Call {
    Write(Slot, Epoch, Command),
    Read(Slot, RecordKey),
}

/// What happens to a client.
#[derive(Clone, Debug)]
pub(in crate::sim) enum ClientEvent {
    /// It begins something new.
    Start(usize),
    /// It tries again.
    Retry(usize, Token),
    /// Its attempt arrives at a host.
    Call { host: usize, token: Token, call: Box<Call> },
    /// The answer arrives: to a command, or what was read.
    Answer(Token, Box<Result<Reply, Option<Record>>>),
    /// It waits no longer for an answer to this attempt.
    TimeOut(Token),
}

impl World {
    /// Clients begin to work.
    pub fn start_clients(&mut self, load: Load) {
        self.clients.load = Some(load);
        (0..load.clients).for_each(|client| self.later(client));
    }

    /// Clients begin nothing new.
    pub fn stop_clients(&mut self) {
        self.clients.stopped = true;
    }

    /// Operations under way.
    #[must_use]
    pub fn running_operations(&self) -> usize {
        self.clients.running.len()
    }

    fn later(&mut self, client: usize) {
        let Some(load) = self.clients.load.filter(|_| !self.clients.stopped) else { return };
        let pause = self.random.random_range(Duration::ZERO..=load.pause);
        self.queue.push(self.now + pause, Due::Client(ClientEvent::Start(client)));
    }

    pub(in crate::sim) fn client(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Start(client) => self.begin(client),
            ClientEvent::Retry(client, token) => {
                if self.clients.running.get(&client).is_some_and(|running| running.token == token) {
                    self.attempt(client);
                }
            }
            ClientEvent::Call { host, token, call } => {
                if self.hosts[host].paused_until > self.now {
                    let at = self.hosts[host].paused_until;
                    self.queue.push(at, Due::Client(ClientEvent::Call { host, token, call }));
                } else {
                    self.called(host, token, *call);
                }
            }
            ClientEvent::Answer(token, answer) => self.answered(token, *answer),
            ClientEvent::TimeOut(token) => self.timed_out(token),
        }
    }

    fn begin(&mut self, client: usize) {
        let Some(load) = self.clients.load.filter(|_| !self.clients.stopped) else { return };
        let key = self.random.random_range(0..load.keys);
        let kind = self.random.random_range(0..100);
        let register = Bytes::from(format!("register-{key}"));
        let counter = Bytes::from(format!("counter-{key}"));
        self.clients.last_value += 1;
        let value = Bytes::from(self.clients.last_value.to_string());
        let known: Option<Record> = self.some_record(&register);
        let condition = || match &known {
            Some(record) if kind % 2 == 0 => Some(Condition::Revision(record.revision)),
            Some(Record { value: dht_core::replication::chain::Value::Bytes(value), .. }) => {
                Some(Condition::Value(value.clone()))
            }
            _ => Some(Condition::Absent),
        };
        let (key, action, condition) = match kind {
            0..20 => (register, None, None),
            20..40 => (counter, None, None),
            40..60 => (register, Some(Action::Put(value)), None),
            60..75 => {
                let condition = condition();
                (register, Some(Action::Put(value)), condition)
            }
            75..80 => (register, Some(Action::Delete), None),
            _ => (counter, Some(Action::Add(self.random.random_range(1..=3))), None),
        };
        let at = RecordKey { keyspace: KeyspaceId::DEFAULT, key };
        // Increments are always named, and half of the rest.
        let named = kind >= 80 || self.random.random_bool(0.5);
        let floor = self.some_revision(self.slot_of(&at));
        self.clients.sequence += 1;
        let sequence = self.clients.sequence;
        let request = named.then_some(RequestId { client: client as u128, sequence, floor });
        let command = action.map(|action| Command { at: at.clone(), condition, action, expires: None, request });
        let running = Running { at, command, invoked: self.now, token: 0, unsure: false };
        self.clients.running.insert(client, running);
        self.attempt(client);
    }

    fn slot_of(&self, at: &RecordKey) -> Slot {
        self.config.slot_bits.slot_of(Id::of_key(&at.key))
    }

    /// What some replica has under the key: a guess for conditions that may hold.
    fn some_record(&mut self, key: &Bytes) -> Option<Record> {
        let at = RecordKey { keyspace: KeyspaceId::DEFAULT, key: key.clone() };
        let slot = self.slot_of(&at);
        let hosts: Vec<usize> = (0..self.hosts.len()).collect();
        let host = *hosts.choose(&mut self.random)?;
        self.hosts[host].chains.as_ref()?.disk.record(slot, &at)
    }

    /// A revision of the slot that is known before an operation.
    fn some_revision(&mut self, slot: Slot) -> u64 {
        let applied = |host: &super::super::Host| {
            let log = host.chains.as_ref()?.state.as_ref()?.log(slot)?;
            Some(log.applied().seq)
        };
        self.hosts.iter().filter_map(applied).max().unwrap_or(0)
    }

    /// Sends the operation to a replica by what some peer knows of the slot.
    fn attempt(&mut self, client: usize) {
        self.clients.last_token += 1;
        let token = self.clients.last_token;
        let Some(running) = self.clients.running.get_mut(&client) else { return };
        running.token = token;
        let (at, command) = (running.at.clone(), running.command.clone());
        self.clients.attempts.insert(token, client);
        let slot = self.slot_of(&at);
        let views = |host: &super::super::Host| host.chains.as_ref()?.state.as_ref()?.view(slot).cloned();
        let views: Vec<_> = self.hosts.iter().filter_map(views).collect();
        let Some(view) = views.choose(&mut self.random).cloned() else { return self.retry(client) };
        let to = match command {
            Some(_) => view.head(),
            None => view.chain.choose(&mut self.random).map(|member| member.peer),
        };
        let Some(host) = to.map(|peer| self.host_of(peer)) else { return self.retry(client) };
        let call = match command {
            Some(command) => Call::Write(slot, view.epoch, command),
            None => Call::Read(slot, at),
        };
        self.queue.push(self.now + TIME_OUT, Due::Client(ClientEvent::TimeOut(token)));
        if let Some(delay) = self.config.net.deliveries(&mut self.random).first() {
            let call = Box::new(call);
            self.queue.push(self.now + *delay, Due::Client(ClientEvent::Call { host, token, call }));
        }
    }

    fn retry(&mut self, client: usize) {
        let Some(running) = self.clients.running.get(&client) else { return };
        let token = running.token;
        let pause = self.random.random_range(Duration::from_millis(5)..=Duration::from_millis(100));
        self.queue.push(self.now + pause, Due::Client(ClientEvent::Retry(client, token)));
    }

    /// A host answers; the answer may get lost.
    pub(super) fn replied(&mut self, _host: usize, token: Token, answer: Result<Reply, Option<Record>>) {
        if let Some(delay) = self.config.net.deliveries(&mut self.random).first() {
            let event = ClientEvent::Answer(token, Box::new(answer));
            self.queue.push(self.now + *delay, Due::Client(event));
        }
    }

    fn answered(&mut self, token: Token, answer: Result<Reply, Option<Record>>) {
        let Some(client) = self.clients.attempts.remove(&token) else { return };
        let Some(running) = self.clients.running.get_mut(&client).filter(|running| running.token == token) else {
            return;
        };
        let named = running.command.as_ref().is_some_and(|command| command.request.is_some());
        match answer {
            Err(record) => self.finish(client, Some((None, record))),
            Ok(Reply::Written(outcome)) => self.finish(client, Some((Some(outcome), None))),
            Ok(Reply::Refused(refusal)) => {
                running.unsure |= refusal == Refusal::OutcomeUnknown;
                let over = (running.unsure && !named) || matches!(refusal, Refusal::TooOld(_));
                if over { self.finish(client, None) } else { self.retry_for_a_while(client) }
            }
        }
    }

    fn timed_out(&mut self, token: Token) {
        let Some(client) = self.clients.attempts.remove(&token) else { return };
        let Some(running) = self.clients.running.get_mut(&client).filter(|running| running.token == token) else {
            return;
        };
        running.unsure = true;
        let safe = running.command.as_ref().is_none_or(|command| command.request.is_some());
        if safe { self.retry_for_a_while(client) } else { self.finish(client, None) }
    }

    fn retry_for_a_while(&mut self, client: usize) {
        let running = self.clients.running.get(&client);
        if running.is_some_and(|running| self.now - running.invoked < PATIENCE) {
            self.retry(client);
        } else {
            self.finish(client, None);
        }
    }

    fn finish(&mut self, client: usize, answer: Option<(Option<Outcome>, Option<Record>)>) {
        let now = self.now;
        let Some(Running { at, command, invoked, unsure, .. }) = self.clients.running.remove(&client) else { return };
        // What was never sent, or refused each time, is known not to have happened.
        let matters = answer.is_some() || (command.is_some() && unsure);
        if matters {
            let completed = answer.is_some().then_some(now);
            let (outcome, record) = answer.unwrap_or_default();
            self.clients.finished.push(Finished { client, at, command, invoked, completed, outcome, record });
        }
        self.later(client);
    }
}

/// How long a client waits for one answer.
const TIME_OUT: Duration = Duration::from_millis(1500);

/// How long a client tries.
const PATIENCE: Duration = Duration::from_secs(20);
