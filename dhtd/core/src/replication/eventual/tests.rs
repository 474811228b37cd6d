//! What makes a replica answer alone, and what makes a holder let go.

use super::*;
use crate::hlc::Timestamp;
use crate::overlay::{Home, Node, Peer, Ring, RingId};
use crate::record::Mode;
use crate::replication::digest::PARTS;
use crate::ring::{Id, SlotBits};

const SLOT: Slot = Slot(0);

fn peer(name: u8) -> Peer {
    Peer { id: PeerId::new([name; 16]), address: "a:1".into(), incarnation: 1, nodes: 1, leaving: false }
}

fn id(name: u8) -> PeerId {
    peer(name).id
}

/// Peer `me` as it sees a ring of peers 1 to 5 whose slots all belong to `group`.
fn routes(me: u8, group: &[u8]) -> Arc<Routes> {
    let ring = Ring {
        id: RingId([7; 16]),
        replicas: 3,
        slot_bits: SlotBits::new(1).expect("one bit is fine"),
        mode: Mode::Eventual,
    };
    let owner = Node::of(id(group[0]), 0);
    let home = Home { after: owner.id, owner, group: group.iter().map(|name| id(*name)).collect() };
    let others = (1..=5).filter(|name| *name != me).map(peer);
    Arc::new(Routes::assemble(peer(me), Some(ring), others, |_: Id| Some(&home)))
}

/// What is held here: one digest for all slots.
struct Held(SlotDigest);

impl Digests for Held {
    fn digest(&self, slot: Slot) -> SlotDigest {
        if slot == SLOT { self.0 } else { SlotDigest::default() }
    }

    fn held(&self) -> impl Iterator<Item = Slot> {
        (!self.0.is_empty()).then_some(SLOT).into_iter()
    }

    fn horizon(&self, _: Slot) -> Timestamp {
        Timestamp::default()
    }

    fn wall_clock(&self) -> Timestamp {
        Timestamp::from_millis(1 << 40)
    }
}

const NOTHING: Held = Held(SlotDigest { sum: 0, records: 0, values: 0, expiring: 0, parts: [0; PARTS] });
const SOMETHING: Held = Held(SlotDigest { sum: 42, records: 1, values: 1, expiring: 0, parts: [42; PARTS] });

