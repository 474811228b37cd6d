//! The files of the repository.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::source;

/// A text file.
pub(crate) struct File {
    /// From the top of the repository.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The text without comments and literals; empty unless it is Rust.
    pub(crate) code: String,
}

impl File {
    pub(crate) fn new(path: &str, text: impl Into<String>) -> Self {
        let text = text.into();
        let code = if path.ends_with(".rs") { source::code(&text) } else { String::new() };
        Self { path: path.into(), text, code }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// `path:line` of an offset.
    pub(crate) fn place(&self, at: usize) -> String {
        format!("{}:{}", self.path, source::line(&self.text, at))
    }

    /// Whether the offset is in code that only tests run.
    pub(crate) fn is_test_code(&self, at: usize) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.path.split('/').any(|part| part == "tests")
            || name == "tests.rs"
            || name.ends_with("_tests.rs")
            || source::test_modules(&self.code).iter().any(|range| range.contains(&at))
    }
}

/// All text files that git knows or would add.
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
}

impl Tree {
    pub(crate) fn read() -> Self {
        let root = root();
        let text = |path: String| Some(File::new(&path, fs::read_to_string(root.join(&path)).ok()?));
        Self { files: list(&["--cached", "--others", "--exclude-standard"]).into_iter().filter_map(text).collect() }
    }

    /// Rust files below a folder.
    pub(crate) fn rust<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a File> {
        self.files.iter().filter(move |file| file.is_rust() && file.path.starts_with(folder))
    }
}

/// The top of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is a folder of the workspace").into()
}

/// What `git ls-files` prints; outside a checkout, every file that is not ignored. The checkout may belong to another
/// user, as it does in many containers.
pub(crate) fn list(which: &[&str]) -> Vec<String> {
    if !root().join(".git").exists() {
        return walk();
    }
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .args(which)
        .current_dir(root())
        .output()
        .expect("git is needed to know which files belong to the repository: install it");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).expect("names of files are UTF-8");
    names.split_terminator('\0').map(Into::into).collect()
}

/// Every file below the top but those that `.gitignore` names, which knows nothing but folders at the top.
fn walk() -> Vec<String> {
    let ignore = fs::read_to_string(root().join(".gitignore")).unwrap_or_default();
    let ignored: Vec<&str> = ignore.lines().map(|line| line.trim_matches('/')).collect();
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(root()).expect("below the top").to_string_lossy().into_owned();
            if path.is_dir() && !ignored.contains(&name.as_str()) {
                folders.push(path);
            } else if path.is_file() {
                found.push(name);
            }
        }
    }
    found
}
