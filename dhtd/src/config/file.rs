//! The configuration file: TOML, one key for each setting, nothing nested.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;
use toml::de::{DeTable, DeValue};

/// What a file says, as text that is still to be checked.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) entries: BTreeMap<String, Entry>,
}

/// What it says about one setting.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Counts from 1.
    pub(super) line: usize,
    /// Several if the value is an array.
    pub(super) values: Vec<String>,
}

/// A configuration file that can't be used. The messages name file and line.
#[derive(Debug, Error)]
pub enum FileError {
    /// It can't be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is no TOML.
    #[error("{place}: {message}")]
    Syntax {
        /// File and line.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A key is no setting.
    #[error("{place}: {key:?} is no setting\nhint: {hint}")]
    UnknownKey {
        /// File and line.
        place: String,
        /// Which.
        key: String,
        /// What may have been meant.
        hint: String,
    },
    /// A value is none that the setting can have.
    #[error("{place}: {key} can't be {value}: {why}\nhint: {hint}")]
    BadValue {
        /// File and line.
        place: String,
        /// Of which setting.
        key: String,
        /// As it stands there.
        value: String,
        /// What is wrong with it.
        why: String,
        /// What is allowed.
        hint: String,
    },
}

impl File {
    /// Reads it.
    ///
    /// # Errors
    /// If it can't be read, is no TOML, or has a value that no setting could have.
    pub(super) fn read(path: &Path) -> Result<Self, FileError> {
        let read = |source| FileError::Read { path: path.display().to_string(), source };
        Self::parse(path, &fs::read_to_string(path).map_err(read)?)
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let mut file = Self { path: path.to_owned(), entries: BTreeMap::new() };
        let line = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        let table = DeTable::parse(text).map_err(|error| FileError::Syntax {
            place: file.place(line(error.span().map_or(0, |span| span.start))),
            message: error.message().to_owned(),
        })?;
        for (key, value) in table.into_inner() {
            let (line, key) = (line(key.span().start), key.into_inner().into_owned());
            let value = value.into_inner();
            let values = texts(&value).ok_or_else(|| FileError::BadValue {
                place: file.place(line),
                key: key.clone(),
                value: format!("of type {}", value.type_str()),
                why: "no setting is".to_owned(),
                hint: "values are strings, integers, booleans, or arrays of these".to_owned(),
            })?;
            file.entries.insert(key, Entry { line, values });
        }
        Ok(file)
    }

    /// `FILE:LINE`.
    pub(super) fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }
}

fn texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    match value {
        DeValue::Array(values) => values.iter().map(|value| text(value.get_ref())).collect(),
        value => Some(vec![text(value)?]),
    }
}

fn text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(number) => Some(i64::from_str_radix(number.as_str(), number.radix()).ok()?.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<File, String> {
        File::parse(Path::new("a.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn every_value_is_known_with_its_line() {
        let file = parse("# here\nlisten = \"a:1\"\n\nnodes = 1_6\nidle = true\njoin = [\n  \"a:1\",\n  \"b:2\",\n]\n");
        let entries = file.expect("it is TOML").entries;
        let entry = |line, values: &[&str]| Entry { line, values: values.iter().map(ToString::to_string).collect() };
        let expected = [
            ("idle", entry(5, &["true"])),
            ("join", entry(6, &["a:1", "b:2"])),
            ("listen", entry(2, &["a:1"])),
            ("nodes", entry(4, &["16"])),
        ];
        assert_eq!(entries, expected.map(|(key, entry)| (key.to_owned(), entry)).into());
    }

    #[test]
    fn what_is_no_toml_is_refused_with_its_line() {
        for (text, place) in [("a = 1\nb = \n", "a.toml:2: "), ("a = 1\na = 2\n", "a.toml:2: "), ("x", "a.toml:1: ")] {
            let error = parse(text).expect_err(text);
            assert!(error.starts_with(place) && error.len() > place.len(), "{error}");
        }
    }

    #[test]
    fn what_no_setting_can_be_is_refused() {
        for (text, kind) in [("\na = 1.5", "float"), ("\n[a]\nb = 1", "table"), ("\na = [[1]]", "array")] {
            let error = parse(text).expect_err(text);
            assert!(error.starts_with(&format!("a.toml:2: a can't be of type {kind}: ")), "{error}");
        }
    }
}
