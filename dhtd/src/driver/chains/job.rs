//! What a group of slots is asked to do, and who waits for it.

use std::sync::Arc;

use dht_core::{
    catalogue::Catalogue,
    record::{KeyspaceId, RecordKey},
    replication::chain::{Command, Input, KeyReport, Refusal, Report},
    ring::Slot,
    view::{Claim, Epoch, View},
};
use tokio::sync::{mpsc, oneshot};

use super::{ReadDone, TablePart, WriteDone};

/// What a group is asked to do.
pub(super) enum Job {
    Input(Input),
    Write { slot: Slot, epoch: Epoch, command: Command, done: WriteDone },
    Read { slot: Slot, at: RecordKey, done: ReadDone },
    Scan { slot: Slot, keyspace: KeyspaceId, reply: oneshot::Sender<Result<mpsc::Receiver<TablePart>, Refusal>> },
    Sweep { slot: Slot, catalogue: Arc<Catalogue>, reply: oneshot::Sender<bool> },
    Survey { claim: Option<Claim>, reply: oneshot::Sender<Vec<Report>> },
    Recover { views: Vec<(View, bool)>, reply: oneshot::Sender<()> },
    Report { slot: Slot, at: RecordKey, reply: oneshot::Sender<Option<(Report, KeyReport)>> },
    ComeRound(oneshot::Sender<()>),
    Stop,
}

/// A client.
pub(super) enum Waiter {
    Write(WriteDone),
    Read(ReadDone),
    Scan(oneshot::Sender<Result<mpsc::Receiver<TablePart>, Refusal>>),
}
