//! Where settings come from, with real processes: the environment is theirs alone.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/dhtd.toml");

/// `dhtd run` in a directory, without the environment of whoever runs the tests.
fn dhtd(dir: &Path, words: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dhtd"));
    command.arg("run").args(words).current_dir(dir).env_clear().envs(environment.iter().copied());
    command.output().expect("dhtd was built")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it writes text")
}

#[test]
fn flags_go_over_the_environment_and_that_over_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("d.toml"), "data-dir = 'from-file'\nnodes = 1\nreplicas = 1\nlog = 'warn'\n")
        .expect("a file");
    let environment =
        [("DHTD_CONFIG", "d.toml"), ("DHTD_NODES", "2"), ("DHTD_REPLICAS", "2"), ("DHTD_BOOTSTRAP", "true")];
    let output = dhtd(dir.path(), &["--replicas", "3", "--print-config"], &environment);
    assert!(output.status.success(), "{output:?}");
    let printed = text(&output.stdout);
    for line in [
        "data-dir = \"from-file\"  # d.toml:1",
        "nodes = 2  # environment, DHTD_NODES",
        "replicas = 3  # flag",
        "bootstrap = true  # environment, DHTD_BOOTSTRAP",
        "log = \"warn\"  # d.toml:4",
        "routing = \"full\"  # default",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line} is not in:\n{printed}");
    }
}

#[test]
fn a_check_says_whether_a_peer_would_start_and_touches_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let check = |text: &str| {
        fs::write(dir.path().join("d.toml"), text).expect("a file");
        dhtd(dir.path(), &["--config", "d.toml", "--check-config"], &[])
    };
    let fine = check("data-dir = 'data'\nbootstrap = true\n");
    assert_eq!((fine.status.code(), text(&fine.stderr)), (Some(0), ""));
    for (bad, expected) in [
        ("data-dir = 'data'\nnodes = 0\n", "error: --nodes must lie in 1..="),
        ("data-dir = 'data'\nnodes = 0\n", "\nwhere: nodes is from d.toml:2\n"),
        ("data-dir = 'data'\nnode = 1\n", "error: d.toml:2: \"node\" is no setting\nhint: did you mean \"nodes\"?\n"),
        ("data-dir = \n", "error: d.toml:1: "),
        ("nodes = 1\n", "error: data-dir must be set\nhint: in d.toml, or as --data-dir\n"),
        (
            "data-dir = 'data'\nbootstrap = true\nidle = true\n",
            "error: bootstrap (d.toml:2) and idle (d.toml:3) exclude",
        ),
        ("data-dir = 'data'\nlisten = '10.0.0.1:7400'\n", "\nwhere: listen is from d.toml:2\n"),
    ] {
        let output = check(bad);
        assert_eq!(output.status.code(), Some(78), "{bad}: {output:?}");
        assert!(text(&output.stderr).contains(expected), "{bad}: {}", text(&output.stderr));
    }
    let names: Vec<_> =
        fs::read_dir(dir.path()).expect("it is there").map(|entry| entry.expect("a name").file_name()).collect();
    assert_eq!(names, ["d.toml"]);
}

#[test]
fn a_peer_does_not_start_with_a_bad_file() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("d.toml"), "data-dir = 'data'\nbootstrap = true\nfsync = 'never'\n").expect("a file");
    let output = dhtd(dir.path(), &["--config", "d.toml"], &[]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(
        text(&output.stderr).starts_with("error: d.toml:3: fsync can't be \"never\": "),
        "{}",
        text(&output.stderr)
    );
    assert!(!dir.path().join("data").exists());
}

/// It has every setting, as a comment if the default is not to be changed, and each such line is valid.
#[test]
fn the_example_is_complete_and_every_line_of_it_is_valid() {
    let example = fs::read_to_string(EXAMPLE).expect("the example is there");
    let dir = tempfile::tempdir().expect("a directory");
    let printed = dhtd(dir.path(), &["--config", EXAMPLE, "--data-dir", "d", "--print-config"], &[]);
    assert!(printed.status.success(), "{printed:?}");
    let is_key = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let keys_of = |text: &str| {
        let line = |line: &str| line.trim_start_matches(['#', ' ']).split_whitespace().next().map(str::to_owned);
        text.lines().filter_map(line).filter(|key| is_key(key)).collect::<Vec<_>>()
    };
    let lines: Vec<&str> = example.lines().map(|line| line.strip_prefix('#').unwrap_or(line)).collect();
    let assignments: Vec<&str> =
        lines.into_iter().filter(|line| line.split_once(" = ").is_some_and(|(key, _)| is_key(key))).collect();
    for key in keys_of(text(&printed.stdout)) {
        let here = assignments.iter().filter(|line| line.starts_with(&format!("{key} = "))).count();
        assert_eq!(here, 1, "{key} stands in deploy/dhtd.toml {here} times");
    }
    for line in assignments {
        fs::write(dir.path().join("d.toml"), format!("{line}\n")).expect("a file");
        let output = dhtd(dir.path(), &["--config", "d.toml", "--data-dir", "d", "--insecure", "--check-config"], &[]);
        assert!(output.status.success(), "{line}: {output:?}");
    }
}
