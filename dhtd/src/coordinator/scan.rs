//! Scan: a keyspace page by page, slot after slot.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use dht_core::{
    record::{KeyspaceId, Mode},
    ring::{Id, Slot, SlotBits},
};
use dhtd_proto::v1;
use tokio::{sync::mpsc, task::JoinSet, time::sleep};

use super::{
    Coordinator, OPERATION_TIME, OperationError, RETRY_PAUSE,
    slots::{PART_BYTES, Page, Part, size_of},
};
use crate::driver::KeyRange;

/// Which keys a scan is about.
#[derive(Clone)]
pub struct Scan {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// How it is replicated.
    pub mode: Mode,
    /// What the keys begin with.
    pub prefix: Bytes,
    /// How many keys a page has at most; at least 1.
    pub limit: usize,
    /// Leave the values out.
    pub keys_only: bool,
}

/// Where a page begins: in a slot, perhaps after a key of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    slot: Slot,
    after: Option<Bytes>,
}

/// What was read of one slot.
#[derive(Default)]
struct Found {
    items: Vec<v1::KeyValue>,
    /// Nothing follows.
    done: bool,
}

/// A page in the making.
struct Sheet {
    items: Vec<v1::KeyValue>,
    limit: usize,
    bytes_left: usize,
}

impl Coordinator {
    /// Reads one page, from where the token says; returns the token of the next one, which is empty after the last.
    ///
    /// # Errors
    /// If the token is of no such scan, or the first slot of the page can't be read in time.
    pub async fn scan(&self, scan: &Scan, token: &Bytes) -> Result<(Vec<v1::KeyValue>, Bytes), OperationError> {
        let bits = self.0.shared.routes.load().slot_bits().ok_or(OperationError::NotAMember)?;
        let start = decode_token(scan, bits, token)?;
        let mut next = start.clone();
        let mut sheet = Sheet { items: Vec::new(), limit: scan.limit, bytes_left: PART_BYTES };
        let begun = Instant::now();
        let (mut progress, mut attempt, mut window) = (begun, 0, FIRST_WINDOW);
        while next.slot.0 < bits.slots() {
            let slots: Vec<Slot> = (next.slot.0..bits.slots()).take(window).map(Slot).collect();
            let mut found = self.read_window(scan, &slots, &next, attempt).await;
            for slot in &slots {
                if sheet.is_full() {
                    return Ok((sheet.items, encode_token(scan, &next)));
                }
                // What comes behind a slot that could not be read waits for it.
                let Some(Found { items, done }) = found.remove(slot) else { break };
                if !(sheet.add(items) && done) {
                    let after = sheet.items.last().map(|last| last.key.clone());
                    return Ok((sheet.items, encode_token(scan, &Place { slot: *slot, after })));
                }
                next = Place { slot: Slot(slot.0 + 1), after: None };
            }
            if begun.elapsed() >= PAGE_TIME && next != start {
                break;
            }
            if next.slot > slots[0] {
                (progress, attempt) = (Instant::now(), 0);
                window = (window * 4).min(LAST_WINDOW);
                continue;
            }
            if progress.elapsed() >= OPERATION_TIME {
                return Err(OperationError::NoReplica);
            }
            attempt += 1;
            if attempt > 1 {
                self.forget(next.slot);
                sleep(RETRY_PAUSE).await;
            }
        }
        let ends = next.slot.0 >= bits.slots();
        let token = if ends { Bytes::new() } else { encode_token(scan, &next) };
        Ok((sheet.items, token))
    }

