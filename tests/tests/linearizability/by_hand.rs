//! Small histories: each test is a claim.

use bytes::Bytes;
use dht_tests::linearizability::{Action, Expected, History, Operation, Outcome, Reply, Value, Verdict};

use super::build::{
    STEPS, at, bad, bytes, check, delete, get, get_nothing, get_total, good, increment, operation, put, put_if,
    put_if_failed, unknown, value,
};

#[test]
fn nothing_happened_is_good() {
    good([]);
}

#[test]
fn one_after_the_other_is_good() {
    good([get_nothing(1, 0..1), put(1, 2..3, "a"), get(2, 4..5, "a"), delete(1, 6..7), get_nothing(2, 8..9)]);
}

#[test]
fn everything_at_once_is_good() {
    let all = 0..10;
    good([
        put(1, all.clone(), "a"),
        get(2, all.clone(), "b"),
        put(3, all.clone(), "b"),
        get_nothing(4, all.clone()),
        put_if(5, all.clone(), value("b"), "c"),
        put_if_failed(6, all.clone(), value("a"), "d"),
        delete(7, all.clone()),
        get(8, all.clone(), "a"),
        get(9, all, "c"),
    ]);
}

#[test]
fn a_reader_may_see_a_write_before_its_acknowledgement() {
    good([put(1, 0..9, "a"), get(2, 3..4, "a"), get(2, 5..6, "a")]);
}

#[test]
fn a_read_is_not_stale() {
    bad(
        [put(1, 0..1, "a"), put(1, 2..3, "b"), get(2, 4..5, "a")],
        "key \"key\" is not linearizable: 1 of 3 answers fit into one order\n\
         \x20 client 1 [0ns, 1ms] put \"a\" -> done\n\
         now \"a\" is there\n\
         one of these would have to come next:\n\
         \x20 client 1 [2ms, 3ms] put \"b\" -> done: would leave no place for\n\
         \x20   client 2 [4ms, 5ms] get -> \"a\"",
    );
}

#[test]
fn an_acknowledged_write_is_not_lost() {
    bad([put(1, 0..1, "a"), get_nothing(2, 2..3)], "put \"a\" -> done: would leave no place for");
    bad([put(1, 0..1, "a"), delete(1, 2..3), put(2, 4..5, "b"), get_nothing(1, 6..7)], "get -> nothing");
}

#[test]
fn who_has_seen_the_newer_value_does_not_see_the_older() {
    let writes = || [put(1, 0..1, "a"), put(2, 2..20, "b")];
    good(writes().into_iter().chain([get(3, 3..4, "a"), get(4, 5..6, "b")]));
    bad(writes().into_iter().chain([get(3, 3..4, "b"), get(4, 5..6, "a")]), "get -> \"b\"");
}

#[test]
fn what_nobody_wrote_is_not_read() {
    bad([put(1, 0..1, "a"), get(2, 2..3, "b")], "get -> \"b\": wrong here");
    bad([get(2, 2..3, "b")], "nothing is there, revision 0\n");
    bad([increment(1, 0..1, 2, 2), get_total(1, 2..3, 3)], "get -> total 3: wrong here");
}

#[test]
fn a_write_does_not_take_effect_before_it_is_asked_for() {
    bad([get(2, 0..1, "a"), put(1, 2..3, "a")], "get -> \"a\": wrong here");
    bad([get(2, 0..1, "a"), unknown(put(1, 2..3, "a"))], "get -> \"a\": wrong here");
}

#[test]
fn equal_times_count_as_overlapping() {
    good([get(2, 0..1, "a"), put(1, 1..2, "a")]);
}

#[test]
fn after_a_delete_the_old_value_is_gone() {
    bad([put(1, 0..1, "a"), delete(1, 2..3), get(2, 4..5, "a")], "delete -> done: would leave no place for");
    good([put(1, 0..1, "a"), delete(1, 2..5), get(2, 4..5, "a")]);
}

#[test]
fn a_compare_and_set_does_not_fail_if_its_condition_holds() {
    bad([put(1, 0..1, "a"), put_if_failed(2, 2..3, value("a"), "b")], "condition failed: wrong here");
    bad([put_if_failed(2, 2..3, Expected::Absent, "b")], "condition failed: wrong here");
    bad([at(4, put(1, 0..1, "a")), put_if_failed(2, 2..3, Expected::Revision(4), "b")], "condition failed: wrong here");
    good([put(1, 0..3, "a"), put_if_failed(2, 2..3, Expected::Absent, "b")]);
}

#[test]
fn a_compare_and_set_is_not_done_if_its_condition_does_not_hold() {
    bad([put(1, 0..1, "a"), put_if(2, 2..3, Expected::Absent, "b")], "if nothing is there -> done");
    bad([at(4, put(1, 0..1, "a")), put_if(2, 2..3, Expected::Revision(3), "b")], "if revision 3 is there -> done");
    bad([put_if(2, 2..3, Expected::Revision(0), "b")], "if revision 0 is there -> done");
}

