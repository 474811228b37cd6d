//! One peer of the model.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use dht_core::{
    Rules,
    overlay::{Peer, Ring, RingId, Routes},
    record::RecordKey,
    replication::chain::{Change, Config, Entry, Input, Output, Record, Reply, State, Stored, StoredLog, Timer, Token},
    ring::{PeerId, Slot, SlotBits},
    view::{Acceptor, Ballot, LeaseConfig, Member, Plan, View},
};

use super::{Chain, Place, Start, packet::Cargo};
use crate::sim::Disk;

/// How many peers there are at most.
pub(super) const PLACES: usize = 4;

/// The only slot.
pub(super) const SLOT: Slot = Slot(0);

/// L.
pub(super) const LEASE: Duration = Duration::from_secs(1);

/// A peer with its disk.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) state: State,
    pub(super) disk: Disk,
    incarnation: u64,
    place: Place,
    rules: Rules,
    /// Its fsyncs take time.
    slow: bool,
    /// The fsync that is under way.
    pub(super) sync: Option<u64>,
    /// The attempt that waits for more promises than it needs.
    promises: Option<Ballot>,
    /// When the next grants run out that it waits for.
    grants: Option<Duration>,
    /// Reads that were allowed, and have yet to look at the table.
    looks: Vec<(Token, RecordKey)>,
    now: Duration,
    /// Of all that decides how it goes on.
    pub(super) digest: u64,
}

/// What comes of an input, besides changes of the peer itself.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) sent: Vec<(Place, Cargo)>,
    pub(super) replies: Vec<(Token, Result<Reply, Option<Record>>)>,
    /// Views that came into force, and whether the peer has the data if they list it.
    pub(super) installed: Vec<(View, bool)>,
    /// Entries that went into the table.
    pub(super) applied: Vec<Entry>,
}

pub(super) fn peer(place: Place) -> PeerId {
    PeerId::new([place as u8 + 1; 16])
}

pub(super) fn place_of(peer: PeerId) -> Option<Place> {
    usize::from(peer.as_bytes()[0]).checked_sub(1)
}

fn config(chain: &Chain) -> Config {
    // With clocks that run alike a lease is over for all at once; who is in contact is for ticks to know.
    let lease = LeaseConfig { length: LEASE, clock_error: 0.0, lost_after: Duration::MAX, ..LeaseConfig::default() };
    let all_promises = Duration::ZERO;
    Config { lease, window: chain.window, all_promises, stuck_after: Duration::MAX, ..Config::default() }
}

fn routes(place: Place) -> Arc<Routes> {
    let ring =
        Ring { id: RingId([1; 16]), replicas: 1, slot_bits: SlotBits::DEFAULT, mode: dht_core::record::Mode::Chain };
    let known = |place| Peer {
        id: peer(place),
        address: format!("{place}:1").into(),
        incarnation: 1,
        nodes: 1,
        leaving: false,
    };
    Arc::new(Routes::assemble(known(place), Some(ring), (0..PLACES).map(known), |_| None))
}

impl Host {
    /// A peer of the first view, or one that knows nothing.
    pub(super) fn new(place: Place, chain: &Chain, now: Duration) -> Self {
        let mut disk = Disk::default();
        let Start { members, electors } = chain.start;
        if members.contains(&place) || electors.contains(&place) {
            let founder = Member { peer: peer(members[0]), incarnation: 1 };
            let view = View {
                chain: members.iter().map(|place| Member { peer: peer(*place), incarnation: 1 }).collect(),
                electors: electors.iter().map(|place| peer(*place)).collect(),
                ..View::founding(SLOT, founder)
            };
            let log = members.contains(&place).then(StoredLog::default);
            disk.found([(SLOT, Stored { acceptor: Acceptor::new(view), log })].into_iter());
        }
        let mut host = Self {
            state: State::new(
                config(chain),
                chain.rules,
                Member { peer: peer(place), incarnation: 1 },
                routes(place),
                [],
                1,
            ),
            disk,
            incarnation: 0,
            place,
            rules: chain.rules,
            slow: chain.slow.contains(&place),
            sync: None,
            promises: None,
            grants: None,
            looks: Vec::new(),
            now,
            digest: 0,
        };
        host.start(chain);
        host
    }

    /// The process is killed, and starts with what is on its disk.
    pub(super) fn restart(&mut self, chain: &Chain, kept: usize) -> Effects {
        self.disk.crash(kept);
        (self.sync, self.promises, self.grants) = (None, None, None);
        self.looks.clear();
        self.start(chain)
    }

    fn start(&mut self, chain: &Chain) -> Effects {
        self.incarnation += 1;
        let me = self.member();
        self.state = State::new(config(chain), self.rules, me, routes(self.place), self.disk.stored(), 1);
        let outputs = self.state.start(self.now);
        self.finish(outputs)
    }

    pub(super) fn member(&self) -> Member {
        Member { peer: peer(self.place), incarnation: self.incarnation }
    }

    pub(super) fn take(&mut self, input: Input) -> Effects {
        let outputs = self.state.handle(self.now, input, &self.disk);
        self.finish(outputs)
    }

