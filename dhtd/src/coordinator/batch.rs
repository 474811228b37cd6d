//! Many operations at once: each is tried once where it should be done, and what has to go to the same place goes there in
//! one piece. What comes to nothing that way goes on by itself, as if it had come alone.
//!
//! So an operation costs no task of its own unless it meets a change of the ring. What another peer or a thread answers is
//! brought back by a channel of the whole batch; when that is closed, nobody is left who would answer.

use std::{collections::HashMap, sync::Arc};

use dht_core::{
    overlay::{Peer, Routes},
    record::{Content, Mode, RecordKey},
    replication::chain::{Command, Outcome, Record, Refusal},
    ring::Slot,
};
use dhtd_proto::v1::{self, peer_call::Call};
use tokio::{
    sync::mpsc,
    task::{JoinSet, coop::consume_budget},
    time::{Instant, sleep_until},
};

use super::{
    Coordinator, Executed, OperationError, Read,
    chain::{Attempt, READ_TIME, WRITE_TIME, read, written},
    commit::{Done, Intent, check, group},
    get::{Held, chain_value_of, held, value_of},
    write::{Intended, another_may, executed, outcome, write_call},
};
use crate::{
    driver::{
        chains::{Batch, Chains, ReadDone, WriteDone},
        shards::Shards,
    },
    transport::{Answer, CallError, Lane},
    wire::chain as wire,
};

/// What a client asks for, in a keyspace of this mode.
pub enum Operation {
    /// As [`Coordinator::execute`].
    Write(Mode, Command, u32),
    /// As [`Coordinator::get`].
    Read(Mode, RecordKey, bool),
}

/// What became of an operation.
pub type Completion = Result<Completed, OperationError>;

/// An operation that was carried out.
pub enum Completed {
    /// A write.
    Executed(Executed),
    /// A read.
    Read(Read),
}

/// An operation that is under way.
enum Work {
    Write(Intended, u32),
    Read(Mode, RecordKey, bool),
}

/// What came of the first try.
enum Step {
    Ended(Completion),
    /// To be tried again. With the flag it may have been carried out.
    Again(bool),
}

/// How an operation was begun.
enum Begun {
    Ended(Completion),
    /// Somebody will answer.
    HandedOver(Work),
    /// There is nobody to be asked.
    Nowhere(Work),
}

/// What has to go where.
struct Plan<'a> {
    coordinator: &'a Coordinator,
    routes: Arc<Routes>,
    chains: &'a Arc<Chains>,
    shards: &'a Arc<Shards>,
    steps: mpsc::UnboundedSender<(usize, Step)>,
    batch: Batch,
    intents: [Vec<Intent>; Shards::COUNT],
    /// By the address of the peer.
    calls: HashMap<Arc<str>, Vec<(Call, Answer)>>,
}

/// Operations that have not been told of yet.
struct Open<'a, T> {
    coordinator: &'a Coordinator,
    tell: T,
    left: usize,
    /// Those that are tried for the first time, by their places.
    tries: Vec<Option<Work>>,
    /// The others.
    again: JoinSet<(usize, Completion)>,
}

