//! Where output goes: data on stdout, messages on stderr.

use std::{
    env,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use serde::Serialize;

use super::{
    args::Format,
    failure::{Failure, Outcome},
};

/// The two streams of the process, and how to write to them.
pub(crate) struct Console {
    pub(crate) format: Format,
    pub(crate) stdout_is_terminal: bool,
    pub(crate) stderr_is_terminal: bool,
    color: bool,
}

impl Console {
    pub(crate) fn new(format: Format) -> Self {
        let stderr_is_terminal = io::stderr().is_terminal();
        // https://no-color.org: present and not empty.
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            format,
            stdout_is_terminal: io::stdout().is_terminal(),
            stderr_is_terminal,
            color: stderr_is_terminal && !no_color && !dumb,
        }
    }

    /// Whether results are to be JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.format != Format::Table
    }

    /// Prints a result that is one JSON document.
    pub(crate) fn document(&self, document: &impl Serialize) -> Outcome {
        let text = match self.format {
            Format::Jsonl => serde_json::to_string(document),
            Format::Table | Format::Json => serde_json::to_string_pretty(document),
        };
        let text = text.map_err(|error| Failure::io("can't make JSON", &error.into()))?;
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Prints rows: in JSON lines each on its own, otherwise `document`.
    pub(crate) fn rows<T: Serialize>(&self, document: &impl Serialize, rows: &[T]) -> Outcome {
        match self.format {
            Format::Jsonl => rows.iter().try_for_each(|row| self.document(row)),
            Format::Table | Format::Json => self.document(document),
        }
    }

    /// Writes to stdout as is.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Outcome {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| Failure::stdout(&error))
    }

    /// A message for people; none in JSON, so that a program that reads stderr finds nothing but errors.
    pub(crate) fn note(&self, message: &str) {
        if !self.is_json() {
            self.stderr(&format!("{message}\n"));
        }
    }

    /// A warning, in either format.
    pub(crate) fn warn(&self, message: &str) {
        if self.is_json() {
            self.stderr(&format!("{}\n", serde_json::json!({ "warning": { "message": message } })));
        } else {
            self.stderr(&format!("{} {message}\n", self.paint("33", "warning:")));
        }
    }

    /// Reports why the command failed, and turns it into the exit code.
    pub(crate) fn fail(&self, failure: &Failure) -> ExitCode {
        if failure.is_silent() {
            return ExitCode::SUCCESS;
        }
        if self.is_json() {
            self.stderr(&format!("{}\n", failure.json()));
        } else {
            self.stderr(&failure.text(|label| self.paint(if label == "error:" { "1;31" } else { "1" }, label)));
        }
        ExitCode::from(failure.exit_code())
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.color { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// There is nobody to tell if stderr is closed.
    fn stderr(&self, text: &str) {
        _ = io::stderr().lock().write_all(text.as_bytes());
    }
}
