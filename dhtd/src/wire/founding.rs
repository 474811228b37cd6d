//! The messages of peers that found a ring together.

use bytes::Bytes;
use dht_core::{
    founding::{Candidate, MOST_EXPECTED, Message, Roster, Terms},
    ring::SlotBits,
};
use dhtd_proto::v1::{self, peer_message::Body};

use super::Malformed;

pub(super) fn encode(message: &Message) -> Body {
    match message {
        Message::Waiting { terms, heard, fixed } => Body::FoundingWait(v1::FoundingWait {
            terms: Some(encode_terms(terms)),
            heard: heard.iter().map(encode_candidate).collect(),
            fixed: fixed.iter().flat_map(Roster::candidates).map(|candidate| encode_candidate(&candidate)).collect(),
        }),
        Message::Founded(ring) => Body::FoundingDone(v1::FoundingDone { ring: Some(super::public_ring(ring)) }),
    }
}

pub(super) fn decode(body: Body) -> Result<Message, Malformed> {
    match body {
        Body::FoundingWait(v1::FoundingWait { terms, heard, fixed }) => {
            let terms = decode_terms(&terms.ok_or(Malformed("a peer waits for a founding without terms"))?)?;
            if heard.len().max(fixed.len()) > 2 * MOST_EXPECTED {
                return Err(Malformed("too many peers wait for a founding"));
            }
            let heard = heard.iter().map(decode_candidate).collect::<Result<_, _>>()?;
            let fixed: Vec<Candidate> = fixed.iter().map(decode_candidate).collect::<Result<_, _>>()?;
            let fixed = (!fixed.is_empty()).then(|| Roster::new(terms, fixed));
            Ok(Message::Waiting { terms, heard, fixed })
        }
        Body::FoundingDone(v1::FoundingDone { ring }) => {
            let ring = ring.ok_or(Malformed("a founding of no ring"))?;
            super::decode_ring(&ring).map(Message::Founded)
        }
        _ => Err(Malformed("not a message of a founding")),
    }
}

fn encode_terms(terms: &Terms) -> v1::FoundingTerms {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    v1::FoundingTerms {
        peers: number(terms.peers),
        replicas: number(terms.replicas),
        slot_bits: terms.slot_bits.bits(),
        mode: super::mode(terms.mode).into(),
    }
}

fn decode_terms(terms: &v1::FoundingTerms) -> Result<Terms, Malformed> {
    let slot_bits = SlotBits::new(terms.slot_bits).map_err(|_| Malformed("slot bits out of range"))?;
    let (peers, replicas) = (terms.peers as usize, terms.replicas as usize);
    Ok(Terms { peers, replicas, slot_bits, mode: super::decode_mode(terms.mode())? })
}

fn encode_candidate(candidate: &Candidate) -> v1::FoundingPeer {
    let id = Bytes::copy_from_slice(candidate.id.as_bytes());
    v1::FoundingPeer { id, address: candidate.address.to_string() }
}

fn decode_candidate(peer: &v1::FoundingPeer) -> Result<Candidate, Malformed> {
    super::check_address(&peer.address)?;
    Ok(Candidate { id: super::peer_id(&peer.id)?, address: peer.address.as_str().into() })
}

#[cfg(test)]
mod tests {
    use dht_core::{
        overlay::{Peer, Ring, RingId},
        record::Mode,
        ring::PeerId,
    };

    use super::*;
    use crate::wire::{self, PeerBody};

    fn candidate(name: u8) -> Candidate {
        Candidate { id: PeerId::new([name; 16]), address: format!("10.0.0.{name}:7400").into() }
    }

    fn sender() -> Peer {
        let Candidate { id, address } = candidate(1);
        Peer { id, address, incarnation: 1, nodes: 0, leaving: false }
    }

    #[test]
    fn what_is_encoded_is_decoded_as_it_was() {
        let terms = Terms { peers: 3, replicas: 2, slot_bits: SlotBits::DEFAULT, mode: Mode::Eventual };
        let heard = vec![candidate(2), candidate(3)];
        let fixed = Some(Roster::new(terms, [1, 2, 3].map(candidate)));
        let ring = Ring { id: RingId([7; 16]), replicas: 3, slot_bits: SlotBits::DEFAULT, mode: Mode::Chain };
        let messages = [
            Message::Waiting { terms, heard: heard.clone(), fixed },
            Message::Waiting { terms, heard, fixed: None },
            Message::Founded(ring),
        ];
        for message in messages {
            let body = PeerBody::Founding(message);
            let encoded = wire::encode(&body, None);
            assert_eq!(wire::decode(&sender(), encoded), Ok(body));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let no_terms = v1::FoundingWait::default();
        assert!(decode(Body::FoundingWait(no_terms)).is_err());
        let terms = Terms { peers: 3, replicas: 2, slot_bits: SlotBits::DEFAULT, mode: Mode::Chain };
        let good = v1::FoundingWait { terms: Some(encode_terms(&terms)), ..Default::default() };
        assert!(decode(Body::FoundingWait(good.clone())).is_ok());
        let peer = |id: &'static [u8], address: &str| v1::FoundingPeer { id: id.into(), address: address.to_owned() };
        for bad in [peer(b"short", "a:1"), peer(&[1; 16], "")] {
            assert!(decode(Body::FoundingWait(v1::FoundingWait { heard: vec![bad], ..good.clone() })).is_err());
        }
        let crowd = vec![peer(&[1; 16], "a:1"); 2 * MOST_EXPECTED + 1];
        assert!(decode(Body::FoundingWait(v1::FoundingWait { fixed: crowd, ..good })).is_err());
        assert!(decode(Body::FoundingDone(v1::FoundingDone { ring: None })).is_err());
    }
}
