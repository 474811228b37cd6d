//! The commands: arguments in, data on stdout, messages on stderr, a frozen exit code.

mod args;
mod console;
mod data;
mod export;
mod failure;
mod import;
mod kv;
mod progress;
mod retry;
mod ring;
mod text;

use std::process::ExitCode;

use clap::Parser;
use dhtctl::{Client, Options};

use self::{
    args::{Arguments, Command},
    console::Console,
    failure::{Failure, Outcome},
};

/// Runs the command that the process was started with.
pub(crate) fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return failure::report_usage(&error),
    };
    let console = Console::new(arguments.output);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return console.fail(&Failure::io("can't start", &error)),
    };
    let outcome = runtime.block_on(run_until_interrupted(arguments, &console));
    // A thread may be waiting for a line on stdin; it must not keep the process alive.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => console.fail(&failure),
    }
}

async fn run_until_interrupted(arguments: Arguments, console: &Console) -> Outcome {
    if let Command::Import(import) = &arguments.command {
        // Its writes in flight must be awaited and counted.
        return import::run(&arguments, import, console).await;
    }
    tokio::select! {
        outcome = run(&arguments, console) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
    }
}

async fn run(arguments: &Arguments, console: &Console) -> Outcome {
    match &arguments.command {
        Command::Insert(insert) => kv::insert(&connect(arguments).await?, insert, console).await,
        Command::Query(query) => kv::query(&connect(arguments).await?, query, console).await,
        Command::Delete(delete) => kv::delete(&connect(arguments).await?, delete, console).await,
        Command::Import(import) => import::run(arguments, import, console).await,
        Command::Export(export) => export::run(&connect(arguments).await?, export, console).await,
        Command::Join(join) => ring::join::run(arguments, join, console).await,
        Command::Depart(depart) => ring::depart::run(arguments, depart, console).await,
        Command::Overlay(overlay) => ring::overlay::run(&connect(arguments).await?, overlay, console).await,
        Command::Status(status) => ring::status::run(&connect(arguments).await?, status, console).await,
        Command::Lookup(lookup) => ring::lookup::run(&connect(arguments).await?, lookup, console).await,
    }
}

/// A client for the endpoints in the arguments, connected to one of them.
async fn connect(arguments: &Arguments) -> Result<Client, Failure> {
    let options = Options { timeout: arguments.timeout(), ..Options::default() };
    let connecting = Client::connect_with(&arguments.peer, options).await;
    connecting.map_err(|error| Failure::call("can't connect", &error))
}

/// As [`connect`], for commands that are about one peer and must not fall over to another.
async fn connect_to_one(arguments: &Arguments, what: &str) -> Result<Client, Failure> {
    match arguments.peer.as_slice() {
        [_] => connect(arguments).await,
        several => {
            let message = format!("{what} is about one peer, but --peer names {}", several.len());
            Err(Failure::usage(message).hint("give --peer once"))
        }
    }
}