#[test]
fn of_two_that_expect_the_same_value_one_fails() {
    let both = |second: fn(u64, std::ops::Range<u64>, Expected, &str) -> Operation| {
        [put(1, 0..1, "a"), put_if(2, 2..9, value("a"), "b"), second(3, 3..8, value("a"), "c")]
    };
    good(both(put_if_failed));
    bad(both(put_if), "if \"a\" is there -> done");
    bad([put_if(2, 2..9, Expected::Absent, "b"), put_if(3, 3..8, Expected::Absent, "c")], "if nothing is there");
}

#[test]
fn an_increment_is_not_applied_twice() {
    bad([increment(1, 0..1, 1, 1), increment(1, 2..3, 1, 3)], "add 1 -> total 3: wrong here");
    bad([increment(1, 0..1, 1, 1), get_total(2, 2..3, 2)], "get -> total 2: wrong here");
    // Not even if nobody knows of it.
    bad([unknown(increment(1, 0..1, 2, 2)), get_total(2, 2..3, 4)], "get -> total 4: wrong here");
}

#[test]
fn an_increment_is_not_lost() {
    bad([increment(1, 0..1, 1, 1), increment(2, 2..3, 1, 1)], "add 1 -> total 1");
    bad([increment(1, 0..9, 1, 1), increment(2, 2..8, 1, 1)], "add 1 -> total 1");
    bad([increment(1, 0..1, 1, 1), increment(2, 2..3, 1, 2), get_total(1, 4..5, 1)], "get -> total 1");
}

#[test]
fn increments_of_unknown_outcome_count_once_or_not_at_all() {
    let unheard = |by| unknown(increment(9, 0..1, by, 0));
    for total in [1, 3, 4, 5, 6, 8] {
        good([unheard(2), unheard(2), unheard(3), increment(1, 2..3, 1, 1), get_total(1, 4..5, total)]);
    }
    for total in [2, 7, 9] {
        bad([unheard(2), unheard(2), unheard(3), increment(1, 2..3, 1, 1), get_total(1, 4..5, total)], "get -> total");
    }
}

#[test]
fn a_write_of_unknown_outcome_may_take_effect_much_later() {
    good([unknown(put(1, 0..1, "a")), put(2, 2..3, "b"), get(2, 4..5, "b"), get(3, 90..91, "a")]);
    good([unknown(delete(1, 0..1)), put(2, 2..3, "b"), get(2, 4..5, "b"), get_nothing(3, 90..91)]);
    good([unknown(put(1, 0..1, "a")), put(2, 2..3, "b"), put_if(2, 4..5, value("a"), "c")]);
}

#[test]
fn a_write_of_unknown_outcome_need_not_take_effect() {
    good([put(1, 0..1, "a"), unknown(put(1, 2..3, "b")), get(2, 4..5, "a"), get(2, 90..91, "a")]);
}

#[test]
fn a_write_that_took_effect_does_not_vanish() {
    bad(
        [put(1, 0..1, "a"), unknown(put(2, 2..3, "b")), get(3, 4..5, "b"), get(3, 6..7, "a")],
        "client 2 [2ms, ?] put \"b\" -> unknown",
    );
    bad([unknown(put(2, 2..3, "b")), get(3, 4..5, "b"), get_nothing(3, 6..7)], "get -> nothing");
}

#[test]
fn a_failed_condition_may_be_the_only_sign_of_a_write() {
    good([put(1, 0..1, "a"), unknown(put(2, 2..3, "b")), put_if_failed(1, 4..5, value("a"), "c")]);
    bad([put(1, 0..1, "a"), put_if_failed(1, 4..5, value("a"), "c"), get(1, 6..7, "a")], "condition failed: wrong");
    // One write is a sign only once.
    let again = [put(1, 6..7, "a"), put_if_failed(1, 8..9, value("a"), "c")];
    let first = [put(1, 0..1, "a"), unknown(put(2, 2..3, "b")), put_if_failed(1, 4..5, value("a"), "c")];
    bad(first.into_iter().chain(again), "condition failed: wrong here");
}

#[test]
fn what_was_not_executed_is_not_there() {
    let never = Operation { outcome: Outcome::NotExecuted, ..put(1, 0..1, "a") };
    good([never.clone(), get_nothing(2, 2..3)]);
    bad([never, get(2, 2..3, "a")], "get -> \"a\": wrong here");
}

#[test]
fn revisions_grow_with_the_order_of_writes() {
    good([at(3, put(1, 0..1, "a")), at(5, put(1, 2..3, "b")), at(5, get(2, 4..5, "b"))]);
    bad([at(5, put(1, 0..1, "a")), at(3, put(1, 2..3, "b"))], "put \"b\" -> done, revision 3");
    bad([at(5, put(1, 0..9, "a")), at(5, put(2, 0..9, "b"))], "revision 5: wrong here");
    // The values alone would allow it: the readers see both orders.
    let writes = || [at(3, put(1, 0..9, "a")), at(5, put(2, 0..9, "b"))];
    good(writes().into_iter().chain([get(3, 10..11, "b")]));
    bad(writes().into_iter().chain([get(3, 10..11, "a")]), "would leave no place for");
}

