//! Where a key is and why, as clients are told.

use bytes::Bytes;
use dht_core::{
    record::Mode,
    replication::chain::{KeyReport, Report},
    ring::PeerId,
    view::View,
};
use dhtd_proto::v1;

use crate::{
    coordinator::{Explanation, Stand, committed},
    wire,
};

/// The answer to a client.
pub(super) fn response(explanation: &Explanation) -> v1::ExplainResponse {
    let describe = |peer: &PeerId| describe(explanation, *peer);
    let mode = match explanation.mode {
        Mode::Chain => v1::Mode::Chain,
        Mode::Eventual => v1::Mode::Eventual,
    };
    let copies = explanation.copies.iter().map(|(peer, stand)| copy(explanation, *peer, stand.as_ref()));
    v1::ExplainResponse {
        id: Bytes::copy_from_slice(explanation.id.as_bytes()),
        slot: explanation.slot.0,
        mode: mode.into(),
        owner: Some(wire::node(&explanation.owner, &describe(&explanation.owner.peer).address)),
        home_group: explanation.home.iter().map(describe).collect(),
        view: explanation.view.as_ref().map(view),
        copies: copies.collect(),
        reason: explanation.reason.into(),
        about: explanation.about.iter().map(describe).collect(),
    }
}

/// A peer of which no more than the name is known has no address.
fn describe(explanation: &Explanation, peer: PeerId) -> v1::Peer {
    let unknown = || v1::Peer { id: id(peer), ..v1::Peer::default() };
    explanation.peers.get(&peer).map_or_else(unknown, wire::peer)
}

fn id(peer: PeerId) -> Bytes {
    Bytes::copy_from_slice(peer.as_bytes())
}

fn view(view: &View) -> v1::SlotView {
    v1::SlotView {
        epoch: view.epoch.number,
        generation: view.epoch.generation.counter,
        chain: view.chain.iter().map(|member| id(member.peer)).collect(),
        electors: view.electors.iter().copied().map(id).collect(),
        min_in_sync: u32::try_from(view.min_in_sync).unwrap_or(u32::MAX),
    }
}

fn copy(explanation: &Explanation, peer: PeerId, stand: Option<&Stand>) -> v1::SlotCopy {
    let about = v1::SlotCopy { peer: Some(describe(explanation, peer)), ..v1::SlotCopy::default() };
    match stand {
        None => about,
        Some(Stand::Chain(None)) => v1::SlotCopy { answered: true, ..about },
        Some(Stand::Chain(Some(stand))) => chain_copy(explanation, peer, &stand.0, stand.1, about),
        Some(Stand::Eventual(held)) => {
            let version = held.record.as_ref().filter(|record| record.value().is_some());
            let version = version.map(|record| wire::version(record.version));
            v1::SlotCopy { answered: true, holds: true, in_sync: held.synced, version, ..about }
        }
    }
}

fn chain_copy(
    explanation: &Explanation,
    peer: PeerId,
    report: &Report,
    key: KeyReport,
    about: v1::SlotCopy,
) -> v1::SlotCopy {
    let reports = explanation.copies.iter().filter_map(|(_, stand)| match stand {
        Some(Stand::Chain(Some(stand))) => Some(&stand.0),
        _ => None,
    });
    let in_sync = |view: &View| view.has(peer) && report.in_sync(view, committed(view, reports));
    v1::SlotCopy {
        answered: true,
        holds: report.log.is_some(),
        in_sync: explanation.view.as_ref().is_some_and(in_sync),
        copying: report.copying,
        sealed: report.sealed,
        epoch: report.view.epoch.number,
        generation: report.view.epoch.generation.counter,
        slot_revision: report.log.map_or(0, |log| log.last.seq),
        applied_revision: report.log.map_or(0, |log| log.applied.seq),
        revision: key.applied.unwrap_or(0),
        pending_revision: key.pending.unwrap_or(0),
        ..about
    }
}
