//! Chain mode: a slot's members are one register per key, linearizable, whatever is lost, cut off or crashes.
//!
//! Sources: van Renesse and Schneider, *Chain replication for supporting high throughput and availability*, OSDI 2004;
//! Terrace and Freedman, *Object storage on CRAQ*, ATC 2009 (reads at every member). Who is a member is decided by the
//! slot itself ([`crate::view`]). The rules are those of DESIGN, section 8; [`crate::Rules`] names them.
//!
//! ```text
//! head     takes commands, decides what comes of them, and numbers the entries
//! member   appends what comes from upstream, in order; acknowledges what is durable here and further down
//! commit   the head has all acknowledgements: durable at ALL members; the frontier travels down, entries are applied
//! read     at any member that holds leases of a majority of electors: a clean key from the table; for a dirty one the
//!          head says what is committed
//! change   Prepare, Level, Accept, Install: see `change`
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

mod accept;
mod care;
mod change;
mod entry;
mod essence;
mod head;
mod install;
mod interface;
mod learn;
mod level;
mod log;
mod read;
mod recover;
mod relay;
mod replica;
mod report;
mod stop;

pub use entry::{Action, Command, Condition, Effect, Entry, Outcome, Record, Refusal, Reply, RequestId, Value};
pub use essence::Essence;
pub use interface::{Body, Change, Config, Input, Message, Output, Snapshot, Stored, StoredLog, Timer, Token};
pub use log::{Kept, Log, Recorded, Table};
pub use read::{Readable, Reads};
pub use report::{Extent, KeyReport, Report};

use self::replica::Replica;
use crate::{
    Rules,
    overlay::Routes,
    ring::{PeerId, Slot},
    view::{Acceptor, Ballot, Claim, Contact, Epoch, Generation, Leases, Member, View},
};

/// One peer's part in all chains.
///
/// Call contract: after [`State::start`], give it inputs as they come with a `now` that never goes back, and carry out
/// the outputs in order. `now` is the time when the host took the input up: never later than when it was acted upon.
#[derive(Clone, Debug)]
pub struct State {
    config: Config,
    rules: Rules,
    me: Member,
    random: ChaCha8Rng,
    now: Duration,
    /// Until then leases may be out that an earlier process has granted.
    accepts_from: Duration,
    routes: Arc<Routes>,
    /// Counts the pictures of the ring, and of whom this peer reaches.
    revision: u64,
    /// Whom this peer reached at the last look, and how they are.
    contacts: Vec<Contact>,
    /// The peers of the ring that have not departed and are not about to.
    staying: Arc<BTreeSet<PeerId>>,
    disk_ok: bool,
    /// Who was given up, by the last recovery.
    claim: Claim,
    /// Another recovery of the same counter.
    rival: Option<Generation>,
    leases: Leases,
    replicas: BTreeMap<Slot, Replica>,
    /// Slots with something to send.
    flush: BTreeSet<Slot>,
    /// Slots whose commit frontier goes down the chain when the timer fires that runs as long as there is one.
    commits: BTreeSet<Slot>,
    /// What was stored since the last sync.
    unsynced: bool,
    syncs: u64,
    /// What happens once a sync is done.
    after_sync: VecDeque<(u64, Step)>,
    /// The time of the last look at everything.
    sampled: Duration,
    /// Messages to itself.
    inbox: VecDeque<(Slot, Body)>,
    outputs: Vec<Output>,
    /// Slots that this peer may have begun or ceased to serve, or of which leases have changed.
    standing: BTreeSet<Slot>,
}

/// What goes on once everything that was stored before it is on disk.
#[derive(Clone, Debug, Hash)]
enum Step {
    Appended(Slot, Epoch, u64),
    Promised(Slot, PeerId, Ballot),
    Ready(Slot, PeerId, Ballot),
    Accepted(Slot, PeerId, Ballot),
    Installed(Slot, Epoch),
}

