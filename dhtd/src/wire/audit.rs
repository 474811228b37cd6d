//! What peers say of themselves when the ring is verified, and what came of it.

use dht_core::overlay::{
    Node, Peer,
    audit::{Finding, Report, Testimony, Verdict},
    invariant::{View, Violation},
};
use dhtd_proto::v1::{self, FindingKind};

use super::{Malformed, decode_peer, names::Names, node_of};

/// A peer's testimony on its way to another peer.
#[must_use]
pub fn testimony(testimony: &Testimony) -> v1::TestifyResponse {
    // Whoever stands in a list is remembered, so every node has a name here.
    let names = Names::new(std::iter::once(&testimony.peer).chain(&testimony.remembered));
    let member = |view: &View| v1::Member {
        index: view.node.index,
        predecessor: view.predecessor.and_then(|node| names.node(&node)),
        successors: names.nodes(&view.successors),
    };
    let members = testimony.members.iter().map(member).collect();
    v1::TestifyResponse { revision: testimony.revision, members, peers: names.into_described() }
}

/// Reads a peer's testimony.
///
/// # Errors
/// If a field is missing or out of range.
pub fn decode_testimony(answer: v1::TestifyResponse) -> Result<Testimony, Malformed> {
    let peers = answer.peers.iter().map(decode_peer).collect::<Result<Vec<Peer>, _>>()?;
    let (peer, remembered) = peers.split_first().ok_or(Malformed("a testimony of nobody"))?;
    let member = |member: v1::Member| {
        if member.index >= peer.nodes {
            return Err(Malformed("a peer speaks for more nodes than it has"));
        }
        let nodes = member.successors.into_iter().map(|node| node_of(&peers, Some(node)));
        Ok(View {
            node: Node::of(peer.id, member.index),
            predecessor: member.predecessor.map(|node| node_of(&peers, Some(node))).transpose()?,
            successors: nodes.collect::<Result<_, _>>()?,
        })
    };
    let members = answer.members.into_iter().map(member).collect::<Result<_, _>>()?;
    Ok(Testimony { peer: peer.clone(), revision: answer.revision, members, remembered: remembered.to_vec() })
}

/// What an audit has come to, as clients see it.
#[must_use]
pub fn report(report: &Report, elapsed_us: u64) -> v1::VerifyResponse {
    let verdict = match report.verdict {
        Verdict::Holds => v1::Verdict::Holds,
        Verdict::Violated => v1::Verdict::Violated,
        Verdict::CannotTell => v1::Verdict::CannotTell,
    };
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    v1::VerifyResponse {
        verdict: verdict.into(),
        findings: report.findings.iter().map(|found| finding(found, report)).collect(),
        ideal: report.ideal,
        peers: count(report.peers),
        nodes: count(report.nodes),
        reach: count(report.reach),
        principals: count(report.principals),
        walks: count(report.walks),
        elapsed_us,
    }
}

fn finding(finding: &Finding, report: &Report) -> v1::Finding {
    let address = |node: &Node| report.described.get(&node.peer).map_or("", |peer| &peer.address);
    let node = |node: &Node| Some(super::node(node, address(node)));
    let peer = |peer: &Peer| Some(super::peer(peer));
    let empty = v1::Finding::default();
    let (kind, found) = match finding {
        Finding::Violation(Violation::NoLiveSuccessor(of)) => {
            (FindingKind::NoLiveSuccessor, v1::Finding { node: node(of), ..empty })
        }
        Finding::Violation(Violation::OutOfOrder(of)) => {
            (FindingKind::OutOfOrder, v1::Finding { node: node(of), ..empty })
        }
        Finding::Violation(Violation::TooFewPrincipals { .. }) => (FindingKind::TooFewPrincipals, empty),
        Finding::Skipped { node: of, by } => {
            (FindingKind::Skipped, v1::Finding { node: node(of), by: node(by), ..empty })
        }
        Finding::Unreachable { peer: silent, named_by } => {
            (FindingKind::Unreachable, v1::Finding { peer: peer(silent), node: node(named_by), ..empty })
        }
        Finding::Changing(of) => (FindingKind::Changing, v1::Finding { peer: peer(of), ..empty }),
        Finding::Silent(of) => (FindingKind::Silent, v1::Finding { peer: peer(of), ..empty }),
        Finding::NotIdeal(of) => (FindingKind::NotIdeal, v1::Finding { node: node(of), ..empty }),
    };
    v1::Finding { kind: kind.into(), ..found }
}

#[cfg(test)]
mod tests {
    use dht_core::ring::PeerId;

    use super::*;

    fn peer(place: u8) -> Peer {
        let address = format!("10.0.0.{place}:7400").into();
        Peer { id: PeerId::new([place; 16]), address, incarnation: 3, nodes: 2, leaving: place == 2 }
    }

    fn example() -> Testimony {
        let node = |place, index| Node::of(peer(place).id, index);
        let view = |index, predecessor| View {
            node: node(1, index),
            predecessor,
            successors: vec![node(2, 1), node(1, 0), node(3, 0)],
        };
        let members = vec![view(0, Some(node(3, 1))), view(1, None)];
        Testimony { peer: peer(1), revision: 9, members, remembered: vec![peer(2), peer(3)] }
    }

    #[test]
    fn a_testimony_comes_out_as_it_went_in() {
        assert_eq!(decode_testimony(testimony(&example())), Ok(example()));
    }

    #[test]
    fn a_testimony_that_names_strangers_or_foreign_nodes_is_refused() {
        let changed = |change: fn(&mut v1::TestifyResponse)| {
            let mut answer = testimony(&example());
            change(&mut answer);
            decode_testimony(answer)
        };
        assert!(changed(|answer| answer.peers.clear()).is_err());
        assert!(changed(|answer| answer.members[0].index = 2).is_err());
        assert!(changed(|answer| answer.members[1].successors[0].peer = 3).is_err());
        assert!(changed(|answer| answer.members[0].predecessor = Some(v1::NodeRef { peer: 0, index: 5000 })).is_err());
    }
}
