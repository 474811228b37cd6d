//! How a command fails: what and where, why, and what to do next.

use std::{env, fmt::Write as _, io, process::ExitCode};

use clap::error::ErrorKind as ClapKind;
use dhtctl::{Error, ErrorKind, error::code_name};
use serde_json::{Value, json};
use tonic::Code;

use super::{args::Format, console::Console};

/// What a command ends with.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    class: Class,
    message: String,
    cause: Option<String>,
    hint: Option<String>,
    call: Option<Error>,
}

#[derive(Clone, Copy, Debug)]
enum Class {
    Error(ErrorKind),
    Interrupted,
    /// Whoever read stdout has enough. That is no error: `dhtctl export | head`.
    ClosedOutput,
}

impl Failure {
    /// A failure that involves no call.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { class: Class::Error(kind), message: message.into(), cause: None, hint: None, call: None }
    }

    /// The command was used wrongly.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// The user pressed Ctrl-C.
    pub(crate) fn interrupted() -> Self {
        Self { class: Class::Interrupted, ..Self::new(ErrorKind::Failure, "interrupted") }
    }

    /// A local file or device failed.
    pub(crate) fn io(message: impl Into<String>, error: &io::Error) -> Self {
        Self::new(ErrorKind::Failure, message).cause(error.to_string())
    }

    /// Writing to stdout failed.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        let failure = Self::io("can't write to stdout", error);
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { class: Class::ClosedOutput, ..failure },
            _ => failure,
        }
    }

    /// A call to a peer failed; `what` says what for.
    pub(crate) fn call(what: &str, error: &Error) -> Self {
        let mut message = what.to_owned();
        if let Some(endpoint) = error.endpoint() {
            _ = write!(message, " at {endpoint}");
        }
        if let Some(code) = error.code() {
            _ = match error.reason() {
                Some(reason) => write!(message, ": {}, {reason}", code_name(code)),
                None => write!(message, ": {}", code_name(code)),
            };
        }
        let mut failure = Self::new(error.kind(), message).cause(error.message());
        failure.hint = hint(error).map(str::to_owned);
        failure.call = Some(error.clone());
        failure
    }

    /// Adds why it failed.
    #[must_use]
    pub(crate) fn cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts where it happened, such as a line of a file, in front.
    #[must_use]
    pub(crate) fn at(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    pub(crate) fn is_silent(&self) -> bool {
        matches!(self.class, Class::ClosedOutput)
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self.class {
            Class::Error(kind) => kind.exit_code(),
            Class::Interrupted => 130,
            Class::ClosedOutput => 0,
        }
    }

    /// In one line: what and why.
    pub(crate) fn line(&self) -> String {
        match &self.cause {
            Some(cause) => format!("{}: {cause}", self.message),
            None => self.message.clone(),
        }
    }

    /// For people; `paint` makes the labels stand out.
    pub(crate) fn text(&self, paint: impl Fn(&str) -> String) -> String {
        let mut text = format!("{} {}\n", paint("error:"), self.message);
        if let Some(cause) = &self.cause {
            _ = writeln!(text, "{} {cause}", paint("cause:"));
        }
        if let Some(hint) = &self.hint {
            _ = writeln!(text, "{} {hint}", paint("hint:"));
        }
        text
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let kind = match self.class {
            Class::Error(kind) => kind.name(),
            Class::Interrupted | Class::ClosedOutput => "interrupted",
        };
        let call = self.call.as_ref();
        json!({ "error": {
            "kind": kind,
            "exit_code": self.exit_code(),
            "message": self.message,
            "cause": self.cause,
            "hint": self.hint,
            "code": call.and_then(Error::code).map(code_name),
            "reason": call.and_then(Error::reason),
            "endpoint": call.and_then(Error::endpoint),
            "may_have_executed": call.is_some_and(Error::may_have_executed),
        }})
    }
}

/// Prints what is wrong with the arguments, or the help that they ask for.
pub(crate) fn report_usage(error: &clap::Error) -> ExitCode {
    let help = [ClapKind::DisplayHelp, ClapKind::DisplayVersion];
    if !help.contains(&error.kind()) && wants_json() {
        let rendered = error.render().to_string();
        let message = rendered.trim_start_matches("error: ").lines().next().unwrap_or_default().to_owned();
        return Console::new(Format::Json).fail(&Failure::usage(message).hint("dhtctl --help"));
    }
    // There is nobody to tell if the stream is closed.
    _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Whether JSON was asked for by arguments that could not be understood as a whole.
fn wants_json() -> bool {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let asked = |format: &str| format == "json" || format == "jsonl";
    let joined = arguments.iter().filter_map(|a| a.strip_prefix("--output=").or_else(|| a.strip_prefix("-o")));
    let apart = arguments.windows(2).filter(|pair| pair[0] == "-o" || pair[0] == "--output").map(|pair| &*pair[1]);
    joined.chain(apart).any(asked) || env::var("DHTCTL_OUTPUT").is_ok_and(|format| asked(&format))
}

fn hint(error: &Error) -> Option<&'static str> {
    if error.is_not_connected() {
        return Some("is a peer running there? name another with --peer HOST:PORT or DHTCTL_PEER");
    }
    if error.may_have_executed() {
        return Some("it may have been carried out all the same: look before you rely on either");
    }
    match error.code()? {
        Code::DeadlineExceeded => Some("give it more time with --timeout, or see how the ring fares: dhtctl status"),
        Code::ResourceExhausted => Some("the peer has too much to do; try again later"),
        Code::Unavailable => Some("see how the ring fares: dhtctl status"),
        Code::Unimplemented => Some("the peer's software does not know this command; compare dhtd --version"),
        _ => None,
    }
}
