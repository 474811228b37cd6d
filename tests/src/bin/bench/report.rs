//! Figures for people and for programs.

use std::{fmt::Write, time::Duration};

use serde_json::{Value, json};

use crate::load::{Done, KEY_BYTES, Load, Operation, VALUE_BYTES, Way};

/// What was measured of a ring of one size.
pub(crate) struct Report {
    pub(crate) peers: usize,
    pub(crate) min_durable: u32,
    pub(crate) fsync: String,
    /// `tmpfs` or `disk`.
    pub(crate) store: &'static str,
    pub(crate) rounds: usize,
    pub(crate) time: Duration,
    /// CPU time of all peers for each second in which nobody asks anything.
    pub(crate) idle: Duration,
    pub(crate) cases: Vec<Case>,
}

/// One kind of load on both.
pub(crate) struct Case {
    operation: &'static str,
    way: &'static str,
    /// Operations in a message; none: as many as wait.
    batch: Option<usize>,
    in_flight: usize,
    /// One for each round.
    pub(crate) ring: Vec<Side>,
    /// As `ring`.
    pub(crate) echo: Vec<Side>,
}

/// One measurement.
pub(crate) struct Side {
    per_second: f64,
    /// CPU time of all servers for each operation, in microseconds.
    cpu_us: f64,
    /// The same of this process.
    client_us: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Operation {
    pub(crate) fn min_durable(self) -> u32 {
        match self {
            Self::Put { min_durable } => min_durable,
            Self::Get => 0,
        }
    }
}

impl Case {
    pub(crate) fn new(load: &Load) -> Self {
        let operation = if load.operation == Operation::Get { "get" } else { "put" };
        let (way, batch) = match load.way {
            Way::Unary => ("unary", Some(1)),
            Way::Stream => ("stream", None),
            Way::Batch(size) => ("batch", Some(size)),
            Way::Pipeline(_) => ("pipeline", None),
            Way::BatchRpc(size, _) => ("batch-rpc", Some(size)),
        };
        Self { operation, way, batch, in_flight: load.in_flight, ring: Vec::new(), echo: Vec::new() }
    }

    /// A figure of the ring over that of the echo, round by round.
    fn ratio(&self, of: fn(&Side) -> f64) -> Spread {
        Spread::new(self.ring.iter().zip(&self.echo).map(|(ring, echo)| of(ring) / of(echo).max(f64::MIN_POSITIVE)))
    }
}

impl Side {
    pub(crate) fn new(done: &Done, servers: Duration, client: Duration) -> Self {
        let operations = done.operations.max(1) as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / operations;
        Self {
            per_second: done.operations as f64 / done.elapsed.as_secs_f64(),
            cpu_us: each(servers),
            client_us: each(client),
            p50_us: percentile(&done.latencies, 0.50),
            p99_us: percentile(&done.latencies, 0.99),
        }
    }
}

/// The smallest value that at least the share `p` of all does not exceed.
fn percentile(ascending: &[u32], p: f64) -> f64 {
    let rank = (p * ascending.len() as f64).ceil() as usize;
    ascending.get(rank.saturating_sub(1)).copied().map_or(f64::NAN, f64::from)
}

/// One figure over all rounds.
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn new(figures: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.collect();
        sorted.sort_by(f64::total_cmp);
        let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
        Self { min: at(0), median: at(sorted.len() / 2), max: at(sorted.len().wrapping_sub(1)) }
    }

    fn of(sides: &[Side], figure: fn(&Side) -> f64) -> Self {
        Self::new(sides.iter().map(figure))
    }

    fn json(&self) -> Value {
        json!({ "min": self.min, "median": self.median, "max": self.max })
    }
}

