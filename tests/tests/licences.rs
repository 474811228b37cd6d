//! Other people's code in dhtd is under permissive licences: those that `.deny.toml` allows, as cargo-deny reads it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cargo_metadata::{CargoOpt, Metadata, MetadataCommand, Package};

/// Keys of `[licenses]` that this test heeds, or that do not change its answer.
const KNOWN_KEYS: [&str; 2] = ["allow", "unused-allowed-license"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is a folder of the workspace").into()
}

/// Everything in Cargo.lock, whatever platform it is for. Without a network, and if cargo has fetched no more than what
/// it built, the packages of this platform.
fn metadata() -> Metadata {
    let read = |options: &[&str]| {
        let options: Vec<_> = options.iter().map(ToString::to_string).collect();
        MetadataCommand::new().current_dir(root()).features(CargoOpt::AllFeatures).other_options(options).exec()
    };
    read(&["--locked"]).unwrap_or_else(|error| {
        println!("{error}\nonly packages for {} are looked at", host());
        read(&["--locked", "--offline", "--filter-platform", &host()]).expect("cargo metadata")
    })
}

/// The platform that this is compiled on, as rustc calls it.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc");
    let text = String::from_utf8(output.stdout).expect("rustc writes UTF-8");
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc -vV names the host").into()
}

/// The licences that `.deny.toml` allows.
fn allowed_licences(deny: &str) -> BTreeSet<String> {
    let section = section(deny, "licenses");
    let keys = section.lines().filter_map(|line| line.split_once('=')).map(|(key, _)| key.trim());
    let unknown: Vec<&str> = keys.filter(|key| !KNOWN_KEYS.contains(key)).collect();
    assert!(unknown.is_empty(), ".deny.toml, [licenses]: {unknown:?} not understood: teach tests/licences.rs");
    let array = section.split_once("allow = [").expect(".deny.toml, [licenses]: no `allow = [`").1;
    let array = array.split_once(']').expect(".deny.toml, [licenses]: `allow` does not end").0;
    array.split(',').map(|item| item.trim().trim_matches('"').to_string()).filter(|item| !item.is_empty()).collect()
}

/// The lines of a section of a TOML file without comments, up to the next section.
fn section(text: &str, name: &str) -> String {
    let title = format!("[{name}");
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let (mut inside, mut section) = (false, String::new());
    for line in lines {
        if line.starts_with('[') {
            let line = line.trim_start_matches('[').trim_end().trim_end_matches(']');
            let below = line.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
            assert!(!below, ".deny.toml: {title}.…] is not understood: teach tests/licences.rs");
            inside = line == name;
        } else if inside {
            section.push_str(line);
            section.push('\n');
        }
    }
    section
}

/// Whether an SPDX expression can be satisfied with the allowed licences. As in old manifests, `/` is OR.
fn is_satisfied(expression: &str, allowed: &BTreeSet<String>) -> Result<bool, String> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut tokens: Vec<&str> = spaced.split_whitespace().rev().collect();
    let answer = any_of(&mut tokens, allowed)?;
    match tokens.last() {
        None => Ok(answer),
        Some(token) => Err(format!("`{token}` was not expected")),
    }
}

/// `a OR b`. The tokens are in reverse order: the next one is the last.
fn any_of(tokens: &mut Vec<&str>, allowed: &BTreeSet<String>) -> Result<bool, String> {
    let mut answer = all_of(tokens, allowed)?;
    while tokens.pop_if(|token| *token == "OR").is_some() {
        answer |= all_of(tokens, allowed)?;
    }
    Ok(answer)
}

/// `a AND b`, which binds more tightly.
fn all_of(tokens: &mut Vec<&str>, allowed: &BTreeSet<String>) -> Result<bool, String> {
    let mut answer = licence(tokens, allowed)?;
    while tokens.pop_if(|token| *token == "AND").is_some() {
        answer &= licence(tokens, allowed)?;
    }
    Ok(answer)
}

