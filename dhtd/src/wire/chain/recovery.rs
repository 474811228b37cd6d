//! What a recovery and those that it asks tell each other.

use dht_core::{replication::recovery::Survey, ring::Slot, view::Claim};
use dhtd_proto::v1;

use super::{
    report::{decode_report, report},
    views::{decode_ids, decode_recovery_name, ids, recovery_name},
};
use crate::wire::Malformed;

/// What is promised.
#[must_use]
pub fn claim(claim: &Claim) -> v1::Claim {
    let banned: Vec<_> = claim.banned.iter().copied().collect();
    v1::Claim { recovery: Some(recovery_name(claim.generation)), banned: ids(&banned) }
}

/// Reads what is promised; an empty message: nothing.
///
/// # Errors
/// If a field is out of range.
pub fn decode_claim(claim: v1::Claim) -> Result<Claim, Malformed> {
    let generation = decode_recovery_name(claim.recovery.unwrap_or_default())?;
    Ok(Claim { generation, banned: decode_ids(&claim.banned, MOST_MEMBERS)?.into_iter().collect() })
}

/// What a peer says of itself.
#[must_use]
pub fn survey(survey: &Survey) -> v1::Survey {
    let members: Vec<_> = survey.members.iter().copied().collect();
    v1::Survey {
        incarnation: survey.incarnation,
        claim: Some(claim(&survey.claim)),
        members: ids(&members),
        leaving: survey.leaving,
        slots: survey.reports.iter().map(|it| report(it, Default::default())).collect(),
    }
}

/// Reads what a peer says of itself.
///
/// # Errors
/// If a field is missing or out of range.
pub fn decode_survey(survey: v1::Survey) -> Result<Survey, Malformed> {
    let report = |it: v1::SlotReport| {
        let slot = Slot(it.view.as_ref().map_or(0, |view| view.slot));
        decode_report(slot, it).map(|(report, _)| report)
    };
    Ok(Survey {
        incarnation: survey.incarnation,
        claim: decode_claim(survey.claim.unwrap_or_default())?,
        members: decode_ids(&survey.members, MOST_MEMBERS)?.into_iter().collect(),
        leaving: survey.leaving,
        reports: survey.slots.into_iter().map(report).collect::<Result<_, _>>()?,
    })
}

/// More peers than a ring ever had.
const MOST_MEMBERS: usize = 1 << 16;
