//! The command-line tool of dhtd. `dhtctl help` says what it can do.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
