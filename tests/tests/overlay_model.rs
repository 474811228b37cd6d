//! The overlay under the model checker, and the traces that it has found. A test takes the worlds as far as seconds allow;
//! `.ci/soak` goes on from there. Printed ways can be pasted here: `cargo run --release -p dht-tests --bin model -- overlay`.
//!
//! How far it has come on 2 busy cores, with one failure and no break of the invariant:
//!
//! | founders + joiners | rounds each | states | steps deep | |
//! |---|---|---|---|---|
//! | any | 0 | 200 to 400 | 15 | all |
//! | 3 + 1 | 1 | 2,330,918 | 41 | all, in 46 s |
//! | 2 + 2, next to each other | 1 | 8,480,955 | 57 | in 380 s, not all |
//! | 2 + 2, in turn | 1 | 4,277,236 | 53 | in 150 s, not all |
//! | 2 + 2, next to each other | 3 | 2,545,682 | 78 | in 100 s, not all |
//! | 2 + 2, in turn | 3 | 2,248,724 | 73 | in 100 s, not all |
//! | 3 + 1 | 3 | 3,592,763 | 53 | in 100 s, not all |
//!
//! Memory stays below 200 MiB, since states are visited depth first and only their fingerprints are kept.
//!
//! Of the rules switched off it finds `adopt_whole_list` and `join_takes_list`. The other three need more peers, more
//! failures or wrong owners to show: the simulator finds all five (`overlay_mutants.rs`).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
};

use dht_core::Rules;
use dht_tests::model::overlay::{
    Action, INVARIANT, Overlay, Place, WORLDS,
    What::{Changed, Find, Found, GetNeighbours, Neighbours, Notify},
    World, deliver, fail, join, notice, round,
};
use stateright::{Checker, Model};

const A: Place = 0;
const B: Place = 1;
const C: Place = 2;
const D: Place = 3;

fn overlay(founders: &'static [Place], joiners: &'static [Place]) -> Overlay {
    Overlay { founders, joiners, failures: 1, rounds: 3, rules: Rules::ALL }
}

/// Looks at all states, or at so many.
fn check(overlay: Overlay, most_steps: Option<usize>) -> usize {
    let checker = overlay.checker().threads(2);
    let checker = most_steps.into_iter().fold(checker, stateright::CheckerBuilder::target_state_count);
    let checker = checker.spawn_dfs().join();
    if let Some(way) = checker.discovery(INVARIANT) {
        let actions: Vec<String> = way.clone().into_actions().iter().map(ToString::to_string).collect();
        panic!("{:?}, by\n{}", way.last_state().violation(), actions.join(",\n"));
    }
    checker.unique_state_count()
}

#[test]
fn no_schedule_of_joins_and_a_failure_without_maintenance_breaks_the_invariant() {
    for (founders, joiners) in WORLDS {
        let states = check(Overlay { rounds: 0, ..overlay(founders, joiners) }, None);
        assert!(states > 200, "{states} states of {founders:?} and {joiners:?} are too few");
    }
}

#[test]
fn no_schedule_of_a_join_and_a_round_of_each_breaks_the_invariant() {
    let states = check(Overlay { rounds: 1, failures: 0, ..overlay(&[A, B, C], &[D]) }, None);
    assert!(states > 50_000, "{states} states are too few");
}

#[test]
fn the_first_schedules_of_three_rounds_and_a_failure_break_no_invariant() {
    for (founders, joiners) in WORLDS {
        check(overlay(founders, joiners), Some(50_000));
    }
}

/// What may come next, as the checker tells states apart.
fn futures(world: &World) -> BTreeSet<u64> {
    let next = world.actions().into_iter().filter_map(|action| world.after(action));
    next.map(|world| BuildHasherDefault::<DefaultHasher>::default().hash_one(&world)).collect()
}

#[test]
fn states_that_are_taken_for_equal_go_on_alike() {
    for (founders, joiners) in WORLDS {
        let mut known: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        let mut open = VecDeque::from([World::new(&overlay(founders, joiners))]);
        let mut met_again = 0;
        for turn in 0..1500 {
            // Some near the beginning, some far from it.
            let Some(world) = (if turn % 3 == 0 { open.pop_front() } else { open.pop_back() }) else { break };
            for next in world.actions().into_iter().filter_map(|action| world.after(action)) {
                let (name, futures) = (BuildHasherDefault::<DefaultHasher>::default().hash_one(&next), futures(&next));
                match known.get(&name) {
                    Some(before) => {
                        assert_eq!(*before, futures, "{next:?}");
                        met_again += 1;
                    }
                    None => {
                        known.insert(name, futures);
                        open.push_back(next);
                    }
                }
            }
        }
        assert!(met_again > 1000, "{met_again} states met again are too few");
    }
}

fn after(overlay: Overlay, actions: &[Action]) -> Result<World, String> {
    World::new(&overlay).after_all(actions.iter().copied())
}

/// The trace breaks the ring without the rule, and not with it.
fn is_needed(overlay: Overlay, without: Rules, actions: &[Action], what: &str) {
    let broken = after(Overlay { rules: without, ..overlay }, actions).expect_err("the trace finds nothing any more");
    assert!(broken.contains(what), "{broken}");
    after(overlay, actions).expect("all rules are in force");
}

#[test]
fn a_list_has_to_be_adopted_as_a_whole() {
    let trace = [fail(A), join(D, C), deliver(D, C, Find), deliver(C, D, Found)];
    let without = Rules { adopt_whole_list: false, ..Rules::ALL };
    is_needed(overlay(&[A, B, C], &[D]), without, &trace, "no live successor");
}

