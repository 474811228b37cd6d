//! What is known of one slot.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Config, Digests, Holding, Note, Output};
use crate::{
    Rules,
    hlc::Timestamp,
    replication::digest::SlotDigest,
    ring::{PeerId, Slot},
};

/// What is known of one slot of which this peer holds something, or should.
#[derive(Clone, Debug, Default)]
pub(super) struct Replica {
    /// Who should hold it, if known, and since when that is so.
    pub(super) group: Option<Vec<PeerId>>,
    pub(super) since: Duration,
    /// Members that came into the group with its last change: nothing is sent to them before the group has settled.
    pub(super) fresh: BTreeSet<PeerId>,
    pub(super) synced: bool,
    /// It has not been synced since this peer came into the group.
    pub(super) newcomer: bool,
    /// The copy has everything that was ever acknowledged, but for what the other members may have since.
    pub(super) basis: bool,
    /// The other peers that may have records of the slot on their disks: all members of its groups since there is anything,
    /// but for those that have said that they hold nothing any more.
    pub(super) holders: BTreeSet<PeerId>,
    /// Members that have answered a comparison, and so know of these holders.
    pub(super) told: BTreeSet<PeerId>,
    /// Members that were found to hold the same, and to know of no holder outside the group; and when they were asked.
    pub(super) level: BTreeMap<PeerId, Duration>,
    /// Members whose content has been taken in; and holders outside the group that have been heard.
    pub(super) merged: BTreeSet<PeerId>,
    /// Members that have everything that was here when the digest was this.
    pub(super) handed: BTreeMap<PeerId, SlotDigest>,
    /// When a comparison with them was begun that has not come to its end.
    pub(super) asked: BTreeMap<PeerId, Duration>,
    /// When synced replicas are compared again.
    pub(super) next_compare: Duration,
    /// When the host was last told to drop it.
    pub(super) dropped: Option<Duration>,
    /// When somebody was last asked who should hold it.
    pub(super) located: Option<Duration>,
}

impl Replica {
    pub(super) fn is_member(&self, me: PeerId) -> bool {
        self.group.as_ref().is_some_and(|group| group.contains(&me))
    }

    pub(super) fn set_synced(&mut self, slot: Slot, synced: bool, outputs: &mut Vec<Output>) {
        if self.synced != synced {
            self.synced = synced;
            outputs.push(Output::Synced(slot, synced));
        }
    }

    pub(super) fn set_basis(&mut self, slot: Slot, basis: bool, outputs: &mut Vec<Output>) {
        if self.basis != basis {
            self.basis = basis;
            self.note(slot, outputs);
        }
    }

