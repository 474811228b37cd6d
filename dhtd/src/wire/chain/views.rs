//! Views, and what they are made of.

use std::collections::BTreeSet;

use bytes::Bytes;
use dht_core::{
    ring::{PeerId, Slot},
    view::{Acceptor, Ballot, Epoch, Generation, Member, Position, View},
};
use dhtd_proto::v1;

use crate::wire::{Malformed, peer_id};

/// More members or electors than any view has: chains are as long as k, which is 16 at most, and a little longer while
/// they change.
pub(super) const MOST_PEERS: usize = 256;

/// The number of a view.
#[must_use]
pub fn epoch(epoch: Epoch) -> v1::Epoch {
    let Generation { counter, by } = epoch.generation;
    v1::Epoch { generation: counter, recovered_by: by.map_or_else(Bytes::new, id), number: epoch.number }
}

/// Reads the number of a view.
///
/// # Errors
/// If it is too large, or a recovery was carried out by nobody, or none by somebody.
pub fn decode_epoch(epoch: v1::Epoch) -> Result<Epoch, Malformed> {
    let by = if epoch.recovered_by.is_empty() { None } else { Some(peer_id(&epoch.recovered_by)?) };
    if (epoch.generation == 0) != by.is_none() {
        return Err(Malformed("a generation and who began it do not agree"));
    }
    let generation = Generation { counter: epoch.generation, by };
    Ok(Epoch { generation, number: number(epoch.number)? })
}

/// The place of an entry in a slot's log.
#[must_use]
pub fn position(position: Position) -> v1::Position {
    v1::Position { epoch: Some(epoch(position.epoch)), seq: position.seq }
}

/// Reads the place of an entry.
///
/// # Errors
/// If the epoch is missing or a number is too large.
pub fn decode_position(position: v1::Position) -> Result<Position, Malformed> {
    Ok(Position { epoch: epoch_of(position.epoch)?, seq: number(position.seq)? })
}

/// Who holds a slot.
#[must_use]
pub fn view(view: &View) -> v1::View {
    v1::View {
        slot: view.slot.0,
        epoch: Some(epoch(view.epoch)),
        chain: view.chain.iter().copied().map(member).collect(),
        electors: ids(&view.electors),
        frontier: Some(position(view.frontier)),
        min_in_sync: u32::try_from(view.min_in_sync).unwrap_or(u32::MAX),
    }
}

/// Reads who holds a slot. Whether there is such a slot in the ring is not known here.
///
/// # Errors
/// If a field is missing, or nobody could serve by such a view or decide the next one.
pub fn decode_view(view: v1::View) -> Result<View, Malformed> {
    let chain = view.chain.into_iter().map(decode_member).collect::<Result<Vec<Member>, _>>()?;
    if chain.is_empty() || chain.len() > MOST_PEERS {
        return Err(Malformed("a chain of nobody, or of too many"));
    }
    if has_double(chain.iter().map(|member| member.peer)) {
        return Err(Malformed("a peer is in a chain twice"));
    }
    let electors = decode_ids(&view.electors, MOST_PEERS)?;
    if electors.len().is_multiple_of(2) {
        return Err(Malformed("the number of electors is not odd"));
    }
    Ok(View {
        slot: Slot(view.slot),
        epoch: epoch_of(view.epoch)?,
        chain,
        electors,
        frontier: position_of(view.frontier)?,
        min_in_sync: usize::try_from(view.min_in_sync).unwrap_or(usize::MAX),
    })
}

/// What a peer has promised.
#[must_use]
pub fn acceptor(acceptor: &Acceptor) -> v1::Acceptor {
    v1::Acceptor {
        view: Some(view(&acceptor.view)),
        promised: acceptor.promised.map(ballot),
        accepted: accepted(acceptor.accepted.as_ref()),
        sealed: acceptor.sealed,
        rival: acceptor.rival.map(recovery_name),
    }
}

/// Reads what a peer has promised.
///
/// # Errors
/// If a field is missing or out of range, or what was accepted does not follow the view.
pub fn decode_acceptor(acceptor: v1::Acceptor) -> Result<Acceptor, Malformed> {
    let view = decode_view(acceptor.view.ok_or(NO_VIEW)?)?;
    let accepted = accepted_of(view.slot, acceptor.accepted)?;
    if accepted.as_ref().is_some_and(|(_, next)| next.epoch <= view.epoch) {
        return Err(NOT_NEWER);
    }
    Ok(Acceptor {
        view,
        promised: acceptor.promised.map(decode_ballot).transpose()?,
        accepted,
        sealed: acceptor.sealed,
        rival: acceptor.rival.map(decode_recovery_name).transpose()?,
    })
}

