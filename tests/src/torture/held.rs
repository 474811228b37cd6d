//! Who holds slots in chain mode, as the peers say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use dht_core::ring::{Id, SlotBits};
use dhtctl::Client;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::process::{Ring, eventually};

/// The view that a slot has. Peers are told by their addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    pub(super) epoch: u64,
    /// The head first.
    pub(super) chain: Vec<String>,
    pub(super) electors: Vec<String>,
}

impl Held {
    pub(super) fn head(&self) -> Option<&String> {
        self.chain.first()
    }

    pub(super) fn tail(&self) -> Option<&String> {
        self.chain.last()
    }

    /// Whether these peers may go on with the slot without the others.
    pub(super) fn has_majority_among(&self, peers: &BTreeSet<&String>) -> bool {
        2 * self.electors.iter().filter(|elector| peers.contains(elector)).count() > self.electors.len()
    }
}

/// Who holds each of these keys now; without those of which nobody can tell.
pub(super) async fn held(client: &Client, keys: &[Bytes]) -> BTreeMap<Bytes, Held> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut asked = JoinSet::new();
    for key in keys.iter().cloned() {
        let (client, turns) = (client.clone(), turns.clone());
        asked.spawn(async move {
            let _turn = turns.acquire().await.ok()?;
            let explained = client.explain(key.clone()).await.ok()?;
            let view = explained.view?;
            let peers = explained.copies.into_iter().filter_map(|copy| copy.peer);
            let addresses: BTreeMap<Bytes, String> = peers.map(|peer| (peer.id, peer.address)).collect();
            let named = |ids: Vec<Bytes>| ids.iter().map(|id| addresses.get(id).cloned().unwrap_or_default()).collect();
            let (chain, electors) = (named(view.chain), named(view.electors));
            Some((key, Held { epoch: view.epoch, chain, electors }))
        });
    }
    asked.join_all().await.into_iter().flatten().collect()
}

/// Who holds each of these keys, in a ring at rest.
///
/// # Panics
/// If nobody can tell for minutes.
pub(super) async fn all_held(ring: &Ring, keys: &[Bytes]) -> BTreeMap<Bytes, Held> {
    let client = ring.client();
    let mut found = BTreeMap::new();
    eventually("it is known who holds every key", async || {
        let missing: Vec<Bytes> = keys.iter().filter(|key| !found.contains_key(*key)).cloned().collect();
        found.extend(held(&client, &missing).await);
        found.len() == keys.len()
    })
    .await;
    found
}

/// How many views there have been, over all slots of a ring at rest.
///
/// # Panics
/// If a slot has no view for minutes.
pub(super) async fn views(ring: &Ring) -> u64 {
    let keys = a_key_for_each_slot(ring).await;
    all_held(ring, &keys).await.values().map(|held| held.epoch).sum()
}

async fn a_key_for_each_slot(ring: &Ring) -> Vec<Bytes> {
    let status = ring.client().status().await.expect("the ring is at rest");
    let bits = SlotBits::new(status.ring.expect("it is a member").slot_bits).expect("a ring was founded with it");
    let mut keys = BTreeMap::new();
    for number in 0_u64.. {
        if keys.len() == bits.slots() as usize {
            break;
        }
        let key = format!("any {number}").into_bytes();
        keys.entry(bits.slot_of(Id::of_key(&key))).or_insert_with(|| key.into());
    }
    keys.into_values().collect()
}

/// Waits until the ring is whole and every slot is held by its home group, as far as the peers can tell.
///
/// # Panics
/// If that takes minutes.
pub(super) async fn at_rest(ring: &Ring) {
    ring.ideal(ring.peers.len()).await;
    eventually("every slot is where it should be", async || {
        for peer in &ring.peers {
            let still = peer.client().status().await.is_ok_and(|status| status.slots_changing == 0);
            if !still {
                return false;
            }
        }
        true
    })
    .await;
}

/// Keys asked about at the same time: the load goes on beside it.
const AT_ONCE: usize = 8;
