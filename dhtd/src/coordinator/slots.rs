//! Reading slots as one of their replicas has them: for exports and for pages of scans.

use std::{collections::BTreeMap, iter::from_fn};

use dht_core::{
    overlay::Peer,
    record::{Mode, RecordKey},
    replication::{chain::Record, eventual::Digests as _},
    ring::{PeerId, Slot},
};
use dhtd_proto::v1;
use tokio::{
    runtime::Handle,
    sync::mpsc::{Receiver, Sender},
    task::spawn_blocking,
};

use super::{Coordinator, OperationError, get::shown};
use crate::{
    driver::{
        KeyRange,
        chains::{Chains, TablePart},
        shards::Shards,
    },
    wire,
};

/// A part of what a slot holds.
pub(crate) type Page = v1::ScanSlotsResponse;

/// What is read of one peer.
pub struct Part {
    /// How the keyspace is replicated.
    pub mode: Mode,
    /// Which slots, in their order.
    pub slots: Vec<Slot>,
    /// Which keys of each; what they come after counts for the first slot.
    pub range: KeyRange,
    /// Stop after so many, or at about [`PART_BYTES`]; 0: read everything.
    pub limit: usize,
    /// Leave the values out.
    pub keys_only: bool,
}

/// Sends what is read in pages. What has ended early, for its limit or since nobody receives it any more, is full.
struct Pager {
    pages: Sender<Page>,
    keys_only: bool,
    /// How many keys and bytes may still follow; none: all.
    left: Option<(usize, usize)>,
    full: bool,
}

impl Coordinator {
    /// Reads slots as this peer holds them; of a slot that it can't answer for comes no last page.
    ///
    /// # Errors
    /// If this peer holds no data yet, its store can't be read, or the keyspace was dropped.
    pub async fn read_slots_here(&self, part: Part, pages: Sender<Page>) -> Result<(), OperationError> {
        self.check_keyspace(part.range.keyspace)?;
        let (this, shards, chains) = (self.clone(), self.shards()?.clone(), self.chains()?.clone());
        let reading = spawn_blocking(move || {
            let left = (part.limit > 0).then_some((part.limit, PART_BYTES));
            let mut pager = Pager { pages, keys_only: part.keys_only, left, full: false };
            let Part { mode, slots, mut range, .. } = part;
            for slot in slots {
                match mode {
                    Mode::Chain => read_chain(&chains, slot, &range, &mut pager)?,
                    // The flag is read first: what is synced afterwards was so when the records were read.
                    Mode::Eventual => read_eventual(&shards, slot, &range, this.synced(slot), &mut pager)?,
                }
                range.after = None;
                if pager.full {
                    break;
                }
            }
            Ok(())
        });
        reading.await.unwrap_or(Err(OperationError::Stopping))
    }

    /// Has a peer read slots. What could not be read does not come.
    pub(super) async fn read_slots(&self, peer: &Peer, part: Part, pages: Sender<Page>) {
        if peer.id == self.me() {
            drop(self.read_slots_here(part, pages).await);
            return;
        }
        let Some(channel) = self.0.shared.channels.get(&peer.address) else { return };
        let mut client =
            v1::peer_service_client::PeerServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
        let Part { mode, slots, range, limit, keys_only } = part;
        let request = v1::ScanSlotsRequest {
            ring_id: wire::ring_id_bytes(self.0.shared.routes.load().ring.as_ref()),
            slots: slots.iter().map(|slot| slot.0).collect(),
            keyspace: range.keyspace.0,
            mode: wire::mode(mode).into(),
            prefix: range.prefix,
            after: range.after.unwrap_or_default(),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            keys_only,
        };
        let Ok(response) = client.scan_slots(request).await else { return };
        let mut stream = response.into_inner();
        while let Ok(Some(page)) = stream.message().await {
            if pages.send(page).await.is_err() {
                return;
            }
        }
    }

