//! How long keys are not served when a peer of a ring of real processes in chain mode is killed, stopped, or joins and
//! departs.

use std::time::Duration;

use clap::Parser;
use dht_tests::{
    process::Ring,
    torture::outage::{Change, Long, Outages, Probes},
};

/// How long keys are not served when a peer of a ring of real processes in chain mode is killed, stopped, or joins and
/// departs. Every 20 ms each key is written and read, through peers that stay.
#[derive(Parser)]
struct Arguments {
    /// How many peers.
    #[arg(long, default_value_t = 5)]
    peers: usize,
    /// How many keys.
    #[arg(long, default_value_t = 12)]
    keys: usize,
    /// How often a peer is killed, each in turn.
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// How often a peer is told to stop, each in turn.
    #[arg(long, default_value_t = 5)]
    stops: usize,
    /// How often a peer joins and departs.
    #[arg(long, default_value_t = 3)]
    joins: usize,
    /// Print what the peers log about slots that are not served for long.
    #[arg(long)]
    explain: bool,
}

#[tokio::main]
async fn main() {
    let Arguments { peers, keys, kills, stops, joins, explain } = Arguments::parse();
    let arguments: &[&str] = if explain { &["--log", "info,dhtd=debug"] } else { &[] };
    let mut ring = Ring::start(peers, &[], arguments).await;
    let probes = Probes::start(&ring, keys);
    let nothing = probes.during(&mut ring, Change::JoinAndDepart).await;
    print("first join and departure", &nothing);
    let mut killed = Outages::default();
    for kill in 0..kills {
        let outages = probes.during(&mut ring, Change::Kill(kill % peers)).await;
        print(&format!("kill {}", kill + 1), &outages);
        add(&mut killed, outages);
    }
    let mut stopped = Outages::default();
    for stop in 0..stops {
        let outages = probes.during(&mut ring, Change::Stop(stop % peers)).await;
        print(&format!("stop {}", stop + 1), &outages);
        add(&mut stopped, outages);
    }
    let mut planned = Outages::default();
    for join in 0..joins {
        let outages = probes.during(&mut ring, Change::JoinAndDepart).await;
        print(&format!("join and departure {}", join + 1), &outages);
        add(&mut planned, outages);
    }
    print("all kills", &killed);
    print("all stops", &stopped);
    print("all joins and departures", &planned);
    probes.stop().await;
}

fn add(sum: &mut Outages, one: Outages) {
    sum.writes.extend(one.writes);
    sum.writes_elsewhere.extend(one.writes_elsewhere);
    sum.reads.extend(one.reads);
    sum.reads_elsewhere.extend(one.reads_elsewhere);
    sum.failed_reads_elsewhere += one.failed_reads_elsewhere;
}

fn print(what: &str, outages: &Outages) {
    let Outages { writes, long, writes_elsewhere, reads, reads_elsewhere, failed_reads_elsewhere } = outages;
    println!("{what}:");
    println!("  keys of which it held a replica: no write for {}; no read for {}", spread(writes), spread(reads));
    println!(
        "  other keys: no write for {}; reads took {}, {failed_reads_elsewhere} failed",
        spread(writes_elsewhere),
        spread(reads_elsewhere)
    );
    for Long { slot, after, gap, log } in long {
        println!("  slot {slot}: no write for {} ms from {} ms on", gap.as_millis(), after.as_millis());
        log.iter().for_each(|line| println!("    {line}"));
    }
}

/// Median, and the longest.
fn spread(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    match times.last() {
        Some(last) => {
            let median = times[times.len() / 2].as_millis();
            format!("{median} ms (at most {} ms, of {})", last.as_millis(), times.len())
        }
        None => "-".to_owned(),
    }
}
