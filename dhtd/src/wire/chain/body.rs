//! What peers tell each other about a slot.

use dht_core::{
    replication::chain::Body,
    ring::Slot,
    view::{Ballot, Promise},
};
use dhtd_proto::v1::{self, slot_message as pb};

use super::{
    entry::{decode_entries, entry},
    views::{
        MOST_PEERS, accepted, accepted_of, ballot, ballot_of, decode_ids, epoch, epoch_of, id, ids, member, member_of,
        number, position, position_of, view, view_of, views_of,
    },
};
use crate::wire::{Malformed, peer_id};

pub(super) fn encode(body: &Body) -> pb::Body {
    match body {
        Body::Append { epoch: of, entries, committed } => {
            let entries = entries.iter().map(entry).collect();
            pb::Body::Append(v1::Append { epoch: Some(epoch(*of)), entries, committed: *committed })
        }
        Body::Ack { epoch: of, seq, committed } => {
            pb::Body::Ack(v1::Ack { epoch: Some(epoch(*of)), seq: *seq, committed: *committed })
        }
        Body::Gap(of, next) => pb::Body::Gap(v1::Gap { epoch: Some(epoch(*of)), next: *next }),
        Body::AskFrontier(of, number) => {
            pb::Body::AskFrontier(v1::AskFrontier { epoch: Some(epoch(*of)), number: *number })
        }
        Body::Frontier(of, number, committed) => {
            pb::Body::Frontier(v1::Frontier { epoch: Some(epoch(*of)), number: *number, committed: *committed })
        }
        Body::PreVote(of, peer) => pb::Body::PreVote(v1::PreVote { epoch: Some(epoch(*of)), peer_id: id(*peer) }),
        Body::Lost(of, peer) => pb::Body::Lost(v1::Lost { epoch: Some(epoch(*of)), peer_id: id(*peer) }),
        Body::Prepare(by, of) => pb::Body::Prepare(v1::Prepare { ballot: Some(ballot(*by)), view: Some(view(of)) }),
        Body::Promise(by, promise) => pb::Body::Promise(encode_promise(*by, promise)),
        Body::Reject(by, promised) => {
            pb::Body::Reject(v1::Reject { ballot: Some(ballot(*by)), promised: promised.map(ballot) })
        }
        Body::Level { ballot: by, view: of, target, source } => pb::Body::Level(v1::Level {
            ballot: Some(ballot(*by)),
            view: Some(view(of)),
            target: Some(view(target)),
            source_id: id(*source),
        }),
        Body::Ready(by) => pb::Body::Ready(v1::Ready { ballot: Some(ballot(*by)) }),
        Body::Fetch(of, next) => pb::Body::Fetch(v1::Fetch { epoch: Some(epoch(*of)), next: *next }),
        Body::Entries { epoch: of, entries, last, committed } => {
            let entries = entries.iter().map(entry).collect();
            pb::Body::Entries(v1::Entries { epoch: Some(epoch(*of)), entries, last: *last, committed: *committed })
        }
        Body::TooFarBehind(of) => pb::Body::TooFarBehind(v1::TooFarBehind { epoch: Some(epoch(*of)) }),
        Body::Accept { ballot: by, view: of, target, quorum } => pb::Body::Accept(v1::Accept {
            ballot: Some(ballot(*by)),
            view: Some(view(of)),
            target: Some(view(target)),
            quorum: ids(quorum),
        }),
        Body::Accepted(by) => pb::Body::Accepted(v1::Accepted { ballot: Some(ballot(*by)) }),
        Body::Install(of) => pb::Body::Install(v1::Install { view: Some(view(of)) }),
        Body::Installed(of) => pb::Body::Installed(v1::Installed { epoch: Some(epoch(*of)) }),
        Body::AskView => pb::Body::AskView(v1::AskView {}),
        Body::Learn(of, source) => pb::Body::Learn(v1::Learn { view: Some(view(of)), source_id: id(*source) }),
        Body::Attach(of) => pb::Body::Attach(v1::Attach { epoch: Some(epoch(*of)) }),
        Body::Learned(of, who, seq) => {
            pb::Body::Learned(v1::Learned { epoch: Some(epoch(*of)), member: Some(member(*who)), seq: *seq })
        }
    }
}