/// A peer that has just come into the group.
fn newcomer(me: u8, group: &[u8]) -> State {
    let mut state =
        State::new(Config::default(), Rules::ALL, Arc::new(Routes::outside(peer(me))), 0, Memory::default());
    state.start(Duration::ZERO);
    state.handle(Duration::ZERO, Input::Routes(routes(me, group)), &NOTHING);
    state
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn tick(state: &mut State, at: u64, held: &Held) -> Vec<Output> {
    state.handle(seconds(at), Input::Timer(Timer::Tick), held)
}

/// Peer `from` answers a comparison: it holds this.
fn compared(state: &mut State, at: u64, from: u8, theirs: &Held, basis: bool, held: &Held) {
    let holding = Holding { slot: SLOT, digest: theirs.0, basis, horizon: Timestamp::default(), holders: Vec::new() };
    state.handle(
        seconds(at),
        Input::Message(id(from), Message::Compared { slots: vec![holding.clone()], departed: Vec::new() }),
        held,
    );
}

fn synced(outputs: &[Output]) -> bool {
    outputs.contains(&Output::Synced(SLOT, true))
}

#[test]
fn newcomers_alone_do_not_agree_on_nothing() {
    let mut state = newcomer(2, &[2, 3, 4]);
    tick(&mut state, 3, &NOTHING);
    compared(&mut state, 3, 3, &NOTHING, false, &NOTHING);
    compared(&mut state, 3, 4, &NOTHING, false, &NOTHING);
    assert!(!synced(&tick(&mut state, 4, &NOTHING)));
    // Who held the slot before hands it over.
    state.handle(seconds(5), Input::Message(id(1), Message::Pushed { slot: SLOT, basis: true }), &SOMETHING);
    assert!(synced(&tick(&mut state, 6, &SOMETHING)));
}

#[test]
fn what_is_left_is_all_there_is_once_everyone_with_a_basis_is_lost() {
    let mut state = newcomer(2, &[2, 3, 4]);
    tick(&mut state, 3, &NOTHING);
    compared(&mut state, 3, 3, &NOTHING, false, &NOTHING);
    compared(&mut state, 3, 4, &NOTHING, false, &NOTHING);
    assert!(synced(&tick(&mut state, 31, &NOTHING)));
}

#[test]
fn a_newcomer_needs_every_member_even_if_the_group_changes_meanwhile() {
    let mut state = newcomer(2, &[2, 3, 4]);
    state.handle(seconds(1), Input::Routes(routes(2, &[2, 3, 5])), &NOTHING);
    compared(&mut state, 2, 3, &SOMETHING, true, &SOMETHING);
    assert!(!synced(&tick(&mut state, 3, &SOMETHING)), "peer 5 may hold what peer 3 was not told");
    tick(&mut state, 5, &SOMETHING);
    compared(&mut state, 5, 5, &SOMETHING, true, &SOMETHING);
    assert!(synced(&tick(&mut state, 6, &SOMETHING)));
}

#[test]
fn nobody_is_synced_after_a_member_is_lost_until_the_rest_have_compared() {
    let mut state = State::new(Config::default(), Rules::ALL, routes(2, &[2, 3, 4]), 0, Memory::founder([SLOT]));
    state.start(Duration::ZERO);
    state.handle(Duration::ZERO, Input::Routes(routes(2, &[2, 3, 4])), &SOMETHING);
    tick(&mut state, 3, &SOMETHING);
    compared(&mut state, 3, 3, &SOMETHING, true, &SOMETHING);
    compared(&mut state, 3, 4, &SOMETHING, true, &SOMETHING);
    assert!(synced(&tick(&mut state, 4, &SOMETHING)));
    let outputs = state.handle(seconds(5), Input::Routes(routes(2, &[2, 3, 5])), &SOMETHING);
    assert!(outputs.contains(&Output::Synced(SLOT, false)));
    // The rest compare at once; the newcomer is told nothing before the group has settled, and is not waited for.
    let asked = tick(&mut state, 5, &SOMETHING);
    let asks =
        |name| asked.iter().any(|output| matches!(output, Output::Send(to, Message::Compare(_)) if *to == id(name)));
    assert!(asks(3) && !asks(5));
    compared(&mut state, 5, 3, &SOMETHING, true, &SOMETHING);
    assert!(synced(&tick(&mut state, 6, &SOMETHING)));
}

#[test]
fn a_holder_outside_the_group_drops_the_slot_only_when_every_member_has_it() {
    let mut state = State::new(Config::default(), Rules::ALL, routes(1, &[2, 3, 4]), 0, Memory::founder([SLOT]));
    state.start(Duration::ZERO);
    state.handle(Duration::ZERO, Input::Routes(routes(1, &[2, 3, 4])), &SOMETHING);
    let dropped = Output::Drop(SLOT, SOMETHING.0);
    tick(&mut state, 3, &SOMETHING);
    compared(&mut state, 3, 2, &SOMETHING, false, &SOMETHING);
    compared(&mut state, 3, 3, &SOMETHING, false, &SOMETHING);
    compared(&mut state, 3, 4, &NOTHING, false, &SOMETHING);
    assert!(!tick(&mut state, 4, &SOMETHING).contains(&dropped), "peer 4 has nothing yet");
    state.handle(seconds(5), Input::Transferred(SLOT, id(4), Some(SOMETHING.0)), &SOMETHING);
    assert!(tick(&mut state, 6, &SOMETHING).contains(&dropped));
}

#[test]
fn who_hands_over_is_sent_nothing() {
    let mut state = newcomer(2, &[2, 3, 4]);
    let holding =
        Holding { slot: SLOT, digest: NOTHING.0, basis: true, horizon: Timestamp::default(), holders: Vec::new() };
    let compare = |from| Input::Message(id(from), Message::Compare(vec![holding.clone()]));
    let outputs = state.handle(seconds(1), compare(1), &SOMETHING);
    assert!(!outputs.iter().any(|output| matches!(output, Output::Transfer(..))));
    let outputs = state.handle(seconds(1), compare(3), &SOMETHING);
    assert!(outputs.contains(&Output::Transfer(SLOT, id(3), NOTHING.0)));
}
