//! Eventual replication's messages.

use bytes::Bytes;
use dht_core::{
    replication::{
        digest::SlotDigest,
        eventual::{Holding, Message},
    },
    ring::Slot,
};
use dhtd_proto::v1::{self, peer_message::Body};

use super::Malformed;

pub(super) fn encode(message: &Message) -> v1::PeerMessage {
    let body = match message {
        Message::Compare(slots) => Body::Compare(v1::Compare { slots: encode_holdings(slots) }),
        Message::Compared(slots) => Body::Compared(v1::Compared { slots: encode_holdings(slots) }),
        Message::Pushed { slot, basis } => Body::Pushed(v1::Pushed { slot: slot.0, basis: *basis }),
    };
    v1::PeerMessage { peers: Vec::new(), body: Some(body) }
}

pub(super) fn decode(message: v1::PeerMessage) -> Result<Message, Malformed> {
    match message.body {
        Some(Body::Compare(compare)) => decode_holdings(&compare.slots).map(Message::Compare),
        Some(Body::Compared(compared)) => decode_holdings(&compared.slots).map(Message::Compared),
        Some(Body::Pushed(v1::Pushed { slot, basis })) => Ok(Message::Pushed { slot: Slot(slot), basis }),
        _ => Err(Malformed("not a message of replication")),
    }
}

fn encode_holdings(slots: &[Holding]) -> Vec<v1::Holding> {
    let encode = |holding: &Holding| v1::Holding {
        slot: holding.slot.0,
        sum: Bytes::copy_from_slice(&holding.digest.sum.to_be_bytes()),
        records: holding.digest.records,
        basis: holding.basis,
    };
    slots.iter().map(encode).collect()
}

fn decode_holdings(slots: &[v1::Holding]) -> Result<Vec<Holding>, Malformed> {
    let decode = |holding: &v1::Holding| {
        let sum = holding.sum.as_ref().try_into().map_err(|_| Malformed("a digest has 16 bytes"))?;
        let digest = SlotDigest { sum: u128::from_be_bytes(sum), records: holding.records, values: 0 };
        Ok(Holding { slot: Slot(holding.slot), digest, basis: holding.basis })
    };
    slots.iter().map(decode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_reads_back() {
        let digest = SlotDigest { sum: 1 << 100, records: 2, values: 0 };
        let slots = vec![
            Holding { slot: Slot(3), digest, basis: true },
            Holding { slot: Slot(9), digest: SlotDigest::default(), basis: false },
        ];
        let pushed = Message::Pushed { slot: Slot(1), basis: true };
        for message in [Message::Compare(slots.clone()), Message::Compared(slots), pushed] {
            assert_eq!(decode(encode(&message)), Ok(message));
        }
    }

    #[test]
    fn a_digest_of_the_wrong_length_is_refused() {
        let slots = vec![v1::Holding { slot: 1, sum: Bytes::from_static(b"short"), records: 1, basis: false }];
        assert!(
            decode(v1::PeerMessage { peers: Vec::new(), body: Some(Body::Compare(v1::Compare { slots })) }).is_err()
        );
    }
}
