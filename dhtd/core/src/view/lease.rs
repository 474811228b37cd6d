//! Leases: for how long the electors of a slot have promised a member of its chain not to accept a next view.
//!
//! They are kept between pairs of peers, for all slots that the two share: a *holder* says which views it serves by (its
//! *list*) and sends a heartbeat; the *granter* says which of them it stands by, too (its *coverage*), and grants them all
//! for L from the moment when the heartbeat was **sent**. Only differences of list and coverage travel. Before it accepts
//! a next view, a granter stops covering the slot and waits until what it has granted to others has run out by its own
//! clock: L, and as much more as two clocks may differ in rate.
//!
//! The same heartbeats tell who is in contact with whom: somebody is lost if no round trip was completed for some time,
//! whichever way the messages were lost.

mod contact;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
    time::Duration,
};

pub use self::contact::Contact;
use super::{
    Epoch,
    delta::{Delta, Mirror, Source, Version},
};
use crate::{
    Rules,
    ring::{PeerId, Slot},
};

/// How leases are kept.
#[derive(Clone, Copy, Debug)]
pub struct LeaseConfig {
    /// L: how long a lease lasts. Default 500 ms.
    pub length: Duration,
    /// eps: no clock runs faster or slower than time by more than this share. Default 1 %.
    pub clock_error: f64,
    /// Time between heartbeats. Default 100 ms.
    pub heartbeat_every: Duration,
    /// A peer is lost when no round trip was completed for this long. Default 400 ms.
    pub lost_after: Duration,
}

impl Default for LeaseConfig {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { length: ms(500), clock_error: 0.01, heartbeat_every: ms(100), lost_after: ms(400) }
    }
}

impl LeaseConfig {
    /// What a granter waits for: L on the slowest clock, measured by the fastest.
    #[must_use]
    pub fn grant_holds(&self) -> Duration {
        self.length.mul_f64((1.0 + self.clock_error) / (1.0 - self.clock_error))
    }
}

/// A holder is there, serves by these views, and asks for them to be granted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Heartbeat {
    /// Names the heartbeat in the answer.
    pub nonce: u64,
    /// Which process of the holder.
    pub incarnation: u64,
    /// The views that it serves by, as far as the granter does not know them.
    pub list: Delta<Slot, Epoch>,
    /// What it has of the granter's coverage.
    pub coverage_seen: Version,
    /// It is about to stop.
    pub stopping: bool,
}

/// The answer: the views covered by it are granted for L from when the heartbeat was sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// Of the heartbeat.
    pub nonce: u64,
    /// Which process of the granter.
    pub incarnation: u64,
    /// What it has of the holder's list.
    pub list_seen: Version,
    /// What it covers, as far as the holder does not know it.
    pub coverage: Delta<Slot, Epoch>,
    /// Its disk takes writes. If not, nothing is granted.
    pub disk_ok: bool,
}

/// One peer's leases with all others that it shares slots with.
#[derive(Clone, Debug)]
pub struct Leases {
    config: LeaseConfig,
    rules: Rules,
    incarnation: u64,
    last_nonce: u64,
    partners: BTreeMap<PeerId, Partner>,
    /// Until when grants hold that covered a slot which is not covered any more.
    outstanding: BTreeMap<Slot, BTreeMap<PeerId, Duration>>,
    /// This peer is about to stop.
    stopping: bool,
}

/// Everything between this peer and another one.
#[derive(Clone, Debug)]
struct Partner {
    /// Slots whose chain or electorate has both.
    shared: usize,
    /// When it became a partner.
    since: Duration,
    /// Its process, as it has said last.
    incarnation: Option<u64>,
    /// When the last heartbeat was sent that it has answered.
    round_trip: Option<Duration>,
    /// Its disk takes writes.
    disk_ok: bool,
    /// The process that has said that it is about to stop.
    stopping: Option<u64>,
    // What it has granted to this peer:
    list: Source<Slot, Epoch>,
    list_seen: Version,
    coverage: Mirror<Slot, Epoch>,
    valid_until: Duration,
    sent: BTreeMap<u64, Duration>,
    // What this peer has granted to it:
    registered: Mirror<Slot, Epoch>,
    covered: Source<Slot, Epoch>,
    uncovered: BTreeSet<Slot>,
    granted_until: Duration,
}

impl Partner {
    fn new(now: Duration, life: u64) -> Self {
        Self {
            shared: 0,
            since: now,
            incarnation: None,
            round_trip: None,
            disk_ok: true,
            stopping: None,
            list: Source::new(life),
            list_seen: Version::default(),
            coverage: Mirror::default(),
            valid_until: Duration::ZERO,
            sent: BTreeMap::new(),
            registered: Mirror::default(),
            covered: Source::new(life),
            uncovered: BTreeSet::new(),
            granted_until: Duration::ZERO,
        }
    }
}

