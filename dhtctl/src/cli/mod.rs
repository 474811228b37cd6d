//! The commands: arguments in, data on stdout, messages on stderr, a frozen exit code.

mod args;
mod bench;
mod console;
mod data;
mod export;
mod failure;
mod import;
mod kv;
mod many;
mod progress;
mod retry;
mod ring;
mod text;

use std::process::ExitCode;

use clap::Parser;
use dhtctl::{Client, Options};

use self::{
    args::{Arguments, Command, Within},
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
        // The command first: it may have more to say about being interrupted.
        biased;
        outcome = run(&arguments, console) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
    }
}

async fn run(arguments: &Arguments, console: &Console) -> Outcome {
    match &arguments.command {
        Command::Insert(insert) => kv::insert(&keys_of(arguments, &insert.within)?, insert, console).await,
        Command::Query(query) => kv::query(&keys_of(arguments, &query.within)?, query, console).await,
        Command::Delete(delete) => kv::delete(&keys_of(arguments, &delete.within)?, delete, console).await,
        Command::Cas(cas) => kv::cas(&keys_of(arguments, &cas.within)?, cas, console).await,
        Command::Incr(incr) => kv::incr(&keys_of(arguments, &incr.within)?, incr, console).await,
        Command::Scan(scan) => many::scan(&keys_of(arguments, &scan.within)?, scan, console).await,
        Command::Mget(mget) => many::mget(keys_of(arguments, &mget.within)?, mget, console).await,
        Command::Mput(mput) => many::mput(&keys_of(arguments, &mput.within)?, mput, console).await,
        Command::Import(import) => import::run(arguments, import, console).await,
        Command::Export(export) => export::run(&keys_of(arguments, &export.within)?, export, console).await,
        Command::Keyspace(keyspace) => ring::keyspace::run(&client(arguments)?, &keyspace.command, console).await,
        Command::Replicas(replicas) => ring::replicas::run(&client(arguments)?, &replicas.command, console).await,
        Command::Join(join) => ring::join::run(arguments, join, console).await,
        Command::Depart(depart) => ring::depart::run(arguments, depart, console).await,
        Command::Overlay(overlay) => ring::overlay::run(&client(arguments)?, overlay, console).await,
        Command::Status(status) => ring::status::run(&client(arguments)?, status, console).await,
        Command::Lookup(lookup) => ring::lookup::run(&client(arguments)?, lookup, console).await,
        Command::Explain(explain) => ring::explain::run(&keys_of(arguments, &explain.within)?, explain, console).await,
        Command::Recover(recover) => ring::recover::run(&client(arguments)?, recover, console).await,
        Command::Bench(bench) => bench::run(&keys_of(arguments, &bench.within)?, bench, console).await,
        Command::Health(_) => ring::health::run(arguments, console).await,
        Command::Verify(_) => ring::verify::run(&client(arguments)?, console).await,
    }
}

/// A client for the endpoints in the arguments, which connects with its first call.
fn client(arguments: &Arguments) -> Result<Client, Failure> {
    client_of(arguments, &arguments.peer)
}

/// As [`client`], for the keys of a keyspace.
fn keys_of(arguments: &Arguments, within: &Within) -> Result<Client, Failure> {
    Ok(client(arguments)?.in_keyspace(&within.keyspace))
}

/// As [`client`], for other endpoints.
fn client_of(arguments: &Arguments, endpoints: &[String]) -> Result<Client, Failure> {
    let options = Options { timeout: arguments.timeout(), ..Options::default() };
    Client::lazy(endpoints, options).map_err(|error| Failure::usage(error.message()))
}

/// As [`client`], for commands that are about one peer and must not fall over to another.
fn client_of_one(arguments: &Arguments, what: &str) -> Result<Client, Failure> {
    match arguments.peer.as_slice() {
        [_] => client(arguments),
        several => {
            let message = format!("{what} is about one peer, but --peer names {}", several.len());
            Err(Failure::usage(message).hint("give --peer once"))
        }
    }
}
