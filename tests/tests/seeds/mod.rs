//! Running a claim over many seeds.

use std::ops::Range;

use dht_tests::sim::scenario::Failure;

/// Runs the seeds, or the one that is asked for; all that fail are printed.
pub(crate) fn for_seeds<T>(seeds: Range<u64>, run: impl Fn(u64) -> Result<T, Failure>) {
    let asked = std::env::var("DHT_SEED").ok().map(|seed| seed.parse::<u64>().expect("DHT_SEED is a number"));
    let seeds = asked.map_or(seeds, |seed| seed..seed + 1);
    let failures: Vec<String> = seeds.filter_map(|seed| run(seed).err()).map(|failure| failure.to_string()).collect();
    assert!(failures.is_empty(), "replay one with DHT_SEED=<seed>\n{}", failures.join("\n"));
}
