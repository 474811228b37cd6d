//! Verifying a simulated ring while it changes: walks take time, peers join and die meanwhile.
//!
//! To replay one seed: `DHT_SEED=17 cargo test --test audit the_claim`.

use std::time::Duration;

use dht_core::{
    overlay::{
        State,
        audit::{Audit, Report, Verdict, Walk},
        invariant::Census,
    },
    ring::PeerId,
};
use dht_tests::sim::{Maintenance, World, WorldConfig, scenario::some_member};
use rand::RngExt;

const MILLI: Duration = Duration::from_millis(1);

/// How long an audit goes on, as in the daemon.
const AUDIT_TIME: Duration = Duration::from_secs(10);

fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("DHT_SEED").ok().map(|seed| seed.parse::<u64>().expect("DHT_SEED is a number"));
    asked.map_or(0..20, |seed| seed..seed + 1)
}

fn state(world: &World, id: PeerId) -> Option<&State> {
    world.live().map(|(_, state)| state).find(|state| state.me().id == id)
}

/// Asks one peer after the other; each answer takes a while.
fn walk(world: &mut World, from: PeerId) -> Option<Walk> {
    let mut walk = Walk::new(state(world, from)?.testimony());
    while let Some(peer) = walk.next_to_ask() {
        world.run_for(MILLI * 2);
        let answer = state(world, peer.id).map(State::testimony);
        walk.take(&peer, answer);
    }
    Some(walk)
}

/// What a report claims was so at the moment when `census` was taken.
fn check(report: &Report, census: &Census) {
    for view in census.members() {
        assert_eq!(census.check_member(view.node.id), Ok(()), "{report:?}");
    }
    assert_eq!(census.check_principals(report.reach + 1), Ok(()), "{report:?}");
    // A newcomer that has not said a word yet is known to nobody.
    assert!(report.nodes <= census.members().count(), "{report:?}");
}

/// Audits the ring from a random member; `disturb` is called before every walk. `None` if that member died meanwhile.
fn audit(world: &mut World, disturb: &mut impl FnMut(&mut World)) -> Option<Report> {
    let host = some_member(world);
    let (begun, from) = (world.now, world.hosts[host].id);
    let reach = state(world, from)?.wanted_reach();
    let mut audit = Audit::new(reach);
    let mut between = None;
    while world.now < begun + AUDIT_TIME {
        let since = world.now - begun;
        let walk = walk(world, from)?;
        if let Some(report) = audit.take(since, world.now - begun, walk) {
            if report.verdict == Verdict::Holds {
                check(&report, between.as_ref().expect("it was walked twice"));
            }
            return Some(report);
        }
        between = Some(world.census.clone());
        disturb(world);
        world.run_for(MILLI * 100);
    }
    Some(audit.give_up())
}

fn config(seed: u64, nodes: u32) -> WorldConfig {
    let mut config = WorldConfig::new(seed);
    config.overlay.nodes = nodes;
    config.net.loss = 0.02;
    // Whatever the world thinks of it: the audit is what is tested.
    config.check_invariant = false;
    config
}

#[test]
fn what_an_audit_says_of_a_ring_whose_peers_come_and_go_was_true() {
    let (mut held, mut open) = (0, 0);
    for seed in seeds() {
        let mut world = World::settled(config(seed, 2), 12, 1);
        for _ in 0..6 {
            let report = audit(&mut world, &mut |world| {
                // A join and a death about every second.
                match world.random().random_range(0..20) {
                    0 | 1 if world.live().count() < 20 => {
                        let seed = some_member(world);
                        world.join(&[seed]);
                    }
                    2 | 3 if world.live().count() > 8 => {
                        let victim = some_member(world);
                        world.kill(victim);
                    }
                    _ => {}
                }
            });
            match report.map(|report| (report.verdict, report)) {
                Some((Verdict::Violated, report)) => panic!("seed {seed}: {report:?}"),
                Some((Verdict::Holds, _)) => held += 1,
                Some((Verdict::CannotTell, _)) | None => open += 1,
            }
        }
    }
    println!("{held} held, {open} open");
    assert!(held > 0 && open > 0, "{held} held, {open} open: too quiet or too wild to say anything");
}

#[test]
fn no_ring_that_grows_from_one_peer_is_called_violated() {
    for seed in seeds() {
        let mut world = World::new(config(seed, 1));
        let founder = world.found();
        let mut joins = 1;
        while joins < 12 {
            let report = audit(&mut world, &mut |world| {
                if joins < 12 {
                    world.join(&[founder]);
                    joins += 1;
                }
            });
            assert!(
                report.as_ref().is_some_and(|report| report.verdict != Verdict::Violated),
                "seed {seed}: {report:?}"
            );
        }
        let soon = world.now + AUDIT_TIME;
        assert!(world.run_until(soon, World::is_ideal), "seed {seed}: {}", world.what_is_wrong());
        let report = audit(&mut world, &mut |_| {}).expect("nobody dies");
        assert_eq!((report.verdict, report.peers), (Verdict::Holds, 12), "seed {seed}: {report:?}");
    }
}

#[test]
fn a_loopy_ring_without_maintenance_is_called_violated() {
    for seed in seeds() {
        let mut world = World::settled(config(seed, 1), 20, 2);
        world.maintenance = Maintenance::Off;
        let report = audit(&mut world, &mut |_| {}).expect("nobody dies");
        assert_eq!(report.verdict, Verdict::Violated, "seed {seed}: {report:?}");
    }
}
