//! What a group of slots is asked to do, and who waits for it.

use std::sync::Arc;

use dht_core::{
    catalogue::Catalogue,
    record::RecordKey,
    replication::chain::{Command, Input, KeyReport, Refusal, Report},
    ring::Slot,
    view::{Claim, Epoch, View},
};
use tokio::sync::{mpsc, oneshot};

use super::{Chains, ReadDone, TablePart, WriteDone};
use crate::driver::KeyRange;

/// What a group is asked to do.
pub(super) enum Job {
    Input(Input),
    Write {
        slot: Slot,
        epoch: Epoch,
        command: Command,
        done: WriteDone,
    },
    Read {
        slot: Slot,
        at: RecordKey,
        done: ReadDone,
    },
    Scan {
        slot: Slot,
        range: KeyRange,
        reply: oneshot::Sender<Result<mpsc::Receiver<TablePart>, Refusal>>,
    },
    Sweep {
        slot: Slot,
        catalogue: Arc<Catalogue>,
        reply: oneshot::Sender<bool>,
    },
    Survey {
        claim: Option<Claim>,
        reply: oneshot::Sender<Vec<Report>>,
    },
    Recover {
        views: Vec<(View, bool)>,
        /// The slots in which they are not in force then.
        reply: oneshot::Sender<Vec<Slot>>,
    },
    Report {
        slot: Slot,
        at: RecordKey,
        reply: oneshot::Sender<Option<(Report, KeyReport)>>,
    },
    ComeRound(oneshot::Sender<()>),
    /// Several at once, none a stop.
    Batch(Vec<Job>),
    /// The peer is about to stop: answered once others go on without it where they can.
    StandDown(oneshot::Sender<()>),
    /// The peer is about to depart: the group ends, and with the answer says so, if no slot needs this peer.
    LetGo(oneshot::Sender<bool>),
    Stop,
}

/// Commands and reads of clients that are handed over together: each group is given its own in one piece.
#[derive(Default)]
pub struct Batch(pub(super) [Vec<Job>; Chains::GROUPS as usize]);

impl Batch {
    /// Adds what [`Chains::write`] does.
    pub fn write(&mut self, slot: Slot, epoch: Epoch, command: Command, done: WriteDone) {
        self.add(slot, Job::Write { slot, epoch, command, done });
    }

    /// Adds what [`Chains::read`] does.
    pub fn read(&mut self, slot: Slot, at: RecordKey, done: ReadDone) {
        self.add(slot, Job::Read { slot, at, done });
    }

    fn add(&mut self, slot: Slot, job: Job) {
        self.0[Chains::group_of(slot) as usize].push(job);
    }
}

/// A client.
pub(super) enum Waiter {
    Write(WriteDone),
    Read(ReadDone),
    Scan(KeyRange, oneshot::Sender<Result<mpsc::Receiver<TablePart>, Refusal>>),
}
