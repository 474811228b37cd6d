//! Chain mode's messages, and those of them that a peer keeps on its disk.
//!
//! Decoding checks what the protocol relies on, so that a peer with a bug does no harm to others: ids of 16 bytes, views
//! that somebody can decide on, the one slot that a message is about, numbers that one can be added to. It does not know
//! the ring: whether a slot is one of its slots, its caller checks; how long a value may be, whoever takes a client's
//! write.

mod body;
mod entry;
mod lease;
mod recovery;
mod report;
mod views;

#[cfg(test)]
mod tests;

use dht_core::{replication::chain::Message, ring::Slot};
use dhtd_proto::v1::{self, chain_message as pb};

use super::Malformed;

pub use entry::{
    command, decode_command, decode_entry, decode_outcome, decode_record, decode_recorded, decode_refusal,
    decode_request, entry, outcome, record, recorded, refusal,
};
pub use recovery::{claim, decode_claim, decode_survey, survey};
pub use report::{decode_report, report};
pub use views::{acceptor, decode_acceptor, decode_epoch, decode_position, decode_view, epoch, position, view};

/// A chain message on its way to another peer. `group`: which of a peer's groups of slots it is about.
#[must_use]
pub fn message(group: u32, message: &Message) -> v1::ChainMessage {
    let body = match message {
        Message::Heartbeat(heartbeat) => pb::Body::Heartbeat(lease::heartbeat(heartbeat)),
        Message::Grant(grant) => pb::Body::Grant(lease::grant(grant)),
        Message::Slot(slot, body) => pb::Body::Slot(v1::SlotMessage { slot: slot.0, body: Some(body::encode(body)) }),
    };
    v1::ChainMessage { group, body: Some(body) }
}

/// Reads a chain message, and which group of slots it is about.
///
/// # Errors
/// If a field is missing or out of range.
pub fn decode_message(message: v1::ChainMessage) -> Result<(u32, Message), Malformed> {
    let body = match message.body.ok_or(Malformed("a chain message without a body"))? {
        pb::Body::Heartbeat(heartbeat) => Message::Heartbeat(lease::decode_heartbeat(heartbeat)?),
        pb::Body::Grant(grant) => Message::Grant(lease::decode_grant(grant)?),
        pb::Body::Slot(message) => {
            let slot = Slot(message.slot);
            let body = message.body.ok_or(Malformed("a slot message without a body"))?;
            Message::Slot(slot, Box::new(body::decode(slot, body)?))
        }
    };
    Ok((message.group, body))
}
