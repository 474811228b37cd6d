//! What goes into the state machine and what comes out of it.

use std::{sync::Arc, time::Duration};

use super::{
    entry::{Command, Entry, Record, Reply},
    log::Recorded,
};
use crate::{
    overlay::Routes,
    record::RecordKey,
    ring::{PeerId, Slot},
    view::{
        Acceptor, Ballot, Claim, Epoch, Generation, Grant, Heartbeat, LeaseConfig, Member, Position, Promise, View,
    },
};

/// How chains are kept. What is not said to be from DESIGN is a guess.
#[derive(Clone, Debug)]
pub struct Config {
    /// Leases and heartbeats.
    pub lease: LeaseConfig,
    /// How often everything is looked over. Default 50 ms.
    pub tick: Duration,
    /// The commit frontier goes down the chain by itself if no entry takes it along. Default 1 ms (DESIGN, section 8).
    pub commit_delay: Duration,
    /// How long a proposer waits for more promises than it needs. Default 20 ms (DESIGN, section 8).
    pub more_promises: Duration,
    /// Whoever is in contact is waited for so long. Default 400 ms, after which silence counts as a loss.
    pub all_promises: Duration,
    /// Who has not answered an attempt at a next view is asked again after this time. Default 200 ms: whoever is slow, since
    /// many slots change at once, has no more to do for it.
    pub ask_again: Duration,
    /// Newcomers have so long to fetch the last entries. Default 500 ms.
    pub level_within: Duration,
    /// An attempt at a next view is given up after this time. Default 3 s.
    pub give_up: Duration,
    /// Whoever may propose waits so much longer than the one before it. Default 100 ms.
    pub stagger: Duration,
    /// A slot that is sealed, or makes no progress, for this long needs another view. Default 1 s.
    pub stuck_after: Duration,
    /// A home group is acted upon once it has not changed for this long. Default 3 s (DESIGN, section 2).
    pub settle: Duration,
    /// Entries that may wait for their commit in one slot. Default 4,096.
    pub most_pending: usize,
    /// Bytes that these may take before the head takes no more. Default 16 MiB.
    pub most_pending_bytes: usize,
    /// Entries in one message. Default 256.
    pub batch: usize,
    /// Bytes of entries after which none is added to a message. Default 1 MiB: with a value of that size, which is as large
    /// as one may be, it is still well within what transports take.
    pub batch_bytes: usize,
    /// Entries kept for those who copy a slot. Default 4,096.
    pub kept_entries: usize,
    /// Bytes that these may take: whoever lacks more begins again with a new snapshot. Default 16 MiB.
    pub kept_bytes: usize,
    /// D: outcomes are remembered for so many entries. Default 10,000.
    pub window: u64,
    /// Entries that a copy may lack when it is taken into the chain. Default 64.
    pub nearly_level: u64,
}

impl Default for Config {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            lease: LeaseConfig::default(),
            tick: ms(50),
            commit_delay: ms(1),
            more_promises: ms(20),
            all_promises: ms(400),
            ask_again: ms(200),
            level_within: ms(500),
            give_up: ms(3000),
            stagger: ms(100),
            stuck_after: ms(1000),
            settle: ms(3000),
            most_pending: 4096,
            most_pending_bytes: 16 << 20,
            batch: 256,
            batch_bytes: 1 << 20,
            kept_entries: 4096,
            kept_bytes: 16 << 20,
            window: 10_000,
            nearly_level: 64,
        }
    }
}

/// Names a client's operation between the host and the state machine.
pub type Token = u64;

/// What the host gives to the state machine.
#[derive(Clone, Debug)]
pub enum Input {
    /// Who should hold what has changed.
    Routes(Arc<Routes>),
    /// A message has arrived.
    Message(PeerId, Message),
    /// The timer has fired.
    Timer(Timer),
    /// Everything that was stored before [`Output::Sync`] with this number, or a smaller one, is on disk.
    Synced(u64),
    /// A client's command for the head of the slot, by the view of this epoch. Answered once, with [`Output::Reply`],
    /// unless the process ends before.
    Write(Token, Slot, Epoch, Command),
    /// A client's read. Answered once.
    Read(Token, Slot, RecordKey),
    /// The slot's table and outcomes, as a peer had them when it was asked to send them.
    Snapshot(PeerId, Slot, Snapshot),
    /// A lookup has told who should hold the slot.
    Located(Slot, Vec<PeerId>),
    /// This process is about to stop: others are to go on without it.
    Stop,
    /// The disk takes writes, or it does not any more.
    Disk(bool),
    /// A recovery has given peers up. The host has it on disk, and will give it to [`super::State::claimed`] next time.
    Claim(Claim),
    /// There is another recovery with the counter of the one that this peer goes by: nothing ranks the two.
    Rival(Generation),
    /// The recovery that this peer stands by starts a slot again with this view, and with no data if the flag is set.
    Recover(View, bool),
}

/// What the host has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a message; it may get lost.
    Send(PeerId, Message),
    /// The same, but nobody waits for it: it may wait a little for others to the same peer, and leave with them.
    SendSoon(PeerId, Message),
    /// Give [`Input::Timer`] back after this time.
    SetTimer(Duration, Timer),
    /// Write this to the disk, in order and each change as a whole. It need not be there after a crash before it was
    /// synced.
    Store(Slot, Box<Change>),
    /// Make everything stored so far durable, then report [`Input::Synced`].
    Sync(u64),
    /// Tell the client.
    Reply(Token, Reply),
    /// Tell the client what the slot's table has under this key now, after everything stored before.
    Read(Token, Slot, RecordKey),
    /// Send the slot's table as it is now, with the outcomes, to the peer, which gives it to its state machine as
    /// [`Input::Snapshot`]. If it gets lost, the peer asks again.
    SendSnapshot(Slot, PeerId, Epoch),
    /// Look up who should hold the slot, then report [`Input::Located`].
    Locate(Slot),
}