impl Leases {
    /// Of a process with this number.
    #[must_use]
    pub fn new(config: LeaseConfig, rules: Rules, incarnation: u64) -> Self {
        let (partners, outstanding) = (BTreeMap::new(), BTreeMap::new());
        Self { config, rules, incarnation, last_nonce: 0, partners, outstanding, stopping: false }
    }

    /// The two share one slot more.
    pub fn share(&mut self, now: Duration, peer: PeerId) {
        self.partner(now, peer).shared += 1;
    }

    /// The two share one slot less.
    pub fn unshare(&mut self, peer: PeerId) {
        if let Some(partner) = self.partners.get_mut(&peer) {
            partner.shared = partner.shared.saturating_sub(1);
        }
    }

    /// This peer serves the slot by the view of this epoch, and asks the elector to stand by it; `None`: no more.
    pub fn register(&mut self, now: Duration, elector: PeerId, slot: Slot, epoch: Option<Epoch>) {
        self.partner(now, elector).list.set(slot, epoch);
    }

    fn partner(&mut self, now: Duration, peer: PeerId) -> &mut Partner {
        self.partners.entry(peer).or_insert_with(|| Partner::new(now, self.incarnation))
    }

    /// One heartbeat to everyone with whom slots are shared.
    pub fn heartbeats(&mut self, now: Duration) -> Vec<(PeerId, Heartbeat)> {
        let (incarnation, stopping, last_nonce) = (self.incarnation, self.stopping, &mut self.last_nonce);
        let shared = self.partners.iter_mut().filter(|(_, partner)| partner.shared > 0);
        let heartbeat = |(peer, partner): (&PeerId, &mut Partner)| {
            *last_nonce += 1;
            partner.sent.insert(*last_nonce, now);
            while partner.sent.len() > REMEMBERED_HEARTBEATS {
                partner.sent.pop_first();
            }
            let list = partner.list.since(partner.list_seen);
            let coverage_seen = partner.coverage.version();
            (*peer, Heartbeat { nonce: *last_nonce, incarnation, list, coverage_seen, stopping })
        };
        shared.map(heartbeat).collect()
    }

    /// A holder asks. `standing` tells by which view this peer stands in a slot, unless it is sealed there. Returns the
    /// answer.
    pub fn asked(
        &mut self,
        now: Duration,
        holder: PeerId,
        heartbeat: Heartbeat,
        disk_ok: bool,
        standing: impl Fn(Slot) -> Option<Epoch>,
    ) -> Grant {
        let (rules, holds) = (self.rules, self.config.grant_holds());
        let incarnation = self.incarnation;
        let partner = self.partner(now, holder);
        partner.incarnation = partner.incarnation.max(Some(heartbeat.incarnation));
        if heartbeat.stopping {
            partner.stopping = partner.stopping.max(Some(heartbeat.incarnation));
        }
        let strange = partner.registered.version() == Version::default();
        let touched = partner.registered.apply(heartbeat.list).unwrap_or_default();
        touched.iter().for_each(|slot| self.cover(now, holder, *slot, &standing));
        let partner = self.partner(now, holder);
        let mut coverage = partner.covered.since(heartbeat.coverage_seen);
        if strange && !rules.reregister_after_restart && heartbeat.coverage_seen.number > 0 {
            let seen = heartbeat.coverage_seen;
            coverage = Delta { from: Some(seen), to: seen, changes: Vec::new() };
        }
        if disk_ok {
            partner.granted_until = partner.granted_until.max(now + holds);
        }
        let list_seen = partner.registered.version();
        Grant { nonce: heartbeat.nonce, incarnation, list_seen, coverage, disk_ok }
    }

    /// Covers what the holder has registered, or stops to.
    fn cover(&mut self, now: Duration, holder: PeerId, slot: Slot, standing: &impl Fn(Slot) -> Option<Epoch>) {
        let Some(partner) = self.partners.get_mut(&holder) else { return };
        let registered = partner.registered.get(&slot).copied();
        let stands = standing(slot);
        let same = stands.is_some() && (registered == stands || !self.rules.grants_at_same_epoch);
        let covered = registered.filter(|_| same);
        if registered.is_some() && covered.is_none() {
            partner.uncovered.insert(slot);
        } else {
            partner.uncovered.remove(&slot);
        }
        let was_covered = partner.covered.get(&slot).is_some();
        if partner.covered.set(slot, covered) && was_covered && partner.granted_until > now {
            let until = self.outstanding.entry(slot).or_default().entry(holder).or_default();
            *until = (*until).max(partner.granted_until);
        }
    }

    /// What the holder serves by and this peer does not stand by, at the moment or because one of them is behind.
    pub fn uncovered(&self, holder: PeerId) -> impl Iterator<Item = (Slot, Epoch)> {
        let partner = self.partners.get(&holder).into_iter();
        let slots = partner.flat_map(|partner| partner.uncovered.iter().map(move |slot| (*slot, partner)));
        slots.filter_map(|(slot, partner)| Some((slot, *partner.registered.get(&slot)?)))
    }