impl State {
    /// A process, and what it finds on its disk. Whoever founds a ring finds [`State::founding`].
    #[must_use]
    pub fn new(
        config: Config,
        rules: Rules,
        me: Member,
        routes: Arc<Routes>,
        stored: impl IntoIterator<Item = (Slot, Stored)>,
        seed: u64,
    ) -> Self {
        let replica = |stored: Stored| {
            let log = stored.log.map(|log| Log::new(log.applied, log.recorded, log.pending));
            Replica::new(stored.acceptor, log)
        };
        Self {
            leases: Leases::new(config.lease, rules, me.incarnation),
            config,
            rules,
            me,
            random: ChaCha8Rng::seed_from_u64(seed),
            now: Duration::ZERO,
            accepts_from: Duration::ZERO,
            staying: change::staying(&routes, &Claim::default()),
            routes,
            revision: 1,
            contacts: Vec::new(),
            disk_ok: true,
            claim: Claim::default(),
            rival: None,
            replicas: stored.into_iter().map(|(slot, stored)| (slot, replica(stored))).collect(),
            flush: BTreeSet::new(),
            commits: BTreeSet::new(),
            unsynced: false,
            syncs: 0,
            after_sync: VecDeque::new(),
            sampled: Duration::ZERO,
            inbox: VecDeque::new(),
            outputs: Vec::new(),
            standing: BTreeSet::new(),
        }
    }

    /// What a founding writes to the disk: only a founding writes views of the first epoch.
    pub fn founding(founder: Member, slots: impl IntoIterator<Item = Slot>) -> impl Iterator<Item = (Slot, Stored)> {
        slots.into_iter().map(move |slot| {
            let acceptor = Acceptor::new(View::founding(slot, founder));
            (slot, Stored { acceptor, log: Some(StoredLog::default()) })
        })
    }

    /// Begins at the time `now`.
    pub fn start(&mut self, now: Duration) -> Vec<Output> {
        self.now = now;
        if self.rules.waits_after_boot {
            self.accepts_from = now + self.config.lease.grant_holds();
        }
        let slots: Vec<Slot> = self.replicas.keys().copied().collect();
        for slot in slots {
            let Some(replica) = self.replicas.get_mut(&slot) else { continue };
            let listed = replica.view().chain.contains(&self.me);
            if !listed && replica.view().has(self.me.peer) && self.rules.restart_seals {
                // What this peer had sent, promised and granted before it stopped, it does not know.
                replica.acceptor.sealed = true;
            }
            replica.acceptor.sealed |= self.claim.strands(replica.view());
            replica.sealed_since = replica.acceptor.sealed.then_some(now);
            self.enter(slot);
        }
        self.outputs.push(Output::SetTimer(Duration::ZERO, Timer::Heartbeat));
        self.outputs.push(Output::SetTimer(self.config.tick, Timer::Tick));
        mem::take(&mut self.outputs)
    }

    /// Takes one input at the time `now` and returns what is to be done.
    pub fn handle(&mut self, now: Duration, input: Input, table: &impl Table) -> Vec<Output> {
        self.now = now;
        if let Input::Message(from, _) | Input::Snapshot(from, ..) = &input
            && self.claim.banned.contains(from)
        {
            return Vec::new();
        }
        match input {
            Input::Routes(routes) => self.set_routes(routes),
            Input::Message(from, Message::Heartbeat(heartbeat)) => self.heartbeat(from, heartbeat),
            Input::Message(from, Message::Grant(grant)) => {
                let touched = self.leases.granted(now, from, grant);
                self.standing.extend(touched);
            }
            Input::Message(from, Message::Slot(slot, body)) => self.receive(from, slot, *body),
            Input::Timer(timer) => self.timer(timer),
            Input::Synced(number) => self.synced(number),
            Input::Write(token, slot, epoch, command) => self.write(token, slot, epoch, command, table),
            Input::Read(token, slot, at) => self.read(token, slot, at),
            Input::Snapshot(from, slot, snapshot) => self.load(from, slot, snapshot),
            Input::Located(slot, group) => self.set_home(slot, group),
            Input::Stop => self.stop(),
            Input::Disk(ok) => self.disk_ok = ok,
            Input::Claim(claim) => self.claim(claim),
            Input::Rival(other) => self.hear_of_rival(other),
            Input::Recover(view, begins_empty) => self.recover(view, begins_empty),
        }
        self.finish();
        mem::take(&mut self.outputs)
    }

