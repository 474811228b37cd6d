//! What a recovery has done, as operators are told.

use bytes::Bytes;
use dht_core::{
    replication::recovery::{Bound, REVISION_JUMP, Recovered},
    ring::PeerId,
    view::Generation,
};
use dhtd_proto::v1;

use crate::{coordinator::Findings, wire};

/// The answer to an operator.
pub(super) fn response(findings: &Findings, done: bool) -> v1::RecoverResponse {
    let describe = |peer: &PeerId| {
        let unknown = || v1::Peer { id: id(*peer), ..v1::Peer::default() };
        findings.peers.get(peer).map_or_else(unknown, wire::peer)
    };
    let disputed = findings.plan.disputed.iter().map(|(slot, one, other)| v1::DisputedSlot {
        slot: slot.0,
        counter: one.counter,
        recovered_by: [one, other].into_iter().filter_map(|it: &Generation| it.by).map(id).collect(),
    });
    v1::RecoverResponse {
        done,
        counter: findings.claim.generation.counter,
        survivors: findings.survivors.iter().map(describe).collect(),
        given_up: findings.claim.banned.iter().map(describe).collect(),
        slots_served: u32::try_from(findings.plan.served).unwrap_or(u32::MAX),
        slots: findings.plan.recovered.iter().map(slot).collect(),
        disputed: disputed.collect(),
    }
}

fn slot(recovered: &Recovered) -> v1::RecoveredSlot {
    let (loss, certain) = match recovered.bound {
        Bound::Since(age) => (v1::SlotLoss::Since, age),
        Bound::After(_) => (v1::SlotLoss::After, Default::default()),
        Bound::All => (v1::SlotLoss::All, Default::default()),
    };
    let revision = recovered.view.frontier.seq.saturating_sub(REVISION_JUMP);
    v1::RecoveredSlot {
        slot: recovered.view.slot.0,
        chain: recovered.view.chain.iter().map(|member| id(member.peer)).collect(),
        loss: loss.into(),
        revision: if recovered.begins_empty { 0 } else { revision },
        // Clocks may differ by a hundredth, and a part of a millisecond counts as one.
        certain_ms: u64::try_from(certain.mul_f64(CLOCKS).as_millis()).unwrap_or(u64::MAX).saturating_add(1),
    }
}

fn id(peer: PeerId) -> Bytes {
    Bytes::copy_from_slice(peer.as_bytes())
}

/// By how much the clock that measured a time may have been slow against another one (DESIGN, section 8).
const CLOCKS: f64 = 1.02;
