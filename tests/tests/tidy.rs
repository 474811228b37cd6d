//! The tree stays in shape: which way crates and modules use each other, what the pure core must not touch, how long
//! files and functions may be, and what does not belong in any file. The lists that a change may have to touch come
//! first.

#[path = "tidy/arrows.rs"]
mod arrows;
#[path = "tidy/purity.rs"]
mod purity;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/text.rs"]
mod text;
#[path = "tidy/tree.rs"]
mod tree;

use std::collections::BTreeMap;

use cargo_metadata::{Dependency, Metadata, MetadataCommand};

use crate::{
    arrows::{Arrows, Exceptions},
    text::{Tolerated, ratchet},
    tree::{File, Tree},
};

/// Which packages of the workspace a package may depend on.
const CRATES: &Arrows = &[
    ("dht-core", &[]),
    ("dht-tests", &["dht-core", "dhtctl", "dhtd", "dhtd-proto"]),
    ("dhtctl", &["dht-core", "dhtd-proto"]),
    ("dhtd", &["dht-core", "dhtctl", "dhtd-proto"]),
    ("dhtd-proto", &[]),
];

/// Which other top modules a top module of the daemon may use. `lib.rs` declares them all.
const MODULES: &Arrows = &[
    ("main", &["config", "server", "dev", "systemd"]),
    ("dev", &["config", "server"]),
    ("server", &["config", "http", "rpc", "coordinator", "driver", "transport", "wire", "storage"]),
    ("config", &[]),
    ("systemd", &["driver"]),
    ("http", &["coordinator"]),
    ("rpc", &["coordinator", "wire"]),
    ("coordinator", &["driver", "transport", "storage", "wire"]),
    ("driver", &["transport", "storage", "wire", "clock"]),
    ("transport", &["storage", "wire", "clock"]),
    ("wire", &[]),
    ("storage", &[]),
    ("clock", &[]),
];

/// Uses that are against MODULES all the same: who, whom, and why. An arrow that runs back does not belong here.
const AGAINST_MODULES: &Exceptions = &[
    ("config", "storage", "FsyncPolicy is a setting, and storage says what its values mean"),
    ("rpc", "driver", "peers' messages and operators' commands go to the control loop; there is nothing to coordinate"),
    ("rpc", "storage", "status.rs maps every domain error, the engine's too"),
];

/// Top modules of the daemon that may name the generated code: `wire` and those that may use it.
const KNOW_PROTOBUF: &[&str] = &["server", "rpc", "coordinator", "driver", "transport", "wire"];

/// What `dht-core` may depend on, for tests too. None of them does I/O or knows the time.
const CORE_DEPENDENCIES: &[&str] = &["bytes", "rand", "rand_chacha", "sha1", "thiserror"];

/// Lines.
const LONGEST_FILE: usize = 400;

/// Files that are longer: path, lines, reason.
const LONG_FILES: &Tolerated = &[];

/// Lines, from `fn` to the closing brace.
const LONGEST_FUNCTION: usize = 70;

/// Functions that are longer: path and name, lines, reason.
const LONG_FUNCTIONS: &Tolerated = &[];

/// Test code that lets time pass: path, number of calls, reason.
const SLEEPS: &Tolerated = &[
    ("tests/src/bin/bench/main.rs", 1, "what a ring uses in a second at rest is what is measured"),
    ("tests/src/torture/mod.rs", 1, "how long the load goes on after the last fault"),
    ("tests/src/torture/cut.rs", 2, "how long links are cut, and what is seen before"),
    ("tests/src/torture/faults.rs", 4, "how long a fault lasts, and the time between two"),
    ("tests/src/torture/outage.rs", 4, "how long a peer is away, and what is seen before and after"),
    ("tests/tests/chain_processes.rs", 2, "a poll with a deadline; and peers are stopped for longer than a lease"),
];

/// What may lie at the top of the repository, besides names with a dot in front.
const TOP: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "proto",
    "dhtd",
    "dhtctl",
    "deploy",
    "tests",
    "README.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "rustfmt.toml",
];

fn metadata() -> Metadata {
    MetadataCommand::new().current_dir(tree::root()).no_deps().exec().expect("cargo metadata")
}

fn expect_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n\n{}\n", problems.join("\n"));
}

#[test]
fn crates_depend_one_way() {
    expect_none(&arrows::crates_against(CRATES, &metadata()));
}

#[test]
fn modules_of_the_daemon_use_each_other_one_way() {
    expect_none(&arrows::modules_against(MODULES, AGAINST_MODULES, &Tree::read(), "dhtd/src/"));
}

#[test]
fn only_the_local_ring_uses_the_client() {
    expect_none(&arrows::crate_used_outside(&Tree::read(), "dhtd/src/", &["dhtctl"], &["dev"]));
}

