//! Who is in contact with whom, and how others are: what heartbeats and their answers tell besides leases.

use std::time::Duration;

use super::{Leases, Partner};
use crate::ring::PeerId;

/// Another peer, as far as leases are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Which.
    pub peer: PeerId,
    /// Its process, if it has said anything.
    pub incarnation: Option<u64>,
    /// Whether a round trip with it was completed lately.
    pub in_contact: bool,
    /// Whether none was for a while, though heartbeats were sent to it.
    pub lost: bool,
    /// Whether its disk takes writes.
    pub disk_ok: bool,
    /// Whether it is about to stop.
    pub stopping: bool,
}

impl Leases {
    /// This peer is about to stop: its heartbeats say so from now on.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Whether this peer is about to stop.
    #[must_use]
    pub fn stops(&self) -> bool {
        self.stopping
    }

    /// Whether the peer has said that it is about to stop, and was not started again since.
    #[must_use]
    pub fn is_stopping(&self, peer: PeerId) -> bool {
        self.partners.get(&peer).is_some_and(|it| it.stopping.is_some() && it.stopping == it.incarnation)
    }

    /// Whether no round trip with the peer was completed for a while, though heartbeats were sent to it.
    #[must_use]
    pub fn has_lost(&self, now: Duration, peer: PeerId) -> bool {
        self.partners.get(&peer).is_some_and(|partner| {
            let heard = partner.round_trip.unwrap_or_default().max(partner.since);
            partner.shared > 0 && now.saturating_sub(heard) > self.config.lost_after
        })
    }

    /// Whether a round trip with the peer was completed lately.
    #[must_use]
    pub fn in_contact(&self, now: Duration, peer: PeerId) -> bool {
        let heard = self.partners.get(&peer).and_then(|partner| partner.round_trip);
        heard.is_some_and(|heard| now.saturating_sub(heard) <= self.config.lost_after)
    }

    /// All others that slots are shared with, or once were.
    #[must_use]
    pub fn contacts(&self, now: Duration) -> Vec<Contact> {
        let contact = |(peer, partner): (&PeerId, &Partner)| Contact {
            peer: *peer,
            incarnation: partner.incarnation,
            in_contact: self.in_contact(now, *peer),
            lost: self.has_lost(now, *peer),
            disk_ok: partner.disk_ok,
            stopping: partner.stopping.is_some() && partner.stopping == partner.incarnation,
        };
        self.partners.iter().map(contact).collect()
    }

    /// The peer's process, if it has said anything.
    #[must_use]
    pub fn incarnation_of(&self, peer: PeerId) -> Option<u64> {
        self.partners.get(&peer)?.incarnation
    }

    /// Whether the peer's disk takes writes, as far as it has said.
    #[must_use]
    pub fn disk_ok(&self, peer: PeerId) -> bool {
        self.partners.get(&peer).is_none_or(|partner| partner.disk_ok)
    }
}
