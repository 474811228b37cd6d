//! `import`: many keys from a file of JSON lines.
//!
//! A thread reads and parses lines; the engine keeps a bounded number of writes in flight; this puts both together and
//! says how it went.

mod engine;
mod reader;
mod record;
mod writer;

use std::path::Path;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use self::record::Layout;
use self::{
    engine::{Ending, Engine, Report},
    reader::Source,
};
use super::{
    args::{Arguments, Import},
    console::Console,
    failure::{Failure, Outcome},
    keys_of,
    progress::{Progress, rate},
    text,
};

/// Imports a file; handles Ctrl-C by itself, because what is in flight must be awaited and counted.
pub(crate) async fn run(arguments: &Arguments, import: &Import, console: &Console) -> Outcome {
    let source = Source::open(&import.file)?;
    let mut interrupts =
        signal(SignalKind::interrupt()).map_err(|error| Failure::io("can't listen for signals", &error))?;
    let client = keys_of(arguments, &import.within)?;
    // If there is no peer at all, it is better said now than after every key has been tried again and again.
    tokio::select! {
        connected = client.ready() => connected.map_err(|error| Failure::call("can't import", &error))?,
        _ = interrupts.recv() => return Err(Failure::interrupted()),
    }
    let layout = match &import.key_field {
        Some(field) => Layout::Documents { key_field: field.clone() },
        None => Layout::Records,
    };
    let progress = Progress::new(console, "lines", source.size());
    let lines = source.lines(layout, usize::from(import.concurrency))?;
    let engine = Engine::new(client, arguments.timeout(), import, console, progress);
    let report = engine.run(lines, interrupts).await;
    print(&report, console)?;
    conclude(report, import)
}

fn print(report: &Report, console: &Console) -> Outcome {
    let counts = &report.counts;
    if console.is_json() {
        return console.document(&json!({
            "inserted": counts.inserted,
            "replaced": counts.replaced,
            "skipped": counts.skipped,
            "failed": counts.failed,
            "lines": report.last_line,
            "done_up_to_line": report.done_up_to,
            "complete": matches!(report.ending, Ending::Complete),
            "seconds": report.elapsed.as_secs_f64(),
        }));
    }
    console.note(&format!(
        "{} inserted, {} replaced, {} skipped, {} failed in {:.1} s ({}/s)",
        text::grouped(counts.inserted),
        text::grouped(counts.replaced),
        text::grouped(counts.skipped),
        text::grouped(counts.failed),
        report.elapsed.as_secs_f64(),
        rate(counts.inserted + counts.replaced + counts.skipped, report.elapsed),
    ));
    if !matches!(report.ending, Ending::Complete) {
        console.note(&format!("everything up to line {} is done", text::grouped(report.done_up_to)));
    }
    Ok(())
}

/// What the command ends with: the failure of the first line that failed decides the exit code.
fn conclude(report: Report, import: &Import) -> Outcome {
    let resume = resume_hint(&import.file, report.done_up_to);
    let failed = report.counts.failed;
    match (report.ending, report.first_failure) {
        (Ending::Interrupted, _) => Err(Failure::interrupted().hint(resume)),
        (Ending::Unreadable(failure), _) => Err(failure.hint(resume)),
        // Nothing stops an import but a failed line.
        (Ending::Complete | Ending::Stopped, None) => Ok(()),
        (Ending::Stopped, Some((line, failure))) => {
            let place = format!("line {line}");
            Err(failure.at(&place).hint(format!("{resume}; or leave bad lines out: --on-error skip")))
        }
        (Ending::Complete, Some((line, failure))) => {
            let place = format!("{}, the first of them line {line}", text::count(failed, "failed line"));
            Err(failure.at(&place))
        }
    }
}

fn resume_hint(file: &Path, done_up_to: u64) -> String {
    if done_up_to == 0 {
        return "to go on, begin at the first line again".into();
    }
    if file == Path::new("-") {
        return format!("to go on, leave out the first {}", text::count(done_up_to, "line"));
    }
    format!("to go on, with the same options: tail -n +{} {} | dhtctl import -", done_up_to + 1, file.display())
}