    pub(super) fn add_holders<'a>(
        &mut self,
        slot: Slot,
        holders: impl IntoIterator<Item = &'a PeerId>,
        me: PeerId,
        outputs: &mut Vec<Output>,
    ) {
        let before = self.holders.len();
        self.holders.extend(holders.into_iter().filter(|peer| **peer != me));
        if self.holders.len() != before {
            self.note(slot, outputs);
            // A comparison that is under way does not name them.
            self.told.clear();
            self.asked.clear();
        }
    }

    /// The other members of the group may have records of the slot.
    pub(super) fn add_members(&mut self, slot: Slot, me: PeerId, outputs: &mut Vec<Output>) {
        let new = |peer: &&PeerId| **peer != me && !self.holders.contains(*peer);
        let new: Vec<PeerId> = self.group.iter().flatten().filter(new).copied().collect();
        self.add_holders(slot, &new, me, outputs);
    }

    /// The peer has nothing of the slot on its disk any more.
    pub(super) fn remove_holder(&mut self, slot: Slot, peer: PeerId, outputs: &mut Vec<Output>) {
        if self.holders.remove(&peer) {
            self.note(slot, outputs);
        }
    }

    fn note(&self, slot: Slot, outputs: &mut Vec<Output>) {
        outputs.push(Output::Note(slot, Note { basis: self.basis, holders: self.holders.clone() }));
    }

    pub(super) fn holding(&self, slot: Slot, digests: &impl Digests) -> Holding {
        let (digest, horizon) = (digests.digest(slot), digests.horizon(slot));
        Holding { slot, digest, basis: self.basis, horizon, holders: self.holders.iter().copied().collect() }
    }

    /// Holders outside the group that have not been heard in this round of comparisons.
    pub(super) fn strays(&self) -> impl Iterator<Item = PeerId> {
        let outside = |peer: &PeerId| !self.is_member(*peer) && !self.merged.contains(peer);
        self.holders.iter().copied().filter(outside)
    }

    /// Where the horizon is to be moved, if this peer is the slot's owner and there is something to forget: what every
    /// holder had when it was asked is nowhere in an older version, and the grace covers what was on its way.
    pub(super) fn next_horizon(
        &self,
        now: Duration,
        slot: Slot,
        me: PeerId,
        config: &Config,
        rules: Rules,
        digests: &impl Digests,
    ) -> Option<Timestamp> {
        let digest = digests.digest(slot);
        if digest.records == digest.values && digest.expiring == 0 {
            return None;
        }
        let unchecked = (!rules.holders_confirm_deletions && self.synced).then_some(now);
        let since = self.level_since(now, me, config).or(unchecked)?;
        let horizon = digests.wall_clock().earlier_by(now.saturating_sub(since) + config.tombstone_grace);
        let next = digests.horizon(slot).later_by(config.tombstone_grace / RECLAIMS_PER_GRACE);
        (horizon > next).then_some(horizon)
    }

    /// Since when every member has held the same as this peer, its owner, if nobody else holds anything.
    fn level_since(&self, now: Duration, me: PeerId, config: &Config) -> Option<Duration> {
        let group = self.group.as_ref().filter(|group| group.first() == Some(&me))?;
        if !self.synced || !self.fresh.is_empty() || !self.holders.iter().all(|peer| group.contains(peer)) {
            return None;
        }
        let recent = |since: &&Duration| now.saturating_sub(**since) <= config.compare_every * 2;
        let mut others = group.iter().filter(|peer| **peer != me);
        others.try_fold(now, |least, peer| self.level.get(peer).filter(recent).map(|since| least.min(*since)))
    }

    /// Whom a member compares with. It is synced once everyone has been taken in.
    pub(super) fn compare_with(
        &mut self,
        now: Duration,
        slot: Slot,
        others: &[PeerId],
        config: &Config,
        rules: Rules,
        outputs: &mut Vec<Output>,
    ) -> Vec<PeerId> {
        // Who is new to the group has nothing that the others lack; but a newcomer itself needs all of them.
        let needed = |peer: &&PeerId| self.newcomer || !self.fresh.contains(*peer);
        let complete = others.iter().filter(needed).all(|peer| self.merged.contains(peer));
        // If all who had a basis are lost, what is left is all there is.
        let forlorn = now.saturating_sub(self.since) >= config.lonely;
        if !self.synced && complete && (self.basis || forlorn || !rules.basis_before_synced) {
            self.set_basis(slot, true, outputs);
            self.newcomer = false;
            self.set_synced(slot, true, outputs);
            self.next_compare = now + config.compare_every;
        }
        if self.synced && now >= self.next_compare {
            // Replicas that compare in step would do so for ever: the slot number spreads them.
            self.next_compare = now + config.compare_every + Duration::from_millis(u64::from(slot.0 % 1000));
            self.merged.clear();
        }
        others.iter().copied().filter(|peer| !self.merged.contains(peer)).collect()
    }

    /// Whom a holder outside the group compares with. Once all have what is here, and know who else holds something, it
    /// is dropped.
    pub(super) fn hand_over(
        &mut self,
        now: Duration,
        slot: Slot,
        others: &[PeerId],
        digest: SlotDigest,
        config: &Config,
        outputs: &mut Vec<Output>,
    ) -> Vec<PeerId> {
        let has = |handed: &SlotDigest| handed.same(&digest);
        let lacks = |peer: &PeerId| !self.told.contains(peer) || !self.handed.get(peer).is_some_and(has);
        let lacking: Vec<PeerId> = others.iter().copied().filter(lacks).collect();
        let whole = self.group.as_ref().is_some_and(|group| group.len() == others.len());
        if !lacking.is_empty() {
            self.dropped = None;
        } else if whole && !others.is_empty() {
            self.set_basis(slot, false, outputs);
            // A store may refuse to.
            let due = self.dropped.is_none_or(|dropped| now.saturating_sub(dropped) >= config.retry_after);
            if !digest.is_empty() && due {
                self.dropped = Some(now);
                outputs.push(Output::Drop(slot, digest));
            }
        }
        lacking
    }

    /// Whoever is told nothing asks from time to time who should hold the slot. Returns whether it does.
    pub(super) fn locate(
        &mut self,
        now: Duration,
        slot: Slot,
        already: usize,
        config: &Config,
        outputs: &mut Vec<Output>,
    ) -> bool {
        let due = self.located.is_none_or(|located| now.saturating_sub(located) >= config.retry_after);
        if due && already < LOCATES {
            self.located = Some(now);
            outputs.push(Output::Locate(slot));
        }
        due
    }
}

/// Slots whose group is looked up at each tick at most. A guess: a peer that holds 1,000 has asked for all in 4 s.
const LOCATES: usize = 64;

/// How often within the grace deletions are forgotten at most: each time, the slot is read. A guess.
const RECLAIMS_PER_GRACE: u32 = 10;