#[test]
fn only_what_is_near_the_wire_knows_protobuf() {
    expect_none(&arrows::crate_used_outside(&Tree::read(), "dhtd/src/", &["dhtd_proto", "v1"], KNOW_PROTOBUF));
}

#[test]
fn the_client_uses_nothing_of_the_core_but_the_ring() {
    expect_none(&arrows::more_than_module(&Tree::read(), "dhtctl/", "dht_core", "ring"));
}

#[test]
fn the_core_has_no_clock_no_io_and_no_global_randomness() {
    expect_none(&purity::impurities(&Tree::read(), "dhtd/core/"));
}

#[test]
fn the_core_depends_only_on_what_is_pure() {
    let metadata = metadata();
    let core = metadata.packages.iter().find(|package| package.name == "dht-core").expect("package dht-core");
    let impure = |dependency: &&Dependency| {
        let drawn = dependency.uses_default_features && dependency.name.starts_with("rand");
        drawn || !CORE_DEPENDENCIES.contains(&dependency.name.as_str())
    };
    let problem = |dependency: &Dependency| {
        format!(
            "dht-core depends on {} (default features: {}): do without; if it has no clock, no I/O and no global \
             randomness, add it to CORE_DEPENDENCIES",
            dependency.name, dependency.uses_default_features
        )
    };
    expect_none(&core.dependencies.iter().filter(impure).map(problem).collect::<Vec<_>>());
}

#[test]
fn the_daemon_never_switches_a_rule_off() {
    expect_none(&purity::weakened_rules(&Tree::read(), "dhtd/src/"));
}

#[test]
fn no_file_is_longer_than_a_reader_can_follow() {
    let advice = "split it by what its parts are about";
    expect_none(&ratchet(&text::file_lengths(&Tree::read()), LONGEST_FILE, LONG_FILES, advice));
}

#[test]
fn no_function_is_longer_than_a_screenful_or_two() {
    let advice = "take it apart into functions with names";
    expect_none(&ratchet(&text::function_lengths(&Tree::read()), LONGEST_FUNCTION, LONG_FUNCTIONS, advice));
}

#[test]
fn tests_wait_for_events_and_not_for_time() {
    let advice = "wait for what should happen, with a deadline; one helper that polls can be listed in SLEEPS";
    expect_none(&ratchet(&text::sleeps(&Tree::read()), 0, SLEEPS, advice));
}

#[test]
fn every_file_ends_with_a_newline() {
    expect_none(&text::unfinished_lines(&Tree::read()));
}

#[test]
fn rust_is_indented_with_spaces() {
    expect_none(&text::tabs(&Tree::read()));
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    expect_none(&text::private_paths(&Tree::read()));
}

#[test]
fn a_test_that_is_switched_off_says_why() {
    expect_none(&text::unexplained_ignores(&Tree::read()));
}

#[test]
fn nothing_stands_in_for_code_that_is_missing() {
    expect_none(&text::missing_code(&Tree::read()));
}

#[test]
fn the_top_of_the_repository_is_fixed() {
    expect_none(&text::strangers(&tree::list(&["--cached"]), TOP));
}

/// One file at a time: every check looks at it, and only what is expected may be said.
#[test]
fn every_check_finds_what_it_is_for() {
    let check = |path: &str, text: &str| {
        let tree =
            Tree { files: vec![File::new("dhtd/core/src/rules.rs", "pub a_rule: bool,\n"), File::new(path, text)] };
        let mut problems = arrows::modules_against(MODULES, &[], &tree, "dhtd/src/");
        problems.extend(arrows::crate_used_outside(&tree, "dhtd/src/", &["dhtctl"], &["dev"]));
        problems.extend(arrows::crate_used_outside(&tree, "dhtd/src/", &["dhtd_proto", "v1"], KNOW_PROTOBUF));
        problems.extend(arrows::more_than_module(&tree, "dhtctl/", "dht_core", "ring"));
        problems.extend(purity::impurities(&tree, "dhtd/core/"));
        problems.extend(purity::weakened_rules(&tree, "dhtd/src/"));
        problems.extend(ratchet(&text::file_lengths(&tree), LONGEST_FILE, &[], "split it"));
        problems.extend(ratchet(&text::function_lengths(&tree), LONGEST_FUNCTION, &[], "take it apart"));
        problems.extend(ratchet(&text::sleeps(&tree), 0, &[], "wait for events"));
        let texts =
            [text::unfinished_lines, text::tabs, text::private_paths, text::unexplained_ignores, text::missing_code];
        problems.extend(texts.iter().flat_map(|check| check(&tree)));
        problems.extend(text::strangers(&[path.to_string()], TOP));
        problems
    };
    for (path, text, expected) in VIOLATIONS {
        let found = check(path, text);
        let right = !found.is_empty() && found.iter().all(|problem| problem.contains(expected));
        assert!(right, "{path}: {text:?}: {found:?}");
    }
    let long_function = format!("fn long() {{\n{}}}\n", "x();\n".repeat(LONGEST_FUNCTION));
    assert!(check("dhtd/src/rpc/a.rs", &long_function)[0].contains("a.rs long: 72, more than 70: take it apart"));
    let long_file = "x();\n".repeat(LONGEST_FILE + 1);
    assert!(check("dhtd/src/rpc/a.rs", &long_file)[0].contains("a.rs: 401, more than 400: split it"));
    for (path, text) in INNOCENT {
        expect_none(&check(path, text));
    }
}

