//! Which keys are taken, and what is written.

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Zipf};

use crate::cli::args::{Bench, Distribution};

/// The keys and values of one closed loop. The same seed gives the same ones.
pub(super) struct Draw {
    random: ChaCha8Rng,
    keys: u64,
    prefix: Bytes,
    /// Ranks, the first of which is the most popular; none if all keys are as popular.
    ranks: Option<Zipf<f64>>,
    /// Values are parts of it.
    noise: Bytes,
    value_bytes: usize,
    read_share: f64,
}

impl Draw {
    /// The draw of the loop of this number.
    pub(super) fn new(plan: &Bench, number: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(plan.seed);
        let value_bytes = plan.value_size as usize;
        let noise: Vec<u8> = (0..value_bytes + NOISE).map(|_| random.random()).collect();
        random.set_stream(number + 1);
        let ranks = match plan.distribution {
            Distribution::Uniform => None,
            Distribution::Zipfian => Zipf::new(plan.keys as f64, SKEW).ok(),
        };
        Self {
            random,
            keys: plan.keys,
            prefix: plan.prefix.clone().into(),
            ranks,
            noise: noise.into(),
            value_bytes,
            read_share: plan.read_share,
        }
    }

    /// Any of the keys.
    pub(super) fn key(&mut self) -> Bytes {
        let number = match &self.ranks {
            None => self.random.random_range(0..self.keys),
            // Neighbours in rank are no neighbours among the keys.
            Some(ranks) => scatter(ranks.sample(&mut self.random) as u64 - 1, self.keys),
        };
        key(&self.prefix, number)
    }

    /// Bytes that do not compress, without a copy.
    pub(super) fn value(&mut self) -> Bytes {
        let start = self.random.random_range(0..=self.noise.len() - self.value_bytes);
        self.noise.slice(start..start + self.value_bytes)
    }

    /// Whether a mixed load reads next.
    pub(super) fn reads(&mut self) -> bool {
        self.random.random_bool(self.read_share)
    }
}

/// The key of a number.
pub(super) fn key(prefix: &[u8], number: u64) -> Bytes {
    let mut key = prefix.to_vec();
    key.extend_from_slice(format!("{number:012}").as_bytes());
    key.into()
}

/// A number below `count` for each number below it, each once if `count` is no multiple of the prime.
fn scatter(number: u64, count: u64) -> u64 {
    ((u128::from(number) * u128::from(PRIME)) % u128::from(count.max(1))) as u64
}

/// YCSB's (Cooper et al., *Benchmarking cloud serving systems with YCSB*, SoCC 2010).
const SKEW: f64 = 0.99;

/// Bytes by which values differ in where they begin.
const NOISE: usize = 4096;

/// Any large prime.
const PRIME: u64 = 2_654_435_761;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use clap::Parser;

    use super::*;
    use crate::cli::args::{Arguments, Command};

    fn plan(more: &[&str]) -> Bench {
        let all = ["dhtctl", "bench", "mixed", "--keys", "1000"].iter().chain(more);
        match Arguments::try_parse_from(all).expect("clap takes it").command {
            Command::Bench(plan) => plan,
            _ => panic!("it says bench"),
        }
    }

    fn counts(plan: &Bench, draws: usize) -> Vec<usize> {
        let mut draw = Draw::new(plan, 0);
        let mut counts = BTreeMap::<Bytes, usize>::new();
        (0..draws).for_each(|_| *counts.entry(draw.key()).or_default() += 1);
        let mut counts: Vec<usize> = counts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts
    }

    #[test]
    fn zipfian_keys_are_a_few_popular_ones_and_many_that_are_not() {
        let (even, skewed) = (counts(&plan(&[]), 100_000), counts(&plan(&["--distribution", "zipfian"]), 100_000));
        assert!(even.len() == 1000 && even[0] < 200, "{}", even[0]);
        // The first of 1,000 has 1 / H(1000, 0.99) = 13 % of all, the second half of that to the power 0.99.
        assert!((12_000..15_000).contains(&skewed[0]), "{}", skewed[0]);
        assert!((6_000..7_800).contains(&skewed[1]), "{}", skewed[1]);
    }

    #[test]
    fn the_same_seed_draws_the_same_and_loops_differ() {
        let plan = plan(&["--seed", "7"]);
        let draw = |number| {
            let mut draw = Draw::new(&plan, number);
            (0..9).map(|_| (draw.key(), draw.value(), draw.reads())).collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
        assert!(draw(3).iter().all(|(key, value, _)| key.len() == 18 && value.len() == 100));
    }

    #[test]
    fn scattered_ranks_are_all_keys() {
        let numbers: BTreeSet<u64> = (0..1000).map(|rank| scatter(rank, 1000)).collect();
        assert_eq!(numbers.len(), 1000);
    }
}
