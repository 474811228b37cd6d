//! Chain mode under the model checker. A test takes the worlds as far as seconds allow; `.ci/soak` goes on from there. What
//! the worlds find with a rule switched off is in `chain_mutants.rs`.
//!
//! How far it has come on 2 busy cores, with all rules in force and nothing wrong:
//!
//! | world | states | steps deep | |
//! |---|---|---|---|
//! | half granted, restarted | 2,610,360 | 32 | all |
//! | proposer restarted | 1,650,854 | 31 | all |
//! | traffic | 751,455 | 32 | all |
//! | writing | 733,615 | 37 | all |
//! | member restarted | 575,376 | 27 | all |
//! | the other 20 small ones | 648 to 251,712 | 12 to 30 | all; the 25 in 4 minutes |
//! | two attempts | 5,639,092 | 38 | in 100 s, not all |
//! | pair, all at once | 3,241,373 | 39 | in 100 s, not all |
//! | four peers | 2,885,113 | 46 | in 100 s, not all |
//!
//! Memory stays below 300 MiB, since states are visited depth first and only their fingerprints are kept.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
};

use dht_tests::model::chain::{LARGE, Named, SAFE, WORLDS, World};
use stateright::{Checker, Model};

/// Looks at so many steps of a world, or at all; says how many states there were.
fn check((name, chain): &Named, most_steps: usize) -> usize {
    let checker = chain.checker().threads(2).target_state_count(most_steps).spawn_dfs().join();
    if let Some(way) = checker.discovery(SAFE) {
        let actions: Vec<String> = way.clone().into_actions().iter().map(ToString::to_string).collect();
        panic!("{name}: {:?}, by\n{}", way.last_state().violation(), actions.join(",\n"));
    }
    checker.unique_state_count()
}

#[test]
fn no_schedule_of_a_small_world_loses_or_denies_anything() {
    let states: usize = WORLDS.iter().map(|world| check(world, 40_000)).sum();
    assert!(states > 150_000, "{states} states are too few");
}

#[test]
fn the_first_schedules_of_large_worlds_lose_and_deny_nothing() {
    for world in LARGE {
        check(world, 40_000);
    }
}

/// It was so that a head took all that it found in its log for what all others had, and put it into its table; and whoever
/// had copied that became a member without the data.
#[test]
fn a_restarted_head_takes_nothing_for_committed_that_nobody_else_has() {
    let worlds: Vec<&Named> = WORLDS.iter().filter(|(name, _)| name.ends_with("head restarted")).collect();
    assert_eq!(worlds.len(), 2, "{worlds:?}");
    worlds.into_iter().for_each(|world| assert!(check(world, usize::MAX) > 10_000));
}

/// What may come next, as the checker tells states apart.
fn futures(world: &World) -> BTreeSet<u64> {
    let next = world.actions().into_iter().filter_map(|action| world.after(action));
    next.map(|world| BuildHasherDefault::<DefaultHasher>::default().hash_one(&world)).collect()
}

#[test]
fn states_that_are_taken_for_equal_go_on_alike() {
    let mut met_again = 0;
    for (name, chain) in WORLDS.iter().chain(LARGE) {
        let mut known: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        let mut open = VecDeque::from([World::without_memory(chain)]);
        for turn in 0..60 {
            // Some near the beginning, some far from it.
            let Some(world) = (if turn % 3 == 0 { open.pop_front() } else { open.pop_back() }) else { break };
            for next in world.actions().into_iter().filter_map(|action| world.after(action)) {
                let (state, futures) = (BuildHasherDefault::<DefaultHasher>::default().hash_one(&next), futures(&next));
                match known.get(&state) {
                    Some(before) => {
                        assert_eq!(*before, futures, "{name}: {next:?}");
                        met_again += 1;
                    }
                    None => {
                        known.insert(state, futures);
                        open.push_back(next);
                    }
                }
            }
        }
    }
    assert!(met_again > 500, "{met_again} states met again are too few");
}
