//! Writes in flight: a bounded number of them, never two of the same key, and a record of what is done.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use bytes::Bytes;
use dhtctl::{Client, ErrorKind};
use tokio::{signal::unix::Signal, sync::mpsc, task::JoinSet};

use super::{
    reader::Line,
    writer::{Done, Writer, Written},
};
use crate::cli::{
    args::{Import, OnError},
    console::Console,
    failure::Failure,
    progress::Progress,
    text,
};

/// How many failed lines are spelled out; a file of the wrong format has millions.
const MAX_REPORTED: u64 = 20;

/// How often the progress is looked at; what is drawn is decided there.
const TICK: Duration = Duration::from_millis(200);

/// How an import went.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) counts: Counts,
    /// The last line that was looked at.
    pub(crate) last_line: u64,
    /// All lines up to this one are written, skipped or (with `--on-error skip`) reported.
    pub(crate) done_up_to: u64,
    /// The failed line with the lowest number.
    pub(crate) first_failure: Option<(u64, Failure)>,
    pub(crate) ending: Ending,
    pub(crate) elapsed: Duration,
}

/// What became of the lines.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) inserted: u64,
    pub(crate) replaced: u64,
    pub(crate) skipped: u64,
    pub(crate) failed: u64,
}

/// Why an import ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The file is at its end.
    Complete,
    /// A line failed.
    Stopped,
    Interrupted,
    Unreadable(Failure),
}

/// Carries out one import.
pub(crate) struct Engine<'a> {
    writer: Writer,
    import: &'a Import,
    console: &'a Console,
    progress: Progress,
    writes: JoinSet<Written>,
    /// Lines with the same key must be written in their order, so a key is in flight only once.
    keys: HashSet<Bytes>,
    /// Lines that have been taken on and are not done.
    open: BTreeSet<u64>,
    /// Why no further line is taken on.
    ending: Option<Ending>,
    counts: Counts,
    last_line: u64,
    last_end: u64,
    first_failure: Option<(u64, Failure)>,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(
        client: Client,
        timeout: Duration,
        import: &'a Import,
        console: &'a Console,
        progress: Progress,
    ) -> Self {
        Self {
            writer: Writer::new(&client, timeout, import.on_duplicate, import.min_durable),
            import,
            console,
            progress,
            writes: JoinSet::new(),
            keys: HashSet::new(),
            open: BTreeSet::new(),
            ending: None,
            counts: Counts::default(),
            last_line: 0,
            last_end: 0,
            first_failure: None,
        }
    }

    /// Writes all `lines`. What was sent when it stops, for whatever reason, is awaited.
    pub(crate) async fn run(
        mut self,
        mut lines: mpsc::Receiver<Result<Line, Failure>>,
        mut interrupts: Signal,
    ) -> Report {
        let limit = usize::from(self.import.concurrency);
        let mut held: Option<Line> = None;
        let mut tick = tokio::time::interval(TICK);
        loop {
            if let Some(line) = held.take_if(|line| self.ending.is_some() || !self.is_in_flight(line)) {
                self.take_on(line);
            }
            if self.ending.is_some() && self.writes.is_empty() {
                break;
            }
            let wants_line = self.ending.is_none() && held.is_none() && self.writes.len() < limit;
            tokio::select! {
                Some(()) = interrupts.recv() => if !self.interrupt() { break },
                Some(written) = self.writes.join_next() => self.finish(written),
                line = lines.recv(), if wants_line => match line {
                    Some(Ok(line)) => held = Some(line),
                    Some(Err(failure)) => self.ending = Some(Ending::Unreadable(failure)),
                    None => self.ending = Some(Ending::Complete),
                },
                _ = tick.tick() => self.progress.set(self.console, self.done(), self.last_end),
            }
        }
        self.report()
    }

    fn is_in_flight(&self, line: &Line) -> bool {
        line.parsed.as_ref().is_ok_and(|(key, _)| self.keys.contains(key))
    }

    fn take_on(&mut self, line: Line) {
        self.open.insert(line.number);
        if self.ending.is_some() {
            return;
        }
        (self.last_line, self.last_end) = (line.number, line.end);
        match line.parsed {
            Ok((key, value)) => {
                self.keys.insert(key.clone());
                self.writes.spawn(self.writer.clone().write(line.number, key, value));
            }
            Err(message) => self.failed(line.number, Failure::new(ErrorKind::Failure, message)),
        }
    }

    fn finish(&mut self, written: Result<Written, tokio::task::JoinError>) {
        // Writes are neither cancelled nor do they panic.
        let Ok(Written { line, key, outcome }) = written else { return };
        self.keys.remove(&key);
        match outcome {
            Ok(Done::Inserted) => self.counts.inserted += 1,
            Ok(Done::Replaced) => self.counts.replaced += 1,
            Ok(Done::Skipped) => self.counts.skipped += 1,
            Err(failure) => return self.failed(line, failure),
        }
        self.open.remove(&line);
    }

    fn failed(&mut self, line: u64, failure: Failure) {
        self.counts.failed += 1;
        match self.import.on_error {
            OnError::Skip => {
                self.open.remove(&line);
                self.warn(line, &failure);
            }
            OnError::Stop if self.ending.is_none() => self.ending = Some(Ending::Stopped),
            OnError::Stop => {}
        }
        if self.first_failure.as_ref().is_none_or(|(first, _)| line < *first) {
            self.first_failure = Some((line, failure));
        }
    }

    fn warn(&self, line: u64, failure: &Failure) {
        self.progress.suspend(|| match self.counts.failed {
            ..=MAX_REPORTED => self.console.warn(&format!("line {line}: {}", failure.line())),
            count if count == MAX_REPORTED + 1 => self.console.warn("more lines failed; they are only counted"),
            _ => {}
        });
    }

    /// Takes on nothing more; false at the second Ctrl-C, when the user does not want to wait either.
    fn interrupt(&mut self) -> bool {
        if matches!(self.ending, Some(Ending::Interrupted)) {
            return false;
        }
        self.ending = Some(Ending::Interrupted);
        if self.writes.is_empty() {
            return true;
        }
        let flight = text::count(self.writes.len() as u64, "write");
        self.progress.suspend(|| {
            self.console.note(&format!("interrupted; waiting for {flight} in flight (again Ctrl-C: don't wait)"));
        });
        true
    }

    fn done(&self) -> u64 {
        self.counts.inserted + self.counts.replaced + self.counts.skipped + self.counts.failed
    }

    fn report(self) -> Report {
        self.progress.finish();
        Report {
            counts: self.counts,
            last_line: self.last_line,
            done_up_to: self.open.first().map_or(self.last_line, |line| line - 1),
            first_failure: self.first_failure,
            ending: self.ending.unwrap_or(Ending::Complete),
            elapsed: self.progress.elapsed(),
        }
    }
}
