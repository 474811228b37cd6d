//! `dhtctl bench` against a ring of real processes, and reads that go to the tail alone.

use std::fs;

use dht_tests::process::{FEW_SLOTS, Ring, dhtctl, eventually};
use serde_json::Value;

const NODES: &[&str] = &["--nodes", "4"];

async fn ring(args: &[&str]) -> Ring {
    let ring = Ring::start(3, FEW_SLOTS, &[NODES, args].concat()).await;
    let client = ring.client();
    eventually("writes are on three disks", async || {
        let keys = (0..64).map(|number| format!("key {number}"));
        let writes = keys.map(|key| dhtctl::Write::put(key, "value").min_durable(3));
        client.batch_write(writes).await.iter().all(Result::is_ok)
    })
    .await;
    ring
}

fn bench(ring: &Ring, args: &[&str]) -> Value {
    let fixed = ["-o", "json", "bench"];
    let args = [&fixed[..], args, &["--keys", "500", "--everywhere"]].concat();
    serde_json::from_slice(&dhtctl(&ring.peers[0].address, &args)).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn load_of_every_kind_is_put_on_a_ring_and_measured() {
    let ring = ring(&[]).await;
    let dir = tempfile::tempdir().expect("a directory");
    let series = dir.path().join("series.csv");
    let file = series.to_str().expect("its name is text");
    for way in ["unary", "batch", "pipeline"] {
        for workload in ["insert", "query", "mixed", "increment"] {
            // Counters are no values: they have keys of their own.
            let prefix = if workload == "increment" { "counters/" } else { "bench/" };
            let args = [workload, "--way", way, "--seconds", "0.5", "--in-flight", "8", "--batch-size", "20"];
            let report = bench(&ring, &[&args[..], &["--prefix", prefix, "--series", file]].concat());
            assert!(report["operations"].as_u64() > Some(8) && report["failed"] == 0, "{way} {workload}: {report}");
            assert_eq!((&report["peers"], &report["way"]), (&3.into(), &way.into()));
            assert!(report["latency_us"]["p99"].as_u64() >= report["latency_us"]["p50"].as_u64());
            // Little's law: so many calls are in flight, and each is there for as long as it takes.
            if way != "batch" {
                let rate = report["operations_per_second"].as_f64().expect("a number");
                let in_flight = rate * report["latency_us"]["mean"].as_f64().expect("a number") / 1e6;
                assert!((1.0..9.0).contains(&in_flight), "{in_flight} in flight: {report}");
            }
            let rows = fs::read_to_string(&series).expect("the series");
            let (header, rows) = rows.split_once('\n').expect("a header");
            assert!(header.starts_with("at,operations,failed,"));
            let counted: u64 = rows
                .lines()
                .map(|row| row.split(',').nth(1).expect("a column").parse::<u64>())
                .sum::<Result<_, _>>()
                .expect("numbers");
            assert_eq!(Some(counted), report["operations"].as_u64(), "the rows are all there is");
        }
    }
    let written = ring.client().scan("bench/").keys_only().page_size(1000).next_page().await.expect("a page");
    assert!(!written.expect("the first").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_rate_begins_no_more_operations_than_that() {
    let ring = ring(&[]).await;
    let report = bench(&ring, &["insert", "--rate", "100", "--seconds", "2", "--in-flight", "64"]);
    // Fewer if the machine is too slow for that: what is due late in the end is not begun.
    let operations = report["operations"].as_u64().expect("a number");
    assert!((150..=200).contains(&operations) && report["failed"] == 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_reads_go_to_the_tail_every_peer_gives_what_was_written_last() {
    let ring = ring(&["--reads", "tail"]).await;
    let client = ring.client();
    for round in 0..20 {
        for key in 0..10 {
            client.put(format!("key {key}"), format!("{round}"), 3).await.expect("it is written");
            for peer in &ring.peers {
                let found =
                    peer.client().get(format!("key {key}")).await.expect("it can be read").expect("it is there");
                assert_eq!(found.value, format!("{round}"));
            }
        }
    }
    let keys: Vec<String> = (0..10).map(|key| format!("key {key}")).collect();
    let read = ring.peers[1].client().batch_get(keys).await;
    assert!(read.iter().all(|it| matches!(it, Ok(Some(found)) if found.value == "19")), "{read:?}");
}
