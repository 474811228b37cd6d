//! Reading a slot's table as a whole, to send it.

use std::sync::Arc;

use bytes::Bytes;
use dht_core::{
    record::{Mode, RecordKey, parse_storage_key, slot_prefix},
    replication::chain::{Record, Recorded},
    ring::Slot,
};
use tokio::{sync::mpsc, task::spawn_blocking};

use super::layout::{OUTCOME, damaged, decode_record, key, read};
use crate::{
    driver::KeyRange,
    storage::{Engine, EngineError, Table},
    wire::{Malformed, chain as wire},
};

/// A part of a slot's table.
#[derive(Debug, Default)]
pub struct TablePart {
    /// Some of its records.
    pub records: Vec<(RecordKey, Record)>,
    /// Some of the outcomes that are remembered.
    pub outcomes: Vec<Recorded>,
    /// The last one.
    pub done: bool,
}

/// Reads a slot's table with the outcomes, or some of its keys without, in parts of a bearable size; without a last one if
/// the engine can't be read. What is read is fixed when this returns, so that it blocks for a moment. Must be called within a
/// tokio runtime.
pub(super) fn read_table(engine: Arc<dyn Engine>, slot: Slot, range: Option<KeyRange>) -> mpsc::Receiver<TablePart> {
    let (parts, receiver) = mpsc::channel(2);
    let (fixed, wait) = std::sync::mpsc::channel::<()>();
    spawn_blocking(move || {
        if let Err(error) = read_parts(&*engine, slot, range, fixed, &parts) {
            tracing::error!(%slot, error = %error.chain(), "cannot read a slot to send it");
        }
    });
    let _ = wait.recv();
    receiver
}

fn read_parts(
    engine: &dyn Engine,
    slot: Slot,
    range: Option<KeyRange>,
    fixed: std::sync::mpsc::Sender<()>,
    parts: &mpsc::Sender<TablePart>,
) -> Result<(), EngineError> {
    let whole = || engine.scan(Table::Records, &slot_prefix(Mode::Chain, slot), None);
    let records = range.as_ref().map_or_else(whole, |range| range.scan(engine, Mode::Chain, slot));
    let outcomes = range.is_none().then(|| engine.scan(Table::Meta, &key(OUTCOME, slot, None), None));
    drop(fixed);
    let (mut part, mut bytes) = (TablePart::default(), 0);
    for entry in records {
        let (key, value) = entry?;
        bytes += key.len() + value.len();
        part.records.push(decode_entry(&key, &value)?);
        if bytes >= LOAD_BYTES {
            bytes = 0;
            if parts.blocking_send(std::mem::take(&mut part)).is_err() {
                return Ok(()); // Nobody waits any more.
            }
        }
    }
    for entry in outcomes.into_iter().flatten() {
        part.outcomes.push(wire::decode_recorded(read(entry?.1)?).map_err(damaged)?);
    }
    part.done = true;
    drop(parts.blocking_send(part));
    Ok(())
}

/// What the engine has in a table.
pub(super) fn decode_entry(key: &Bytes, value: &Bytes) -> Result<(RecordKey, Record), EngineError> {
    let (_, at) = parse_storage_key(key).ok_or_else(|| damaged(Malformed("a key of no table")))?;
    Ok((at, decode_record(value)?))
}

/// Bytes of a table that are read, sent and written at once. A guess.
pub(super) const LOAD_BYTES: usize = 512 << 10;
