//! What the protocols must not touch, and what the daemon must not switch off.

use super::{
    source,
    tree::{File, Tree},
};

/// Identifiers that have no place in a pure crate, and what to use instead.
const WORDS: [(&[&str], &str); 6] = [
    (&["tokio", "tonic", "mio", "socket2", "rustix", "libc"], "return an output and let the daemon act"),
    (&["Instant", "SystemTime", "UNIX_EPOCH"], "take `now: Duration` as an argument"),
    (&["HashMap", "RandomState"], "use a BTreeMap: its order is the same in every run"),
    (&["HashSet"], "use a BTreeSet: its order is the same in every run"),
    (&["thread_rng", "ThreadRng", "OsRng", "SysRng"], "draw from the generator that is passed in"),
    (&["from_os_rng", "from_entropy", "make_rng", "getrandom"], "seed from a value that is passed in"),
];

/// Paths that have none either.
const PATHS: [(&[&str], &str); 9] = [
    (&["std", "net"], "return an output and let the daemon send it"),
    (&["std", "fs"], "return an output and let the daemon write it"),
    (&["std", "thread"], "return a timer as an output"),
    (&["std", "env"], "take a setting as an argument"),
    (&["std", "process"], "return an error"),
    (&["std", "time", "*"], "name Duration, the only type of it that is pure"),
    (&["std", "collections", "*"], "name the ordered collections that are used"),
    (&["rand", "rng"], "draw from the generator that is passed in"),
    (&["rand", "random"], "draw from the generator that is passed in"),
];

/// Clocks, sockets, files, threads, unordered collections and global randomness below a folder.
pub(crate) fn impurities(tree: &Tree, folder: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for file in tree.rust(folder) {
        for path in source::paths(&file.code) {
            if let Some(advice) = advice(&path) {
                let (place, path) = (file.place(path.at), path.segments.join("::"));
                problems.push(format!("{place}: {path} in a pure crate: {advice}"));
            }
        }
    }
    problems
}

fn advice(path: &source::Path) -> Option<&'static str> {
    let by_word = WORDS.iter().find(|(words, _)| path.segments.iter().any(|segment| words.contains(&segment.as_str())));
    let by_path = PATHS.iter().find(|(prefix, _)| path.starts_with(prefix));
    by_word.or(by_path).map(|(_, advice)| *advice)
}

/// Uses of `Rules` below a folder other than `Rules::ALL` and as a type.
pub(crate) fn weakened_rules(tree: &Tree, folder: &str) -> Vec<String> {
    let fields = rule_names(tree);
    let mut problems = Vec::new();
    for file in tree.rust(folder) {
        let weakened = source::paths(&file.code).into_iter().filter(|path| is_weakened(file, path)).map(|path| path.at);
        let set = fields.iter().flat_map(|field| source::words(&file.code, field)).filter(|at| is_set(file, *at));
        let problem = |at| format!("{}: the daemon runs with Rules::ALL and nothing else: use that", file.place(at));
        problems.extend(weakened.chain(set).map(problem));
    }
    problems
}

/// A constant other than `ALL`, a literal, or another name for the type.
fn is_weakened(file: &File, path: &source::Path) -> bool {
    let Some(place) = path.segments.iter().position(|segment| segment == "Rules") else { return false };
    if let Some(constant) = path.segments.get(place + 1) {
        return constant != "ALL";
    }
    let (before, behind) = (file.code[..path.at].trim_end(), file.code[path.end..].trim_start());
    behind.starts_with("as ") || behind.starts_with('{') && !before.ends_with("->")
}

/// `.field = ` assigns; `.field == ` compares.
fn is_set(file: &File, at: usize) -> bool {
    let behind = file.code[at..].trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').trim_start();
    file.code[..at].ends_with('.') && behind.starts_with('=') && !behind.starts_with("==")
}

/// The fields of `Rules`.
fn rule_names(tree: &Tree) -> Vec<String> {
    let rules = tree.files.iter().find(|file| file.path == "dhtd/core/src/rules.rs");
    let field = |line: &str| Some(line.trim().strip_prefix("pub ")?.strip_suffix(": bool,")?.to_string());
    rules.map(|file| file.code.lines().filter_map(field).collect()).unwrap_or_default()
}