/// Which recovery.
pub(super) fn recovery_name(generation: Generation) -> v1::RecoveryName {
    v1::RecoveryName { counter: generation.counter, recovered_by: generation.by.map_or_else(Bytes::new, id) }
}

/// Reads which recovery; an empty message: none.
///
/// # Errors
/// If it was carried out by nobody, or none by somebody.
pub(super) fn decode_recovery_name(name: v1::RecoveryName) -> Result<Generation, Malformed> {
    let v1::RecoveryName { counter: generation, recovered_by } = name;
    decode_epoch(v1::Epoch { generation, recovered_by, number: 0 }).map(|epoch| epoch.generation)
}

pub(super) fn member(member: Member) -> v1::ChainMember {
    v1::ChainMember { peer_id: id(member.peer), incarnation: member.incarnation }
}

fn decode_member(member: v1::ChainMember) -> Result<Member, Malformed> {
    Ok(Member { peer: peer_id(&member.peer_id)?, incarnation: member.incarnation })
}

pub(super) fn ballot(ballot: Ballot) -> v1::Ballot {
    v1::Ballot { round: ballot.round, proposer: Some(member(ballot.proposer)) }
}

fn decode_ballot(ballot: v1::Ballot) -> Result<Ballot, Malformed> {
    Ok(Ballot { round: number(ballot.round)?, proposer: member_of(ballot.proposer)? })
}

pub(super) fn accepted(accepted: Option<&(Ballot, View)>) -> Option<v1::AcceptedView> {
    accepted.map(|(by, next)| v1::AcceptedView { ballot: Some(ballot(*by)), view: Some(view(next)) })
}

pub(super) fn accepted_of(slot: Slot, accepted: Option<v1::AcceptedView>) -> Result<Option<(Ballot, View)>, Malformed> {
    accepted.map(|accepted| Ok((ballot_of(accepted.ballot)?, view_of(slot, accepted.view)?))).transpose()
}

pub(super) fn epoch_of(epoch: Option<v1::Epoch>) -> Result<Epoch, Malformed> {
    decode_epoch(epoch.ok_or(Malformed("an epoch is missing"))?)
}

pub(super) fn position_of(position: Option<v1::Position>) -> Result<Position, Malformed> {
    decode_position(position.ok_or(Malformed("a position is missing"))?)
}

pub(super) fn member_of(member: Option<v1::ChainMember>) -> Result<Member, Malformed> {
    decode_member(member.ok_or(Malformed("a member is missing"))?)
}

pub(super) fn ballot_of(ballot: Option<v1::Ballot>) -> Result<Ballot, Malformed> {
    decode_ballot(ballot.ok_or(Malformed("a ballot is missing"))?)
}

/// A view that has to be about this slot: views in a message are put into force by the slot that they name themselves.
pub(super) fn view_of(slot: Slot, view: Option<v1::View>) -> Result<View, Malformed> {
    let view = decode_view(view.ok_or(NO_VIEW)?)?;
    if view.slot == slot { Ok(view) } else { Err(Malformed("a view of another slot")) }
}

/// A view, and another one that could follow it.
pub(super) fn views_of(slot: Slot, view: Option<v1::View>, next: Option<v1::View>) -> Result<(View, View), Malformed> {
    let (view, next) = (view_of(slot, view)?, view_of(slot, next)?);
    if next.epoch > view.epoch { Ok((view, next)) } else { Err(NOT_NEWER) }
}

/// A number that counts: one can be added to it.
pub(super) fn number(number: u64) -> Result<u64, Malformed> {
    if number < 1 << 63 { Ok(number) } else { Err(Malformed("a number is too large")) }
}

pub(super) fn id(peer: PeerId) -> Bytes {
    Bytes::copy_from_slice(peer.as_bytes())
}

pub(super) fn ids(peers: &[PeerId]) -> Vec<Bytes> {
    peers.iter().copied().map(id).collect()
}

/// Different peers, up to so many.
pub(super) fn decode_ids(ids: &[Bytes], most: usize) -> Result<Vec<PeerId>, Malformed> {
    if ids.len() > most {
        return Err(Malformed("too many peers"));
    }
    let peers = ids.iter().map(|id| peer_id(id)).collect::<Result<Vec<PeerId>, _>>()?;
    if has_double(peers.iter().copied()) {
        return Err(Malformed("a peer is listed twice"));
    }
    Ok(peers)
}

fn has_double(peers: impl IntoIterator<Item = PeerId>) -> bool {
    let mut seen = BTreeSet::new();
    peers.into_iter().any(|peer| !seen.insert(peer))
}

const NO_VIEW: Malformed = Malformed("a view is missing");
const NOT_NEWER: Malformed = Malformed("the next view is not newer");
