//! What a load has shown, for people and for programs.

use std::{fmt::Write as _, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::load::Seen;
use crate::cli::{
    args::{Bench, BenchWay},
    progress::rate,
    text::{grouped, micros},
};

/// A load as a whole.
#[derive(Serialize)]
pub(super) struct Report {
    workload: &'static str,
    way: &'static str,
    /// Operations in a call.
    batch: u32,
    in_flight: u32,
    /// Operations per second that were to be begun; none: as many as are answered.
    rate: Option<f64>,
    peers: usize,
    keys: u64,
    value_bytes: u32,
    seconds: f64,
    operations: u64,
    missing: u64,
    failed: u64,
    operations_per_second: f64,
    latency_us: Latency,
    series: Vec<Second>,
}

/// Of calls that were answered.
#[derive(Serialize)]
struct Latency {
    mean: f64,
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    p9999: u64,
    max: u64,
}

/// What was seen between two looks.
#[derive(Serialize)]
pub(super) struct Second {
    /// Seconds since the load began.
    at: f64,
    pub(super) operations: u64,
    pub(super) failed: u64,
    operations_per_second: f64,
    p50_us: u64,
    p99_us: u64,
    max_us: u64,
}

impl Second {
    /// The columns of [`Second::csv`].
    pub(super) const HEADER: &'static str = "at,operations,failed,operations_per_second,p50_us,p99_us,max_us";

    pub(super) fn new(at: Duration, span: Duration, seen: &Seen) -> Self {
        Self {
            at: at.as_secs_f64(),
            operations: seen.operations,
            failed: seen.failed,
            operations_per_second: per_second(seen.operations, span),
            p50_us: seen.latency.value_at_quantile(0.5),
            p99_us: seen.latency.value_at_quantile(0.99),
            max_us: seen.latency.max(),
        }
    }

    pub(super) fn csv(&self) -> String {
        let Self { at, operations, failed, operations_per_second, p50_us, p99_us, max_us } = self;
        format!("{at:.3},{operations},{failed},{operations_per_second:.1},{p50_us},{p99_us},{max_us}")
    }
}

impl Latency {
    fn new(seen: &Histogram<u64>) -> Self {
        let at = |quantile| seen.value_at_quantile(quantile);
        Self {
            mean: seen.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: seen.max(),
        }
    }
}

impl Report {
    pub(super) fn new(plan: &Bench, peers: usize, time: Duration, seen: &Seen, series: Vec<Second>) -> Self {
        let batch = if plan.way == BenchWay::Batch { plan.batch_size } else { 1 };
        Self {
            workload: plan.workload.name(),
            way: plan.way.name(),
            batch,
            in_flight: plan.in_flight,
            rate: plan.rate,
            peers,
            keys: plan.keys,
            value_bytes: plan.value_size,
            seconds: time.as_secs_f64(),
            operations: seen.operations,
            missing: seen.missing,
            failed: seen.failed,
            operations_per_second: per_second(seen.operations, time),
            latency_us: Latency::new(&seen.latency),
            series,
        }
    }

    pub(super) fn table(&self) -> String {
        let Self { workload, way, batch, in_flight, peers, keys, value_bytes, latency_us, .. } = self;
        let mut text = String::new();
        let calls = match (*way, self.rate) {
            ("batch", _) => format!("{in_flight} batches of {batch} in flight"),
            (_, _) => format!("{in_flight} in flight"),
        };
        let rated = self.rate.map(|rate| format!(", {rate} per second wanted")).unwrap_or_default();
        let over = if *peers == 1 { "1 peer".to_owned() } else { format!("{peers} peers") };
        let keys = grouped(*keys);
        _ = writeln!(
            text,
            "{workload}, {way}, {calls}{rated}, over {over}; {keys} keys, values of {value_bytes} bytes"
        );
        let time = Duration::from_secs_f64(self.seconds);
        let (done, failed) = (grouped(self.operations), grouped(self.failed));
        _ = writeln!(
            text,
            "{:<12} {done} in {:.1} s: {} per second",
            "operations",
            self.seconds,
            rate(self.operations, time)
        );
        if self.missing > 0 {
            _ = writeln!(text, "{:<12} {}", "no such key", grouped(self.missing));
        }
        _ = writeln!(text, "{:<12} {failed}", "failed");
        let Latency { mean, p50, p90, p99, p999, p9999, max } = latency_us;
        let rows = [("mean", *mean as u64), ("p50", *p50), ("p90", *p90), ("p99", *p99), ("p99.9", *p999)];
        for (name, us) in rows.into_iter().chain([("p99.99", *p9999), ("max", *max)]) {
            _ = writeln!(text, "{name:<12} {}", micros(us));
        }
        text
    }
}

fn per_second(operations: u64, time: Duration) -> f64 {
    operations as f64 / time.as_secs_f64().max(1e-6)
}
