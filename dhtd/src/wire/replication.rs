//! Eventual replication's messages.

use bytes::Bytes;
use dht_core::{
    replication::{digest::SlotDigest, eventual::Message},
    ring::Slot,
};
use dhtd_proto::v1::{self, peer_message::Body};

use super::Malformed;

pub(super) fn encode(message: &Message) -> v1::PeerMessage {
    let body = match message {
        Message::Compare(slots) => Body::Compare(v1::Compare { slots: encode_digests(slots) }),
        Message::Compared(slots) => Body::Compared(v1::Compared { slots: encode_digests(slots) }),
        Message::Pushed(slots) => Body::Pushed(v1::Pushed { slots: slots.iter().map(|slot| slot.0).collect() }),
    };
    v1::PeerMessage { peers: Vec::new(), body: Some(body) }
}

pub(super) fn decode(message: v1::PeerMessage) -> Result<Message, Malformed> {
    match message.body {
        Some(Body::Compare(compare)) => decode_digests(&compare.slots).map(Message::Compare),
        Some(Body::Compared(compared)) => decode_digests(&compared.slots).map(Message::Compared),
        Some(Body::Pushed(pushed)) => Ok(Message::Pushed(pushed.slots.into_iter().map(Slot).collect())),
        _ => Err(Malformed("not a message of replication")),
    }
}

fn encode_digests(slots: &[(Slot, SlotDigest)]) -> Vec<v1::SlotDigest> {
    let encode = |(slot, digest): &(Slot, SlotDigest)| v1::SlotDigest {
        slot: slot.0,
        sum: Bytes::copy_from_slice(&digest.sum.to_be_bytes()),
        records: digest.records,
    };
    slots.iter().map(encode).collect()
}

fn decode_digests(slots: &[v1::SlotDigest]) -> Result<Vec<(Slot, SlotDigest)>, Malformed> {
    let decode = |digest: &v1::SlotDigest| {
        let sum = digest.sum.as_ref().try_into().map_err(|_| Malformed("a digest has 16 bytes"))?;
        let (sum, records) = (u128::from_be_bytes(sum), digest.records);
        Ok((Slot(digest.slot), SlotDigest { sum, records, values: 0 }))
    };
    slots.iter().map(decode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_reads_back() {
        let slots =
            vec![(Slot(3), SlotDigest { sum: 1 << 100, records: 2, values: 0 }), (Slot(9), SlotDigest::default())];
        for message in [Message::Compare(slots.clone()), Message::Compared(slots), Message::Pushed(vec![Slot(1)])] {
            assert_eq!(decode(encode(&message)), Ok(message));
        }
    }

    #[test]
    fn a_digest_of_the_wrong_length_is_refused() {
        let slots = vec![v1::SlotDigest { slot: 1, sum: Bytes::from_static(b"short"), records: 1 }];
        assert!(
            decode(v1::PeerMessage { peers: Vec::new(), body: Some(Body::Compare(v1::Compare { slots })) }).is_err()
        );
    }
}
