//! Export: every key of the ring.

use std::time::Instant;

use bytes::Bytes;
use dht_core::{
    record::{KeyspaceId, Mode},
    ring::Slot,
};
use dhtd_proto::v1;
use tokio::{sync::mpsc, time::sleep};

use super::{
    Coordinator, OPERATION_TIME, OperationError, RETRY_PAUSE,
    slots::{Page, Part},
};
use crate::driver::KeyRange;

impl Coordinator {
    /// Streams the keys of a keyspace, each slot from one of its replicas. Ends early if the receiver is dropped.
    ///
    /// # Errors
    /// If a slot has no replica that can be read in time; what was streamed until then is right.
    pub async fn export(
        &self,
        keyspace: KeyspaceId,
        mode: Mode,
        items: mpsc::Sender<v1::ExportResponse>,
    ) -> Result<(), OperationError> {
        let bits = self.0.shared.routes.load().slot_bits().ok_or(OperationError::NotAMember)?;
        let mut left: Vec<Slot> = bits.iter().collect();
        let total = left.len();
        let mut deadline = Instant::now() + OPERATION_TIME;
        for attempt in 0.. {
            if left.is_empty() {
                break;
            }
            let before = left.len();
            for (_, (peer, slots)) in self.plan(mode, &left, attempt).await {
                let (pages, receiver) = mpsc::channel(8);
                let range = KeyRange { keyspace, prefix: Bytes::new(), after: None };
                let scan = self.read_slots(&peer, Part { mode, slots, range, limit: 0, keys_only: false }, pages);
                let progress = Progress { done: total - left.len(), total };
                let (done, _) = tokio::join!(collect(receiver, progress, &items), scan);
                left.retain(|slot| !done.contains(slot));
                if items.is_closed() {
                    return Ok(());
                }
            }
            if left.len() < before {
                deadline = Instant::now() + OPERATION_TIME;
            } else if Instant::now() >= deadline {
                return Err(OperationError::NoReplica);
            } else {
                left.iter().for_each(|slot| self.forget(*slot));
                sleep(RETRY_PAUSE).await;
            }
        }
        Ok(())
    }
}

/// How many slots were sent whole, of how many.
struct Progress {
    done: usize,
    total: usize,
}

impl Progress {
    fn message(&self, items: Vec<v1::KeyValue>, ends_slot: bool) -> v1::ExportResponse {
        let count = |slots: usize| u32::try_from(slots).unwrap_or(u32::MAX);
        let done = self.done + usize::from(ends_slot);
        v1::ExportResponse { items, slots_done: count(done), slots_total: count(self.total) }
    }
}

/// Passes on whole slots only, so that a slot that was cut off can be read again elsewhere without doubling a key.
async fn collect(
    mut pages: mpsc::Receiver<Page>,
    mut progress: Progress,
    items: &mpsc::Sender<v1::ExportResponse>,
) -> Vec<Slot> {
    let mut done = Vec::new();
    let mut held: Vec<Vec<v1::KeyValue>> = Vec::new();
    while let Some(page) = pages.recv().await {
        held.push(page.items);
        if !page.slot_done {
            continue;
        }
        if !page.synced {
            held.clear();
            continue;
        }
        held.retain(|page| !page.is_empty());
        let pages = held.len();
        for (number, page) in held.drain(..).enumerate() {
            // The slot is done with its last page.
            if items.send(progress.message(page, number + 1 == pages)).await.is_err() {
                return done;
            }
        }
        progress.done += 1;
        done.push(Slot(page.slot));
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(slot: u32, items: usize, slot_done: bool, synced: bool) -> Page {
        Page { slot, items: vec![v1::KeyValue::default(); items], slot_done, synced }
    }

    /// What reaches the client of these pages: keys and slots done in each message; and the slots that need no other
    /// replica.
    async fn exported(pages: Vec<Page>) -> (Vec<(usize, u32)>, Vec<Slot>) {
        let (sender, receiver) = mpsc::channel(pages.len());
        for page in pages {
            sender.send(page).await.expect("there is room");
        }
        drop(sender);
        let (items, mut messages) = mpsc::channel(100);
        let done = collect(receiver, Progress { done: 5, total: 16 }, &items).await;
        drop(items);
        let mut told = Vec::new();
        while let Some(message) = messages.recv().await {
            assert_eq!(message.slots_total, 16);
            told.push((message.items.len(), message.slots_done));
        }
        (told, done)
    }

    #[tokio::test]
    async fn a_slot_counts_as_done_with_its_last_message_and_empty_ones_with_the_next() {
        let pages =
            vec![page(1, 2, false, true), page(1, 1, true, true), page(2, 0, true, true), page(3, 4, true, true)];
        let (told, done) = exported(pages).await;
        assert_eq!(told, [(2, 5), (1, 6), (4, 8)]);
        assert_eq!(done, [Slot(1), Slot(2), Slot(3)]);
    }

    #[tokio::test]
    async fn a_slot_that_was_cut_off_or_whose_replica_is_not_synced_is_neither_sent_nor_counted() {
        let pages = vec![page(1, 2, true, false), page(2, 1, true, true), page(3, 4, false, true)];
        let (told, done) = exported(pages).await;
        assert_eq!((told, done), (vec![(1, 6)], vec![Slot(2)]));
    }
}
