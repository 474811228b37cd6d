//! One group: takes whatever waits, has the state machine decide, and carries out what comes of it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use dht_core::{
    overlay::Routes,
    record::RecordKey,
    replication::chain::{Change, Input, Message, Output, Refusal, Reply, State, Timer, Token},
    ring::{PeerId, Slot},
    view::View,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::{
    Chains, Standing, TablePart,
    job::{Job, Waiter},
    log::log_change,
    reads::{Granters, Reads},
    store::Store,
    synced::Synced,
    table::read_table,
    timers::Timers,
    views::Views,
};
use crate::{
    clock,
    driver::{Handle, KeyRange, Shared, shards::Shards},
    transport::{Urgency, gather},
    wire::PeerBody,
};

pub(super) struct Worker {
    group: u32,
    pub(super) state: State,
    pub(super) store: Store,
    pub(super) shared: Arc<Shared>,
    pub(super) control: Handle,
    shards: Arc<Shards>,
    views: Arc<Views>,
    /// What it says of itself.
    standing: Arc<Standing>,
    ticks: u64,
    /// Its own queue, for what comes back later.
    pub(super) jobs: mpsc::WeakSender<Job>,
    /// The picture of the ring that the state machine has.
    pub(super) routes: Arc<Routes>,
    waiters: HashMap<Token, Waiter>,
    pub(super) next_token: Token,
    timers: Timers,
    /// What has to be synced once the batch is put.
    sync: Option<u64>,
    /// What has been.
    synced: Synced,
    /// What others may read beside this task.
    reads: Arc<Reads>,
    granters: Granters,
    /// Whose grants have come since the last batch was put.
    granted: BTreeSet<PeerId>,
    /// Slots whose entries have changed since the last batch was put.
    changed: BTreeSet<Slot>,
    /// Who waits until others go on without this peer.
    standing_down: Option<oneshot::Sender<()>>,
    /// What is done once everything so far is on disk.
    once_durable: Vec<Box<dyn FnOnce() + Send>>,
}

impl Worker {
    #[allow(clippy::too_many_arguments, reason = "put together at one place")]
    pub(super) fn new(
        group: u32,
        state: State,
        store: Store,
        shared: Arc<Shared>,
        control: Handle,
        shards: Arc<Shards>,
        views: Arc<Views>,
        reads: Arc<Reads>,
        standing: Arc<Standing>,
        jobs: mpsc::WeakSender<Job>,
    ) -> Self {
        let routes = shared.routes.load_full();
        let (waiters, timers, granters, granted, changed, standing_down, once_durable) = Default::default();
        let (next_token, ticks, sync) = (0, 0, None);
        Self {
            group,
            state,
            store,
            shared,
            control,
            shards,
            views,
            standing,
            ticks,
            jobs,
            routes,
            waiters,
            next_token,
            timers,
            sync,
            synced: Synced::default(),
            reads,
            granters,
            granted,
            changed,
            standing_down,
            once_durable,
        }
    }

