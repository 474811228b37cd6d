//! The overlay's messages.

use bytes::Bytes;
use dht_core::{
    overlay::{Body, Find, FindId, Found, Home, Hop, HopReason, Message, Node, OpId, Peer, Purpose, Ring},
    ring::Id,
};
use dhtd_proto::v1::{self, peer_message as pb};

use super::{Malformed, decode_peer, decode_ring, names::Names, node_of, peer_at};

pub(super) fn encode(message: &Message, receiver: Option<&Peer>) -> v1::PeerMessage {
    let names = Names::new(std::iter::once(&message.sender).chain(receiver).chain(&message.about));
    let body = encode_body(&message.body, &names);
    v1::PeerMessage { peers: names.into_described(), body: Some(body) }
}

pub(super) fn decode(sender: &Peer, message: v1::PeerMessage) -> Result<Message, Malformed> {
    let peers = message.peers.iter().map(decode_peer).collect::<Result<Vec<Peer>, _>>()?;
    let body = decode_body(message.body.ok_or(Malformed("a message without a body"))?, &peers)?;
    Ok(Message { sender: sender.clone(), about: peers, body })
}

/// A node as clients see it.
#[must_use]
pub fn node(node: &Node, address: &str) -> v1::Node {
    v1::Node {
        id: Bytes::copy_from_slice(node.id.as_bytes()),
        peer_id: Bytes::copy_from_slice(node.peer.as_bytes()),
        index: node.index,
        address: address.to_owned(),
    }
}

/// A ring as clients and peers see it.
#[must_use]
pub fn public_ring(ring: &Ring) -> v1::Ring {
    v1::Ring {
        id: Bytes::copy_from_slice(&ring.id.0),
        replicas: u32::try_from(ring.replicas).unwrap_or(u32::MAX),
        slot_bits: ring.slot_bits.bits(),
        mode: super::mode(ring.mode).into(),
    }
}

/// Why a lookup took a hop, and the finger's bit if it was one.
#[must_use]
pub fn hop_reason(reason: HopReason) -> (v1::HopReason, u32) {
    match reason {
        HopReason::Start => (v1::HopReason::Start, 0),
        HopReason::Finger(bit) => (v1::HopReason::Finger, bit),
        HopReason::Successor => (v1::HopReason::Successor, 0),
        HopReason::FingerSuccessor(bit) => (v1::HopReason::FingerSuccessor, bit),
        HopReason::Predecessor => (v1::HopReason::Predecessor, 0),
        HopReason::Table => (v1::HopReason::Table, 0),
    }
}

fn encode_body(body: &Body, names: &Names) -> pb::Body {
    match body {
        Body::Ping { nonce } => pb::Body::Ping(v1::Ping { nonce: *nonce }),
        Body::Pong { nonce } => pb::Body::Pong(v1::Pong { nonce: *nonce }),
        Body::Find(find) => pb::Body::Find(encode_find(find, names)),
        Body::FindAck { id, hop } => {
            pb::Body::FindAck(v1::FindAck { id: Some(find_id(*id)), hop: u32::try_from(*hop).unwrap_or(u32::MAX) })
        }
        Body::Found(found) => pb::Body::Found(encode_found(found, names)),
        Body::GetNeighbours { op, from, to } => pb::Body::GetNeighbours(v1::GetNeighbours {
            operation: Some(operation(*op)),
            from: names.node(from),
            to: names.node(to),
        }),
        Body::Neighbours { op, of, predecessor, successors } => pb::Body::Neighbours(v1::Neighbours {
            operation: Some(operation(*op)),
            of: names.node(of),
            predecessor: predecessor.and_then(|node| names.node(&node)),
            successors: names.nodes(successors),
        }),
        Body::Busy { op } => pb::Body::Busy(v1::Busy { operation: Some(operation(*op)) }),
        Body::NotMember { op, of } => {
            pb::Body::NotMember(v1::NotMember { operation: Some(operation(*op)), of: names.node(of) })
        }
        Body::Notify { from, to, successors } => pb::Body::Notify(v1::Notify {
            from: names.node(from),
            to: names.node(to),
            successors: names.nodes(successors),
        }),
        Body::Changed { from, to } => pb::Body::Changed(v1::Changed { from: names.node(from), to: names.node(to) }),
        Body::Home(homes) => {
            pb::Body::Homes(v1::Homes { homes: homes.iter().map(|home| encode_home(home, names)).collect() })
        }
        Body::Gone => pb::Body::Gone(v1::Gone {}),
    }
}

