//! Environment variables are tried with real processes, in `tests/configuration.rs`.

use std::{collections::BTreeSet, fs};

use clap::Args as _;
use tempfile::TempDir;

use super::*;
use crate::config::RunArgs;

struct Given(TempDir);

impl Given {
    fn file(text: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("dhtd.toml"), text).expect("it can be written to");
        Self(dir)
    }

    fn path(&self) -> String {
        self.0.path().join("dhtd.toml").display().to_string()
    }

    /// What comes of it, with the file's folder left out of messages.
    fn run(&self, words: &[&str]) -> Result<Settings, String> {
        let path = self.path();
        let words = ["dhtd", "run", "--config", &path].into_iter().chain(words.iter().copied()).map(OsString::from);
        let invocation = read(words).map_err(|error| error.to_string().replace(&path, "dhtd.toml"))?;
        Ok(invocation.settings)
    }
}

fn shown(settings: &Settings, key: &str) -> String {
    let text = settings.to_string();
    let line = text.lines().find(|line| line.starts_with(&format!("{key} = ")));
    line.unwrap_or_else(|| panic!("{key} is not in:\n{text}")).to_owned()
}

#[test]
fn every_flag_of_run_is_a_setting_unless_it_is_about_this_one_start() {
    let command = RunArgs::augment_args(clap::Command::new("run"));
    let flags: BTreeSet<_> = command.get_arguments().map(|arg| key(arg).to_owned()).collect();
    let settings: BTreeSet<_> = settings().map(|arg| key(&arg).to_owned()).collect();
    let others: Vec<_> = flags.difference(&settings).collect();
    assert_eq!(others, ["check-config", "config", "print-config", "stop-with-stdin"]);
    let global: Vec<_> = settings.difference(&flags).collect();
    assert_eq!(global, ["log", "log-format"]);
}

#[test]
fn every_setting_is_named_alike_in_all_layers() {
    for arg in settings() {
        let expected = format!("DHTD_{}", key(&arg).to_uppercase().replace('-', "_"));
        assert_eq!(variable(&arg), Some(expected));
        assert_eq!(arg.get_id().as_str(), key(&arg).replace('-', "_"));
    }
}

#[test]
fn flags_go_over_the_file_and_the_file_over_defaults() {
    let given = Given::file("data-dir = 'd'\nnodes = 4\nfsync = 'interval=50ms'\nlog = 'warn'\n");
    let settings = given.run(&["--nodes", "8"]).expect("it is fine");
    assert_eq!(shown(&settings, "nodes"), "nodes = 8  # flag");
    assert_eq!(shown(&settings, "fsync"), format!("fsync = \"interval=50ms\"  # {}:3", given.path()));
    assert_eq!(shown(&settings, "log"), format!("log = \"warn\"  # {}:4", given.path()));
    assert_eq!(shown(&settings, "routing"), "routing = \"full\"  # default");
    assert_eq!(shown(&settings, "bootstrap"), "bootstrap = false  # default");
    assert!(settings.to_string().contains("\n# advertise is not set\n"));
}

#[test]
fn what_the_file_says_is_what_the_peer_runs_with() {
    let given = Given::file("data-dir = 'd'\njoin = ['a:1', 'b:2']\ninsecure = true\nheartbeat-every = '50ms'\n");
    let words = ["dhtd", "run", "--config", &given.path()].map(OsString::from);
    let crate::config::Command::Run(run) = read(words).expect("it is fine").args.command else { panic!("it says run") };
    assert_eq!(run.join, ["a:1", "b:2"]);
    assert!(run.insecure && !run.idle);
    assert_eq!((run.data_dir, run.heartbeat_every.as_millis()), ("d".into(), 50));
}

