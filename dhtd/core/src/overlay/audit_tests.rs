use super::*;
use crate::record::Mode;
use crate::{
    Rules,
    overlay::{Circle, Config, Ring, RingId, Timer, interface::Input},
    ring::SlotBits,
};

const REACH: usize = 8;

fn described(place: u8, nodes: u32) -> Peer {
    let (id, address) = (PeerId::new([place; 16]), format!("{place}:1").into());
    Peer { id, address, incarnation: 1, nodes, leaving: false }
}

fn states(places: std::ops::Range<u8>, nodes: u32, windings: usize) -> Vec<State> {
    let circle = Circle::winding(places.clone().map(|place| described(place, nodes)), windings);
    let ring = Ring { id: RingId([0; 16]), replicas: 3, slot_bits: SlotBits::DEFAULT, mode: Mode::Eventual };
    let state = |place| {
        State::settled(Config::default(), Rules::ALL, &circle, described(place, nodes).id, ring, u64::from(place)).0
    };
    places.map(state).collect()
}

/// What the peers of a ring say that is at rest.
fn ring(places: std::ops::Range<u8>, nodes: u32, windings: usize) -> Vec<Testimony> {
    states(places, nodes, windings).iter().map(State::testimony).collect()
}

/// Walks from the first peer; those that are not in `testimonies` don't answer.
fn walk(testimonies: &[Testimony]) -> Walk {
    let mut walk = Walk::new(testimonies[0].clone());
    while let Some(peer) = walk.next_to_ask() {
        let answer = testimonies.iter().find(|testimony| testimony.peer.id == peer.id).cloned();
        walk.take(&peer, answer);
    }
    walk
}

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Walks a ring that does not change, every 100 ms, until there is something definite or 10 s have passed.
fn audit(testimonies: &[Testimony]) -> (Duration, Report) {
    let mut audit = Audit::new(REACH);
    for step in 0..100 {
        let begun = at(step * 100);
        if let Some(report) = audit.take(begun, begun + at(10), walk(testimonies)) {
            return (begun, report);
        }
    }
    (at(10_000), audit.give_up())
}

fn has(report: &Report, finding: impl Fn(&Finding) -> bool) -> bool {
    report.findings.iter().any(finding)
}

#[test]
fn a_ring_at_rest_holds_as_soon_as_it_was_seen_twice() {
    let (time, report) = audit(&ring(0..12, 4, 1));
    assert_eq!((time, report.verdict, report.ideal), (at(100), Verdict::Holds, true));
    assert_eq!((report.peers, report.nodes, report.reach, report.principals, report.walks), (12, 48, 8, 12, 2));
    assert_eq!(report.findings, []);
    assert_eq!(report.described.len(), 12);
}

#[test]
fn rings_of_one_two_and_three_hold() {
    for peers in 1..=3 {
        let (_, report) = audit(&ring(0..peers, 1, 1));
        assert_eq!((report.verdict, report.ideal), (Verdict::Holds, true), "{report:?}");
        assert_eq!(report.reach, usize::from(peers) - 1);
    }
}

#[test]
fn a_ring_that_winds_twice_is_violated_once_it_has_stood_still() {
    let (time, report) = audit(&ring(0..20, 1, 2));
    assert_eq!(report.verdict, Verdict::Violated);
    assert!(time >= REST && time < REST + at(300), "{time:?}");
    assert!(has(&report, |f| matches!(f, Finding::Violation(Violation::TooFewPrincipals { needed: 9, .. }))));
    assert!(has(&report, |f| matches!(f, Finding::Skipped { node, by } if node.peer != by.peer)));
    assert!(!report.ideal);
}

#[test]
fn two_rings_of_peers_that_remember_each_other_are_violated() {
    let mut both = ring(0..6, 2, 1);
    both.extend(ring(6..12, 2, 1));
    let peers: Vec<Peer> = both.iter().map(|testimony| testimony.peer.clone()).collect();
    both.iter_mut().for_each(|testimony| testimony.remembered.clone_from(&peers));
    let (_, report) = audit(&both);
    assert_eq!((report.verdict, report.peers), (Verdict::Violated, 12));
    assert!(report.principals < 9);
}

#[test]
fn a_list_out_of_order_and_one_without_a_live_node_are_named() {
    let mut corrupt = ring(0..5, 1, 1);
    let disordered = corrupt[2].members[0].node;
    corrupt[2].members[0].successors.reverse();
    let (_, report) = audit(&corrupt);
    assert_eq!(report.verdict, Verdict::Violated);
    assert!(report.findings.contains(&Finding::Violation(Violation::OutOfOrder(disordered))), "{report:?}");

    let mut corrupt = ring(0..5, 1, 1);
    // It has been restarted and is no member yet: alive, but none of its nodes is.
    let restarted = corrupt[4].peer.id;
    corrupt[4].members.clear();
    let lonely = corrupt[1].members[0].node;
    corrupt[1].members[0].successors.retain(|node| node.peer == restarted);
    let (_, report) = audit(&corrupt);
    assert!(report.findings.contains(&Finding::Violation(Violation::NoLiveSuccessor(lonely))), "{report:?}");
    assert_eq!((report.verdict, report.peers), (Verdict::Violated, 4));
}

