//! Chain mode: the slots' state machines, in a few groups, each with a task of its own and leases of its own.
//!
//! A task and not a thread: what comes from a connection, what is decided and what goes out to another connection then
//! mostly happens on one thread, one after the other, and waking threads was most of what a write cost. What it asks of the
//! engine keeps that thread busy; when it has to wait for the engine, the thread's other tasks get another one.
//!
//! A group is handed batches of inputs; what they change becomes one engine batch and one fsync, which other groups share.
//! Replies and messages go out at once: what has to wait for the disk waits in the state machine.

mod errands;
mod expiry;
mod job;
mod layout;
mod log;
mod reads;
mod store;
mod synced;
mod table;
mod timers;
mod views;
mod worker;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use dht_core::{
    Rules,
    catalogue::Catalogue,
    record::{Mode, RecordKey, storage_key},
    replication::chain::{self, Command, KeyReport, Outcome, Record, Refusal, Report, Snapshot, State},
    ring::{PeerId, Slot, SlotBits},
    view::{Claim, Epoch, Member, View},
};
use tokio::sync::{mpsc, oneshot};

pub use self::{job::Batch, table::TablePart};
use self::{job::Job, reads::Reads, store::Store, views::Views, worker::Worker};
use super::{Handle, KeyRange, Shared, shards::Shards};
use crate::{
    clock,
    storage::{Engine, EngineError, Table},
};

/// All chains of a peer.
pub struct Chains {
    groups: Vec<mpsc::Sender<Job>>,
    views: Arc<Views>,
    reads: Arc<Reads>,
    engine: Arc<dyn Engine>,
    me: PeerId,
    /// One for each group.
    standing: Vec<Arc<Standing>>,
}

/// How a group fares.
#[derive(Default)]
struct Standing {
    /// Slots that can't do without this peer.
    needed: AtomicUsize,
    /// Keys of clients.
    keys: AtomicU64,
    /// Peers with which no round trip was completed for a while.
    lost: ArcSwap<BTreeSet<PeerId>>,
}

/// Whom to tell what became of a command. Dropped if the peer stops: then nobody knows. It must not block.
pub type WriteDone = Box<dyn FnOnce(Result<Outcome, Refusal>) + Send>;

/// Whom to tell what was read. Dropped if the peer stops. It must not block.
pub type ReadDone = Box<dyn FnOnce(Result<Option<Record>, Refusal>) + Send>;

impl Chains {
    /// In how many groups the slots are, at every peer of a ring: peers keep leases for each of them. Like the threads of
    /// eventual mode, they keep a pair of cores busy. A guess.
    pub const GROUPS: u32 = 2;

    /// Which group a slot is in.
    #[must_use]
    pub fn group_of(slot: Slot) -> u32 {
        slot.0 % Self::GROUPS
    }

    /// Takes up the chains that are in the store; with `founds`, begins them.
    ///
    /// # Errors
    /// If the engine can't be read or takes no writes.
    pub fn open(
        shared: &Arc<Shared>,
        control: &Handle,
        shards: &Arc<Shards>,
        bits: SlotBits,
        founds: bool,
    ) -> Result<Self, EngineError> {
        let (views, reads) = (Arc::new(Views::new(bits)), Arc::new(Reads::new(bits)));
        let engine: Arc<dyn Engine> = shared.store.clone();
        let routes = shared.routes.load_full();
        let me = Member { peer: routes.me.id, incarnation: routes.me.incarnation };
        let (mut groups, mut standing) = (Vec::new(), Vec::new());
        for group in 0..Self::GROUPS {
            let mine = |slot: Slot| Self::group_of(slot) == group;
            let (mut store, mut stored) = Store::open(shared.store.clone(), shared.catalogue.shared(), mine)?;
            if founds {
                stored = State::founding(me, bits.iter().filter(|slot| mine(*slot))).collect();
                store.found(&stored);
                store.flush()?;
                shared.store.sync()?;
            }
            stored.iter().for_each(|(_, stored)| views.learn(stored.acceptor.view.clone()));
            let state = State::new(chain::Config::default(), Rules::ALL, me, routes.clone(), stored, rand::random());
            let state = state.claimed((*shared.claims.known()).clone());
            let (jobs, queue) = mpsc::channel(QUEUE);
            let needed = AtomicUsize::new(bits.iter().filter(|slot| mine(*slot)).count());
            let told = Arc::new(Standing { needed, ..Standing::default() });
            standing.push(told.clone());
            let (shared, control, shards, views) = (shared.clone(), control.clone(), shards.clone(), views.clone());
            let jobs_of = jobs.downgrade();
            let reads = reads.clone();
            let worker = Worker::new(group, state, store, shared, control, shards, views, reads, told, jobs_of);
            tokio::spawn(worker.run(queue));
            groups.push(jobs);
        }
        Ok(Self { groups, views, reads, engine, me: me.peer, standing })
    }

