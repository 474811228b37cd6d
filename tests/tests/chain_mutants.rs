//! Each rule that protects chain mode is needed: with one switched off, the simulator or the model finds what it
//! prevents.
//!
//! | rule switched off | kept seed of the simulator | what it finds |
//! |---|---|---|
//! | `decide_after_levelling` | 12 | members without the data: a slot that serves nobody any more |
//! | `frontier_in_view` | 102 | a history that is not linearizable |
//! | `older_views_first` | 141 | as the first |
//! | `electors_from_view` | 1 | two views of one epoch |
//! | `electors_have_witnesses` | 1 | a slot that no majority can be found for any more |
//! | `fsync_before_reply` | 8 | a history that is not linearizable |
//! | `adopts_accepted` | 14 | two views of one epoch |
//! | `accepts_at_view` | 0 | two views of one epoch |
//! | `lease_from_sending` | 550 | a history that is not linearizable |
//! | `pending_apart` | 20 | the same |
//! | `restart_seals` | 1 | the same |
//! | `answers_are_reads` | 1 | the same |
//! | `dedup_in_entry` | 0 | the same |
//! | `only_founding_is_first` | 0 | two views of one epoch |
//! | `outcomes_kept_by_number` | 0 | a history that is not linearizable |
//!
//! | rule switched off | world of the model | what it finds |
//! |---|---|---|
//! | `member_in_quorum` | alone | an acknowledged write that is not in the next view's history |
//! | `commit_on_all` | pair, slow disk | the same |
//! | `ballot_names_process` | proposer restarted | two views of one epoch |
//! | `view_records_kept` | replaced | the same |
//! | `accept_seals` | half granted | a history that is not linearizable |
//! | `waits_out_grants` | dropped | the same |
//! | `grants_at_same_epoch` | dropped, late | the same |
//! | `reregister_after_restart` | granter restarted | the same |
//! | `waits_after_boot` | half granted, restarted | the same |
//! | `lease_sampled_at_use` | dropped | the same |
//! | `transfers_replace` | copied again | the same |
//! | `seal_keeps_waiting` | dropped | the same |
//! | `only_next_view_settles` | left behind | the same |
//! | `reads_in_order` | alone | the same |
//! | `fresh_frontier` | old reads | the same |
//! | `ready_not_shortened` | levelled again | a view that lists a peer without the data |
//! | `ready_not_given_up` | forgotten | the same |
//! | `install_as_a_whole` | cut short | two entries of one number |
//! | `records_failures` | tried twice | one command with two outcomes |
//! | `refuses_old_requests` | tried again, late | the same |
//!
//! Of two pairs, either rule alone is enough; with both switched off, the model finds what they prevent:
//!
//! | rules switched off | world of the model | what it finds |
//! |---|---|---|
//! | `sealed_acks_nothing`, `sealed_appends_nothing` | pair | an acknowledged write that is not in the next view's history |
//! | `unseals_listed_only`, `install_before_use` | member restarted | two entries of one number |
//!
//! | rule switched off | shown by hand | what it finds |
//! |---|---|---|
//! | `generation_before_epoch` | `left_behind` | a recovered slot goes back to what was given up |
//! | `claimed_copies_kept` | `scrapped_before_recovery` | a recovered slot without data: the copy that it was to start from was dropped |
//! | `ready_witness_stays` | `departs_though_ready` | a view is decided, and those who decide the next have departed (also one of 20,000 seeds) |
//! | `next_electors_ready` | `left_to_the_departed` | the same |
//! | `electors_not_fewer` | `deaths_add_up` | two deaths stop a slot of five, since two others had died before and come back |
//!
//! - A promise says where the log ends, all of it on disk. Whoever appends nothing afterwards acknowledges at most up to
//!   there, which the next view's frontier covers; whoever acknowledges nothing afterwards may append what it likes, since
//!   nothing is committed that not all have acknowledged.
//! - A process that a view does not list, and whose disk does not know the view, may only unseal if an earlier process
//!   has done nothing by right of the view: that is so if the view is on disk before anything is done, for then the new
//!   process finds it there and stays sealed (`restart_seals`). If it unseals only when it is listed itself, it does
//!   nothing in that view, whatever the earlier one did. (`install_before_use` is needed for who departs, too:
//!   `chain_farewell.rs`.)
//!
//! Rules of DESIGN, section 8, without a switch:
//! - Expiry only by an entry: nothing in the state machines looks at when a value expires. The host of the head asks for a
//!   deletion at the revision that expires (`driver/chains/expiry.rs`), which is a command like any other.
//! - Another look after a clean read. A read that the state machine allows needs none, since the host carries out what comes
//!   after it later (`reads_in_order`); the daemon's reads beside it do, and have a test: `driver/chains/reads.rs`.
//! - Replay in the order of the file. There is no such file: each change is a batch of the engine, and what is there of a
//!   slot is deleted in it (`install_as_a_whole`, `transfers_replace`; in the daemon `driver/chains/store_tests.rs`).
//!
//! The model's worlds are described in `dht_tests::model::chain`. A change of the protocols changes what a seed does. If a
//! kept one finds nothing any more, look for another: `sim chains --first --without RULE`; or for a world:
//! `model chain --shortest --without RULE`, which also prints the way.

