//! Export: every key of the ring.

use std::{collections::BTreeMap, time::Instant};

use dht_core::{
    overlay::Peer,
    record::{KeyspaceId, Mode, RecordKey},
    replication::chain::Record,
    ring::{PeerId, Slot},
};
use dhtd_proto::v1;
use tokio::{sync::mpsc, task::spawn_blocking, time::sleep};

use super::{Coordinator, OPERATION_TIME, OperationError, RETRY_PAUSE, get::shown};
use crate::{
    driver::{chains::TablePart, shards::Shards},
    wire,
};

/// One message of a scan.
pub(crate) type Page = v1::ScanSlotsResponse;

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
                let scan = self.scan(&peer, Part { keyspace, mode, slots }, pages);
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

    /// Reads slots as this peer holds them.
    ///
    /// # Errors
    /// If this peer holds no data yet, or the keyspace was dropped.
    pub async fn scan_here(&self, part: Part, pages: mpsc::Sender<Page>) -> Result<(), OperationError> {
        let Part { keyspace, mode, slots } = part;
        self.check_keyspace(keyspace)?;
        if mode == Mode::Chain {
            return self.scan_chains_here(keyspace, slots, pages).await;
        }
        let (this, shards) = (self.clone(), self.shards()?.clone());
        let scan = spawn_blocking(move || {
            for slot in slots {
                // The flag is read first: what is synced afterwards was so when the records were read.
                scan_slot(&shards, keyspace, slot, this.synced(slot), &pages)?;
            }
            Ok(())
        });
        scan.await.unwrap_or(Err(OperationError::Stopping))
    }

    /// Reads those slots of which this peer is the head: it is the first to know what is committed.
    async fn scan_chains_here(
        &self,
        keyspace: KeyspaceId,
        slots: Vec<Slot>,
        pages: mpsc::Sender<Page>,
    ) -> Result<(), OperationError> {
        let chains = self.chains()?;
        for slot in slots {
            // Of a slot that is not served here no page comes: somebody else is asked.
            let Ok(mut parts) = chains.scan(slot, keyspace).await else { continue };
            while let Some(TablePart { records, done, .. }) = parts.recv().await {
                let items: Vec<v1::KeyValue> = records.into_iter().map(item).collect();
                let mut chunks: Vec<Vec<v1::KeyValue>> = items.chunks(PAGE_ITEMS).map(<[_]>::to_vec).collect();
                let last = chunks.pop().unwrap_or_default();
                let page = |items, slot_done| Page { slot: slot.0, items, slot_done, synced: true };
                let all = chunks.into_iter().map(|items| page(items, false)).chain([page(last, done)]);
                for page in all {
                    if pages.send(page).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    async fn scan(&self, peer: &Peer, part: Part, pages: mpsc::Sender<Page>) {
        if peer.id == self.me() {
            drop(self.scan_here(part, pages).await);
            return;
        }
        let Some(channel) = self.0.shared.channels.get(&peer.address) else { return };
        let mut client =
            v1::peer_service_client::PeerServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
        let ring_id = wire::ring_id_bytes(self.0.shared.routes.load().ring.as_ref());
        let Part { keyspace, mode, slots } = part;
        let slots = slots.iter().map(|slot| slot.0).collect();
        let request = v1::ScanSlotsRequest { ring_id, slots, keyspace: keyspace.0, mode: wire::mode(mode).into() };
        let Ok(response) = client.scan_slots(request).await else { return };
        let mut stream = response.into_inner();
        while let Ok(Some(page)) = stream.message().await {
            if pages.send(page).await.is_err() {
                return;
            }
        }
    }

    /// Which peer is asked for which slots: this one where it can answer, else any other replica.
    async fn plan(&self, mode: Mode, slots: &[Slot], attempt: usize) -> BTreeMap<PeerId, (Peer, Vec<Slot>)> {
        let mut plan: BTreeMap<_, (Peer, Vec<Slot>)> = BTreeMap::new();
        let me = self.me();
        if mode == Mode::Chain
            && let Ok(chains) = self.chains()
        {
            for slot in slots {
                let head = self.head(chains, *slot, attempt > 0).await;
                if let Some(peer) = head.and_then(|head| self.0.shared.routes.load().peer(head).cloned()) {
                    plan.entry(peer.id).or_insert_with(|| (peer, Vec::new())).1.push(*slot);
                }
            }
            return plan;
        }
        for slot in slots {
            let group = self.home(*slot).await.unwrap_or_default();
            let here = group.iter().find(|peer| peer.id == me && self.synced(*slot));
            // Another replica at each attempt: the one before may be one that cannot answer.
            let others: Vec<&Peer> = group.iter().filter(|peer| peer.id != me).collect();
            let there = others.get((attempt + slot.0 as usize) % others.len().max(1)).copied();
            if let Some(peer) = here.or(there).or(group.first()) {
                plan.entry(peer.id).or_insert_with(|| (peer.clone(), Vec::new())).1.push(*slot);
            }
        }
        plan
    }
}

/// What is read of one peer.
pub struct Part {
    /// Of which keyspace.
    pub keyspace: KeyspaceId,
    /// How that is replicated.
    pub mode: Mode,
    /// Which slots.
    pub slots: Vec<Slot>,
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

fn item((at, record): (RecordKey, Record)) -> v1::KeyValue {
    let (value, counter) = shown(record.value);
    v1::KeyValue { key: at.key, value, version: None, revision: record.revision, counter }
}

fn scan_slot(
    shards: &Shards,
    keyspace: KeyspaceId,
    slot: Slot,
    synced: bool,
    pages: &mpsc::Sender<Page>,
) -> Result<(), OperationError> {
    let (mut items, mut bytes) = (Vec::new(), 0);
    for entry in shards.scan_keyspace(slot, keyspace) {
        let (at, record) = entry?;
        let Some(value) = record.value().cloned() else { continue };
        bytes += at.key.len() + value.len();
        items.push(v1::KeyValue {
            key: at.key,
            value,
            version: Some(wire::version(record.version)),
            revision: 0,
            counter: None,
        });
        if bytes >= PAGE_BYTES || items.len() >= PAGE_ITEMS {
            bytes = 0;
            let page = Page { slot: slot.0, items: std::mem::take(&mut items), slot_done: false, synced };
            if pages.blocking_send(page).is_err() {
                return Ok(());
            }
        }
    }
    let _ = pages.blocking_send(Page { slot: slot.0, items, slot_done: true, synced });
    Ok(())
}

/// What one message holds at most (DESIGN, section 2: page size 1,000).
const PAGE_ITEMS: usize = 1000;
const PAGE_BYTES: usize = 512 << 10;

/// A page's last value may be as large as a value may be.
const MESSAGE_BYTES: usize = 16 << 20;

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