#[test]
fn a_peer_that_lists_name_and_that_does_not_answer_leaves_it_open() {
    let mut rest = ring(0..5, 2, 1);
    let silent = rest.pop().expect("five").peer;
    let (time, report) = audit(&rest);
    assert_eq!((time, report.verdict), (at(10_000), Verdict::CannotTell));
    assert!(has(&report, |f| matches!(f, Finding::Unreachable { peer, .. } if *peer == silent)));
    assert!(report.described.contains_key(&silent.id));
}

#[test]
fn a_peer_that_only_memories_name_does_not_matter() {
    let mut ring = ring(0..5, 2, 1);
    let dead = described(77, 2);
    ring[3].remembered.push(dead.clone());
    let (_, report) = audit(&ring);
    assert_eq!((report.verdict, report.ideal, report.peers), (Verdict::Holds, true, 5));
    assert_eq!(report.findings, [Finding::Silent(dead)]);
}

#[test]
fn a_ring_that_changes_between_walks_leaves_it_open_and_the_changing_peers_are_named() {
    let mut ring = ring(0..5, 1, 1);
    let mut audit = Audit::new(REACH);
    for step in 0..5 {
        // The same lists each time, but something has changed and changed back in between.
        ring[3].revision += 1;
        assert_eq!(audit.take(at(step * 100), at(step * 100 + 1), walk(&ring)), None);
    }
    let report = audit.give_up();
    assert_eq!((report.verdict, report.walks, report.ideal), (Verdict::CannotTell, 5, false));
    assert_eq!(report.findings, [Finding::Changing(ring[3].peer.clone())]);
    assert_eq!(Audit::new(REACH).give_up().verdict, Verdict::CannotTell);
}

#[test]
fn a_newcomer_that_not_all_lists_have_yet_is_no_violation() {
    let before = ring(0..3, 1, 1);
    let after = ring(0..4, 1, 1);
    // The newcomer is a member; of the others only those that had it join know it.
    let mut between = before.clone();
    between.push(after[3].clone());
    between[0].remembered.push(after[3].peer.clone());
    let mut audit = Audit::new(REACH);
    let mut walks = vec![&between; 30];
    walks.extend([&after; 2]);
    let reports = walks.iter().zip(0..).map(|(ring, step)| audit.take(at(step * 100), at(step * 100 + 1), walk(ring)));
    let reports: Vec<Option<Report>> = reports.collect();
    assert!(reports[..31].iter().all(Option::is_none), "{reports:?}");
    assert_eq!(reports[31].as_ref().map(|report| (report.verdict, report.peers)), Some((Verdict::Holds, 4)));
}

#[test]
fn a_violation_that_has_not_stood_for_long_is_told_but_is_no_verdict() {
    let loopy = ring(0..20, 1, 2);
    let mut audit = Audit::new(REACH);
    for step in 0..20 {
        assert_eq!(audit.take(at(step * 100), at(step * 100 + 1), walk(&loopy)), None);
    }
    let report = audit.give_up();
    assert_eq!(report.verdict, Verdict::CannotTell);
    assert!(has(&report, |f| matches!(f, Finding::Violation(_))));
}

#[test]
fn a_ring_that_keeps_the_invariant_need_not_be_ideal() {
    let mut ring = ring(0..5, 1, 1);
    let node = ring[2].members[0].node;
    ring[2].members[0].successors.truncate(1);
    let (_, report) = audit(&ring);
    assert_eq!((report.verdict, report.ideal), (Verdict::Holds, false));
    assert_eq!(report.findings, [Finding::NotIdeal(node)]);
}

#[test]
fn a_peer_is_asked_where_its_newest_description_says() {
    let [first, second]: [Testimony; 2] = ring(0..2, 1, 1).try_into().expect("two");
    let moved = Peer { address: "elsewhere:1".into(), incarnation: 2, ..second.peer.clone() };
    let mut walk = Walk::new(first);
    let old = walk.next_to_ask().expect("the other");
    walk.take(&old, None);
    assert_eq!(walk.next_to_ask(), None);
    let witness = Testimony { peer: described(5, 1), remembered: vec![old, moved.clone()], ..second.clone() };
    walk.take(&witness.peer.clone(), Some(witness));
    assert_eq!(walk.next_to_ask(), Some(moved.clone()));
    walk.take(&moved, Some(Testimony { peer: moved.clone(), ..second }));
    assert!(walk.silent.is_empty() && walk.next_to_ask().is_none());
}

#[test]
fn another_peer_at_the_address_is_no_answer() {
    let ring = ring(0..3, 1, 1);
    let mut walk = Walk::new(ring[0].clone());
    while let Some(peer) = walk.next_to_ask() {
        walk.take(&peer, Some(ring[0].clone()));
    }
    assert_eq!((walk.answers.len(), walk.silent.len()), (1, 2));
}

#[test]
fn every_change_of_a_list_is_counted_and_rounds_without_one_are_not() {
    let mut state = states(0..5, 1, 1).remove(0);
    let before = (state.revision(), state.testimony());
    state.handle(at(10), Input::Timer(Timer::Stabilize(0)));
    assert_eq!((state.revision(), state.testimony()), before);
    // Its successor says goodbye.
    let gone = state.nodes()[0].successor().peer;
    let sender = before.1.remembered.iter().find(|peer| peer.id == gone).expect("it is remembered").clone();
    let body = crate::overlay::Body::Gone;
    state.handle(at(20), Input::Message(crate::overlay::Message { sender, about: Vec::new(), body }));
    assert!(state.revision() > before.0);
    assert_ne!(state.testimony().members, before.1.members);
}