fn decode_body(body: pb::Body, peers: &[Peer]) -> Result<Body, Malformed> {
    Ok(match body {
        pb::Body::Ping(ping) => Body::Ping { nonce: ping.nonce },
        pb::Body::Pong(pong) => Body::Pong { nonce: pong.nonce },
        pb::Body::Find(find) => Body::Find(decode_find(find, peers)?),
        pb::Body::FindAck(ack) => Body::FindAck { id: decode_find_id(ack.id.as_ref())?, hop: ack.hop as usize },
        pb::Body::Found(found) => Body::Found(decode_found(found, peers)?),
        pb::Body::GetNeighbours(ask) => Body::GetNeighbours {
            op: decode_operation(ask.operation)?,
            from: node_of(peers, ask.from)?,
            to: node_of(peers, ask.to)?,
        },
        pb::Body::Neighbours(answer) => Body::Neighbours {
            op: decode_operation(answer.operation)?,
            of: node_of(peers, answer.of)?,
            predecessor: answer.predecessor.map(|node| node_of(peers, Some(node))).transpose()?,
            successors: nodes_of(peers, answer.successors)?,
        },
        pb::Body::Busy(busy) => Body::Busy { op: decode_operation(busy.operation)? },
        pb::Body::NotMember(answer) => {
            Body::NotMember { op: decode_operation(answer.operation)?, of: node_of(peers, answer.of)? }
        }
        pb::Body::Notify(notify) => Body::Notify {
            from: node_of(peers, notify.from)?,
            to: node_of(peers, notify.to)?,
            successors: nodes_of(peers, notify.successors)?,
        },
        pb::Body::Changed(changed) => {
            Body::Changed { from: node_of(peers, changed.from)?, to: node_of(peers, changed.to)? }
        }
        pb::Body::Homes(homes) => {
            Body::Home(homes.homes.into_iter().map(|home| decode_home(home, peers)).collect::<Result<_, _>>()?)
        }
        pb::Body::Gone(_) => Body::Gone,
        pb::Body::Compare(_)
        | pb::Body::Compared(_)
        | pb::Body::Pushed(_)
        | pb::Body::Chain(_)
        | pb::Body::FoundingWait(_)
        | pb::Body::FoundingDone(_) => {
            return Err(Malformed("not a message of the overlay"));
        }
    })
}

fn encode_find(find: &Find, names: &Names) -> v1::Find {
    let purpose = match find.purpose {
        Purpose::Owner => v1::FindPurpose::Owner,
        Purpose::Predecessor => v1::FindPurpose::Predecessor,
    };
    v1::Find {
        id: Some(find_id(find.id)),
        target: Bytes::copy_from_slice(find.target.as_bytes()),
        purpose: purpose.into(),
        hops: encode_hops(&find.hops, names),
        timeouts: find.timeouts,
        asker: Some(super::peer(&find.asker)),
    }
}