    /// Works until it is told to stop, or the store fails: then this group is as good as dead, and others take its slots
    /// over.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let outputs = self.state.start(clock::now());
        self.carry_out(outputs);
        let mut waiting = Vec::with_capacity(GROUP);
        while self.store.failure().is_none() {
            tokio::select! {
                _ = queue.recv_many(&mut waiting, GROUP) => {}
                () = self.synced.changed() => {}
                () = sleep(self.timers.next_in(clock::now())) => {}
            }
            gather(&mut queue, &mut waiting, GROUP).await;
            self.synced.news().into_iter().flatten().for_each(|input| self.handle(input));
            self.look_at_routes();
            for job in waiting.drain(..) {
                match job {
                    Job::Stop => return self.end(),
                    Job::LetGo(reply) if self.state.held() == 0 => {
                        self.end();
                        _ = reply.send(true);
                        return;
                    }
                    Job::LetGo(reply) => _ = reply.send(false),
                    job => self.take(job),
                }
            }
            self.fire_timers();
            self.put();
        }
        self.close();
        if let Some(error) = self.store.failure() {
            tracing::error!(group = self.group, error = %error.chain(), "chains have stopped: the store has failed");
        }
    }

    fn end(&mut self) {
        drop(self.store.flush());
        self.close();
    }

    /// What this task does not look after any more, nobody reads beside it.
    fn close(&self) {
        self.shared.routes.load().ring.into_iter().flat_map(|ring| ring.slot_bits.iter()).for_each(|slot| {
            if Chains::group_of(slot) == self.group {
                self.reads.close(slot);
            }
        });
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Input(input) => {
                if let Input::Message(from, Message::Grant(_)) = &input {
                    self.granted.insert(*from);
                }
                self.handle(input);
            }
            Job::Write { slot, epoch, command, done } => {
                let token = self.token(Waiter::Write(done));
                self.handle(Input::Write(token, slot, epoch, command));
            }
            Job::Read { slot, at, done } => {
                let token = self.token(Waiter::Read(done));
                self.handle(Input::Read(token, slot, at));
            }
            Job::Scan { slot, range, reply } => self.scan(slot, range, reply),
            Job::Sweep { slot, catalogue, reply } => drop(reply.send(self.store.sweep(slot, &catalogue))),
            Job::Report { slot, at, reply } => {
                let report = self.state.report(clock::now(), slot);
                let key = self.state.report_key(slot, &at, &self.store);
                drop(reply.send(report.map(|report| (report, key))));
            }
            Job::Survey { claim, reply } => {
                if let Some(claim) = claim {
                    self.handle(Input::Claim(claim));
                }
                let reports = self.state.reports(clock::now()).collect();
                self.once_durable.push(Box::new(|| drop(reply.send(reports))));
            }
            Job::Recover { views, reply } => self.recover(views, reply),
            Job::ComeRound(reply) => _ = reply.send(()),
            Job::Batch(jobs) => jobs.into_iter().for_each(|job| self.take(job)),
            Job::StandDown(reply) => {
                self.handle(Input::Stop);
                self.standing_down = Some(reply);
            }
            Job::Stop | Job::LetGo(_) => {}
        }
    }

    fn recover(&mut self, views: Vec<(View, bool)>, reply: oneshot::Sender<Vec<Slot>>) {
        let mut refused = Vec::new();
        for (view, begins_empty) in views {
            let (slot, epoch) = (view.slot, view.epoch);
            self.handle(Input::Recover(view, begins_empty));
            if self.state.view(slot).is_none_or(|known| known.epoch != epoch) {
                refused.push(slot);
            }
        }
        self.once_durable.push(Box::new(|| _ = reply.send(refused)));
    }

    /// A scan of the whole slot is a read of a key that nobody writes: it may be answered where and when that may be. At
    /// the head only, where the table is what is committed.
    fn scan(
        &mut self,
        slot: Slot,
        range: KeyRange,
        reply: oneshot::Sender<Result<mpsc::Receiver<TablePart>, Refusal>>,
    ) {
        if self.state.view(slot).and_then(View::head) != Some(self.routes.me.id) {
            return drop(reply.send(Err(Refusal::WrongView)));
        }
        let no_key = RecordKey { keyspace: range.keyspace, key: Bytes::new() };
        let token = self.token(Waiter::Scan(range, reply));
        self.handle(Input::Read(token, slot, no_key));
    }

    fn token(&mut self, waiter: Waiter) -> Token {
        self.next_token += 1;
        self.waiters.insert(self.next_token, waiter);
        self.next_token
    }

    pub(super) fn handle(&mut self, input: Input) {
        let outputs = self.state.handle(clock::now(), input, &self.store);
        self.carry_out(outputs);
    }

    /// The picture of the ring is looked at, not sent: only the newest counts.
    fn look_at_routes(&mut self) {
        let newest = self.shared.routes.load();
        if !Arc::ptr_eq(&newest, &self.routes) {
            self.routes = newest.clone();
            self.handle(Input::Routes(self.routes.clone()));
        }
    }

    fn fire_timers(&mut self) {
        let now = clock::now();
        while let Some(timer) = self.timers.take(now) {
            self.handle(Input::Timer(timer));
            if timer == Timer::Tick {
                self.publish();
            }
        }
    }

    /// Says how the group fares. Only whoever leaves is asked what depends on it.
    fn publish(&mut self) {
        self.ticks += 1;
        let stood_down = self.standing_down.take_if(|_| self.state.handing_over() == 0);
        stood_down.into_iter().for_each(|reply| _ = reply.send(()));
        let lost: BTreeSet<PeerId> = self.state.lost().collect();
        if **self.standing.lost.load() != lost {
            self.standing.lost.store(Arc::new(lost));
        }
        if self.routes.me.leaving {
            self.standing.needed.store(self.state.held(), Ordering::Relaxed);
        }
        if self.ticks.is_multiple_of(TICKS_PER_EXPIRY) {
            self.expire();
        }
        if self.ticks % TICKS_PER_COUNT == 1 {
            self.standing.keys.store(self.store.keys(), Ordering::Relaxed);
        }
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            // What could not be read or written was taken for something else: nothing may come of it.
            if self.store.failure().is_some() {
                return;
            }
            log_change(&output);
            match output {
                Output::Send(to, message) => self.send(to, message, Urgency::Now),
                Output::SendSoon(to, message) => self.send(to, message, Urgency::Soon),
                Output::SetTimer(after, timer) => {
                    self.timers.set(clock::now(), after, timer);
                }
                Output::Store(slot, change) => {
                    if let Change::Install { acceptor, .. } = &*change {
                        self.views.learn(acceptor.view.clone());
                    }
                    if !matches!(*change, Change::Acceptor(_) | Change::Append(_) | Change::Apply { .. }) {
                        self.reads.close(slot);
                    }
                    self.changed.insert(slot);
                    self.store.store(slot, *change);
                }
                Output::Sync(number) => self.sync = Some(number),
                Output::Reply(token, reply) => self.reply(token, reply),
                Output::Read(token, slot, at) => self.read(token, slot, &at),
                Output::SendSnapshot(slot, to, epoch) => self.send_snapshot(slot, to, epoch),
                Output::Locate(slot) => self.locate(slot),
            }
        }
    }

    fn read(&mut self, token: Token, slot: Slot, at: &RecordKey) {
        match self.waiters.remove(&token) {
            Some(Waiter::Read(done)) => {
                if let Some(record) = self.store.record(slot, at) {
                    done(Ok(record));
                }
            }
            Some(Waiter::Scan(range, reply)) if self.store.flush().is_ok() => {
                drop(reply.send(Ok(read_table(self.shared.store.clone(), slot, Some(range)))));
            }
            _ => {}
        }
    }

    fn send(&self, to: PeerId, message: Message, urgency: Urgency) {
        let Some(peer) = self.routes.peer(to).cloned() else { return };
        // Leases do not wait behind entries.
        let exchange = match &message {
            Message::Heartbeat(_) | Message::Grant(_) => &self.shared.exchange,
            Message::Slot(..) => &self.shared.replicate,
        };
        let address = peer.address.clone();
        exchange.send(&address, Some(peer), PeerBody::Chain(self.group, message), urgency);
    }

    fn reply(&mut self, token: Token, reply: Reply) {
        match (self.waiters.remove(&token), reply) {
            (Some(Waiter::Write(done)), Reply::Written(outcome)) => done(Ok(outcome)),
            (Some(Waiter::Write(done)), Reply::Refused(refusal)) => done(Err(refusal)),
            (Some(Waiter::Read(done)), Reply::Refused(refusal)) => done(Err(refusal)),
            (Some(Waiter::Scan(_, scan)), Reply::Refused(refusal)) => drop(scan.send(Err(refusal))),
            (Some(Waiter::Read(_) | Waiter::Scan(..)), Reply::Written(_)) | (None, _) => {}
        }
    }

    /// Everything that has gathered is one batch; what waits for the disk shares an fsync with all groups.
    fn put(&mut self) {
        let standing = self.state.take_standing();
        self.changed.extend(&standing);
        let pending = |slot: &Slot| self.state.log(*slot).is_none_or(|log| log.pending() > 0);
        let (dirty, clean): (Vec<Slot>, Vec<Slot>) = std::mem::take(&mut self.changed).into_iter().partition(pending);
        // Before an entry is on disk, and so before anybody can hear that it is; the others once the table has them.
        dirty.into_iter().for_each(|slot| self.reads.set_dirty(slot, true));
        if self.store.flush().is_err() {
            return;
        }
        clean.into_iter().for_each(|slot| self.reads.set_dirty(slot, false));
        let standing = standing.into_iter().map(|slot| (slot, self.state.readable(slot)));
        let granted = std::mem::take(&mut self.granted).into_iter().map(|peer| (peer, self.state.granted_until(peer)));
        self.reads.publish(standing, granted, &mut self.granters);
        if !self.once_durable.is_empty() {
            let then = std::mem::take(&mut self.once_durable);
            self.shards.when_durable(|synced| {
                if synced.is_ok() {
                    then.into_iter().for_each(|then| then());
                }
            });
        }
        let Some(number) = self.sync.take() else { return };
        self.shards.when_durable(self.synced.once(number));
    }
}

/// How often it is looked whether something has expired: twice a second.
const TICKS_PER_EXPIRY: u64 = 10;

/// How often keys are counted: once a second.
const TICKS_PER_COUNT: u64 = 20;

/// Jobs that are taken at once.
const GROUP: usize = 1024;