    /// The newest view that is known here.
    #[must_use]
    pub fn view(&self, slot: Slot) -> Option<&View> {
        self.replicas.get(&slot).map(Replica::view)
    }

    /// Whether the process serves the slot, as far as it depends on it.
    #[must_use]
    pub fn serves(&self, slot: Slot) -> bool {
        self.replicas.get(&slot).is_some_and(|replica| replica.serves(self.me.peer))
    }

    /// The slot's log, if it is here.
    #[must_use]
    pub fn log(&self, slot: Slot) -> Option<&Log> {
        self.replicas.get(&slot)?.log.as_ref()
    }

    /// Slots that cannot do without this peer: it is in their chain, or decides on it, or those who do now do not know, or
    /// a view that it knows nothing of may count on its copy.
    #[must_use]
    pub fn held(&self) -> usize {
        let needs = |replica: &&Replica| replica.farewell.is_some() || replica.concerns(self.me.peer, self.rules);
        self.replicas.values().filter(needs).count()
    }

    /// What nobody may do: whoever should hold a slot of which it knows no view founds it.
    fn found_unknown(&mut self) {
        let Some(ring) = self.routes.ring.filter(|_| !self.rules.only_founding_is_first) else { return };
        let routes = Arc::clone(&self.routes);
        let owns = |slot: &Slot| routes.home_of(*slot).is_some_and(|home| home.group.first() == Some(&self.me.peer));
        let unknown: Vec<Slot> = ring.slot_bits.iter().filter(owns).filter(|it| self.view(*it).is_none()).collect();
        for (slot, Stored { acceptor, .. }) in Self::founding(self.me, unknown) {
            self.replicas.insert(slot, Replica::new(acceptor.clone(), Some(Log::default())));
            self.store(slot, Change::Install { acceptor, entries: Vec::new(), keeps_log: true }, None);
            self.enter(slot);
        }
    }

    fn receive(&mut self, from: PeerId, slot: Slot, body: Body) {
        match body {
            Body::Append { epoch, entries, committed } => self.appended(from, slot, epoch, entries, committed),
            Body::Ack { epoch, seq, committed } => self.acked(from, slot, epoch, seq, committed),
            Body::Gap(epoch, next) => self.gap(from, slot, epoch, next),
            Body::AskFrontier(epoch, number) => self.asked_for_frontier(from, slot, epoch, number),
            Body::Frontier(epoch, number, committed) => self.frontier(slot, epoch, number, committed),
            Body::PreVote(epoch, peer) => self.asked_for_vote(from, slot, epoch, peer),
            Body::Lost(epoch, peer) => self.vote(from, slot, epoch, peer),
            Body::Prepare(ballot, view) => self.prepare(from, slot, ballot, view),
            Body::Promise(ballot, promise) => self.promised(from, slot, ballot, promise),
            Body::Reject(ballot, other) => self.rejected(slot, ballot, other),
            Body::Level { ballot, view, target, source } => self.level(from, slot, ballot, view, target, source),
            Body::Ready(ballot) => self.ready(from, slot, ballot),
            Body::Fetch(epoch, next) => self.fetch(from, slot, epoch, next),
            Body::Entries { epoch, entries, last, committed } => {
                self.entries(from, slot, epoch, entries, last, committed);
            }
            Body::TooFarBehind(epoch) => self.too_far_behind(from, slot, epoch),
            Body::Accept { ballot, view, target, quorum } => self.accept(from, slot, ballot, view, target, quorum),
            Body::Accepted(ballot) => self.accepted(from, slot, ballot),
            Body::Install(view) => self.install(from, view),
            Body::Installed(epoch) => self.farewell_heard(from, slot, epoch),
            Body::AskView => self.tell_view(from, slot),
            Body::Learn(view, source) => self.learn(from, slot, view, source),
            Body::Attach(epoch) => self.attach(from, slot, epoch),
            Body::Learned(epoch, member, seq) => self.learned(slot, epoch, member, seq),
        }
    }

    fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::Tick => {
                self.outputs.push(Output::SetTimer(self.config.tick, Timer::Tick));
                if !self.rules.outcomes_kept_by_number {
                    self.replicas.values_mut().filter_map(|it| it.log.as_mut()).for_each(Log::forget_outcomes);
                }
                self.tick();
            }
            Timer::Heartbeat => {
                self.outputs.push(Output::SetTimer(self.config.lease.heartbeat_every, Timer::Heartbeat));
                for (peer, heartbeat) in self.leases.heartbeats(self.now) {
                    self.outputs.push(Output::SendSoon(peer, Message::Heartbeat(heartbeat)));
                }
                self.leases.forget_expired(self.now);
            }
            Timer::Commits => self.send_commits(),
            Timer::Promises(slot, ballot) => self.waited_for_promises(slot, ballot),
            Timer::Grants(slot) => self.accept_if_free(slot),
        }
    }

    /// Sends what has gathered, and lets what was stored become durable.
    fn finish(&mut self) {
        loop {
            while let Some((slot, body)) = self.inbox.pop_front() {
                self.receive(self.me.peer, slot, body);
            }
            for slot in mem::take(&mut self.flush) {
                self.send_entries(slot);
            }
            if self.inbox.is_empty() {
                break;
            }
        }
        if !self.rules.fsync_before_reply {
            self.synced(self.syncs);
        }
        if mem::take(&mut self.unsynced) {
            self.outputs.push(Output::Sync(self.syncs));
        }
    }

    fn synced(&mut self, number: u64) {
        while self.after_sync.front().is_some_and(|(needed, _)| *needed <= number) {
            let Some((_, step)) = self.after_sync.pop_front() else { break };
            self.go_on(step);
        }
    }

    fn go_on(&mut self, step: Step) {
        match step {
            Step::Appended(slot, epoch, seq) => self.durable(slot, epoch, seq),
            Step::Promised(slot, to, ballot) => self.has_promised(slot, to, ballot),
            Step::Ready(slot, to, ballot) => self.has_levelled(slot, to, ballot),
            Step::Accepted(slot, to, ballot) => self.has_accepted(slot, to, ballot),
            Step::Installed(slot, epoch) => self.installed(slot, epoch),
        }
    }

    /// Writes to the disk, and goes on with the step once it is there.
    fn store(&mut self, slot: Slot, change: Change, then: Option<Step>) {
        self.outputs.push(Output::Store(slot, Box::new(change)));
        let Some(step) = then else { return };
        if !self.unsynced {
            self.syncs += 1;
            self.unsynced = true;
        }
        self.after_sync.push_back((self.syncs, step));
    }

    fn tell(&mut self, peer: PeerId, slot: Slot, body: Body) {
        if peer == self.me.peer {
            self.inbox.push_back((slot, body));
        } else {
            self.outputs.push(Output::Send(peer, Message::Slot(slot, Box::new(body))));
        }
    }

    /// Tells what nobody waits for.
    fn tell_soon(&mut self, peer: PeerId, slot: Slot, body: Body) {
        self.outputs.push(Output::SendSoon(peer, Message::Slot(slot, Box::new(body))));
    }

    fn reply(&mut self, token: Token, reply: Reply) {
        self.outputs.push(Output::Reply(token, reply));
    }

    fn refuse(&mut self, token: Token, refusal: Refusal) {
        self.reply(token, Reply::Refused(refusal));
    }

    /// Whether a majority of the slot's electors has promised that no next view is decided for now.
    fn leased(&self, slot: Slot) -> bool {
        let Some(replica) = self.replicas.get(&slot) else { return false };
        let view = replica.view();
        let now = if self.rules.lease_sampled_at_use { self.now } else { self.sampled };
        let holds = |peer: &PeerId| *peer == self.me.peer || self.leases.holds(now, *peer, slot, view.epoch);
        view.majority(view.electors.iter().copied().filter(holds))
    }
}

#[cfg(test)]
mod tests;