#[test]
fn a_read_tells_the_revision_of_the_write_that_it_sees() {
    let write = || at(3, put(1, 0..1, "a"));
    bad([write(), at(4, get(2, 2..3, "a"))], "get -> \"a\", revision 4: wrong here");
    bad([write(), at(2, get(2, 2..3, "a"))], "get -> \"a\", revision 2");
    bad([write(), at(4, put(1, 2..3, "a")), at(3, get(2, 4..5, "a"))], "get -> \"a\", revision 3");
    bad([write(), at(4, put_if_failed(2, 2..3, Expected::Absent, "b"))], "condition failed, revision 4: wrong here");
    bad([at(1, get_nothing(1, 0..1))], "get -> nothing, revision 1: wrong here");
    good([at(0, get_nothing(1, 0..1)), write(), at(4, delete(1, 2..3)), at(4, get_nothing(1, 4..5))]);
}

#[test]
fn a_revision_that_was_not_told_is_one_that_fits() {
    let around = |read: u64| {
        let unheard = unknown(put(9, 0..1, "x"));
        let read = [at(read, get(1, 4..5, "x")), at(6, get(1, 6..7, "b"))];
        [at(3, put(1, 2..3, "a")), unheard].into_iter().chain(read).chain([at(6, put(2, 0..9, "b"))])
    };
    good(around(4));
    good(around(5));
    bad(around(3), "revision 3");
    bad(around(6), "revision 6");
    let twice = |second| [unknown(put(9, 0..1, "x")), at(3, get(1, 2..3, "x")), at(second, get(2, 4..5, "x"))];
    good(twice(3));
    bad(twice(4), "revision 4: wrong here");
    // There is no number between 3 and 4.
    let between = |last| [at(3, put(1, 0..1, "a")), put(1, 2..3, "b"), at(last, put(1, 4..5, "c"))];
    good(between(5));
    bad(between(4), "revision 4: wrong here");
}

#[test]
fn to_delete_nothing_is_a_write_or_none() {
    let deletes = |second| [at(3, put(1, 0..1, "a")), at(5, delete(1, 2..3)), at(second, delete(1, 4..5))];
    good(deletes(5));
    good(deletes(7));
    bad(deletes(4), "revision 4");
}

#[test]
fn an_answer_of_the_wrong_kind_is_never_right() {
    bad([operation(1, 0..1, Action::Get, Reply::Done)], "get -> done: wrong here");
    bad([operation(1, 0..1, Action::Increment(1), Reply::Done)], "add 1 -> done: wrong here");
    bad([put(1, 0..1, "a"), increment(1, 2..3, 1, 1)], "add 1 -> total 1: wrong here");
    let read = Reply::Read(Some(Value::Counter(1)));
    bad([put(1, 0..1, "a"), operation(1, 2..3, Action::Get, read)], "get -> total 1: wrong here");
}

#[test]
fn each_key_stands_alone() {
    let other = |operation| Operation { key: Bytes::from("other"), ..operation };
    good([put(1, 0..1, "a"), other(get_nothing(1, 2..3)), other(put(1, 4..5, "b")), get(1, 6..7, "a")]);
    bad([put(1, 0..1, "a"), other(get(1, 2..3, "a"))], "key \"other\" is not linearizable: 0 of 1");
}

#[test]
fn when_the_steps_are_used_up_nobody_knows() {
    let operations = [put(1, 0..9, "a"), put(2, 0..9, "b"), get(3, 10..11, "a"), get(3, 12..13, "b")];
    let history: History = operations.into_iter().collect();
    let verdict = history.check(1);
    assert_eq!(verdict, Verdict::Unknown { keys: vec![bytes("key")] });
    assert_eq!(verdict.to_string(), "unknown: the steps were used up for 1 of the keys: \"key\"");
    assert!(matches!(history.check(STEPS), Verdict::Violation(_)));
}

#[test]
fn a_violation_elsewhere_is_told_though_the_steps_of_one_key_are_used_up() {
    let other = Operation { key: Bytes::from("other"), ..get(1, 0..1, "a") };
    let history: History = [put(1, 0..9, "a"), put(2, 0..9, "b"), get(3, 10..11, "a"), other].into_iter().collect();
    assert!(history.check(1).to_string().contains("key \"other\" is not linearizable"));
}

#[test]
fn long_values_and_long_histories_are_cut_when_printed() {
    let long = "x".repeat(100);
    let writes = (0..20).map(|number| put(1, number * 2..number * 2 + 1, &long));
    let printed = check(writes.chain([get(2, 90..91, "a")])).to_string();
    assert!(printed.contains("(8 before)\n"), "{printed}");
    assert!(printed.contains("x...\" (100 bytes) -> done\n"), "{printed}");
    assert!(printed.lines().count() < 20, "{printed}");
}

#[test]
#[should_panic(expected = "answered before it was invoked")]
fn nothing_is_answered_before_it_is_invoked() {
    History::default().push(Operation { invoked: std::time::Duration::from_secs(1), ..put(1, 0..1, "a") });
}
