//! Time-to-live in chain mode: what expires is noted with the record, and the head deletes it by an entry like any other.
//!
//! No replica looks at the clock when it is asked for a key: were some to take a value for expired and others not, reads
//! would not be linearizable. A note outlives its record if that is overwritten; whoever comes across it then drops it.

use dht_core::{
    record::{Expiry, RecordKey},
    replication::chain::{Action, Command, Condition, Input},
    ring::Slot,
};

use super::{
    layout::{EXPIRY, damaged, key, noted_expiry},
    store::Store,
    worker::Worker,
};
use crate::{
    storage::{EngineError, Table},
    wire::Malformed,
};

impl Worker {
    /// Deletes what has expired, in the slots that this peer is the head of. If it serves them, that is; otherwise whoever
    /// does will.
    pub(super) fn expire(&mut self) {
        let now = self.shared.wall_clock.millis();
        for slot in self.store.with_expired(now) {
            let epoch =
                self.state.view(slot).filter(|view| view.head() == Some(self.routes.me.id)).map(|view| view.epoch);
            for (at, revision) in self.store.expired(slot, now) {
                let Some(epoch) = epoch else { continue };
                let condition = Some(Condition::Revision(revision));
                let command = Command { at, condition, action: Action::Delete, expires: None, request: None };
                self.next_token += 1; // Nobody waits for it.
                self.handle(Input::Write(self.next_token, slot, epoch, command));
            }
        }
    }
}

impl Store {
    /// Looks up what is noted on the disk of the slots that are held: the first of each.
    pub(super) fn find_expiries(&mut self) -> Result<(), EngineError> {
        for (slot, held) in &mut self.held {
            if let Some(first) = self.engine.scan(Table::Meta, &key(EXPIRY, *slot, None), None).next() {
                let noted = noted_expiry(&first?.0).ok_or_else(|| damaged(Malformed("a key of another kind")))?;
                held.first_expiry = Some(noted.1);
            }
        }
        Ok(())
    }

    /// The slots that may have records that have expired at this time.
    pub(super) fn with_expired(&self, wall_millis: u64) -> Vec<Slot> {
        let due = |expiry: Option<Expiry>| expiry.is_some_and(|expiry| expiry.is_past(wall_millis));
        self.held.iter().filter(|(_, held)| due(held.first_expiry)).map(|(slot, _)| *slot).collect()
    }

    /// Some of the slot's records that have expired at this time, and which entries wrote them. They stay noted until they are
    /// deleted; what is noted of others is dropped.
    pub(super) fn expired(&mut self, slot: Slot, wall_millis: u64) -> Vec<(RecordKey, u64)> {
        self.put();
        let (engine, mut first, mut expired) = (self.engine.clone(), None, Vec::new());
        for entry in engine.scan(Table::Meta, &key(EXPIRY, slot, None), None) {
            let Some((key, _)) = self.note(entry) else { break };
            let Some((_, expiry, at)) = noted_expiry(&key) else { continue };
            let record = self.record(slot, &at).flatten().filter(|record| record.expires == Some(expiry));
            if record.is_some() || !expiry.is_past(wall_millis) {
                first = first.or(Some(expiry));
            }
            match record {
                _ if !expiry.is_past(wall_millis) || expired.len() == AT_ONCE => break,
                Some(record) => expired.push((at, record.revision)),
                None => self.batch.delete(Table::Meta, key),
            }
        }
        if let Some(held) = self.held.get_mut(&slot) {
            held.first_expiry = first;
        }
        expired
    }
}

/// Records of one slot that are deleted at once.
const AT_ONCE: usize = 256;
