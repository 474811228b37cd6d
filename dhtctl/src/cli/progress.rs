//! How far a long command is: a bar on a terminal, a line every few seconds off it, nothing in JSON.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    console::Console,
    text::{grouped, span},
};

/// How often a line is written where no bar can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The progress of one command.
pub(crate) struct Progress {
    shown: Shown,
    /// What is counted, in the plural.
    noun: &'static str,
    started: Instant,
    last_line: Instant,
    /// In the unit of `at`, which is not what is counted; none while unknown.
    total: Option<u64>,
}

enum Shown {
    Bar(ProgressBar),
    Lines,
    Nothing,
}

impl Progress {
    /// Nothing is drawn before the first [`Progress::set`].
    pub(crate) fn new(console: &Console, noun: &'static str, total: Option<u64>) -> Self {
        let shown = if console.is_json() {
            Shown::Nothing
        } else if console.stderr_is_terminal {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
            let template = if total.is_some() { "{bar:30} {percent:>3}% {msg}" } else { "{spinner} {msg}" };
            let style = ProgressStyle::with_template(template);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("#>-"));
            Shown::Bar(bar)
        } else {
            Shown::Lines
        };
        Self { shown, noun, started: Instant::now(), last_line: Instant::now(), total }
    }

    /// `counted` are done, which is `at` of the total.
    pub(crate) fn set(&mut self, console: &Console, counted: u64, at: u64) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => {
                bar.set_message(self.message(counted, at));
                bar.set_position(at);
            }
            Shown::Lines if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                let percent = self.total.filter(|total| *total > 0).map(|total| at * 100 / total);
                let percent = percent.map(|percent| format!("{percent}%, ")).unwrap_or_default();
                console.note(&format!("{percent}{}", self.message(counted, at)));
            }
            Shown::Lines => {}
        }
    }

    /// The total is known only now, or has changed.
    pub(crate) fn set_total(&mut self, total: u64) {
        self.total = Some(total);
        if let Shown::Bar(bar) = &self.shown {
            bar.set_length(total);
        }
    }

    /// Prints `message` without breaking the bar.
    pub(crate) fn suspend(&self, print: impl FnOnce()) {
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(print),
            Shown::Lines | Shown::Nothing => print(),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }

    /// The time since it began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn message(&self, counted: u64, at: u64) -> String {
        let seconds = self.elapsed().as_secs_f64();
        let mut message = format!("{} {}", grouped(counted), self.noun);
        if seconds >= 1.0 {
            message.push_str(&format!(", {}/s", rate(counted, self.elapsed())));
            if let Some(left) = self.total.and_then(|total| time_left(seconds, at, total)) {
                message.push_str(&format!(", {} left", span(left)));
            }
        }
        message
    }
}

/// `1,234` or, if slow, `0.4`.
pub(crate) fn rate(counted: u64, elapsed: Duration) -> String {
    let rate = counted as f64 / elapsed.as_secs_f64().max(1e-3);
    if rate < 10.0 { format!("{rate:.1}") } else { grouped(rate as u64) }
}

fn time_left(seconds: f64, at: u64, total: u64) -> Option<Duration> {
    let left = total.checked_sub(at)?;
    (at > 0).then(|| Duration::try_from_secs_f64(seconds * left as f64 / at as f64).ok()).flatten()
}
