//! The lines of a file, read and parsed by a thread of their own.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    thread,
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::record::Layout;
use crate::cli::failure::Failure;

/// No line with a value that a peer takes is longer: 4 MiB of control characters make 24 MiB of JSON.
const MAX_LINE_BYTES: u64 = 32 << 20;

/// A file to be imported.
pub(crate) struct Source {
    path: PathBuf,
    input: Box<dyn Read + Send>,
    size: Option<u64>,
}

/// A line that holds something.
#[derive(Debug)]
pub(crate) struct Line {
    /// Counted from 1.
    pub(crate) number: u64,
    /// How many bytes of the file have been read with it.
    pub(crate) end: u64,
    /// Its key and value, or what is wrong with it.
    pub(crate) parsed: Result<(Bytes, Bytes), String>,
}

impl Source {
    /// Opens a file, or stdin for `-`.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self { path: "stdin".into(), input: Box::new(io::stdin()), size: None });
        }
        let failed = |error: io::Error| {
            let message = format!("can't read {}", path.display());
            Failure::io(message, &error)
        };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(Failure::usage(format!("{} is a directory", path.display())));
        }
        let size = metadata.is_file().then_some(metadata.len());
        Ok(Self { path: path.to_owned(), input: Box::new(file), size })
    }

    /// The size in bytes, where it is known beforehand.
    pub(crate) fn size(&self) -> Option<u64> {
        self.size
    }

    /// Starts reading, at most `ahead` lines ahead. Empty lines are left out. An error is the last thing to come.
    pub(crate) fn lines(self, layout: Layout, ahead: usize) -> Result<mpsc::Receiver<Result<Line, Failure>>, Failure> {
        let (sender, receiver) = mpsc::channel(ahead);
        let read = move || {
            let failed = |error| Failure::io(format!("can't read on in {}", self.path.display()), &error);
            let outcome = read_lines(BufReader::with_capacity(1 << 18, self.input), &layout, &sender);
            if let Err(error) = outcome {
                // If the receiver is gone, nobody wants to know.
                _ = sender.blocking_send(Err(failed(error)));
            }
        };
        thread::Builder::new()
            .name("import-reader".into())
            .spawn(read)
            .map_err(|error| Failure::io("can't start a thread", &error))?;
        Ok(receiver)
    }
}

fn read_lines(mut input: impl BufRead, layout: &Layout, lines: &mpsc::Sender<Result<Line, Failure>>) -> io::Result<()> {
    let (mut number, mut end) = (0, 0);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = input.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes)? as u64;
        if read == 0 {
            return Ok(());
        }
        number += 1;
        end += read;
        if read == MAX_LINE_BYTES && !bytes.ends_with(b"\n") {
            return Err(io::Error::other(format!("line {number} is longer than {} MiB", MAX_LINE_BYTES >> 20)));
        }
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        if line.trim_ascii().is_empty() {
            continue;
        }
        let line = Line { number, end, parsed: layout.parse(line) };
        if lines.blocking_send(Ok(line)).is_err() {
            return Ok(()); // The import has stopped.
        }
    }
}