    /// By which view this peer stands in the slot has changed, or it was sealed: who had registered it is covered, or is
    /// not covered any more.
    pub fn stands(&mut self, now: Duration, slot: Slot, standing: Option<Epoch>) {
        let holders: Vec<PeerId> = self.partners.keys().copied().collect();
        holders.into_iter().for_each(|holder| self.cover(now, holder, slot, &|_| standing));
    }

    /// The answer to a heartbeat of this peer has come. Returns the slots by which the granter has begun or ceased to stand.
    pub fn granted(&mut self, now: Duration, granter: PeerId, grant: Grant) -> Vec<Slot> {
        let Some(partner) = self.partners.get_mut(&granter) else { return Vec::new() };
        if partner.incarnation > Some(grant.incarnation) {
            return Vec::new();
        }
        let Some(sent) = partner.sent.remove(&grant.nonce) else { return Vec::new() };
        partner.incarnation = Some(grant.incarnation);
        partner.round_trip = partner.round_trip.max(Some(sent));
        partner.list_seen = grant.list_seen;
        partner.disk_ok = grant.disk_ok;
        let touched = partner.coverage.apply(grant.coverage);
        if touched.is_some() && grant.disk_ok {
            let sampled = if self.rules.lease_from_sending { sent } else { now };
            partner.valid_until = partner.valid_until.max(sampled + self.config.length);
        }
        touched.unwrap_or_default()
    }

    /// Until when the peer's grants hold, for every slot by which it stands.
    #[must_use]
    pub fn granted_until(&self, granter: PeerId) -> Duration {
        self.partners.get(&granter).map_or(Duration::ZERO, |partner| partner.valid_until)
    }

    /// Whether the elector has promised to accept no view after this one for now.
    #[must_use]
    pub fn holds(&self, now: Duration, elector: PeerId, slot: Slot, epoch: Epoch) -> bool {
        self.stands_by(elector, slot, epoch) && now < self.granted_until(elector)
    }

    /// Whether the elector stands by this view of the slot, as far as this peer knows.
    #[must_use]
    pub fn stands_by(&self, elector: PeerId, slot: Slot, epoch: Epoch) -> bool {
        self.partners.get(&elector).is_some_and(|partner| partner.coverage.get(&slot) == Some(&epoch))
    }

    /// When the last heartbeat was sent whose answer said that the elector stands by this view: it had accepted no next
    /// one then.
    #[must_use]
    pub fn stood_by(&self, elector: PeerId, slot: Slot, epoch: Epoch) -> Option<Duration> {
        let partner = self.partners.get(&elector)?;
        let granted = partner.coverage.get(&slot) == Some(&epoch) && partner.valid_until > Duration::ZERO;
        granted.then(|| partner.valid_until.saturating_sub(self.config.length))
    }

    /// Until when the last grant holds that may let somebody else than these serve the slot, if there is one.
    #[must_use]
    pub fn granted_to_others(&self, now: Duration, slot: Slot, these: &[PeerId]) -> Option<Duration> {
        let gone = self.outstanding.get(&slot).into_iter().flatten().map(|(peer, until)| (*peer, *until));
        let covered =
            |(peer, partner): (&PeerId, &Partner)| partner.covered.get(&slot).map(|_| (*peer, partner.granted_until));
        let standing = self.partners.iter().filter_map(covered);
        let others = gone.chain(standing).filter(|(peer, until)| !these.contains(peer) && *until > now);
        others.map(|(_, until)| until).max()
    }

    /// Forgets grants that have run out.
    pub fn forget_expired(&mut self, now: Duration) {
        self.outstanding.retain(|_, holders| {
            holders.retain(|_, until| *until > now);
            !holders.is_empty()
        });
    }
}

impl Leases {
    /// What decides how leases go on, at this time, as long as nobody asks who is in contact with whom.
    pub(crate) fn hash_essence(&self, now: Duration, hasher: &mut impl Hasher) {
        (self.last_nonce, self.stopping).hash(hasher);
        for (peer, partner) in &self.partners {
            let Partner { shared, incarnation, stopping, list, list_seen, coverage, valid_until, sent, .. } = partner;
            let Partner { registered, covered, uncovered, granted_until, .. } = partner;
            (peer, *shared > 0, incarnation, stopping, list, list_seen, coverage, now.max(*valid_until), sent)
                .hash(hasher);
            (registered, covered, uncovered, now.max(*granted_until)).hash(hasher);
        }
        for (slot, holders) in &self.outstanding {
            let live = holders.iter().filter(|(_, until)| **until > now);
            live.for_each(|holder| (slot, holder).hash(hasher));
        }
    }
}

/// Answers to earlier heartbeats than these are of no use any more.
const REMEMBERED_HEARTBEATS: usize = 16;

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