const VIOLATIONS: [(&str, &str, &str); 37] = [
    ("dhtd/src/storage/a.rs", "use crate::rpc::X;\n", "a.rs:1: storage must not use rpc"),
    ("dhtd/src/storage/a.rs", "\nfn f() { crate::server::g() }\n", "a.rs:2: storage must not use server"),
    ("dhtd/src/storage/mod.rs", "use super::{driver::A};\n", "must not use driver"),
    ("dhtd/src/rpc/a/b.rs", "use super::super::super::driver::X;\n", "rpc must not use driver"),
    ("dhtd/src/rpc/mod.rs", "mod tests { use super::super::{http::{X, Y}}; }\n", "must not use http"),
    ("dhtd/src/rpc.rs", "use crate::{coordinator::A, wire, http};\n", "must not use http"),
    ("dhtd/src/main.rs", "use dhtd::rpc::X;\n", "main must not use rpc"),
    ("dhtd/src/main.rs", "mod rpc; fn main() { rpc::run() }\n", "main must not use rpc"),
    ("dhtd/src/rpc.rs", "use crate::Thing;\n", "`crate::Thing` is no module"),
    ("dhtd/src/misc.rs", "//! Odds and ends.\n", "module misc has no place yet"),
    ("dhtd/src/server.rs", "use dhtctl::Client;\n", "uses dhtctl, which only"),
    ("dhtd/src/storage.rs", "use dhtd_proto::{v1::Peer, MAX_KEY_BYTES};\n", "uses dhtd_proto::v1, which only"),
    ("dhtctl/src/a.rs", "use dht_core::{overlay::Config, ring::Id};\n", "uses more of dht_core"),
    ("dhtctl/src/a.rs", "use dht_core::Rules;\n", "uses more of dht_core"),
    ("dhtd/core/src/a.rs", "use std::time::{Duration, Instant};\n", "std::time::Instant in a pure crate: take"),
    ("dhtd/core/src/a.rs", "fn f() -> tokio::X { g() }\n", "tokio::X in a pure crate"),
    ("dhtd/core/src/a.rs", "use std::collections::HashSet;\n", "use a BTreeSet"),
    ("dhtd/core/src/a.rs", "type A = std::collections::HashMap<u8, u8>;\n", "use a BTreeMap"),
    ("dhtd/core/src/a.rs", "use std::{fmt, net::IpAddr};\n", "std::net::IpAddr in a pure crate"),
    ("dhtd/core/src/a.rs", "fn f() { std::fs::read(g()) }\n", "std::fs::read in a pure crate"),
    ("dhtd/core/src/a.rs", "fn f() { std::thread::yield_now() }\n", "std::thread::yield_now in a pure crate"),
    ("dhtd/core/src/a.rs", "fn f() { g(rand::rng()) }\n", "rand::rng in a pure crate"),
    ("dhtd/core/src/a.rs", "use std::time::*;\n", "name Duration"),
    ("dhtd/src/driver.rs", "fn f() { g(Rules { ..Rules::ALL }) }\n", "driver.rs:1: the daemon runs with"),
    ("dhtd/src/driver.rs", "fn f() { g(dht_core::Rules::NONE) }\n", "the daemon runs with"),
    ("dhtd/src/driver.rs", "use dht_core::{Rules as R};\n", "the daemon runs with"),
    ("dhtd/src/driver.rs", "fn f() { rules.a_rule = false }\n", "the daemon runs with"),
    ("tests/tests/a.rs", "fn f() { tokio::time::sleep(g()) }\n", "a.rs: 1, more than 0: wait for events"),
    ("dhtd/src/driver.rs", "#[cfg(test)]\nmod tests { fn f() { sleep(g()) } }\n", "wait for events"),
    ("README.md", "No end", "ends without a newline"),
    ("dhtd/src/driver.rs", "\n\tfn f() {}\n", "driver.rs:2: a tab"),
    (".ci/a", concat!("cd /ho", "me/somebody\n"), "a path of one machine"),
    ("README.md", concat!("\"/ro", "ot/x\"\n"), "a path of one machine"),
    ("tests/tests/a.rs", "#[test]\n#[ignore]\nfn f() {}\n", "a.rs:2: write #[ignore = "),
    ("tests/tests/a.rs", "#[cfg_attr(x, ignore)]\nfn f() {}\n", "write #[ignore = "),
    ("dhtd/src/driver.rs", "fn f() { todo!() }\n", "todo! in place of code"),
    ("notes/a.md", "", "notes: does not belong at the top"),
];