use std::{sync::Arc, time::Duration};

use dht_core::{
    Rules,
    overlay::{Peer, Routes},
    replication::{
        chain::{Body, Config, Input, Message, Output, State},
        recovery::REVISION_JUMP,
    },
    ring::{PeerId, Slot},
    view::{Ballot, Circumstances, Claim, Epoch, Generation, Member, Plan, Position, Promise, Proposer, View},
};
use dht_tests::model::chain::{self, Chain, LACKS_DATA, LOST, SAFE, TWO_ENTRIES, TWO_VIEWS as TWO_VIEWS_IN_MODEL};
use dht_tests::sim::{
    Disk,
    scenario::{Trials, tried},
};
use stateright::{Checker, Model};

const LINEARIZABLE: &str = "is not linearizable";
const TWO_VIEWS: &str = "two views of one epoch";
const NO_REST: &str = "did not come to rest";
const TWO_OUTCOMES: &str = "is answered";

const FOUND: &[(&str, u64, &str)] = &[
    ("decide_after_levelling", 12, NO_REST),
    ("frontier_in_view", 102, LINEARIZABLE),
    ("older_views_first", 141, NO_REST),
    ("electors_from_view", 1, TWO_VIEWS),
    ("electors_have_witnesses", 1, NO_REST),
    ("fsync_before_reply", 8, LINEARIZABLE),
    ("adopts_accepted", 14, TWO_VIEWS),
    ("accepts_at_view", 0, TWO_VIEWS),
    ("lease_from_sending", 550, LINEARIZABLE),
    ("pending_apart", 20, LINEARIZABLE),
    ("restart_seals", 1, LINEARIZABLE),
    ("answers_are_reads", 1, LINEARIZABLE),
    ("dedup_in_entry", 0, LINEARIZABLE),
    ("only_founding_is_first", 0, TWO_VIEWS),
    ("outcomes_kept_by_number", 0, LINEARIZABLE),
];

/// Rules switched off, the world of the model that shows why they are needed, and what is wrong there.
const FOUND_BY_MODEL: &[(&[&str], &str, &str)] = &[
    (&["member_in_quorum"], "alone", LOST),
    (&["commit_on_all"], "pair, slow disk", LOST),
    (&["ballot_names_process"], "proposer restarted", TWO_VIEWS_IN_MODEL),
    (&["view_records_kept"], "replaced", TWO_VIEWS_IN_MODEL),
    (&["accept_seals"], "half granted", LINEARIZABLE),
    (&["waits_out_grants"], "dropped", LINEARIZABLE),
    (&["grants_at_same_epoch"], "dropped, late", LINEARIZABLE),
    (&["reregister_after_restart"], "granter restarted", LINEARIZABLE),
    (&["waits_after_boot"], "half granted, restarted", LINEARIZABLE),
    (&["lease_sampled_at_use"], "dropped", LINEARIZABLE),
    (&["transfers_replace"], "copied again", LINEARIZABLE),
    (&["seal_keeps_waiting"], "dropped", LINEARIZABLE),
    (&["only_next_view_settles"], "left behind", LINEARIZABLE),
    (&["reads_in_order"], "alone", LINEARIZABLE),
    (&["fresh_frontier"], "old reads", LINEARIZABLE),
    (&["install_as_a_whole"], "cut short", TWO_ENTRIES),
    (&["ready_not_shortened"], "levelled again", LACKS_DATA),
    (&["ready_not_given_up"], "forgotten", LACKS_DATA),
    (&["records_failures"], "tried twice", TWO_OUTCOMES),
    (&["refuses_old_requests"], "tried again, late", TWO_OUTCOMES),
    (&["sealed_acks_nothing", "sealed_appends_nothing"], "pair", LOST),
    (&["unseals_listed_only", "install_before_use"], "member restarted", TWO_ENTRIES),
];

/// A few inputs of one peer: whether what a rule prevents has happened.
type ByHand = fn(Rules) -> bool;

/// Rules that a few inputs show to be needed.
const FOUND_BY_HAND: &[(&str, ByHand)] = &[
    ("generation_before_epoch", left_behind),
    ("claimed_copies_kept", scrapped_before_recovery),
    ("ready_witness_stays", departs_though_ready),
    ("next_electors_ready", left_to_the_departed),
    ("electors_not_fewer", deaths_add_up),
];