fn decode_find(find: v1::Find, peers: &[Peer]) -> Result<Find, Malformed> {
    let purpose = match find.purpose() {
        v1::FindPurpose::Owner => Purpose::Owner,
        v1::FindPurpose::Predecessor => Purpose::Predecessor,
        v1::FindPurpose::Unspecified => return Err(Malformed("a lookup without a purpose")),
    };
    Ok(Find {
        id: decode_find_id(find.id.as_ref())?,
        asker: decode_peer(find.asker.as_ref().ok_or(Malformed("a lookup without an asker"))?)?,
        target: decode_id(&find.target)?,
        purpose,
        hops: decode_hops(find.hops, peers)?,
        timeouts: find.timeouts,
    })
}

fn encode_found(found: &Found, names: &Names) -> v1::Found {
    v1::Found {
        id: Some(find_id(found.id)),
        node: names.node(&found.node),
        successors: names.nodes(&found.successors),
        home: found.home.as_ref().map(|home| encode_home(home, names)),
        ring: Some(public_ring(&found.ring)),
        hops: encode_hops(&found.hops, names),
        timeouts: found.timeouts,
    }
}

fn decode_found(found: v1::Found, peers: &[Peer]) -> Result<Found, Malformed> {
    Ok(Found {
        id: decode_find_id(found.id.as_ref())?,
        node: node_of(peers, found.node)?,
        successors: nodes_of(peers, found.successors)?,
        home: found.home.map(|home| decode_home(home, peers)).transpose()?,
        ring: decode_ring(found.ring.as_ref().ok_or(Malformed("an answer without a ring"))?)?,
        hops: decode_hops(found.hops, peers)?,
        timeouts: found.timeouts,
    })
}

fn encode_home(home: &Home, names: &Names) -> v1::Home {
    v1::Home {
        after: Bytes::copy_from_slice(home.after.as_bytes()),
        owner: names.node(&home.owner),
        group: home.group.iter().filter_map(|peer| names.position(*peer)).collect(),
    }
}

fn decode_home(home: v1::Home, peers: &[Peer]) -> Result<Home, Malformed> {
    Ok(Home {
        after: decode_id(&home.after)?,
        owner: node_of(peers, home.owner)?,
        group: home.group.into_iter().map(|at| Ok(peer_at(peers, at)?.id)).collect::<Result<_, _>>()?,
    })
}

/// A hop of which the peer is not known any more is left out: the way is for people to read.
fn encode_hops(hops: &[Hop], names: &Names) -> Vec<v1::PeerHop> {
    let hop = |hop: &Hop| {
        let (reason, finger_bit) = hop_reason(hop.reason);
        let node = names.node(&hop.node)?;
        Some(v1::PeerHop { node: Some(node), reason: reason.into(), finger_bit, round_trip_us: hop.round_trip_us })
    };
    hops.iter().filter_map(hop).collect()
}

fn decode_hops(hops: Vec<v1::PeerHop>, peers: &[Peer]) -> Result<Vec<Hop>, Malformed> {
    let hop = |hop: v1::PeerHop| {
        let reason = match hop.reason() {
            v1::HopReason::Start => HopReason::Start,
            v1::HopReason::Finger => HopReason::Finger(hop.finger_bit),
            v1::HopReason::Successor => HopReason::Successor,
            v1::HopReason::FingerSuccessor => HopReason::FingerSuccessor(hop.finger_bit),
            v1::HopReason::Predecessor => HopReason::Predecessor,
            v1::HopReason::Table | v1::HopReason::Unspecified => HopReason::Table,
        };
        Ok(Hop { node: node_of(peers, hop.node)?, reason, round_trip_us: hop.round_trip_us })
    };
    hops.into_iter().map(hop).collect()
}

fn nodes_of(peers: &[Peer], nodes: Vec<v1::NodeRef>) -> Result<Vec<Node>, Malformed> {
    nodes.into_iter().map(|node| node_of(peers, Some(node))).collect()
}

fn find_id(id: FindId) -> v1::FindId {
    let asker_id = Bytes::copy_from_slice(id.asker.as_bytes());
    v1::FindId { asker_id, number: id.number, attempt: id.attempt }
}