impl Coordinator {
    /// Carries operations out, each by itself, and tells of each by its place what became of it. Returns when all were told;
    /// if it is dropped before, some may be carried out and others not.
    pub async fn carry_out(&self, operations: Vec<Operation>, tell: impl FnMut(usize, Completion)) {
        let (steps, mut taken) = mpsc::unbounded_channel();
        let mut open =
            Open { coordinator: self, tell, left: operations.len(), tries: Vec::new(), again: JoinSet::new() };
        let mut plan = match Plan::new(self, steps) {
            Ok(plan) => plan,
            Err(error) => return (0..operations.len()).for_each(|place| open.end(place, Err(error.clone()))),
        };
        for (place, operation) in operations.into_iter().enumerate() {
            let begun = plan.begin(place, operation);
            open.begin(place, begun);
            // A store that has to go to the disk must not hold up everything else.
            consume_budget().await;
        }
        let begun = Instant::now();
        let mut hand_over = std::pin::pin!(plan.hand_over());
        let mut patience = std::pin::pin!(sleep_until(begun + READ_TIME));
        let (mut handed_over, mut answering, mut reads_wait) = (false, true, true);
        let mut steps = Vec::new();
        while open.left > 0 {
            tokio::select! {
                () = &mut hand_over, if !handed_over => handed_over = true,
                count = taken.recv_many(&mut steps, STEPS), if answering => {
                    steps.drain(..).for_each(|(place, step)| open.step(place, step));
                    answering = count > 0;
                    if !answering {
                        open.expire(true); // Whoever was to answer is gone.
                    }
                }
                Some(Ok((place, completion))) = open.again.join_next() => open.end(place, completion),
                () = &mut patience, if answering => {
                    open.expire(!reads_wait);
                    (answering, reads_wait) = (reads_wait, false);
                    patience.as_mut().reset(begun + WRITE_TIME);
                }
                else => return, // Not reached: what is left is either answered or tried again.
            }
        }
    }

    /// Goes on with an operation whose first try came to nothing.
    async fn carry_on(self, work: Work, in_doubt: bool) -> Completion {
        match work {
            Work::Write(Intended::Command(command), wanted) => {
                let (outcome, replicas) = self.command_again(command, wanted, in_doubt).await?;
                executed(outcome, replicas).map(Completed::Executed)
            }
            Work::Write(Intended::Change(at, content), wanted) => {
                Ok(Completed::Executed(self.write(at, content, wanted).await?.into()))
            }
            Work::Read(mode, at, any) => self.get(mode, at, any).await.map(Completed::Read),
        }
    }
}

impl<T: FnMut(usize, Completion)> Open<'_, T> {
    fn begin(&mut self, place: usize, begun: Begun) {
        self.tries.push(None);
        match begun {
            Begun::Ended(completion) => self.end(place, completion),
            Begun::HandedOver(work) => self.tries[place] = Some(work),
            Begun::Nowhere(work) => self.try_again(place, work, false),
        }
    }

    fn end(&mut self, place: usize, completion: Completion) {
        self.left -= 1;
        (self.tell)(place, completion);
    }

    /// What comes after a first try was given up counts no more.
    fn step(&mut self, place: usize, step: Step) {
        let Some(work) = self.tries[place].take() else { return };
        match step {
            Step::Ended(completion) => self.end(place, completion),
            Step::Again(in_doubt) => self.try_again(place, work, in_doubt),
        }
    }

    fn try_again(&mut self, place: usize, work: Work, in_doubt: bool) {
        let coordinator = self.coordinator.clone();
        self.again.spawn(async move { (place, coordinator.carry_on(work, in_doubt).await) });
    }

    /// Reads have waited long enough for the first answer, and perhaps writes.
    fn expire(&mut self, writes: bool) {
        for place in 0..self.tries.len() {
            if let Some(work) = self.tries[place].take_if(|work| writes || matches!(work, Work::Read(..))) {
                self.try_again(place, work, true);
            }
        }
    }
}

impl<'a> Plan<'a> {
    fn new(coordinator: &'a Coordinator, steps: mpsc::UnboundedSender<(usize, Step)>) -> Result<Self, OperationError> {
        let (chains, shards) = (coordinator.chains()?, coordinator.shards()?);
        let routes = coordinator.0.shared.routes.load_full();
        let (batch, intents, calls) = Default::default();
        Ok(Self { coordinator, routes, chains, shards, steps, batch, intents, calls })
    }

    fn begin(&mut self, place: usize, operation: Operation) -> Begun {
        let begun = match operation {
            Operation::Write(mode, command, wanted) => self.begin_write(place, mode, command, wanted),
            Operation::Read(Mode::Chain, at, any) => self.begin_chain_read(place, at, any),
            Operation::Read(Mode::Eventual, at, any) => self.begin_read(place, at, any),
        };
        begun.unwrap_or_else(|error| Begun::Ended(Err(error)))
    }

