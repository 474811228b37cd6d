//! Where a lookup goes whose owner is in doubt.

use super::*;
use crate::{
    Rules,
    overlay::{Circle, Config, Home, Input, Message, Output, Peer, Ring, RingId, Routing},
    ring::SlotBits,
};

fn peer(id: PeerId) -> Peer {
    Peer { id, address: "a:1".into(), incarnation: 1, nodes: 1, leaving: false }
}

/// The node that a lookup is sent to, or that answers it.
fn goes_to(outputs: &[Output]) -> Option<Node> {
    outputs.iter().find_map(|output| match output {
        Output::Send(_, Message { body: Body::Find(find), .. }) => find.hops.last().map(|hop| hop.node),
        Output::Send(_, Message { body: Body::Found(found), .. }) => Some(found.node),
        _ => None,
    })
}

fn hop(node: Node, reason: HopReason) -> Hop {
    Hop { node, reason, round_trip_us: 0 }
}

fn from(node: Node, body: Body) -> Input {
    Input::Message(Message { sender: peer(node.peer), about: Vec::new(), body })
}

/// The fourth of five nodes, and all of them.
fn heir_of_five(routing: Routing) -> (State, [Node; 5]) {
    let circle = Circle::ideal((0..5).map(|name| peer(PeerId::new([name; 16]))));
    let nodes: [Node; 5] = circle.nodes().try_into().expect("five nodes");
    let ring =
        Ring { id: RingId([0; 16]), replicas: 3, slot_bits: SlotBits::DEFAULT, mode: crate::record::Mode::Chain };
    let config = Config { routing, ..Config::default() };
    let (state, _) = State::settled(config, Rules::ALL, &circle, nodes[3].peer, ring, 1);
    (state, nodes)
}

#[test]
fn who_inherits_by_the_word_of_an_old_list_asks_others_first() {
    let (mut state, [asker, nearer, dead, heir, _]) = heir_of_five(Routing::Fingers);
    state.handle(Duration::ZERO, from(dead, Body::Gone));
    let id = FindId { asker: asker.peer, number: 1, attempt: 1 };
    let mut find = |by: Node, hops: &[Hop]| {
        let (target, purpose, hops) = (dead.id, Purpose::Owner, hops.to_vec());
        let find = Find { id, asker: peer(asker.peer), target, purpose, hops, timeouts: 0 };
        goes_to(&state.handle(Duration::ZERO, from(by, Body::Find(find))))
    };
    let by_old_list = [hop(asker, HopReason::Start), hop(heir, HopReason::FingerSuccessor(158))];
    assert_eq!(find(asker, &by_old_list), Some(nearer));
    assert_eq!(find(asker, &by_old_list), None, "a copy of it is passed on once only");
    let come_back = [hop(nearer, HopReason::Finger(158)), hop(heir, HopReason::Successor)];
    assert_eq!(find(nearer, &[by_old_list, come_back].concat()), Some(heir));
}

#[test]
fn an_heir_answers_only_if_who_has_announced_itself_does_not() {
    [false, true].into_iter().for_each(announced_newcomer_is_asked);
}

fn announced_newcomer_is_asked(suspected: bool) {
    let (mut state, [asker, newcomer, dead, heir, _]) = heir_of_five(Routing::Full);
    let take = |state: &mut State, input| state.handle(Duration::ZERO, input);
    let group = vec![newcomer.peer, dead.peer, heir.peer];
    take(&mut state, from(newcomer, Body::Home(vec![Home { after: asker.id, owner: newcomer, group }])));
    take(&mut state, from(dead, Body::Gone));
    let id = FindId { asker: asker.peer, number: 1, attempt: 1 };
    if suspected {
        state.directory.missed(newcomer.peer, Duration::ZERO);
    }
    // The asker has not heard of the newcomer, and knows that the dead one is.
    let hops = vec![hop(asker, HopReason::Start), hop(heir, HopReason::Successor)];
    let (target, purpose) = (newcomer.id, Purpose::Owner);
    let find = Find { id, asker: peer(asker.peer), target, purpose, hops, timeouts: 0 };
    assert_eq!(goes_to(&take(&mut state, from(asker, Body::Find(find)))), Some(newcomer));
    assert_eq!(goes_to(&take(&mut state, Input::Timer(Timer::Hop(id, 3)))), Some(heir), "the newcomer is silent");
}
