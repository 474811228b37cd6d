//! Which way crates and modules may use each other (DESIGN, section 3).

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::Metadata;

use super::{
    source::{self, Block},
    tree::{File, Tree},
};

/// What `main.rs`, a crate of its own, calls the library beside it.
const DAEMON: &str = "dhtd";

/// Who may use whom: a name, and the names that it may use.
pub(crate) type Arrows = [(&'static str, &'static [&'static str])];

/// Uses that are against the list all the same: who, whom, and why.
pub(crate) type Exceptions = [(&'static str, &'static str, &'static str)];

fn allowed(arrows: &Arrows, from: &str) -> Option<&'static [&'static str]> {
    arrows.iter().find(|(name, _)| *name == from).map(|(_, uses)| *uses)
}

/// Dependencies between packages of the workspace that are not in the list, for tests and build scripts too.
pub(crate) fn crates_against(arrows: &Arrows, metadata: &Metadata) -> Vec<String> {
    let packages = metadata.workspace_packages();
    let ours = |name: &str| packages.iter().any(|package| package.name.as_str() == name);
    let mut problems = Vec::new();
    for package in &packages {
        let Some(uses) = allowed(arrows, &package.name) else {
            problems.push(format!("package {} has no place yet: add it to CRATES with what it may use", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if ours(name) && !uses.contains(&name) {
                let manifest = &package.manifest_path;
                problems.push(format!("{manifest}: {} must not depend on {name}: remove it", package.name));
            }
        }
    }
    problems
}

/// Uses between the top modules of a crate that are not in the list, and exceptions that nobody needs.
pub(crate) fn modules_against(arrows: &Arrows, exceptions: &Exceptions, tree: &Tree, src: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut needed = BTreeSet::new();
    for (file, module) in &Places::new(tree, src).files {
        let Some(from) = module.first() else { continue };
        let Some(uses) = allowed(arrows, from) else {
            problems
                .push(format!("{}: module {from} has no place yet: add it to MODULES with what it may use", file.path));
            continue;
        };
        for (at, to) in used_modules(file, module, arrows) {
            let place = file.place(at);
            if to == *from || uses.contains(&to.as_str()) {
                continue;
            } else if let Some(exception) = exceptions.iter().find(|(who, whom, _)| who == from && *whom == to) {
                needed.insert(exception);
            } else if allowed(arrows, &to).is_some() {
                problems.push(format!("{place}: {from} must not use {to}, only {uses:?}: turn the dependency round"));
            } else {
                problems.push(format!(
                    "{place}: `crate::{to}` is no module of the list MODULES: name the module it is in, or add it"
                ));
            }
        }
    }
    let unneeded = exceptions.iter().filter(|exception| !needed.contains(exception));
    problems.extend(unneeded.map(|(from, to, _)| format!("{from} does not use {to} any more: take it from the list")));
    problems.dedup();
    problems
}

/// Where the paths of a file lead, as top modules of the crate.
fn used_modules(file: &File, module: &[String], arrows: &Arrows) -> Vec<(usize, String)> {
    let inline = source::inline_modules(&file.code);
    let is_root = module == ["main"];
    let resolve = |path: source::Path| {
        let first = path.segments[0].as_str();
        let rest = match first {
            "crate" => path.segments.get(1)?,
            "super" => above(&path, module, &inline)?,
            DAEMON if is_root => path.segments.get(1)?,
            _ if is_root && path.segments.len() > 1 && allowed(arrows, first).is_some() => &path.segments[0],
            _ => return None,
        };
        Some((path.at, rest.clone()))
    };
    source::paths(&file.code).into_iter().filter_map(resolve).collect()
}

/// The top module that a path leads to which climbs out of all modules by `super`.
fn above<'a>(path: &'a source::Path, module: &[String], inline: &[Block]) -> Option<&'a String> {
    let depth = module.len() + inline.iter().filter(|block| block.range.contains(&path.at)).count();
    let climbs = path.segments.iter().take_while(|segment| *segment == "super").count();
    (climbs >= depth).then(|| path.segments.get(climbs)).flatten()
}

/// The module path of every file below a source folder.
struct Places<'a> {
    files: Vec<(&'a File, Vec<String>)>,
}

impl<'a> Places<'a> {
    fn new(tree: &'a Tree, src: &'a str) -> Self {
        let moved = moved(tree, src);
        let module = |file: &File| moved.get(&file.path).cloned().unwrap_or_else(|| by_name(file, src));
        Self { files: tree.rust(src).map(|file| (file, module(file))).collect() }
    }
}

/// `a/b.rs` and `a/b/mod.rs` are a::b; `lib.rs` is the root, which only declares; `main.rs` counts as a module.
fn by_name(file: &File, src: &str) -> Vec<String> {
    let path = file.path[src.len()..].trim_end_matches(".rs");
    let mut parts: Vec<String> = path.split('/').map(Into::into).collect();
    if parts.last().is_some_and(|last| last == "mod") || parts == ["lib"] {
        parts.pop();
    }
    parts
}

/// Files that are modules by a `#[path]` attribute.
fn moved(tree: &Tree, src: &str) -> BTreeMap<String, Vec<String>> {
    let mut moved = BTreeMap::new();
    for file in tree.rust(src) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (name, at) in source::declared_modules(&file.code) {
            let start = file.code[..at].rfind([';', '}']).unwrap_or(0);
            let attributes = &file.text[start..at];
            let Some((_, path)) = attributes.split_once("#[path = \"") else { continue };
            let mut module = by_name(file, src);
            module.push(name);
            moved.insert(format!("{folder}/{}", path.split('"').next().unwrap_or_default()), module);
        }
    }
    moved
}

/// Files of a source folder that use a crate, or a part of it, although only some top modules may.
pub(crate) fn crate_used_outside(tree: &Tree, src: &str, used: &[&str], allowed: &[&str]) -> Vec<String> {
    let mut problems = Vec::new();
    for (file, module) in &Places::new(tree, src).files {
        if module.first().is_some_and(|top| allowed.contains(&top.as_str())) {
            continue;
        }
        for path in source::paths(&file.code).into_iter().filter(|path| path.starts_with(used)) {
            let (place, used) = (file.place(path.at), used.join("::"));
            problems.push(format!("{place}: uses {used}, which only {allowed:?} may: let one of these do it"));
        }
    }
    problems
}

/// Files below a folder that use anything of a crate but one of its modules.
pub(crate) fn more_than_module(tree: &Tree, folder: &str, name: &str, module: &str) -> Vec<String> {
    let other =
        |path: &source::Path| path.starts_with(&[name]) && path.segments.get(1).is_none_or(|next| next != module);
    let problem =
        |file: &File, at| format!("{}: uses more of {name} than {name}::{module}: do without", file.place(at));
    tree.rust(folder)
        .flat_map(|file| source::paths(&file.code).into_iter().filter(other).map(move |path| problem(file, path.at)))
        .collect()
}