    /// Reads some slots, as far as their replicas answer; all peers at once.
    async fn read_window(&self, scan: &Scan, slots: &[Slot], from: &Place, attempt: usize) -> BTreeMap<Slot, Found> {
        let mut readers = JoinSet::new();
        for (peer, slots) in self.plan(scan.mode, slots, attempt).await.into_values() {
            let after = from.after.clone().filter(|_| slots.first() == Some(&from.slot));
            let range = KeyRange { keyspace: scan.keyspace, prefix: scan.prefix.clone(), after };
            let part = Part { mode: scan.mode, slots, range, limit: scan.limit, keys_only: scan.keys_only };
            let this = self.clone();
            readers.spawn(async move {
                let (pages, receiver) = mpsc::channel(8);
                tokio::join!(collect(receiver), this.read_slots(&peer, part, pages)).0
            });
        }
        let mut found = BTreeMap::new();
        while let Some(read) = readers.join_next().await {
            found.extend(read.unwrap_or_default()); // Readers do not panic.
        }
        found
    }
}

/// What came of one peer, slot by slot. Whether a slot was cut off for its limit or for a broken connection makes no
/// difference: what came of it is there, and the next page goes on behind it.
async fn collect(mut pages: mpsc::Receiver<Page>) -> BTreeMap<Slot, Found> {
    let mut found: BTreeMap<Slot, Found> = BTreeMap::new();
    while let Some(page) = pages.recv().await {
        if page.synced && (page.slot_done || !page.items.is_empty()) {
            let found = found.entry(Slot(page.slot)).or_default();
            found.items.extend(page.items);
            found.done = page.slot_done;
        }
    }
    found
}

impl Sheet {
    /// Takes as many as there is room for. Returns whether these are all.
    fn add(&mut self, items: Vec<v1::KeyValue>) -> bool {
        for item in items {
            if self.is_full() {
                return false;
            }
            self.bytes_left = self.bytes_left.saturating_sub(size_of(&item));
            self.items.push(item);
        }
        true
    }

    fn is_full(&self) -> bool {
        self.items.len() >= self.limit || self.bytes_left == 0
    }
}

/// `version (1) | keyspace (4) | slot (4) | length of the prefix (2) | prefix | key`, numbers in big-endian.
fn encode_token(scan: &Scan, place: &Place) -> Bytes {
    let after = place.after.as_deref().unwrap_or_default();
    let mut token = BytesMut::with_capacity(TOKEN_HEADER + scan.prefix.len() + after.len());
    token.put_u8(TOKEN_VERSION);
    token.put_u32(scan.keyspace.0);
    token.put_u32(place.slot.0);
    token.put_u16(u16::try_from(scan.prefix.len()).unwrap_or(u16::MAX)); // No longer than a key.
    token.put_slice(&scan.prefix);
    token.put_slice(after);
    token.freeze()
}

fn decode_token(scan: &Scan, bits: SlotBits, token: &Bytes) -> Result<Place, OperationError> {
    if token.is_empty() {
        return Ok(Place { slot: Slot(0), after: None });
    }
    let begins = encode_token(scan, &Place { slot: Slot(0), after: None });
    let (header, key) = token.split_at_checked(begins.len()).ok_or(OperationError::BadPageToken)?;
    let slot = header[5..9].try_into().map_or(u32::MAX, u32::from_be_bytes);
    let same = header[..5] == begins[..5] && header[9..] == begins[9..] && slot < bits.slots();
    let right = key.is_empty()
        || (key.len() <= dhtd_proto::MAX_KEY_BYTES
            && key.starts_with(&scan.prefix)
            && bits.slot_of(Id::of_key(key)) == Slot(slot));
    if !same || !right {
        return Err(OperationError::BadPageToken);
    }
    let after = (!key.is_empty()).then(|| token.slice(begins.len()..));
    Ok(Place { slot: Slot(slot), after })
}

const TOKEN_VERSION: u8 = 1;
const TOKEN_HEADER: usize = 11;

/// How many slots are read at once: few at first, which may fill the page, then more and more. What is read beyond the page
/// was read for nothing. Guesses.
const FIRST_WINDOW: usize = 4;
const LAST_WINDOW: usize = 256;

