//! Flags over environment over the configuration file over defaults.
//!
//! There is one list of settings, the arguments of `dhtd run` that have a twin in the environment; a file's keys are
//! their names. What a file says takes the place of the argument's default: so clap, which knows that flags go over the
//! environment and the environment over defaults, puts the layers together and parses all of them alike.

use std::{ffi::OsString, fmt, fmt::Write as _, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, CommandFactory, FromArgMatches, error::ContextKind, parser::ValueSource};
use thiserror::Error;

use super::{
    Args,
    file::{Entry, File, FileError},
};

/// The words that the process was started with, completed by environment, file and defaults.
#[derive(Debug)]
pub struct Invocation {
    /// What to do.
    pub args: Args,
    /// Where the settings of `dhtd run` come from, in the order of the help; none of another command.
    pub settings: Settings,
}

/// The settings of `dhtd run` as they are in force, each with its source.
#[derive(Debug, Default)]
pub struct Settings(Vec<Setting>);

#[derive(Debug)]
struct Setting {
    key: String,
    /// None if it is unset and has no default.
    values: Vec<String>,
    shape: Shape,
    source: Source,
}

/// How a value is written in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Boolean,
    One,
    Several,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Flag,
    Environment(String),
    File(String),
    Default,
}

/// Nothing can be started with these words.
#[derive(Debug, Error)]
pub enum ReadError {
    /// Wrong usage, or a wish for help.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// The configuration file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Two settings, of different layers perhaps, that can't both be meant.
    #[error("{0} and {1} exclude each other")]
    Conflict(String, String),
    /// A setting without which nothing can be done is in no layer.
    #[error("{0} must be set\nhint: in {1}, or as --{0}")]
    Missing(String, String),
}

/// Reads the command line, the environment and, if one of them names it, the configuration file.
///
/// # Errors
/// See [`ReadError`].
pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Invocation, ReadError> {
    let words: Vec<OsString> = words.into_iter().collect();
    let file = config_path(&words).map(|path| File::read(&path)).transpose()?;
    let command = file.as_ref().map_or_else(|| Ok(Args::command()), layered)?;
    let matches = command.try_get_matches_from(&words).map_err(|error| match (&file, missing(&error)) {
        (Some(file), Some(key)) => ReadError::Missing(key, file.path.display().to_string()),
        _ => error.into(),
    })?;
    let args = Args::from_arg_matches(&matches)?;
    let Some(run) = matches.subcommand_matches("run") else {
        return Ok(Invocation { args, settings: Settings::default() });
    };
    let settings = Settings(settings().map(|arg| Setting::new(&arg, run, file.as_ref())).collect());
    settings.check_conflicts()?;
    Ok(Invocation { args, settings })
}

impl Settings {
    /// Where those of the named settings come from that the command line does not show.
    #[must_use]
    pub fn origins(&self, keys: &[&str]) -> String {
        let hidden = |setting: &&Setting| {
            keys.contains(&setting.key.as_str()) && !matches!(setting.source, Source::Flag | Source::Default)
        };
        self.0.iter().filter(hidden).fold(String::new(), |mut text, setting| {
            let _ = write!(text, "\nwhere: {} is from {}", setting.key, setting.source);
            text
        })
    }

    /// clap finds those among flags and environment only.
    fn check_conflicts(&self) -> Result<(), ReadError> {
        let run = run_command();
        let said = |key: &str| self.0.iter().find(|setting| setting.key == key && setting.is_said());
        for arg in run.get_arguments() {
            let others = run.get_arg_conflicts_with(arg);
            let Some(one) = arg.get_long().and_then(said) else { continue };
            if let Some(other) = others.iter().find_map(|other| said(other.get_long()?)) {
                return Err(ReadError::Conflict(one.with_source(), other.with_source()));
            }
        }
        Ok(())
    }
}

/// A configuration file that would give the same settings.
impl fmt::Display for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for setting in &self.0 {
            let quoted = |value: &String| match (setting.shape, value.parse::<i64>()) {
                (Shape::Boolean, _) | (_, Ok(_)) => value.clone(),
                _ => toml::Value::from(value.as_str()).to_string(),
            };
            let values: Vec<String> = setting.values.iter().map(quoted).collect();
            let (key, source) = (&setting.key, &setting.source);
            match (setting.shape, values.as_slice()) {
                (Shape::Several, [_, ..]) => writeln!(formatter, "{key} = [{}]  # {source}", values.join(", "))?,
                (_, [value]) => writeln!(formatter, "{key} = {value}  # {source}")?,
                _ => writeln!(formatter, "# {key} is not set")?,
            }
        }
        Ok(())
    }
}

impl Setting {
    fn new(arg: &Arg, run: &ArgMatches, file: Option<&File>) -> Self {
        let (id, key) = (arg.get_id().as_str(), key(arg));
        let source = match (run.value_source(id), file.and_then(|file| Some((file, file.entries.get(key)?)))) {
            (Some(ValueSource::CommandLine), _) => Source::Flag,
            (Some(ValueSource::EnvVariable), _) => Source::Environment(variable(arg).unwrap_or_default()),
            (_, Some((file, entry))) => Source::File(file.place(entry.line)),
            _ => Source::Default,
        };
        let text = |value: &std::ffi::OsStr| value.to_string_lossy().into_owned();
        let shape = shape(arg);
        let values = match shape {
            Shape::Boolean => vec![run.get_flag(id).to_string()],
            Shape::One => run.get_raw(id).into_iter().flatten().map(text).collect(),
            // As clap takes them apart.
            Shape::Several => run.get_many::<String>(id).into_iter().flatten().cloned().collect(),
        };
        Self { key: key.to_owned(), values, shape, source }
    }