    /// Which peer is asked for which slots: this one where it may be able to answer, else any other replica. In chain mode
    /// the head, from the second attempt on: it is the first to know what is committed.
    pub(super) async fn plan(&self, mode: Mode, slots: &[Slot], attempt: usize) -> BTreeMap<PeerId, (Peer, Vec<Slot>)> {
        let mut plan: BTreeMap<_, (Peer, Vec<Slot>)> = BTreeMap::new();
        let me = self.me();
        if mode == Mode::Chain
            && let Ok(chains) = self.chains()
        {
            for slot in slots {
                let here = attempt == 0 && chains.view(*slot).is_some_and(|view| view.has(me));
                let from = if here { Some(me) } else { self.head(chains, *slot, attempt > 0).await };
                if let Some(peer) = from.and_then(|peer| self.0.shared.routes.load().peer(peer).cloned()) {
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

impl Pager {
    /// Sends what a slot holds, or as much of it as may still follow.
    fn send(
        &mut self,
        slot: Slot,
        synced: bool,
        entries: impl Iterator<Item = Result<v1::KeyValue, OperationError>>,
    ) -> Result<(), OperationError> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        for entry in entries {
            if self.left.is_some_and(|(keys, bytes)| keys == 0 || bytes == 0) {
                self.full = true;
                break;
            }
            let mut item = entry?;
            if self.keys_only {
                item.value.clear();
            }
            let size = size_of(&item);
            self.left = self.left.map(|(keys, bytes)| (keys - 1, bytes.saturating_sub(size)));
            bytes += size;
            items.push(item);
            if bytes >= PAGE_BYTES || items.len() >= PAGE_ITEMS {
                bytes = 0;
                self.page(slot, std::mem::take(&mut items), false, synced);
                if self.full {
                    return Ok(());
                }
            }
        }
        let done = !self.full;
        self.page(slot, items, done, synced);
        Ok(())
    }

    fn page(&mut self, slot: Slot, items: Vec<v1::KeyValue>, slot_done: bool, synced: bool) {
        let page = Page { slot: slot.0, items, slot_done, synced };
        self.full |= self.pages.blocking_send(page).is_err();
    }
}

/// A slot at a member of its chain: at once, if no entry is pending there, else at the head. Of a slot that can't be read here
/// no page comes.
fn read_chain(chains: &Chains, slot: Slot, range: &KeyRange, pager: &mut Pager) -> Result<(), OperationError> {
    if let Some(entries) = chains.scan_clean(slot, range) {
        return pager.send(slot, true, entries.map(|entry| Ok(chain_item(entry?))));
    }
    let Ok(parts) = Handle::current().block_on(chains.scan(slot, range.clone())) else { return Ok(()) };
    pager.send(slot, true, entries(parts).map(|entry| entry.map(chain_item)))
}

/// What the parts have; ends with an error if there is no last part.
fn entries(mut parts: Receiver<TablePart>) -> impl Iterator<Item = Result<(RecordKey, Record), OperationError>> {
    let mut done = false;
    let parts = from_fn(move || {
        let part = if done { None } else { Some(parts.blocking_recv()) }?;
        done = part.as_ref().is_none_or(|part| part.done);
        Some(part.ok_or(OperationError::Stopping))
    });
    parts.flat_map(|part| match part {
        Ok(part) => part.records.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    })
}

fn read_eventual(
    shards: &Shards,
    slot: Slot,
    range: &KeyRange,
    synced: bool,
    pager: &mut Pager,
) -> Result<(), OperationError> {
    let now = shards.table().wall_clock().millis();
    let items = shards.scan_range(slot, range).filter_map(|entry| match entry {
        Ok((at, record)) => {
            let (version, expires_at_ms) = (Some(wire::version(record.version)), wire::expires_at(record.expiry()));
            let value = record.value_at(now).cloned()?; // A deletion is no item.
            Some(Ok(v1::KeyValue { key: at.key, value, version, expires_at_ms, ..v1::KeyValue::default() }))
        }
        Err(error) => Some(Err(error.into())),
    });
    pager.send(slot, synced, items)
}

fn chain_item((at, record): (RecordKey, Record)) -> v1::KeyValue {
    let (value, counter) = shown(record.value);
    let expires_at_ms = wire::expires_at(record.expires);
    v1::KeyValue { key: at.key, value, version: None, revision: record.revision, counter, expires_at_ms }
}

/// Roughly.
pub(super) fn size_of(item: &v1::KeyValue) -> usize {
    item.key.len() + item.value.len() + 64
}

/// What one message holds at most (DESIGN, section 2: page size 1,000).
const PAGE_ITEMS: usize = 1000;
const PAGE_BYTES: usize = 512 << 10;

/// After so many bytes a part with a limit ends: with one more value of the largest size it is below gRPC's customary 4 MiB.
pub(super) const PART_BYTES: usize = 2 << 20;

/// A page's last value may be as large as a value may be.
const MESSAGE_BYTES: usize = 16 << 20;
