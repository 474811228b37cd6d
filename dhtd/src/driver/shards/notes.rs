//! What has to be remembered of the slots besides their records.

use bytes::Bytes;
use dht_core::{
    replication::eventual::{Memory, Note},
    ring::PeerId,
};

use super::{Shards, not_a_record, slot_in, slot_key};
use crate::storage::{Batch, EngineError, Table};

impl Shards {
    /// What was noted before the process stopped.
    ///
    /// # Errors
    /// If the engine can't read it or holds something that is no note.
    pub fn memory(&self) -> Result<Memory, EngineError> {
        let note = |key: &Bytes, value: &Bytes| {
            let (basis, holders) = value.split_first()?;
            let (holders, []) = holders.as_chunks() else { return None };
            let holders = holders.iter().map(|id| PeerId::new(*id)).collect();
            Some((slot_in(key, NOTE)?, Note { basis: *basis == 1, holders }))
        };
        let departed = |key: &Bytes| Some(PeerId::new(key.strip_prefix(DEPARTED)?.try_into().ok()?));
        let mut memory = Memory::default();
        for entry in self.engine.scan(Table::Meta, NOTE, None) {
            let (key, value) = entry?;
            memory.notes.push(note(&key, &value).ok_or_else(|| not_a_record("a note"))?);
        }
        for entry in self.engine.scan(Table::Meta, DEPARTED, None) {
            memory.departed.insert(departed(&entry?.0).ok_or_else(|| not_a_record("a peer id"))?);
        }
        Ok(memory)
    }

    /// Notes what has to be remembered of slots, and peers that have left for good.
    ///
    /// # Errors
    /// If the engine refuses it.
    pub fn remember(&self, memory: &Memory) -> Result<(), EngineError> {
        let mut batch = Batch::new();
        for (slot, note) in &memory.notes {
            let key = slot_key(NOTE, *slot);
            let holders = note.holders.iter().flat_map(|peer| *peer.as_bytes());
            let value: Vec<u8> = std::iter::once(u8::from(note.basis)).chain(holders).collect();
            if note.is_empty() { batch.delete(Table::Meta, key) } else { batch.put(Table::Meta, key, value) }
        }
        for peer in &memory.departed {
            batch.put(Table::Meta, [DEPARTED, &peer.as_bytes()[..]].concat(), Bytes::new());
        }
        if batch.is_empty() { Ok(()) } else { self.engine.put_batch(batch) }
    }
}

/// What the keys of notes begin with; the slot follows. A note is one byte, 1 for a copy with a basis, and the ids of
/// the holders, 16 bytes each.
const NOTE: &[u8] = b"note";

/// What the keys of peers that have left for good begin with; the id follows.
const DEPARTED: &[u8] = b"departed";

#[cfg(test)]
mod tests {
    use dht_core::ring::Slot;

    use super::{
        super::tests::{memory, shards},
        *,
    };

    #[test]
    fn what_was_noted_survives_a_restart() {
        let engine = memory();
        let peers = |ids: &[u8]| ids.iter().map(|id| PeerId::new([*id; 16])).collect();
        let note = |basis, holders: &[u8]| Note { basis, holders: peers(holders) };
        let notes = vec![(Slot(8), note(true, &[])), (Slot(300), note(false, &[2, 3]))];
        let kept = Memory { notes, departed: peers(&[4, 5]) };
        shards(&engine, 1).remember(&Memory::founder([Slot(7)])).unwrap();
        shards(&engine, 1).remember(&kept).unwrap();
        let forgotten = Memory { notes: vec![(Slot(7), Note::default())], ..Memory::default() };
        shards(&engine, 1).remember(&forgotten).unwrap();
        assert_eq!(shards(&engine, 1).memory().unwrap(), kept);
    }
}