const INNOCENT: [(&str, &str); 11] = [
    ("dhtd/src/lib.rs", "pub mod rpc;\npub use server::Server;\n"),
    ("dhtd/src/main.rs", "use dhtd::{config::Config, server};\nfn main() { server::run(Config::new()) }\n"),
    ("dhtd/src/dev.rs", "use dhtctl::Client;\n"),
    ("dhtd/src/rpc/a/b.rs", "use super::super::X;\npub(in crate::rpc) fn f() {}\npub(crate) fn g() {}\n"),
    ("dhtd/src/rpc/a.rs", "// crate::http::X\nconst A: &str = \"crate::http::X\";\n"),
    ("dhtd/src/driver.rs", "use dht_core::Rules;\nfn f(r: Rules) -> Rules { g(r.a_rule == b, Rules::ALL) }\n"),
    (
        "dhtd/core/src/a.rs",
        "//! No HashMap.\nuse std::{collections::BTreeMap, time::Duration};\nfn f() { rng.random() }\n",
    ),
    ("dhtd/src/driver.rs", "fn f() { std::thread::sleep(g()) }\n"),
    ("tests/src/a.rs", "fn sleep(x: X) { world.sleep(x) }\n#[ignore = \"slow\"]\nfn f() {}\n"),
    ("README.md", concat!("/etc/dhtd, ~/wo", "rk/, a/wo", "rk/b\n")),
    (".ci/b", ""),
];

#[test]
fn a_module_keeps_its_place_when_its_file_lies_elsewhere() {
    let parent = File::new("dhtd/src/storage/a.rs", "#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;\n");
    let climb = |ups: usize| File::new("dhtd/src/storage/a_tests.rs", format!("use {}rpc;\n", "super::".repeat(ups)));
    let problems = |file: File| {
        let tree = Tree { files: vec![File::new(&parent.path, parent.text.clone()), file] };
        arrows::modules_against(MODULES, &[], &tree, "dhtd/src/")
    };
    assert_eq!(problems(climb(2)), [""; 0]);
    assert!(problems(climb(3))[0].contains("storage must not use rpc"));
}

#[test]
fn an_exception_that_nobody_needs_has_to_go() {
    let tree = Tree { files: vec![File::new("dhtd/src/rpc.rs", "use crate::driver::X;\n")] };
    let problems = |exceptions| arrows::modules_against(MODULES, exceptions, &tree, "dhtd/src/");
    assert_eq!(problems(&[("rpc", "driver", "reason")]), [""; 0]);
    let found = problems(&[("rpc", "driver", "reason"), ("rpc", "http", "reason")]);
    assert_eq!(found, ["rpc does not use http any more: take it from the list"]);
}

#[test]
fn a_crate_that_depends_the_wrong_way_is_named() {
    let metadata = metadata();
    let strict: &Arrows = &[("dht-core", &[]), ("dht-tests", &["dhtctl"]), ("dhtctl", &["dhtd-proto", "dht-core"])];
    let problems = arrows::crates_against(strict, &metadata).join("\n");
    assert!(problems.contains("tests/Cargo.toml: dht-tests must not depend on dht-core"), "{problems}");
    assert!(problems.contains("package dhtd has no place yet"), "{problems}");
    assert!(!problems.contains("dhtctl must not"), "{problems}");
}

#[test]
fn what_is_tolerated_may_only_shrink() {
    let tolerated: &Tolerated = &[("a", 12, "reason"), ("b", 12, "reason"), ("c", 12, "reason"), ("d", 12, "")];
    let found = [("a", 12), ("b", 11), ("c", 13), ("e", 14)].map(|(place, size)| (place.to_string(), size));
    let problems = ratchet(&BTreeMap::from(found), 10, tolerated, "advice");
    assert_eq!(
        problems,
        [
            "b: has shrunk from 12 to 11: write 11 into the list",
            "c: grew from 12 to 13: advice",
            "e: 14, more than 10: advice",
            "d: need not be tolerated any more: take it from the list",
            "d: is tolerated without a reason: write one into the list",
        ]
    );
}
