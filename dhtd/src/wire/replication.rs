//! Eventual replication's messages.

use bytes::Bytes;
use dht_core::{
    hlc::Timestamp,
    replication::{
        digest::{PARTS, SlotDigest},
        eventual::{Holding, Message},
    },
    ring::{PeerId, Slot},
};
use dhtd_proto::v1::{self, peer_message::Body};

use super::Malformed;

pub(super) fn encode(message: &Message) -> v1::PeerMessage {
    let body = match message {
        Message::Compare(slots) => Body::Compare(v1::Compare { slots: encode_holdings(slots) }),
        Message::Compared { slots, departed } => {
            Body::Compared(v1::Compared { slots: encode_holdings(slots), departed: encode_peers(departed) })
        }
        Message::Pushed { slot, basis } => Body::Pushed(v1::Pushed { slot: slot.0, basis: *basis }),
    };
    v1::PeerMessage { peers: Vec::new(), body: Some(body) }
}

pub(super) fn decode(message: v1::PeerMessage) -> Result<Message, Malformed> {
    match message.body {
        Some(Body::Compare(compare)) => decode_holdings(&compare.slots).map(Message::Compare),
        Some(Body::Compared(compared)) => Ok(Message::Compared {
            slots: decode_holdings(&compared.slots)?,
            departed: decode_peers(&compared.departed)?,
        }),
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
        horizon: holding.horizon.to_bits(),
        holders: encode_peers(&holding.holders),
        parts: if holding.digest.is_empty() { Vec::new() } else { holding.digest.parts.to_vec() },
    };
    slots.iter().map(encode).collect()
}

fn decode_holdings(slots: &[v1::Holding]) -> Result<Vec<Holding>, Malformed> {
    let decode = |holding: &v1::Holding| {
        let sum = holding.sum.as_ref().try_into().map_err(|_| Malformed("a digest has 16 bytes"))?;
        let parts = match &holding.parts[..] {
            [] => [0; PARTS],
            parts => parts.try_into().map_err(|_| Malformed("a digest has 16 parts or none"))?,
        };
        let digest =
            SlotDigest { sum: u128::from_be_bytes(sum), records: holding.records, parts, ..SlotDigest::default() };
        let horizon = Timestamp::from_bits(holding.horizon);
        let holders = decode_peers(&holding.holders)?;
        Ok(Holding { slot: Slot(holding.slot), digest, basis: holding.basis, horizon, holders })
    };
    slots.iter().map(decode).collect()
}

fn encode_peers(peers: &[PeerId]) -> Vec<Bytes> {
    peers.iter().map(|peer| Bytes::copy_from_slice(peer.as_bytes())).collect()
}

fn decode_peers(ids: &[Bytes]) -> Result<Vec<PeerId>, Malformed> {
    ids.iter().map(|id| super::peer_id(id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_reads_back() {
        let digest = SlotDigest {
            sum: 1 << 100,
            records: 2,
            parts: std::array::from_fn(|part| part as u64),
            ..SlotDigest::default()
        };
        let slots = vec![
            Holding {
                slot: Slot(3),
                digest,
                basis: true,
                horizon: Timestamp::from_bits(77),
                holders: vec![PeerId::new([1; 16]), PeerId::new([2; 16])],
            },
            Holding {
                slot: Slot(9),
                digest: SlotDigest::default(),
                basis: false,
                horizon: Timestamp::default(),
                holders: Vec::new(),
            },
        ];
        let compared = Message::Compared { slots: slots.clone(), departed: vec![PeerId::new([3; 16])] };
        let pushed = Message::Pushed { slot: Slot(1), basis: true };
        for message in [Message::Compare(slots.clone()), compared, pushed] {
            assert_eq!(decode(encode(&message)), Ok(message));
        }
    }

    #[test]
    fn a_digest_of_the_wrong_length_is_refused() {
        let short = v1::Holding { sum: Bytes::from_static(b"short"), ..v1::Holding::default() };
        let torn = v1::Holding { sum: Bytes::from_static(&[0; 16]), parts: vec![1, 2], ..v1::Holding::default() };
        for holding in [short, torn] {
            let body = Some(Body::Compare(v1::Compare { slots: vec![holding] }));
            assert!(decode(v1::PeerMessage { peers: Vec::new(), body }).is_err());
        }
    }
}