    pub(super) fn propose(&mut self, plan: Plan) -> Effects {
        let outputs = self.state.propose_now(self.now, SLOT, plan);
        self.finish(outputs)
    }

    /// Nobody asks for its copy any more.
    pub(super) fn forget(&mut self) -> Option<Effects> {
        let outputs = self.state.copies(SLOT).then(|| self.state.give_copy_up_now(self.now, SLOT))?;
        Some(self.finish(outputs))
    }

    /// The timer of the attempt that waits for more promises, if one does.
    pub(super) fn enough(&self) -> Option<Timer> {
        Some(Timer::Promises(SLOT, self.promises?))
    }

    /// Grants have run out that it waits for.
    pub(super) fn notice(&mut self) -> Option<Effects> {
        self.grants.take_if(|due| *due <= self.now)?;
        Some(self.take(Input::Timer(Timer::Grants(SLOT))))
    }

    /// An fsync ends.
    pub(super) fn synced(&mut self) -> Option<Effects> {
        let number = self.sync.take()?;
        self.disk.synced(self.disk.stored_so_far());
        Some(self.take(Input::Synced(number)))
    }

    /// A read that was allowed looks at the table.
    pub(super) fn look(&mut self, token: Token) -> Option<Effects> {
        let place = self.looks.iter().position(|(waiting, _)| *waiting == token)?;
        let (token, at) = self.looks.remove(place);
        let record = self.disk.record(SLOT, &at);
        self.refresh();
        Some(Effects { replies: vec![(token, Err(record))], ..Effects::default() })
    }

    pub(super) fn looks(&self) -> impl Iterator<Item = Token> {
        self.looks.iter().map(|(token, _)| *token)
    }

    pub(super) fn waits_for_grants(&self) -> bool {
        self.grants.is_some_and(|due| due <= self.now)
    }

    /// Time has passed.
    pub(super) fn pass(&mut self, now: Duration) -> Effects {
        self.now = now;
        self.refresh();
        Effects::default()
    }

    fn finish(&mut self, outputs: Vec<Output>) -> Effects {
        let mut effects = Effects::default();
        let mut due = outputs;
        loop {
            let mut commits = false;
            for output in due {
                commits |= self.carry_out(output, &mut effects);
            }
            // What takes no time, or is as well late on its way.
            due = if commits {
                self.state.handle(self.now, Input::Timer(Timer::Commits), &self.disk)
            } else if let Some(number) = self.sync.take_if(|_| !self.slow) {
                self.disk.synced(self.disk.stored_so_far());
                self.state.handle(self.now, Input::Synced(number), &self.disk)
            } else {
                break;
            };
        }
        self.refresh();
        effects
    }

    /// Whether commits are to be sent.
    fn carry_out(&mut self, output: Output, effects: &mut Effects) -> bool {
        match output {
            Output::Send(to, message) | Output::SendSoon(to, message) => {
                effects.sent.extend(place_of(to).map(|to| (to, Cargo::Message(message))));
            }
            Output::SetTimer(_, Timer::Commits) => return true,
            Output::SetTimer(_, Timer::Promises(_, ballot)) => self.promises = Some(ballot),
            Output::SetTimer(after, Timer::Grants(_)) => self.grants = Some(self.now + after),
            Output::Store(slot, change) => {
                self.note(&change, effects);
                self.disk.store(slot, *change, self.rules);
            }
            Output::Sync(number) => self.sync = Some(number),
            Output::Reply(token, reply) => effects.replies.push((token, Ok(reply))),
            Output::Read(token, slot, at) => {
                if self.rules.reads_in_order {
                    effects.replies.push((token, Err(self.disk.record(slot, &at))));
                } else {
                    self.looks.push((token, at));
                }
            }
            Output::SendSnapshot(slot, to, epoch) => {
                let snapshot = self.disk.snapshot(slot, epoch);
                effects.sent.extend(place_of(to).zip(snapshot.map(Cargo::Snapshot)));
            }
            Output::SetTimer(_, Timer::Heartbeat | Timer::Tick) | Output::Locate(_) => {}
        }
        false
    }

    fn note(&self, change: &Change, effects: &mut Effects) {
        match change {
            Change::Apply { entries, .. } => effects.applied.extend(entries.iter().cloned()),
            Change::Install { acceptor, entries, keeps_log } => {
                effects.applied.extend(entries.iter().cloned());
                let has_data = *keeps_log || !acceptor.view.has(peer(self.place));
                effects.installed.push((acceptor.view.clone(), has_data));
            }
            Change::Acceptor(_) | Change::Append(_) | Change::Load(_) | Change::Scrap => {}
        }
    }

    fn refresh(&mut self) {
        let mut hasher = DefaultHasher::new();
        (self.now, self.state.essence(self.now)).hash(&mut hasher);
        (&self.disk, self.incarnation, self.sync.is_some(), self.grants, &self.looks).hash(&mut hasher);
        self.digest = hasher.finish();
    }
}