    /// The newest view of a slot that this peer knows.
    #[must_use]
    pub fn view(&self, slot: Slot) -> Option<Arc<View>> {
        self.views.newest(slot)
    }

    /// Another peer goes by this view.
    pub fn learn(&self, view: View) {
        self.views.learn(view);
    }

    /// Whether the slot's group has lost contact to the peer, as of a moment ago; not if they share no slots.
    #[must_use]
    pub fn has_lost(&self, slot: Slot, peer: PeerId) -> bool {
        self.standing[Self::group_of(slot) as usize].lost.load().contains(&peer)
    }

    /// Has the head of the slot, if this peer is it, carry out a command. Returns when it has found a place in a queue.
    pub async fn write(&self, slot: Slot, epoch: Epoch, command: Command, done: WriteDone) {
        self.hand_over(slot, Job::Write { slot, epoch, command, done }).await;
    }

    /// What is committed under a key, if this peer may say so and no entry of the slot is pending here: without a queue.
    #[must_use]
    #[allow(clippy::option_option, reason = "whether it may say so, and whether there is one")]
    pub fn read_clean(&self, slot: Slot, at: &RecordKey) -> Option<Option<Record>> {
        self.reads.read(clock::now(), &*self.engine, slot, at)
    }

    /// Reads at this peer, if it is a member of the slot's chain. Returns when it has found a place in a queue.
    pub async fn read(&self, slot: Slot, at: RecordKey, done: ReadDone) {
        self.hand_over(slot, Job::Read { slot, at, done }).await;
    }

    /// Hands commands and reads over. Returns when all have found a place in a queue.
    pub async fn carry_out(&self, batch: Batch) {
        for (jobs, group) in batch.0.into_iter().zip(&self.groups).filter(|(jobs, _)| !jobs.is_empty()) {
            drop(group.send(Job::Batch(jobs)).await);
        }
    }

    /// What this peer has under a key, perhaps from before, if it is a member of the slot's chain.
    #[must_use]
    #[allow(clippy::option_option, reason = "whether it is, and whether there is one")]
    pub fn read_any(&self, slot: Slot, at: &RecordKey) -> Option<Option<Record>> {
        // Of a slot that it is a member of it has the whole table. A table that is given up is so after the view is known.
        let is_member = || self.view(slot).is_some_and(|view| view.has(self.me));
        if !is_member() {
            return None;
        }
        let stored = self.engine.get(Table::Records, &storage_key(Mode::Chain, slot, at)).ok()?;
        is_member().then_some(stored.map(|value| layout::decode_record(&value)).transpose().ok()?)
    }

    /// What is committed under some keys, if this peer may say so and no entry of the slot is pending here: without a queue.
    #[must_use]
    pub fn scan_clean(
        &self,
        slot: Slot,
        range: &KeyRange,
    ) -> Option<impl Iterator<Item = Result<(RecordKey, Record), EngineError>>> {
        let entries = self.reads.scan(clock::now(), &*self.engine, slot, range)?;
        Some(entries.map(|entry| entry.and_then(|(key, value)| table::decode_entry(&key, &value))))
    }