    /// Somebody has asked for it.
    fn is_said(&self) -> bool {
        let off = self.values.is_empty() || (self.shape == Shape::Boolean && self.values == ["false"]);
        self.source != Source::Default && !off
    }

    fn with_source(&self) -> String {
        format!("{} ({})", self.key, self.source)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => formatter.write_str("flag"),
            Self::Environment(name) => write!(formatter, "environment, {name}"),
            Self::File(place) => formatter.write_str(place),
            Self::Default => formatter.write_str("default"),
        }
    }
}

/// The one list.
fn settings() -> impl Iterator<Item = Arg> {
    let all = Args::command();
    let global = all.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect::<Vec<_>>();
    run_command().get_arguments().cloned().collect::<Vec<_>>().into_iter().chain(global).filter(is_setting)
}

/// Which file it is can't be said in the file.
fn is_setting(arg: &Arg) -> bool {
    arg.get_env().is_some() && arg.get_id() != "config"
}

fn run_command() -> clap::Command {
    Args::command().find_subcommand("run").cloned().unwrap_or_default()
}

fn key(arg: &Arg) -> &str {
    arg.get_long().unwrap_or_default()
}

fn variable(arg: &Arg) -> Option<String> {
    arg.get_env().map(|name| name.to_string_lossy().into_owned())
}

fn shape(arg: &Arg) -> Shape {
    match arg.get_action() {
        ArgAction::SetTrue | ArgAction::SetFalse => Shape::Boolean,
        ArgAction::Append => Shape::Several,
        _ => Shape::One,
    }
}

/// The file that is named; what else is required may be in there. None, too, if the words make no sense: they will make
/// none without a file, either.
fn config_path(words: &[OsString]) -> Option<PathBuf> {
    let relaxed = Args::command().mut_subcommand("run", |run| run.mut_args(|arg| arg.required(false)));
    let matches = relaxed.try_get_matches_from(words).ok()?;
    matches.subcommand_matches("run")?.get_one("config").cloned()
}

/// The command line with what the file says in place of defaults.
fn layered(file: &File) -> Result<clap::Command, FileError> {
    for (name, entry) in &file.entries {
        match settings().find(|arg| key(arg) == name) {
            Some(arg) => check(file, &arg, entry)?,
            None => return Err(unknown(file, name, entry)),
        }
    }
    let set = |arg: Arg| match file.entries.get(key(&arg)) {
        Some(entry) if is_setting(&arg) => arg.required(false).default_values(entry.values.clone()),
        _ => arg,
    };
    Ok(Args::command().mut_args(set).mut_subcommand("run", |run| run.mut_args(set)))
}

fn unknown(file: &File, name: &str, entry: &Entry) -> FileError {
    let keys: Vec<String> = settings().map(|arg| key(&arg).to_owned()).collect();
    // A word's beginning is what is remembered best. The bound is the one that clap has for flags.
    let likeness = |key: &String| strsim::jaro_winkler(key, name);
    let nearest = keys.iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    let near = nearest.filter(|key| likeness(key) > 0.7);
    let hint = near.map_or_else(|| format!("there are {}", keys.join(", ")), |key| format!("did you mean {key:?}?"));
    FileError::UnknownKey { place: file.place(entry.line), key: name.to_owned(), hint }
}

/// Has clap look at the values alone, so that it can be said where they stand.
fn check(file: &File, arg: &Arg, entry: &Entry) -> Result<(), FileError> {
    let bad = |value: &str, why: String| {
        let (place, key) = (file.place(entry.line), key(arg).to_owned());
        Err(FileError::BadValue { place, value: value.to_owned(), why, hint: meaning(arg), key })
    };
    if shape(arg) != Shape::Several && entry.values.len() != 1 {
        return bad("an array", "it has one value".to_owned());
    }
    let alone = Arg::new("value").long("value").value_parser(arg.get_value_parser().clone());
    let command = clap::Command::new("dhtd").no_binary_name(true).arg(alone);
    for value in &entry.values {
        if let Err(error) = command.clone().try_get_matches_from([format!("--value={value}")]) {
            return bad(&format!("{value:?}"), why(&error));
        }
    }
    Ok(())
}

fn why(error: &clap::Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    let choice = error.get(ContextKind::ValidValue).map(|values| format!("it is one of {values}"));
    source.or(choice).unwrap_or_else(|| error.kind().to_string())
}

/// What the help says about a setting.
fn meaning(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default = if defaults.is_empty() { String::new() } else { format!(" [default: {}]", defaults.join(",")) };
    format!("{}: {help}{default}", key(arg))
}

/// The setting that a command line lacks.
fn missing(error: &clap::Error) -> Option<String> {
    if error.kind() != clap::error::ErrorKind::MissingRequiredArgument {
        return None;
    }
    settings().find(Arg::is_required_set).map(|arg| key(&arg).to_owned())
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