/// Rules of the overlay and of eventual mode: `overlay_mutants.rs` and `replication.rs` see to them.
const OTHERS: &[&str] = &[
    "verify_candidate",
    "adopt_whole_list",
    "rectify_checks_predecessor",
    "busy_defers",
    "join_takes_list",
    "basis_before_synced",
    "loss_ends_synced",
    "holders_confirm_deletions",
];

#[test]
fn each_rule_prevents_something() {
    let wrong: Vec<String> = FOUND.iter().filter_map(|(rule, seed, what)| not_needed(rule, *seed, what)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn not_needed(rule: &str, seed: u64, what: &str) -> Option<String> {
    let rules = Rules::without(rule).expect("a rule of that name");
    let mut config = Trials::config(seed);
    config.rules = rules;
    match tried(config, Trials::default()) {
        Err(failure) if failure.what.contains(what) => None,
        Err(failure) => Some(format!("{rule}: found something else: {failure}")),
        Ok(_) => Some(format!("{rule}: seed {seed} finds nothing any more")),
    }
}

#[test]
fn the_model_shows_what_each_of_the_other_rules_prevents() {
    let wrong: Vec<String> =
        FOUND_BY_MODEL.iter().filter_map(|(off, world, what)| not_shown(off, world, what)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn not_shown(off: &[&str], world: &str, what: &str) -> Option<String> {
    let rules = off.iter().fold(Rules::ALL, |rules, rule| rules.and_without(rule).expect("a rule of that name"));
    let (_, chain) = chain::WORLDS.iter().find(|(name, _)| *name == world).expect("a world of that name");
    let checker = Chain { rules, ..*chain }.checker().threads(2).spawn_bfs().join();
    match checker.discovery(SAFE) {
        None => Some(format!("{off:?}: {world} finds nothing any more")),
        Some(way) => {
            let found = way.last_state().violation().unwrap_or_default();
            (!found.contains(what)).then(|| format!("{off:?}: found something else: {found}"))
        }
    }
}

#[test]
fn a_few_inputs_show_what_the_rest_prevent() {
    for (rule, happens) in FOUND_BY_HAND {
        assert!(!happens(Rules::ALL), "{rule}: it happens all the same");
        assert!(happens(Rules::without(rule).expect("a rule of that name")), "{rule}: nothing happens any more");
    }
}

/// A slot was recovered from the view that everyone knew who was left. The lost ones had decided later ones, and told a
/// peer of which nobody has heard: what it knows, and the numbers say, is newer.
fn left_behind(rules: Rules) -> bool {
    let (slot, me, lost) = (Slot(0), member(1), member(2));
    let (mut state, generation) = claimed(slot, me, lost, rules);
    let before = View::founding(slot, me);
    let epoch = |generation, number| Epoch { generation, number };
    let frontier = Position { seq: REVISION_JUMP, ..before.frontier };
    let recovered = View { epoch: epoch(generation, 2), frontier, ..before.clone() };
    state.handle(Duration::ZERO, Input::Recover(recovered, false), &Disk::default());
    let later = View { epoch: epoch(Generation::default(), 5), chain: vec![lost, member(3)], ..before };
    hears(&mut state, later);
    state.view(slot).is_none_or(|view| view.epoch != epoch(generation, 2))
}

/// A peer has told a recovery how much it has of a slot. Then it hears of the view that those had decided who are given up,
/// in which it is no member.
fn scrapped_before_recovery(rules: Rules) -> bool {
    let (slot, me, lost) = (Slot(0), member(1), member(2));
    let (mut state, _) = claimed(slot, me, lost, rules);
    let before = View::founding(slot, me);
    let epoch = before.epoch.next();
    hears(&mut state, View { epoch, chain: vec![lost], electors: peers(&[2]), ..before });
    state.log(slot).is_none()
}

/// The only member of a slot, which has promised to follow a recovery that gives up `lost`; and that recovery.
fn claimed(slot: Slot, me: Member, lost: Member, rules: Rules) -> (State, Generation) {
    let mut state = alone(me, [slot], rules);
    let generation = Generation { counter: 1, by: Some(me.peer) };
    let claim = Claim { generation, banned: [lost.peer].into() };
    state.handle(Duration::ZERO, Input::Claim(claim), &Disk::default());
    (state, generation)
}

/// A peer that has just founded these slots.
fn alone(me: Member, slots: impl IntoIterator<Item = Slot>, rules: Rules) -> State {
    let description = Peer { id: me.peer, address: "a:1".into(), incarnation: 1, nodes: 1, leaving: false };
    let routes = Arc::new(Routes::outside(description));
    let mut state = State::new(Config::default(), rules, me, routes, State::founding(me, slots), 1);
    state.start(Duration::ZERO);
    state
}

/// A stranger says that a view was decided.
fn hears(state: &mut State, view: View) {
    let message = Message::Slot(view.slot, Box::new(Body::Install(view)));
    state.handle(Duration::ZERO, Input::Message(member(3).peer, message), &Disk::default());
}

/// A peer that holds nothing says that it is ready to be an elector of the next view: it may not depart before it knows
/// whether it is one.
fn departs_though_ready(rules: Rules) -> bool {
    let me = member(4);
    let view = View { electors: peers(&[1, 2, 3]), ..View::founding(Slot(0), member(1)) };
    let target = View { epoch: view.epoch.next(), electors: peers(&[1, 3, 4]), ..view.clone() };
    let mut state = alone(me, [], rules);
    let ballot = Ballot { round: 1, proposer: member(1) };
    let level = Body::Level { ballot, view: view.clone(), target, source: member(1).peer };
    let message = Input::Message(member(1).peer, Message::Slot(view.slot, Box::new(level)));
    let mut outputs = state.handle(Duration::ZERO, message, &Disk::default());
    let syncs = |output: &Output| if let Output::Sync(number) = output { Some(*number) } else { None };
    while let Some(number) = outputs.iter().find_map(syncs) {
        outputs = state.handle(Duration::ZERO, Input::Synced(number), &Disk::default());
        let ready = |output: &Output| matches!(output, Output::Send(_, Message::Slot(_, body)) if matches!(**body, Body::Ready(_)));
        if outputs.iter().any(ready) {
            return state.held() == 0;
        }
    }
    panic!("it does not say so");
}

/// Of the electors 1, 2 and 3 the last has died, and the second leaves. The first has not heard that 4 and 5, which are to
/// decide the next view, have departed: it must not be decided that they do.
fn left_to_the_departed(rules: Rules) -> bool {
    let view = View { electors: peers(&[1, 2, 3]), ..View::founding(Slot(0), member(1)) };
    let mut proposer = repairs(view, &[1, 2], &[1, 4, 5], rules);
    assert_eq!(proposer.target.as_ref().map(|next| &next.electors), Some(&peers(&[1, 4, 5])));
    proposer.is_ready(member(1).peer);
    proposer.is_level(rules)
}

/// Of five members 4 and 5 have died; the others went on without them. Now 4 and 5 are there again, and 2 and 3 die.
fn deaths_add_up(rules: Rules) -> bool {
    let all = [1, 2, 3, 4, 5];
    let view = View { chain: all.map(member).to_vec(), electors: peers(&all), ..View::founding(Slot(0), member(1)) };
    let next = repairs(view, &[1, 2, 3], &[1, 2, 3], rules).target.expect("it was chosen");
    !next.majority(peers(&[1, 4, 5]))
}

/// An attempt of the first peer to go on with who is left: these promise, and those are alive.
fn repairs(view: View, promising: &[u8], live: &[u8], rules: Rules) -> Proposer {
    let staying = view.peers().chain(peers(live)).collect();
    let circumstances = Circumstances { live: peers(live), staying: Arc::new(staying), min_in_sync: 1 };
    let ballot = Ballot { round: 1, proposer: member(1) };
    let mut proposer = Proposer::new(ballot, view.clone(), Plan::Repair(Vec::new()), circumstances);
    for peer in peers(promising) {
        let promise = Promise { incarnation: 1, in_sync: view.has(peer), position: view.frontier, accepted: None };
        proposer.promised(peer, promise);
    }
    assert!(proposer.has_quorum(rules) && proposer.choose(rules).is_some());
    proposer
}

fn member(name: u8) -> Member {
    Member { peer: PeerId::new([name; 16]), incarnation: 1 }
}

fn peers(names: &[u8]) -> Vec<PeerId> {
    names.iter().map(|name| member(*name).peer).collect()
}

#[test]
fn with_all_rules_the_same_seeds_find_nothing() {
    for (rule, seed, _) in FOUND {
        if let Err(failure) = tried(Trials::config(*seed), Trials::default()) {
            panic!("kept for {rule}: {failure}");
        }
    }
}

#[test]
fn no_rule_is_forgotten() {
    let listed = || {
        FOUND
            .iter()
            .map(|(rule, ..)| rule)
            .chain(FOUND_BY_MODEL.iter().flat_map(|it| it.0))
            .chain(FOUND_BY_HAND.iter().map(|(rule, _)| rule))
            .chain(OTHERS)
    };
    for rule in Rules::NAMES {
        assert_eq!(listed().filter(|name| *name == rule).count(), 1, "{rule} should be in one of the lists");
    }
    assert_eq!(listed().count(), Rules::NAMES.len());
}
