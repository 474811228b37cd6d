//! `export`: every key, in the format of import.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use dhtctl::{Client, proto::KeyValue};
use serde_json::json;

use super::{
    args::Export,
    console::Console,
    data::RecordJson,
    failure::{Failure, Outcome},
    kv::write_json_line,
    progress::{Progress, rate},
    text,
};

/// Streams all keys to a file or to stdout.
pub(crate) async fn run(client: &Client, arguments: &Export, console: &Console) -> Outcome {
    let to_stdout = arguments.file == Path::new("-");
    let failed = |error| Failure::call("export is incomplete: it failed", &error);
    let mut messages = client.export().await.map_err(failed)?;
    let sink: Box<dyn Write> = if to_stdout {
        Box::new(io::stdout().lock())
    } else {
        Box::new(File::create(&arguments.file).map_err(|error| file_failure(&arguments.file, &error))?)
    };
    let write_failed = |error: io::Error| {
        if to_stdout { Failure::stdout(&error) } else { file_failure(&arguments.file, &error) }
    };
    let mut out = BufWriter::with_capacity(1 << 16, sink);
    let mut progress = Progress::new(console, "keys", Some(0));
    let mut tally = Tally::default();
    while let Some(message) = messages.next().await.map_err(failed)? {
        for item in &message.items {
            tally.add(item);
            write_item(&mut out, item, arguments.values_only).map_err(write_failed)?;
        }
        // A bar on the terminal that the data goes to would garble both.
        if !(to_stdout && console.stdout_is_terminal) {
            progress.set_total(message.slots_total.into());
            progress.set(console, tally.keys, message.slots_done.into());
        }
    }
    out.flush().map_err(write_failed)?;
    progress.finish();
    if arguments.values_only && tally.with_newline > 0 {
        let values = text::count(tally.with_newline, "value");
        console.warn(&format!("{values} with a newline inside: the lines can't be told apart again"));
    }
    report(&tally, to_stdout, &progress, console)
}

#[derive(Default)]
struct Tally {
    keys: u64,
    bytes: u64,
    with_newline: u64,
}

impl Tally {
    fn add(&mut self, item: &KeyValue) {
        self.keys += 1;
        self.bytes += (item.key.len() + item.value.len()) as u64;
        self.with_newline += u64::from(item.value.contains(&b'\n'));
    }
}

fn write_item(out: &mut impl Write, item: &KeyValue, values_only: bool) -> io::Result<()> {
    if values_only {
        out.write_all(&item.value)?;
        return out.write_all(b"\n");
    }
    write_json_line(out, &RecordJson::new(&item.key, &item.value))
}

fn report(tally: &Tally, to_stdout: bool, progress: &Progress, console: &Console) -> Outcome {
    let elapsed = progress.elapsed();
    if console.is_json() && !to_stdout {
        let seconds = elapsed.as_secs_f64();
        return console.document(&json!({ "exported": tally.keys, "bytes": tally.bytes, "seconds": seconds }));
    }
    let (keys, size) = (text::count(tally.keys, "key"), text::size(tally.bytes));
    console.note(&format!(
        "exported {keys}, {size} in {:.1} s ({}/s)",
        elapsed.as_secs_f64(),
        rate(tally.keys, elapsed)
    ));
    Ok(())
}

fn file_failure(path: &Path, error: &io::Error) -> Failure {
    Failure::io(format!("can't write {}", path.display()), error)
}
