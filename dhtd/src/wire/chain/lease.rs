//! Leases: heartbeats, grants, and the lists of slots whose changes they carry.

use dht_core::{
    ring::Slot,
    view::{
        Epoch, Grant, Heartbeat,
        delta::{Delta, Version},
    },
};
use dhtd_proto::v1;

use super::views::{decode_epoch, epoch};
use crate::wire::Malformed;

/// As many slots as the finest division of the circle has.
pub(super) const MOST_SLOTS: usize = 1 << 20;

pub(super) fn heartbeat(heartbeat: &Heartbeat) -> v1::LeaseHeartbeat {
    v1::LeaseHeartbeat {
        nonce: heartbeat.nonce,
        incarnation: heartbeat.incarnation,
        list: Some(delta(&heartbeat.list)),
        coverage_seen: Some(version(heartbeat.coverage_seen)),
        stopping: heartbeat.stopping,
    }
}

pub(super) fn decode_heartbeat(heartbeat: v1::LeaseHeartbeat) -> Result<Heartbeat, Malformed> {
    Ok(Heartbeat {
        nonce: heartbeat.nonce,
        incarnation: heartbeat.incarnation,
        list: delta_of(heartbeat.list)?,
        coverage_seen: version_of(heartbeat.coverage_seen)?,
        stopping: heartbeat.stopping,
    })
}

pub(super) fn grant(grant: &Grant) -> v1::LeaseGrant {
    v1::LeaseGrant {
        nonce: grant.nonce,
        incarnation: grant.incarnation,
        list_seen: Some(version(grant.list_seen)),
        coverage: Some(delta(&grant.coverage)),
        disk_ok: grant.disk_ok,
    }
}

pub(super) fn decode_grant(grant: v1::LeaseGrant) -> Result<Grant, Malformed> {
    Ok(Grant {
        nonce: grant.nonce,
        incarnation: grant.incarnation,
        list_seen: version_of(grant.list_seen)?,
        coverage: delta_of(grant.coverage)?,
        disk_ok: grant.disk_ok,
    })
}

fn version(version: Version) -> v1::LeaseVersion {
    v1::LeaseVersion { life: version.life, number: version.number }
}

fn decode_version(version: v1::LeaseVersion) -> Version {
    Version { life: version.life, number: version.number }
}

fn version_of(version: Option<v1::LeaseVersion>) -> Result<Version, Malformed> {
    version.map(decode_version).ok_or(Malformed("a version of a list is missing"))
}

fn delta(delta: &Delta<Slot, Epoch>) -> v1::LeaseDelta {
    let change = |(slot, of): &(Slot, Option<Epoch>)| v1::SlotLease { slot: slot.0, epoch: of.map(epoch) };
    v1::LeaseDelta {
        from: delta.from.map(version),
        to: Some(version(delta.to)),
        changes: delta.changes.iter().map(change).collect(),
    }
}

fn delta_of(delta: Option<v1::LeaseDelta>) -> Result<Delta<Slot, Epoch>, Malformed> {
    let delta = delta.ok_or(Malformed("the changes of a list are missing"))?;
    let (from, to) = (delta.from.map(decode_version), version_of(delta.to)?);
    if from.is_some_and(|from| from.life != to.life || from.number > to.number) {
        return Err(Malformed("a list changes backwards"));
    }
    if delta.changes.len() > MOST_SLOTS {
        return Err(Malformed("a list of too many slots"));
    }
    let change = |change: v1::SlotLease| Ok((Slot(change.slot), change.epoch.map(decode_epoch).transpose()?));
    Ok(Delta { from, to, changes: delta.changes.into_iter().map(change).collect::<Result<_, _>>()? })
}