#[test]
fn what_is_printed_is_a_file_that_says_the_same() {
    let given = Given::file("data-dir = 'a \"b\" # c'\njoin = 'a:1,b:2'\nreplicas = 5\ninsecure = true\n");
    let printed = given.run(&["--log-format", "json"]).expect("it is fine").to_string();
    let again = Given::file(&printed).run(&[]).expect("it is a configuration file").to_string();
    let values = |text: &str| {
        text.lines()
            .map(|line| line.rsplit_once("  # ").map_or(line, |(value, _)| value).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(values(&printed), values(&again));
    assert!(printed.contains("join = [\"a:1\", \"b:2\"]  # "), "{printed}");
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_one() {
    for (key, nearest) in [("data_dir", "data-dir"), ("node", "nodes"), ("suspect-afer", "suspect-after")] {
        let error = Given::file(&format!("\n{key} = 'd'\n")).run(&[]).expect_err(key);
        assert_eq!(error, format!("dhtd.toml:2: {key:?} is no setting\nhint: did you mean {nearest:?}?"));
    }
    let error = Given::file("xyzzyx = 1\n").run(&[]).expect_err("it is like nothing");
    assert!(error.starts_with("dhtd.toml:1: \"xyzzyx\" is no setting\nhint: there are listen, advertise, "), "{error}");
    // They are flags, but no settings.
    for key in ["config", "check-config", "stop-with-stdin", "help"] {
        assert!(Given::file(&format!("{key} = true\n")).run(&[]).expect_err(key).contains("is no setting"), "{key}");
    }
}

#[test]
fn a_bad_value_is_refused_with_its_place_and_what_is_allowed() {
    let refused = |line: &str| Given::file(&format!("data-dir = 'd'\n{line}\n")).run(&[]).expect_err(line);
    for (line, expected) in [
        ("nodes = 'many'", "nodes can't be \"many\": invalid digit found in string\nhint: nodes: Places of this peer "),
        ("mode = 'chains'", "mode can't be \"chains\": it is one of chain, eventual\nhint: mode: How the keys "),
        ("insecure = 'perhaps'", "insecure can't be \"perhaps\": it is one of true, false\nhint: insecure: Allow "),
        ("listen = 'here'", "listen can't be \"here\": invalid socket address syntax\nhint: listen: Where to listen"),
        ("suspect-after = '4'", "suspect-after can't be \"4\": expected a time such as 100ms or 2s\nhint: "),
        ("log = 'dhtd=loud'", "log can't be \"dhtd=loud\": "),
        ("nodes = [1, 2]", "nodes can't be an array: it has one value\nhint: "),
        ("nodes = []", "nodes can't be an array: "),
    ] {
        let error = refused(line);
        assert!(error.starts_with(&format!("dhtd.toml:2: {expected}")), "{error}");
    }
    assert!(refused("nodes = 'many'").ends_with("[default: 16]"));
}

#[test]
fn what_excludes_each_other_is_found_across_layers() {
    let given = Given::file("data-dir = 'd'\nbootstrap = true\n");
    let error = given.run(&["--join", "a:1"]).expect_err("they exclude each other");
    assert_eq!(error, "bootstrap (dhtd.toml:2) and join (flag) exclude each other");
    assert!(Given::file("data-dir = 'd'\nbootstrap = false\njoin = ['a:1']\n").run(&[]).is_ok());
    let both = Given::file("data-dir = 'd'\nidle = true\nbootstrap = true\n").run(&[]).expect_err("not both");
    assert_eq!(both, "bootstrap (dhtd.toml:3) and idle (dhtd.toml:2) exclude each other");
}

#[test]
fn what_must_be_set_may_be_set_anywhere() {
    let without = Given::file("nodes = 4\n");
    let error = without.run(&[]).expect_err("it needs a data directory");
    assert_eq!(error, "data-dir must be set\nhint: in dhtd.toml, or as --data-dir");
    assert!(without.run(&["--data-dir", "d"]).is_ok());
    assert!(Given::file("data-dir = 'd'").run(&[]).is_ok());
}

#[test]
fn a_setting_that_is_not_seen_on_the_command_line_is_traced() {
    let given = Given::file("data-dir = 'd'\nnodes = 0\n");
    let settings = given.run(&["--replicas", "3"]).expect("each value may be meant");
    assert_eq!(
        settings.origins(&["nodes", "replicas", "routing"]),
        format!("\nwhere: nodes is from {}:2", given.path())
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let words = ["dhtd", "run", "--config", "nowhere/dhtd.toml"].map(OsString::from);
    let error = read(words).expect_err("there is no such file").to_string();
    assert!(error.starts_with("cannot read the configuration file nowhere/dhtd.toml: "), "{error}");
}