    fn begin_write(
        &mut self,
        place: usize,
        mode: Mode,
        command: Command,
        wanted: u32,
    ) -> Result<Begun, OperationError> {
        let intended = self.coordinator.intended(mode, command)?;
        let handed_over = match &intended {
            Intended::Command(command) => self.add_command(place, command, wanted)?,
            Intended::Change(at, content) => self.add_change(place, at, content, wanted.max(1)),
        };
        let work = Work::Write(intended, wanted);
        Ok(if handed_over { Begun::HandedOver(work) } else { Begun::Nowhere(work) })
    }

    /// For the slot's head.
    fn add_command(&mut self, place: usize, command: &Command, wanted: u32) -> Result<bool, OperationError> {
        self.coordinator.check_keyspace(command.at.keyspace)?;
        let slot = self.shards.slot_of(&command.at.key);
        let Some(view) = self.chains.view(slot) else { return Ok(false) };
        let replicas = u32::try_from(view.chain.len()).unwrap_or(u32::MAX);
        let Some(head) = view.head().filter(|_| replicas >= wanted) else { return Ok(false) };
        let steps = self.steps.clone();
        if head == self.routes.me.id {
            let done: WriteDone = Box::new(move |result| {
                let attempt = result.map_or_else(Attempt::Refused, Attempt::Done);
                drop(steps.send((place, wrote(attempt, replicas))));
            });
            self.batch.write(slot, view.epoch, command.clone(), done);
            return Ok(true);
        }
        let Some(address) = self.coordinator.address_of(self.chains, slot, head) else { return Ok(false) };
        let call = v1::ChainWriteCall {
            epoch: Some(wire::epoch(view.epoch)),
            command: Some(wire::command(command, self.coordinator.wall_millis())),
        };
        let chains = self.chains.clone();
        let answer: Answer =
            Box::new(move |answer| drop(steps.send((place, wrote(written(&chains, answer), replicas)))));
        self.add_call(address, Call::ChainWrite(call), answer);
        Ok(true)
    }

    /// For this peer, if it is a replica, or another one.
    fn add_change(&mut self, place: usize, at: &RecordKey, content: &Content, wanted: u32) -> bool {
        let (slot, steps) = (self.shards.slot_of(&at.key), self.steps.clone());
        let takes_writes = self.coordinator.0.shared.store.failure().is_none();
        if takes_writes && check(&self.routes, slot, wanted).is_ok() {
            let done: Done = Box::new(move |result| {
                drop(steps.send((place, Step::Ended(result.map(|outcome| Completed::Executed(outcome.into()))))));
            });
            let (at, change) = (at.clone(), content.clone());
            self.intents[Shards::shard_of(slot)].push(Intent { slot, at, change, min_durable: wanted, done });
            return true;
        }
        let Some(peer) = self.other(slot) else { return false };
        let address = peer.address.clone();
        let answer: Answer = Box::new(move |answer| {
            let step = match outcome(&address, answer) {
                Ok(outcome) => Step::Ended(Ok(Completed::Executed(outcome.into()))),
                Err(CallError::Refused(failure)) if !another_may(&failure) => {
                    Step::Ended(Err(OperationError::Remote(failure)))
                }
                Err(_) => Step::Again(true),
            };
            drop(steps.send((place, step)));
        });
        self.add_call(peer.address, write_call(at, content, wanted, self.coordinator.wall_millis()), answer);
        true
    }