/// A page that has taken so long is sent as it is, unless it would be of no use. A guess: well below clients' deadlines.
const PAGE_TIME: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(prefix: &'static [u8]) -> Scan {
        let prefix = Bytes::from_static(prefix);
        Scan { keyspace: KeyspaceId(7), mode: Mode::Chain, prefix, limit: 10, keys_only: false }
    }

    fn place(key: &'static [u8]) -> Place {
        Place { slot: SlotBits::DEFAULT.slot_of(Id::of_key(key)), after: Some(Bytes::from_static(key)) }
    }

    fn decoded(scan: &Scan, token: &[u8]) -> Option<Place> {
        decode_token(scan, SlotBits::DEFAULT, &Bytes::copy_from_slice(token)).ok()
    }

    #[test]
    fn a_token_says_where_its_scan_goes_on() {
        let (scan, begin) = (scan(b"user/"), Place { slot: Slot(5), after: None });
        assert_eq!(decoded(&scan, b""), Some(Place { slot: Slot(0), after: None }));
        for place in [begin, place(b"user/ada"), place(b"user/")] {
            assert_eq!(decoded(&scan, &encode_token(&scan, &place)), Some(place));
        }
    }

    #[test]
    fn a_token_of_another_scan_or_of_none_is_refused() {
        let this = scan(b"user/");
        let token = encode_token(&this, &place(b"user/ada"));
        assert_eq!(decoded(&scan(b"use"), &token), None, "another prefix");
        assert_eq!(decoded(&Scan { keyspace: KeyspaceId(8), ..this.clone() }, &token), None, "another keyspace");
        let stray = Place { slot: Slot(3), after: Some(Bytes::from_static(b"user/ada")) };
        assert_eq!(decoded(&this, &encode_token(&this, &stray)), None, "a key of another slot");
        assert_eq!(decoded(&this, &encode_token(&this, &place(b"other"))), None, "a key without the prefix");
        let beyond = Place { slot: Slot(SlotBits::DEFAULT.slots()), after: None };
        assert_eq!(decoded(&this, &encode_token(&this, &beyond)), None, "no slot");
        let begin = encode_token(&this, &Place { slot: Slot(5), after: None });
        (1..begin.len()).for_each(|length| assert_eq!(decoded(&this, &begin[..length]), None, "cut at {length}"));
        for place in (0..token.len()).filter(|place| !(5..9).contains(place)) {
            let mut other = token.to_vec();
            other[place] ^= 1;
            assert_eq!(decoded(&this, &other), None, "byte {place} is another");
        }
    }

    fn item(bytes: usize) -> v1::KeyValue {
        v1::KeyValue { value: vec![0; bytes].into(), ..v1::KeyValue::default() }
    }

    #[test]
    fn a_page_ends_at_its_number_of_keys_or_of_bytes() {
        let mut sheet = Sheet { items: Vec::new(), limit: 3, bytes_left: 1000 };
        assert!(sheet.add(vec![item(1), item(1)]) && !sheet.is_full());
        assert!(!sheet.add(vec![item(1), item(1)]) && sheet.items.len() == 3);
        let mut sheet = Sheet { items: Vec::new(), limit: 100, bytes_left: 1000 };
        assert!(!sheet.add(vec![item(100), item(2000), item(1)]) && sheet.items.len() == 2, "one is beyond the bound");
    }

    #[tokio::test]
    async fn of_a_slot_that_was_cut_off_what_came_is_kept_and_what_is_not_synced_is_not() {
        let (sender, receiver) = mpsc::channel(8);
        let page = |slot, items, slot_done, synced| Page { slot, items: vec![item(1); items], slot_done, synced };
        for page in [page(1, 2, false, true), page(1, 1, true, true), page(2, 1, true, false), page(3, 2, false, true)]
        {
            sender.send(page).await.expect("there is room");
        }
        drop(sender);
        let found = collect(receiver).await;
        let found: Vec<_> = found.iter().map(|(slot, found)| (slot.0, found.items.len(), found.done)).collect();
        assert_eq!(found, [(1, 3, true), (3, 2, false)]);
    }
}