#[test]
fn a_joiner_has_to_take_its_predecessors_list() {
    let trace = [fail(A), join(D, C), deliver(D, C, Find), deliver(C, D, Found)];
    let without = Rules { join_takes_list: false, ..Rules::ALL };
    is_needed(overlay(&[A, B, C], &[D]), without, &trace, "no live successor");
}

/// C and D join between B and A. C is a member that A has accepted; D knows nothing of it yet.
fn c_is_accepted() -> Vec<Action> {
    let asked = [join(C, B), join(D, B), deliver(C, B, Find), deliver(D, B, Find), deliver(B, C, Found), round(C)];
    let notified = [deliver(C, A, GetNeighbours), deliver(A, C, Neighbours), deliver(C, A, Notify)];
    let accepted = [deliver(A, C, Changed), deliver(C, A, GetNeighbours), deliver(A, C, Neighbours)];
    [&asked[..], &notified, &accepted].concat()
}

#[test]
fn a_newcomer_does_not_own_what_its_successor_knows_to_be_of_an_earlier_one() {
    let asked = [deliver(B, D, Found), round(D), deliver(D, A, GetNeighbours), deliver(A, D, Neighbours)];
    let accepted =
        [deliver(D, A, Notify), deliver(A, D, Changed), deliver(D, A, GetNeighbours), deliver(A, D, Neighbours)];
    let trace = [&c_is_accepted()[..], &asked, &accepted].concat();
    let world = after(overlay(&[A, B], &[C, D]), &trace).expect("it is possible");
    assert_eq!(world.owners_of(D), [D], "D has been accepted");
    assert_eq!(world.owners_of(C), [C], "A has told D who is before it");
}

/// What is promised of intervals, and what is not: `dhtd/ARCHITECTURE.md`.
#[test]
fn of_two_newcomers_that_join_at_once_both_may_own_a_node_until_one_has_told_the_other() {
    let d_asks = [deliver(B, D, Found), round(D), deliver(D, A, GetNeighbours), deliver(A, D, Neighbours)];
    let (c_asks, c_joins) = {
        let c_joins = c_is_accepted();
        (c_joins[..4].to_vec(), c_joins[4..].to_vec())
    };
    // D learned of A's predecessor before that was C, and takes its place after.
    let d_joins =
        [deliver(D, A, Notify), deliver(A, D, Changed), deliver(D, A, GetNeighbours), deliver(A, D, Neighbours)];
    let trace = [&c_asks[..], &d_asks, &c_joins, &d_joins].concat();
    let world = after(overlay(&[A, B], &[C, D]), &trace).expect("it is possible");
    assert_eq!(world.owners_of(C), [C, D]);
    let told = [
        round(C),
        deliver(C, A, GetNeighbours),
        deliver(A, C, Neighbours),
        deliver(C, D, GetNeighbours),
        deliver(D, C, Neighbours),
        deliver(C, D, Notify),
    ];
    let world = world.after_all(told).expect("it is possible");
    assert_eq!(world.owners_of(C), [C]);
}

/// B joins between A and C, and C has accepted it.
const B_IS_ACCEPTED: [Action; 10] = [
    Action::Join(B, A),
    Action::Deliver(B, A, Find, 0),
    Action::Deliver(A, B, Found, 0),
    Action::Round(B),
    Action::Deliver(B, C, GetNeighbours, 0),
    Action::Deliver(C, B, Neighbours, 0),
    Action::Deliver(B, C, Notify, 0),
    Action::Deliver(C, B, Changed, 0),
    Action::Deliver(B, C, GetNeighbours, 0),
    Action::Deliver(C, B, Neighbours, 0),
];

/// As in the paper (section IV-D), the word of the node before decides if a predecessor has died. It may not know all:
/// with k = 1 a newcomer announces itself to nobody.
#[test]
fn an_heir_answers_for_a_newcomer_that_only_the_dead_one_knew_until_the_newcomer_speaks() {
    let world = after(overlay(&[A, C, D], &[B]), &B_IS_ACCEPTED).expect("it is possible");
    assert_eq!(world.owner_of(B, A), Some(B), "C knows that it is not the owner");
    let world = world.after_all([fail(C), notice(A, C), notice(D, C)]).expect("it is possible");
    assert_eq!(world.owners_of(B), [B], "the heir does not take itself for the owner");
    assert_eq!(world.owner_of(B, A), Some(D), "it answers where A has sent it");
    let world = world.after_all(B_SPEAKS_TO_D).expect("it is possible");
    assert_eq!(world.owner_of(B, A), Some(B));
}

/// B has found out that C is dead.
const B_SPEAKS_TO_D: [Action; 5] = [
    Action::Notice(B, C),
    Action::Round(B),
    Action::Deliver(B, D, GetNeighbours, 0),
    Action::Deliver(D, B, Neighbours, 0),
    Action::Deliver(B, D, Notify, 0),
];

#[test]
fn who_has_spoken_before_the_heir_missed_its_predecessor_takes_its_place() {
    let world = after(overlay(&[A, C, D], &[B]), &B_IS_ACCEPTED).expect("it is possible");
    let world = world.after_all([fail(C)].into_iter().chain(B_SPEAKS_TO_D)).expect("it is possible");
    let world = world.after_all([notice(A, C), notice(D, C)]).expect("it is possible");
    assert_eq!(world.owner_of(B, A), Some(B), "D does not answer for it");
    assert_eq!(world.owners_of(D), [D], "D knows at once where its interval begins");
}