/// A change of what is on disk about a slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// What was promised and accepted.
    Acceptor(Acceptor),
    /// Pending entries at the end of the log.
    Append(Vec<Entry>),
    /// These entries leave the log: the table is the state after them.
    Apply {
        /// The entries.
        entries: Vec<Entry>,
        /// Outcomes of entries before this one are forgotten.
        first_kept: u64,
    },
    /// A next view is in force.
    Install {
        /// The view, and nothing promised about the one after it.
        acceptor: Acceptor,
        /// Entries that leave the log for the table.
        entries: Vec<Entry>,
        /// Whether what is left is kept: entries beyond the view's frontier go in any case.
        keeps_log: bool,
    },
    /// The slot's data is this from now on.
    Load(Snapshot),
    /// The slot's data is not needed any more; what is known of its views is kept.
    Scrap,
}

/// A slot's table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// The view that was in force.
    pub epoch: Epoch,
    /// The table is the state after this entry.
    pub applied: Position,
    /// The table.
    pub records: Vec<(RecordKey, Record)>,
    /// The outcomes that are remembered.
    pub recorded: Vec<Recorded>,
}

/// What is on disk about a slot when the process starts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stored {
    /// What was promised and accepted.
    pub acceptor: Acceptor,
    /// The log, unless this peer holds no data of the slot.
    pub log: Option<StoredLog>,
}

/// A log on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StoredLog {
    /// The table is the state after this entry.
    pub applied: Position,
    /// The outcomes that are remembered, those of pending entries left out.
    pub recorded: Vec<Recorded>,
    /// The entries after it.
    pub pending: Vec<Entry>,
}

/// What peers tell each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Of a holder of leases.
    Heartbeat(Heartbeat),
    /// The answer to it.
    Grant(Grant),
    /// About one slot.
    Slot(Slot, Box<Body>),
}

/// What peers tell each other about a slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// To the member downstream: entries, without a gap between them, and up to where all is committed.
    Append {
        /// The view that the sender serves by.
        epoch: Epoch,
        /// The entries. None: only the frontier is news.
        entries: Vec<Entry>,
        /// Everything up to this entry is committed.
        committed: u64,
    },
    /// To the member upstream: everything up to here is durable here and at all members further down.
    Ack {
        /// The view that the sender serves by.
        epoch: Epoch,
        /// The entry.
        seq: u64,
        /// Up to where everyone from here on down knows what is committed.
        committed: u64,
    },
    /// To the member upstream: the next entry that is needed is this one.
    Gap(Epoch, u64),
    /// To the head: what is committed?
    AskFrontier(Epoch, u64),
    /// The answer: everything up to the last number is.
    Frontier(Epoch, u64, u64),
    /// Has the receiver lost contact to the peer?
    PreVote(Epoch, PeerId),
    /// It has.
    Lost(Epoch, PeerId),
    /// Phase 1 of an attempt: accept no smaller ballot, and end the epoch. With the view in force.
    Prepare(Ballot, View),
    /// The answer.
    Promise(Ballot, Promise),
    /// A higher ballot was promised, or what was asked for cannot be done.
    Reject(Ballot, Option<Ballot>),
    /// To the members and electors of the view that is to be decided: have the log up to its frontier.
    Level {
        /// The attempt.
        ballot: Ballot,
        /// The view in force.
        view: View,
        /// The view that is to be decided.
        target: View,
        /// Who has the entries.
        source: PeerId,
    },
    /// The answer: that is so, on disk.
    Ready(Ballot),
    /// Send the entries from this one on.
    Fetch(Epoch, u64),
    /// Here they are.
    Entries {
        /// The view that the sender knows.
        epoch: Epoch,
        /// The entries.
        entries: Vec<Entry>,
        /// The last that the sender has.
        last: u64,
        /// Everything up to this entry is committed.
        committed: u64,
    },
    /// Those entries are not kept any more.
    TooFarBehind(Epoch),
    /// Phase 2: accept this view. `quorum` serves the one before no more.
    Accept {
        /// The attempt.
        ballot: Ballot,
        /// The view in force.
        view: View,
        /// The view to accept.
        target: View,
        /// Who has promised.
        quorum: Vec<PeerId>,
    },
    /// The answer.
    Accepted(Ballot),
    /// This view is decided.
    Install(View),
    /// The answer of who knows it, to a peer that is not in it.
    Installed(Epoch),
    /// Which view is the newest that is known?
    AskView,
    /// Copy the slot from this peer, to become a member.
    Learn(View, PeerId),
    /// Send a snapshot.
    Attach(Epoch),
    /// The sender has copied the log up to here.
    Learned(Epoch, Member, u64),
}

/// What the host is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timer {
    /// Look everything over.
    Tick,
    /// Send heartbeats.
    Heartbeat,
    /// Commit frontiers that nothing has taken along.
    Commits,
    /// An attempt has waited long enough for more promises.
    Promises(Slot, Ballot),
    /// Grants have run out: what was asked to be accepted may be.
    Grants(Slot),
}