    fn begin_chain_read(&mut self, place: usize, at: RecordKey, any: bool) -> Result<Begun, OperationError> {
        self.coordinator.check_keyspace(at.keyspace)?;
        let slot = self.shards.slot_of(&at.key);
        if let Some(record) = self.coordinator.read_chain_here(self.chains, slot, &at, any) {
            return Ok(Begun::Ended(chain_value_of(record).map(Completed::Read)));
        }
        let (steps, me) = (self.steps.clone(), self.routes.me.id);
        let view = self.chains.view(slot);
        let readers = view.map_or_else(Vec::new, |view| self.coordinator.readers(&view, any));
        if readers.first() == Some(&me) {
            let done: ReadDone = Box::new(move |result| {
                let attempt = result.map_or_else(Attempt::Refused, Attempt::Done);
                drop(steps.send((place, read_chain(attempt))));
            });
            self.batch.read(slot, at.clone(), done);
            return Ok(Begun::HandedOver(Work::Read(Mode::Chain, at, any)));
        }
        let address = readers.into_iter().find_map(|peer| self.coordinator.address_of(self.chains, slot, peer));
        let Some(address) = address else { return Ok(Begun::Nowhere(Work::Read(Mode::Chain, at, any))) };
        let call = v1::ChainReadCall { keyspace: at.keyspace.0, key: at.key.clone(), any_replica: any };
        let chains = self.chains.clone();
        let answer: Answer = Box::new(move |answer| drop(steps.send((place, read_chain(read(&chains, answer))))));
        self.add_call(address, Call::ChainRead(call), answer);
        Ok(Begun::HandedOver(Work::Read(Mode::Chain, at, any)))
    }

    fn begin_read(&mut self, place: usize, at: RecordKey, any: bool) -> Result<Begun, OperationError> {
        let (slot, me) = (self.shards.slot_of(&at.key), self.routes.me.id);
        let is_home = group(&self.routes, slot).any(|peer| peer.id == me);
        if is_home && let Held { record, synced: true } = self.coordinator.read_here(&at)? {
            return Ok(Begun::Ended(value_of(record, self.coordinator.wall_millis()).map(Completed::Read)));
        }
        let work = Work::Read(Mode::Eventual, at.clone(), any);
        let Some(peer) = self.other(slot) else { return Ok(Begun::Nowhere(work)) };
        let (steps, now) = (self.steps.clone(), self.coordinator.wall_millis());
        let answer: Answer = Box::new(move |answer| {
            let step = match held(answer) {
                Ok(Held { record, synced: true }) => Step::Ended(value_of(record, now).map(Completed::Read)),
                _ => Step::Again(false),
            };
            drop(steps.send((place, step)));
        });
        let call = Call::Read(v1::ReadCall { keyspace: at.keyspace.0, key: at.key });
        self.add_call(peer.address, call, answer);
        Ok(Begun::HandedOver(work))
    }

    /// Another peer of the slot's home group, as far as that is known.
    fn other(&self, slot: Slot) -> Option<Peer> {
        let me = self.routes.me.id;
        let known = group(&self.routes, slot).find(|peer| peer.id != me).cloned();
        known.or_else(|| self.coordinator.located(slot)?.into_iter().find(|peer| peer.id != me))
    }

    fn add_call(&mut self, address: Arc<str>, call: Call, answer: Answer) {
        self.calls.entry(address).or_default().push((call, answer));
    }

    /// Returns when everything has found a place in a queue.
    async fn hand_over(self) {
        let Self { coordinator, chains, shards, batch, intents, calls, steps, .. } = self;
        drop(steps);
        let mut ways = JoinSet::new();
        for (address, calls) in calls {
            let shared = coordinator.0.shared.clone();
            ways.spawn(async move { shared.calls.submit(&address, Lane::Foreground, calls).await });
        }
        chains.carry_out(batch).await;
        for intents in intents {
            coordinator.commit(shards, intents).await;
        }
        while ways.join_next().await.is_some() {}
    }
}

fn wrote(attempt: Attempt<Outcome>, replicas: u32) -> Step {
    match attempt {
        Attempt::Done(outcome) => Step::Ended(executed(outcome, replicas).map(Completed::Executed)),
        Attempt::Unknown | Attempt::Refused(Refusal::OutcomeUnknown) => Step::Again(true),
        Attempt::Refused(_) | Attempt::NotThere => Step::Again(false),
    }
}

fn read_chain(attempt: Attempt<Option<Record>>) -> Step {
    match attempt {
        Attempt::Done(record) => Step::Ended(chain_value_of(record).map(Completed::Read)),
        Attempt::Refused(_) | Attempt::NotThere | Attempt::Unknown => Step::Again(false),
    }
}

/// What is taken at once of what has come of first tries.
const STEPS: usize = 256;
