//! The overlay in the simulator.

use std::time::Duration;

use dht_tests::sim::{World, WorldConfig};

const SECOND: Duration = Duration::from_secs(1);

fn ring(seed: u64, peers: usize, nodes: u32, loss: f64) -> World {
    let mut config = WorldConfig::new(seed);
    config.overlay.nodes = nodes;
    config.net.loss = loss;
    let mut world = World::new(config);
    world.found();
    for _ in 1..peers {
        world.join(0);
    }
    let t = std::time::Instant::now();
    let ideal = world.run_until(SECOND * 60, World::is_ideal);
    println!(
        "seed {seed} peers {peers} v {nodes}: ideal {ideal} at {:?} after {} events, {:?}",
        world.now,
        world.events,
        t.elapsed()
    );
    assert!(ideal, "seed {seed}");
    world.note_ideal();
    world
}

#[test]
fn concurrent_joins_make_one_ideal_ring() {
    for (peers, nodes) in [(2, 1), (3, 1), (5, 1), (5, 16), (20, 4), (50, 1), (200, 1)] {
        ring(1, peers, nodes, 0.0);
    }
}
