//! Sizes, words and paths that do not belong in the files of the repository.

use std::collections::BTreeMap;

use super::{
    source,
    tree::{File, Tree},
};

/// What is tolerated: where, how much, and why.
pub(crate) type Tolerated = [(&'static str, usize, &'static str)];

/// Compares what was found with the most that is allowed and with what is tolerated beyond. A number in the list may
/// only go down.
pub(crate) fn ratchet(
    found: &BTreeMap<String, usize>,
    most: usize,
    tolerated: &Tolerated,
    advice: &str,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (place, size) in found.iter().filter(|(_, size)| **size > most) {
        match tolerated.iter().find(|(listed, ..)| listed == place) {
            None => problems.push(format!("{place}: {size}, more than {most}: {advice}")),
            Some((_, was, _)) if size > was => problems.push(format!("{place}: grew from {was} to {size}: {advice}")),
            Some((_, was, _)) if size < was => {
                problems.push(format!("{place}: has shrunk from {was} to {size}: write {size} into the list"));
            }
            Some(_) => {}
        }
    }
    for (place, _, reason) in tolerated {
        if found.get(*place).is_none_or(|size| *size <= most) {
            problems.push(format!("{place}: need not be tolerated any more: take it from the list"));
        }
        if reason.is_empty() {
            problems.push(format!("{place}: is tolerated without a reason: write one into the list"));
        }
    }
    problems
}

/// Lines of every Rust file.
pub(crate) fn file_lengths(tree: &Tree) -> BTreeMap<String, usize> {
    tree.rust("").map(|file| (file.path.clone(), file.text.lines().count())).collect()
}

/// Lines of the longest function of each name in each file, from `fn` to the closing brace.
pub(crate) fn function_lengths(tree: &Tree) -> BTreeMap<String, usize> {
    let mut lengths = BTreeMap::new();
    for file in tree.rust("") {
        for block in source::functions(&file.code) {
            let lines = 1 + file.code[block.range].matches('\n').count();
            let length = lengths.entry(format!("{} {}", file.path, block.name)).or_insert(0);
            *length = lines.max(*length);
        }
    }
    lengths
}

/// How often the test code of each file waits for time to pass. Methods and declarations of that name do not count.
pub(crate) fn sleeps(tree: &Tree) -> BTreeMap<String, usize> {
    let waits = |file: &File, at: usize| {
        let before = file.code[..at].trim_end();
        let called = file.code[at..].starts_with("sleep(");
        called && !before.ends_with('.') && !before.ends_with("fn") && file.is_test_code(at)
    };
    let count = |file: &File| source::words(&file.code, "sleep").filter(|at| waits(file, *at)).count();
    tree.rust("").map(|file| (file.path.clone(), count(file))).collect()
}

/// Files that end in the middle of a line.
pub(crate) fn unfinished_lines(tree: &Tree) -> Vec<String> {
    let unfinished = tree.files.iter().filter(|file| !file.text.is_empty() && !file.text.ends_with('\n'));
    unfinished.map(|file| format!("{}: ends without a newline: add one", file.path)).collect()
}

/// Tabs in Rust files.
pub(crate) fn tabs(tree: &Tree) -> Vec<String> {
    let places =
        |file: &'_ File| file.text.find('\t').map(|at| format!("{}: a tab: indent with spaces", file.place(at)));
    tree.rust("").filter_map(places).collect()
}

/// Absolute paths of somebody's machine.
pub(crate) fn private_paths(tree: &Tree) -> Vec<String> {
    const FOLDERS: [&str; 4] =
        [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];
    let absolute =
        |text: &str, at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || "_-.~*}/".contains(c));
    let mut problems = Vec::new();
    for (file, folder) in tree.files.iter().flat_map(|file| FOLDERS.map(|folder| (file, folder))) {
        let places = file.text.match_indices(folder).filter(|(at, _)| absolute(&file.text, *at));
        let problem = |(at, _)| format!("{}: a path of one machine ({folder}): write it without", file.place(at));
        problems.extend(places.map(problem));
    }
    problems
}

/// Tests that are switched off without saying why.
pub(crate) fn unexplained_ignores(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for file in tree.rust("") {
        let unexplained = |at: &usize| {
            let before = file.code[..*at].trim_end();
            let in_attribute = before.ends_with("#[") || before.ends_with(',');
            in_attribute && file.code[at + "ignore".len()..].trim_start().starts_with([']', ')'])
        };
        let problem = |at| format!("{}: write #[ignore = \"why, and how to run it\"]", file.place(at));
        problems.extend(source::words(&file.code, "ignore").filter(unexplained).map(problem));
    }
    problems
}

/// Macros that stand for code that is missing.
pub(crate) fn missing_code(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for file in tree.rust("") {
        for name in ["todo", "unimplemented"] {
            let called = |at: &usize| file.code[at + name.len()..].starts_with('!');
            let problem = |at| format!("{}: {name}! in place of code: write it, or return an error", file.place(at));
            problems.extend(source::words(&file.code, name).filter(called).map(problem));
        }
    }
    problems
}

/// What lies at the top of the repository without belonging there. Names with a dot in front are free.
pub(crate) fn strangers(paths: &[String], belongs: &[&str]) -> Vec<String> {
    let mut tops: Vec<&str> = paths.iter().filter_map(|path| path.split('/').next()).collect();
    tops.sort_unstable();
    tops.dedup();
    let stranger = |top: &&str| !top.starts_with('.') && !belongs.contains(top);
    let problem = |top| format!("{top}: does not belong at the top of the repository: move it into one of {belongs:?}");
    tops.into_iter().filter(stranger).map(problem).collect()
}