/// A licence, one with an exception, which is another one, or an expression in parentheses.
fn licence(tokens: &mut Vec<&str>, allowed: &BTreeSet<String>) -> Result<bool, String> {
    let first = tokens.pop().ok_or("it ends too early")?;
    if first == "(" {
        let answer = any_of(tokens, allowed)?;
        return tokens.pop_if(|token| *token == ")").map(|_| answer).ok_or_else(|| "`)` is missing".into());
    }
    if [")", "OR", "AND", "WITH"].contains(&first) {
        return Err(format!("`{first}` was not expected"));
    }
    if tokens.pop_if(|token| *token == "WITH").is_none() {
        return Ok(allowed.contains(first));
    }
    let exception = tokens.pop().ok_or("it ends too early")?;
    Ok(allowed.contains(&format!("{first} WITH {exception}")))
}

/// What is wrong with the licence of a package.
fn objection(package: &Package, allowed: &BTreeSet<String>) -> Option<String> {
    let name = format!("{} {}", package.name, package.version);
    let Some(expression) = &package.license else {
        return Some(format!("{name}: its manifest names no licence: do without it"));
    };
    match is_satisfied(expression, allowed) {
        Ok(true) => None,
        Ok(false) => Some(format!(
            "{name}: \"{expression}\" is not allowed: do without it (`cargo tree -i {}` says who brings it), or, if it \
             is permissive, allow it in .deny.toml",
            package.name
        )),
        Err(error) => Some(format!("{name}: \"{expression}\" is no SPDX expression: {error}")),
    }
}

fn objections(allowed: &BTreeSet<String>) -> Vec<String> {
    let metadata = metadata();
    let foreign = metadata.packages.iter().filter(|package| package.source.is_some());
    foreign.filter_map(|package| objection(package, allowed)).collect()
}

fn deny_toml() -> String {
    fs::read_to_string(root().join(".deny.toml")).expect(".deny.toml")
}

#[test]
fn every_dependency_has_a_permissive_licence() {
    let objections = objections(&allowed_licences(&deny_toml()));
    assert!(objections.is_empty(), "\n\n{}\n", objections.join("\n"));
}

#[test]
fn a_licence_that_is_not_allowed_is_found_and_its_package_named() {
    let mut allowed = allowed_licences(&deny_toml());
    allowed.remove("MIT");
    let objections = objections(&allowed);
    assert!(objections.iter().any(|text| text.starts_with("bytes ") && text.contains("\"MIT\" is not allowed")));
    assert!(!objections.iter().any(|text| text.starts_with("serde ")), "it is under Apache-2.0 too");
}

#[test]
fn own_packages_are_under_both_licences_at_the_top() {
    for package in metadata().workspace_packages() {
        assert_eq!(package.license.as_deref(), Some("Apache-2.0 OR MIT"), "package {}", package.name);
    }
}

#[test]
fn licence_expressions_mean_what_spdx_says() {
    let allowed = BTreeSet::from(["A", "B", "C WITH x"].map(String::from));
    for (expression, expected) in [
        ("A", true),
        ("X", false),
        ("X OR A", true),
        ("X/A", true),
        ("A AND X", false),
        ("A AND B", true),
        ("X AND A OR B", true),
        ("A OR B AND X", true),
        ("X AND (A OR B)", false),
        ("(X OR A) AND (B OR X)", true),
        ("((A))", true),
        ("C", false),
        ("C WITH x", true),
        ("A WITH x", false),
        ("X OR C WITH x AND A", true),
        ("A+", false),
    ] {
        assert_eq!(is_satisfied(expression, &allowed), Ok(expected), "{expression}");
    }
    for wrong in ["", "A OR", "A B", "(A", "A)", "OR A", "C WITH", "A AND AND B"] {
        assert!(is_satisfied(wrong, &allowed).is_err(), "{wrong}");
    }
}

#[test]
fn the_allowed_licences_are_read_from_their_section() {
    let text = "[bans]\nallow = [\"no\"]\n[licenses]\n# allow = [\"no\"]\nallow = [\n  \"A\", # why\n  \"B WITH x\",\n]\n[x]\n";
    assert_eq!(allowed_licences(text), BTreeSet::from(["A", "B WITH x"].map(String::from)));
}

#[test]
#[should_panic(expected = "teach tests/licences.rs")]
fn a_setting_that_would_change_the_answer_is_not_overlooked() {
    allowed_licences("[licenses]\nallow = [\"A\"]\nexceptions = []\n");
}
