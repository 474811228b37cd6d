//! `dhtd`: arguments, configuration, server, exit code.

use std::{io::Write, process::ExitCode};

use dhtd::{
    config::{self, Args, Command, Config, Invocation, LogFormat, ReadError, Settings},
    dev,
    server::{Server, ServerError, worker_threads},
    systemd,
};
use tokio::{
    io::AsyncReadExt,
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::EnvFilter;

/// musl's own takes one thread at a time (decision 0009).
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Invocation { args, settings } = match config::read(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(ReadError::Usage(error)) => error.exit(),
        Err(error) => return fail(&error.to_string(), EX_CONFIG),
    };
    if let Err(message) = start_logging(&args) {
        return fail(&message, EX_USAGE);
    }
    match args.command {
        Command::Run(args) => {
            let (check, print) = (args.check_config, args.print_config);
            match Config::try_from(args) {
                Ok(_) if print => print_settings(&settings),
                Ok(_) if check => ExitCode::SUCCESS,
                Ok(config) => block_on(run(config)),
                Err(error) => fail(&format!("{error}{}", settings.origins(error.settings())), EX_CONFIG),
            }
        }
        Command::Dev(args) => block_on(async {
            dev::run(args).await.map_or_else(|error| fail(&error.to_string(), 1), |()| ExitCode::SUCCESS)
        }),
    }
}

fn block_on(work: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(worker_threads()).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}"), EX_OSERR),
    };
    let code = runtime.block_on(work);
    // A read of standard input may never end; nothing waits for it.
    runtime.shutdown_background();
    code
}

fn print_settings(settings: &Settings) -> ExitCode {
    match std::io::stdout().write_all(settings.to_string().as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("cannot write to standard output: {error}"), EX_IOERR),
    }
}

async fn run(config: Config) -> ExitCode {
    let stop_with_stdin = config.stop_with_stdin;
    // Before anything runs: a signal that comes while the peer starts must not kill it half-way.
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return fail("cannot listen to signals", EX_OSERR);
    };
    let mut server = match Server::start(config).await {
        Ok(server) => server,
        Err(error) => return fail(&error.to_string(), code_of(&error)),
    };
    tracing::info!(address = %server.address(), "serving");
    let telling = tokio::spawn(systemd::tell(server.phase(), server.pulse()));
    tokio::select! {
        // Signals first: Ctrl-C in a terminal also ends who holds our input, and is not to be taken for a second signal.
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = end_of_stdin(), if stop_with_stdin => {}
        ended = server.ended() => return match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string(), code_of(&error)),
        },
    }
    telling.abort();
    systemd::tell_stopping();
    tracing::info!("stopping; a second signal stops at once");
    tokio::select! {
        stopped = server.stop() => match stopped {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string(), code_of(&error)),
        },
        _ = terminate.recv() => ExitCode::FAILURE,
        _ = interrupt.recv() => ExitCode::FAILURE,
    }
}

async fn end_of_stdin() {
    let mut byte = [0; 64];
    while tokio::io::stdin().read(&mut byte).await.is_ok_and(|count| count > 0) {}
}

fn start_logging(args: &Args) -> Result<(), String> {
    let filter = EnvFilter::try_new(&args.log).map_err(|error| format!("--log: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match args.log_format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

fn fail(message: &str, code: u8) -> ExitCode {
    // Nobody may be listening any more.
    let _ = writeln!(std::io::stderr(), "error: {message}");
    ExitCode::from(code)
}

fn code_of(error: &ServerError) -> u8 {
    match error {
        ServerError::Listen { .. } => EX_UNAVAILABLE,
        ServerError::DataDir(_) | ServerError::Store { .. } | ServerError::NotFounded(_) => EX_IOERR,
        ServerError::NoRing(_) => EX_USAGE,
        ServerError::FoundedOtherwise { .. }
        | ServerError::AgreedOtherwise { .. }
        | ServerError::Departed(_)
        | ServerError::GivenUp { .. } => EX_CONFIG,
        ServerError::Serve(_) => EX_SOFTWARE,
    }
}

/// As clap's: wrong usage.
const EX_USAGE: u8 = 2;
/// The rest is sysexits.h's.
const EX_UNAVAILABLE: u8 = 69;
const EX_SOFTWARE: u8 = 70;
const EX_OSERR: u8 = 71;
const EX_IOERR: u8 = 74;
const EX_CONFIG: u8 = 78;