pub(super) fn decode(slot: Slot, body: pb::Body) -> Result<Body, Malformed> {
    Ok(match body {
        pb::Body::Append(append) => Body::Append {
            epoch: epoch_of(append.epoch)?,
            entries: decode_entries(append.entries)?,
            committed: number(append.committed)?,
        },
        pb::Body::Ack(ack) => {
            Body::Ack { epoch: epoch_of(ack.epoch)?, seq: number(ack.seq)?, committed: number(ack.committed)? }
        }
        pb::Body::Gap(gap) => Body::Gap(epoch_of(gap.epoch)?, number(gap.next)?),
        pb::Body::AskFrontier(ask) => Body::AskFrontier(epoch_of(ask.epoch)?, number(ask.number)?),
        pb::Body::Frontier(it) => Body::Frontier(epoch_of(it.epoch)?, number(it.number)?, number(it.committed)?),
        pb::Body::PreVote(vote) => Body::PreVote(epoch_of(vote.epoch)?, peer_id(&vote.peer_id)?),
        pb::Body::Lost(lost) => Body::Lost(epoch_of(lost.epoch)?, peer_id(&lost.peer_id)?),
        pb::Body::Prepare(prepare) => Body::Prepare(ballot_of(prepare.ballot)?, view_of(slot, prepare.view)?),
        pb::Body::Promise(promise) => decode_promise(slot, promise)?,
        pb::Body::Reject(reject) => {
            let promised = reject.promised.map(|ballot| ballot_of(Some(ballot))).transpose()?;
            Body::Reject(ballot_of(reject.ballot)?, promised)
        }
        pb::Body::Level(level) => {
            let (view, target) = views_of(slot, level.view, level.target)?;
            Body::Level { ballot: ballot_of(level.ballot)?, view, target, source: peer_id(&level.source_id)? }
        }
        pb::Body::Ready(ready) => Body::Ready(ballot_of(ready.ballot)?),
        pb::Body::Fetch(fetch) => Body::Fetch(epoch_of(fetch.epoch)?, number(fetch.next)?),
        pb::Body::Entries(answer) => Body::Entries {
            epoch: epoch_of(answer.epoch)?,
            entries: decode_entries(answer.entries)?,
            last: number(answer.last)?,
            committed: number(answer.committed)?,
        },
        pb::Body::TooFarBehind(answer) => Body::TooFarBehind(epoch_of(answer.epoch)?),
        pb::Body::Accept(accept) => {
            let (view, target) = views_of(slot, accept.view, accept.target)?;
            // Electors and members, each once.
            let quorum = decode_ids(&accept.quorum, 2 * MOST_PEERS)?;
            Body::Accept { ballot: ballot_of(accept.ballot)?, view, target, quorum }
        }
        pb::Body::Accepted(accepted) => Body::Accepted(ballot_of(accepted.ballot)?),
        pb::Body::Install(install) => Body::Install(view_of(slot, install.view)?),
        pb::Body::Installed(installed) => Body::Installed(epoch_of(installed.epoch)?),
        pb::Body::AskView(_) => Body::AskView,
        pb::Body::Learn(learn) => Body::Learn(view_of(slot, learn.view)?, peer_id(&learn.source_id)?),
        pb::Body::Attach(attach) => Body::Attach(epoch_of(attach.epoch)?),
        pb::Body::Learned(learned) => {
            Body::Learned(epoch_of(learned.epoch)?, member_of(learned.member)?, number(learned.seq)?)
        }
    })
}

fn encode_promise(by: Ballot, promise: &Promise) -> v1::Promise {
    v1::Promise {
        ballot: Some(ballot(by)),
        incarnation: promise.incarnation,
        in_sync: promise.in_sync,
        position: Some(position(promise.position)),
        accepted: accepted(promise.accepted.as_ref()),
    }
}

fn decode_promise(slot: Slot, answer: v1::Promise) -> Result<Body, Malformed> {
    let promise = Promise {
        incarnation: answer.incarnation,
        in_sync: answer.in_sync,
        position: position_of(answer.position)?,
        accepted: accepted_of(slot, answer.accepted)?,
    };
    Ok(Body::Promise(ballot_of(answer.ballot)?, promise))
}