fn decode_find_id(id: Option<&v1::FindId>) -> Result<FindId, Malformed> {
    let id = id.ok_or(Malformed("a lookup without an id"))?;
    Ok(FindId { asker: super::peer_id(&id.asker_id)?, number: id.number, attempt: id.attempt })
}

fn operation(op: OpId) -> v1::OperationId {
    v1::OperationId { node: op.node, number: op.number }
}

fn decode_operation(op: Option<v1::OperationId>) -> Result<OpId, Malformed> {
    let op = op.ok_or(Malformed("an operation without an id"))?;
    Ok(OpId { node: op.node, number: op.number })
}

fn decode_id(bytes: &[u8]) -> Result<Id, Malformed> {
    bytes.try_into().map(Id::new).map_err(|_| Malformed("an identifier has 20 bytes"))
}

#[cfg(test)]
mod tests {
    use dht_core::{
        overlay::RingId,
        ring::{PeerId, SlotBits},
    };

    use super::*;

    fn peer(name: u8) -> Peer {
        let address = format!("10.0.0.{name}:7400").into();
        Peer { id: PeerId::new([name; 16]), address, incarnation: 3, nodes: 4, leaving: name == 2 }
    }

    /// One message of every kind, between peers 1 and 2, that names peer 3.
    fn bodies() -> Vec<Body> {
        let (a, b, c) = (Node::of(peer(1).id, 0), Node::of(peer(2).id, 1), Node::of(peer(3).id, 2));
        let op = OpId { node: 1, number: 9 };
        let id = FindId { asker: peer(2).id, number: 5, attempt: 2 };
        let hops = vec![
            Hop { node: a, reason: HopReason::Start, round_trip_us: 0 },
            Hop { node: c, reason: HopReason::Finger(159), round_trip_us: 70 },
        ];
        let home = Home { after: c.id, owner: a, group: vec![peer(1).id, peer(3).id] };
        let ring = Ring {
            id: RingId([9; 16]),
            replicas: 3,
            slot_bits: SlotBits::DEFAULT,
            mode: dht_core::record::Mode::Chain,
        };
        let (asker, target) = (peer(2), Id::of_key(b"k"));
        let find = Find { id, asker, target, purpose: Purpose::Predecessor, hops: hops.clone(), timeouts: 1 };
        let (node, successors) = (a, vec![b, c]);
        let found =
            Found { id, node, successors: successors.clone(), home: Some(home.clone()), ring, hops, timeouts: 0 };
        vec![
            Body::Ping { nonce: 7 },
            Body::Pong { nonce: 7 },
            Body::Find(find),
            Body::FindAck { id, hop: 3 },
            Body::Found(found),
            Body::GetNeighbours { op, from: a, to: b },
            Body::Neighbours { op, of: a, predecessor: Some(c), successors: successors.clone() },
            Body::Neighbours { op, of: a, predecessor: None, successors: Vec::new() },
            Body::Busy { op },
            Body::NotMember { op, of: a },
            Body::Notify { from: a, to: b, successors },
            Body::Changed { from: a, to: b },
            Body::Home(vec![home]),
            Body::Gone,
        ]
    }

    #[test]
    fn every_message_reads_back() {
        for body in bodies() {
            let message = Message { sender: peer(1), about: vec![peer(3)], body };
            let decoded = decode(&peer(1), encode(&message, Some(&peer(2)))).expect("it was encoded here");
            assert_eq!(decoded.body, message.body);
            assert_eq!(decoded.about, [peer(1), peer(2), peer(3)]);
        }
    }

    #[test]
    fn a_message_that_names_an_undescribed_peer_is_refused() {
        let message = Message {
            sender: peer(1),
            about: Vec::new(),
            body: Body::Notify { from: Node::of(peer(1).id, 0), to: Node::of(peer(2).id, 0), successors: Vec::new() },
        };
        assert!(decode(&peer(1), encode(&message, None)).is_err());
    }
}