impl Report {
    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let Self { peers, min_durable, fsync, store, rounds, .. } = self;
        let (time, idle) = (self.time.as_secs_f64(), self.idle.as_secs_f64() * 1e3);
        let ring = if *peers == 1 { "1 peer".to_owned() } else { format!("{peers} peers") };
        let _ = writeln!(
            text,
            "{ring}, keys of {KEY_BYTES} and values of {VALUE_BYTES} bytes, min_durable {min_durable}, fsync {fsync}, \
             on {store}; {rounds} rounds of {time} s\nmedians, (min-max); at rest the ring uses {idle:.1} ms of CPU per second"
        );
        let _ = writeln!(
            text,
            "{:18} {:>9} {:>9} {:>19} {:>17} {:>9} {:>19} {:>9} {:>9} {:>9}",
            "",
            "RING op/s",
            "ECHO op/s",
            "RING/ECHO",
            "RING CPU us/op",
            "ECHO CPU",
            "RING/ECHO",
            "CLIENT",
            "p50 ms",
            "p99 ms"
        );
        for case in &self.cases {
            let size = case.batch.filter(|size| *size > 1).map_or_else(String::new, |size| format!(" x {size}"));
            let name = format!("{} {} {}{size}", case.operation, case.way, case.in_flight);
            let ring = |figure| Spread::of(&case.ring, figure).median;
            let (rate, cpu) = (case.ratio(|side| side.per_second), case.ratio(|side| side.cpu_us));
            let cpu_us = Spread::of(&case.ring, |side| side.cpu_us);
            let _ = writeln!(
                text,
                "{name:18} {:>9.0} {:>9.0} {:>19} {:>17} {:>9.1} {:>19} {:>9.1} {:>9.2} {:>9.2}",
                ring(|side| side.per_second),
                Spread::of(&case.echo, |side| side.per_second).median,
                format!("{:.2} ({:.2}-{:.2})", rate.median, rate.min, rate.max),
                format!("{:.1} ({:.0}-{:.0})", cpu_us.median, cpu_us.min, cpu_us.max),
                Spread::of(&case.echo, |side| side.cpu_us).median,
                format!("{:.1} ({:.1}-{:.1})", cpu.median, cpu.min, cpu.max),
                ring(|side| side.client_us),
                ring(|side| side.p50_us) / 1e3,
                ring(|side| side.p99_us) / 1e3,
            );
        }
        text
    }

    /// For programs: one line.
    pub(crate) fn json(&self) -> Value {
        let side = |sides: &[Side]| {
            json!({
                "operations_per_second": Spread::of(sides, |side| side.per_second).json(),
                "server_cpu_us": Spread::of(sides, |side| side.cpu_us).json(),
                "client_cpu_us": Spread::of(sides, |side| side.client_us).json(),
                "latency_p50_us": Spread::of(sides, |side| side.p50_us).json(),
                "latency_p99_us": Spread::of(sides, |side| side.p99_us).json(),
            })
        };
        let case = |case: &Case| {
            json!({
                "operation": case.operation,
                "way": case.way,
                "operations_per_message": case.batch,
                "in_flight": case.in_flight,
                "ring": side(&case.ring),
                "echo": side(&case.echo),
                "ring_over_echo": {
                    "operations_per_second": case.ratio(|side| side.per_second).json(),
                    "server_cpu_us": case.ratio(|side| side.cpu_us).json(),
                },
            })
        };
        json!({
            "peers": self.peers,
            "key_bytes": KEY_BYTES,
            "value_bytes": VALUE_BYTES,
            "min_durable": self.min_durable,
            "fsync": self.fsync,
            "store": self.store,
            "rounds": self.rounds,
            "seconds": self.time.as_secs_f64(),
            "idle_cpu_us_per_second": self.idle.as_secs_f64() * 1e6,
            "cases": self.cases.iter().map(case).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_medians_are_values_that_were_measured() {
        let latencies: Vec<u32> = (1..=100).collect();
        assert_eq!((percentile(&latencies, 0.50), percentile(&latencies, 0.99)), (50.0, 99.0));
        assert_eq!(percentile(&[7], 0.99), 7.0);
        let spread = Spread::new([3.0, 1.0, 2.0].into_iter());
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.0, 3.0));
    }
}
