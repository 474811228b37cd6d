//! The harness of the figures works. What the figures are depends on the machine, and no test judges them.

use std::process::Command;

use serde_json::Value;

#[test]
fn the_harness_measures_rings_beside_bare_servers_and_prints_for_programs() {
    let args = [
        "--peers",
        "1,3",
        "--rounds",
        "2",
        "--seconds",
        "0.1",
        "--keys",
        "300",
        "--batch-size",
        "16",
        "--output",
        "json",
    ];
    let output = Command::new(env!("CARGO_BIN_EXE_bench")).args(args).output().expect("it was built");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("it is text");
    let reports: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    assert_eq!(reports.iter().map(|report| &report["peers"]).collect::<Vec<_>>(), [1, 3]);
    for report in &reports {
        let cases = report["cases"].as_array().expect("a list");
        let names: Vec<_> = cases.iter().map(|case| (&case["operation"], &case["way"], &case["in_flight"])).collect();
        assert_eq!(names.len(), 10, "{names:?}");
        for case in cases {
            for side in ["ring", "echo"] {
                let rate = case[side]["operations_per_second"]["median"].as_f64();
                assert!(rate.is_some_and(|rate| rate > 0.0), "{side} of {case}");
            }
            assert!(case["ring_over_echo"]["operations_per_second"]["median"].as_f64().is_some_and(f64::is_finite));
        }
    }
}
