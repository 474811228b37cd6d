//! How a peer stands in a slot.

use std::time::Duration;

use dht_core::replication::chain::{Extent, KeyReport, Report};
use dhtd_proto::v1;

use super::views::{number, position, position_of, view, view_of};
use crate::wire::Malformed;

/// How a peer stands in a slot, and with a key of it.
#[must_use]
pub fn report(report: &Report, key: KeyReport) -> v1::SlotReport {
    let extent = |log: Extent| v1::SlotExtent {
        applied: Some(position(log.applied)),
        last: Some(position(log.last)),
        committed: log.committed,
    };
    v1::SlotReport {
        view: Some(view(&report.view)),
        sealed: report.sealed,
        changing: report.changing,
        copying: report.copying,
        disputed: report.disputed,
        certain_for_us: report.certain_for.map(micros),
        log: report.log.map(extent),
        applied_revision: key.applied,
        pending_revision: key.pending,
    }
}

/// Reads how a peer stands in this slot.
///
/// # Errors
/// If a field is missing or out of range, or it is about another slot.
pub fn decode_report(slot: dht_core::ring::Slot, report: v1::SlotReport) -> Result<(Report, KeyReport), Malformed> {
    let extent = |log: v1::SlotExtent| {
        let (applied, last) = (position_of(log.applied)?, position_of(log.last)?);
        Ok(Extent { applied, last, committed: number(log.committed)? })
    };
    let key = KeyReport { applied: report.applied_revision, pending: report.pending_revision };
    let v1::SlotReport { sealed, changing, copying, disputed, .. } = report;
    let certain_for = report.certain_for_us.map(Duration::from_micros);
    let log = report.log.map(extent).transpose()?;
    Ok((Report { view: view_of(slot, report.view)?, sealed, changing, copying, disputed, certain_for, log }, key))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