    /// What the slot's table has under some keys now, if this peer is the slot's head.
    ///
    /// # Errors
    /// If it is not, or can't answer.
    pub async fn scan(&self, slot: Slot, range: KeyRange) -> Result<mpsc::Receiver<TablePart>, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.hand_over(slot, Job::Scan { slot, range, reply }).await;
        answer.await.unwrap_or(Err(Refusal::Unavailable))
    }

    /// Deletes some of the slot's records whose keyspace was dropped according to this catalogue. Returns whether there may
    /// be more.
    pub async fn sweep(&self, slot: Slot, catalogue: Arc<Catalogue>) -> bool {
        let (reply, answer) = oneshot::channel();
        self.hand_over(slot, Job::Sweep { slot, catalogue, reply }).await;
        answer.await.unwrap_or(false)
    }

    /// How this peer stands in a slot and with a key of it; `None` if it knows nothing of the slot.
    pub async fn report(&self, slot: Slot, at: RecordKey) -> Option<(Report, KeyReport)> {
        let (reply, answer) = oneshot::channel();
        self.hand_over(slot, Job::Report { slot, at, reply }).await;
        answer.await.ok().flatten()
    }

    /// How this peer stands in all slots that it knows anything of, once it stands by the claim, if there is one. What is
    /// said is on disk when this returns.
    ///
    /// # Errors
    /// If a group has stopped, or the disk fails.
    pub async fn survey(&self, claim: Option<Claim>) -> Result<Vec<Report>, Refusal> {
        let mut reports = Vec::new();
        for group in &self.groups {
            let (reply, answer) = oneshot::channel();
            drop(group.send(Job::Survey { claim: claim.clone(), reply }).await);
            reports.extend(answer.await.map_err(|_| Refusal::Unavailable)?);
        }
        Ok(reports)
    }

    /// Puts views of a recovery into force, if this peer has not promised a later one; each is on disk when this returns. With
    /// the flag, its slot begins empty. Returns the slots in which they are not in force.
    ///
    /// # Errors
    /// If a group has stopped, or the disk fails.
    pub async fn recover(&self, views: Vec<(View, bool)>) -> Result<Vec<Slot>, Refusal> {
        let mut refused = Vec::new();
        for (group, jobs) in (0..).zip(&self.groups) {
            let mine = |(view, _): &&(View, bool)| Self::group_of(view.slot) == group && self.views.has(view.slot);
            let (reply, answer) = oneshot::channel();
            let views = views.iter().filter(mine).cloned().collect();
            drop(jobs.send(Job::Recover { views, reply }).await);
            refused.extend(answer.await.map_err(|_| Refusal::Unavailable)?);
        }
        Ok(refused)
    }

    /// Returns once every group has done what waited in its queue, or has stopped.
    pub async fn come_round(&self) {
        for group in &self.groups {
            let (reply, answer) = oneshot::channel();
            drop(group.send(Job::ComeRound(reply)).await);
            let _ = answer.await;
        }
    }

    /// What this peer has heard of a recovery: it is on disk.
    pub async fn hear(&self, input: chain::Input) {
        for group in &self.groups {
            drop(group.send(Job::Input(input.clone())).await);
        }
    }

    /// A message has arrived. One about a group or a slot that does not exist here is dropped.
    pub async fn message(&self, group: u32, from: PeerId, message: chain::Message) {
        let fits = match &message {
            chain::Message::Slot(slot, _) => Self::group_of(*slot) == group && self.views.has(*slot),
            chain::Message::Heartbeat(_) | chain::Message::Grant(_) => true,
        };
        if let Some(jobs) = self.groups.get(group as usize).filter(|_| fits) {
            drop(jobs.send(Job::Input(chain::Input::Message(from, message))).await);
        }
    }

    /// Another peer has sent a slot's table.
    pub async fn snapshot(&self, from: PeerId, slot: Slot, snapshot: Snapshot) {
        if self.views.has(slot) {
            self.hand_over(slot, Job::Input(chain::Input::Snapshot(from, slot, snapshot))).await;
        }
    }

    /// Slots that can't do without this peer, as of the last time that all was looked over; before that, all slots.
    #[must_use]
    pub fn held(&self) -> usize {
        self.standing.iter().map(|it| it.needed.load(Ordering::Relaxed)).sum()
    }

    /// Keys of clients that have a value here, as of a moment ago.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.standing.iter().map(|it| it.keys.load(Ordering::Relaxed)).sum()
    }

    /// This peer is about to stop. Returns once others go on without it in all slots that can do without it.
    pub async fn stand_down(&self) {
        let mut waiting = Vec::new();
        for jobs in &self.groups {
            let (reply, answer) = oneshot::channel();
            drop(jobs.send(Job::StandDown(reply)).await);
            waiting.push(answer);
        }
        for answer in waiting {
            drop(answer.await); // A group that has ended has nothing to hand over.
        }
    }

    /// Ends all groups of which no slot needs this peer, which is about to depart. Returns whether all have ended: then nobody
    /// counts on it any more, and nobody can begin to.
    pub async fn let_go(&self) -> bool {
        let mut all = true;
        for jobs in &self.groups {
            let (reply, answer) = oneshot::channel();
            drop(jobs.send(Job::LetGo(reply)).await);
            all &= answer.await.unwrap_or(true); // It has ended before.
        }
        all
    }

    /// Ends all groups; whoever waits is told that nothing is known.
    pub async fn stop(&self) {
        for jobs in &self.groups {
            drop(jobs.send(Job::Stop).await);
            jobs.closed().await;
        }
    }

    /// What is handed over to a group that has ended is dropped, and with it whoever waits.
    async fn hand_over(&self, slot: Slot, job: Job) {
        drop(self.groups[Self::group_of(slot) as usize].send(job).await);
    }
}

/// Jobs that may wait for a group before callers have to.
const QUEUE: usize = 4096;
