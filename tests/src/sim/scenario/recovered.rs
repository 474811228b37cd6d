//! Rings with chains that lose most of their peers for good, and are recovered by hand: what is missing afterwards lies
//! within the bound that was told, and who was given up never takes part again.

use std::{collections::BTreeMap, time::Duration};

use dht_core::{
    replication::recovery::{Bound, Recovered},
    ring::{Id, PeerId, Slot},
};
use rand::{RngExt, seq::SliceRandom};

use super::{
    Failure, PATIENCE, SECOND,
    chains::{STEPS, at_rest, newest, settle},
    failure,
};
use crate::{
    linearizability::History,
    sim::{Load, World, WorldConfig, chains::Finished},
};

/// What a run has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Losses {
    /// Slots that were started again with a copy that is known to have had everything until some time.
    pub bounded: usize,
    /// With another copy.
    pub copied: usize,
    /// With nothing.
    pub empty: usize,
    /// Slots that went on without a recovery.
    pub served: usize,
    /// Recoveries that everyone had promised.
    pub recoveries: usize,
    /// Peers that came back and heard that they were given up.
    pub turned_away: usize,
    /// Acknowledged writes that the bound admits to be missing.
    pub admitted: usize,
}

/// Three of five peers are lost for good; another one was cut off before, in some runs. One operator recovers, or two do
/// at the same time. Then the lost ones come back.
///
/// # Errors
/// If the ring does not come to rest, serves less than everything, lacks what it must not, or lets somebody take part that
/// was given up.
pub fn recovered(config: WorldConfig) -> Result<Losses, Failure> {
    let mut world = at_rest(config, PEERS)?;
    world.start_clients(Load { clients: 8, keys: 6, ..Load::default() });
    world.run_for(SECOND * 3);
    let mut hosts: Vec<usize> = (0..PEERS).collect();
    hosts.shuffle(world.random());
    let (dead, left) = hosts.split_at(LOST);
    let behind = world.random().random_bool(0.5);
    if behind {
        cut_off(&mut world, left[0]);
        let time = world.random().random_range(SECOND / 2..SECOND * 4);
        world.run_for(time);
    }
    dead.iter().for_each(|host| world.kill(*host));
    world.mend_cuts();
    world.run_for(SECOND * 2);
    if world.random().random_bool(0.2) {
        left.iter().for_each(|host| world.kill(*host));
        left.iter().for_each(|host| world.restart(*host));
        world.run_for(SECOND * 2);
    }
    let operators = world.random().random_range(1..=left.len());
    left.iter().take(operators).for_each(|host| world.recover(*host, dead));
    let over = world.run_until(world.now + PATIENCE, |world| !world.is_recovering());
    if !over || world.violation.is_some() {
        let what = world.violation.clone().unwrap_or_else(|| "a recovery does not end".to_owned());
        return Err(failure(&world, what));
    }
    let begin = world.now;
    dead.iter().for_each(|host| world.restart(*host));
    world.run_for(SECOND * 20);
    world.stop_clients();
    world.run_until(world.now + PATIENCE, |world| world.running_operations() == 0);
    turned_away(&world, dead)?;
    world = settle(world)?;
    served_since(&world, begin)?;
    let (history, admitted) = admitted(&world, !behind);
    let verdict = history.check(STEPS);
    if !verdict.is_linearizable() {
        return Err(failure(&world, verdict.to_string()));
    }
    Ok(Losses { admitted, turned_away: dead.len(), ..losses(&world) })
}

/// The ring is cut in two, and an operator on either side gives the other one up: each slot goes on with its majority on
/// one side, and is started again on the other. When the cut is mended, neither serves anything; a later recovery on one
/// side goes on with what that has.
///
/// # Errors
/// If it is otherwise.
pub fn recovered_twice(config: WorldConfig) -> Result<(), Failure> {
    let mut world = at_rest(config, 4)?;
    let (one, other) = ([0, 1], [2, 3]);
    world.split(|host| u8::from(host >= 2));
    world.run_for(SECOND * 2);
    world.recover(one[0], &other);
    world.recover(other[0], &one);
    let over = world.run_until(world.now + PATIENCE, |world| !world.is_recovering());
    if !over {
        return Err(failure(&world, "a recovery does not end".to_owned()));
    }
    world.heal();
    world.run_for(SECOND * 10);
    for slot in world.config.slot_bits.iter() {
        if let Some(host) = (0..4).find(|host| serves(&world, *host, slot)) {
            return Err(failure(&world, format!("host {host} serves slot {slot}, which was recovered twice")));
        }
    }
    world.recover(one[0], &other);
    let over = world.run_until(world.now + PATIENCE, |world| !world.is_recovering());
    world.run_for(SECOND * 5);
    let silent = world.config.slot_bits.iter().find(|slot| !one.iter().any(|host| serves(&world, *host, *slot)));
    match silent {
        Some(slot) => Err(failure(&world, format!("slot {slot} is not served after a third recovery"))),
        None if !over => Err(failure(&world, "the third recovery does not end".to_owned())),
        None => turned_away(&world, &other),
    }
}

fn cut_off(world: &mut World, host: usize) {
    for other in (0..world.hosts.len()).filter(|other| *other != host) {
        world.cut(host, other);
        world.cut(other, host);
    }
}

fn serves(world: &World, host: usize, slot: Slot) -> bool {
    let state = world.hosts[host].chains.as_ref().and_then(|chains| chains.state.as_ref());
    state.is_some_and(|state| state.serves(slot))
}

/// Nobody who was given up runs any more, or is in a view.
fn turned_away(world: &World, dead: &[usize]) -> Result<(), Failure> {
    if let Some(host) = dead.iter().find(|host| world.hosts[**host].state.is_some() || !world.hosts[**host].given_up) {
        return Err(failure(world, format!("host {host} was given up, and runs")));
    }
    let banned: Vec<PeerId> = dead.iter().map(|host| world.hosts[*host].id).collect();
    for slot in world.config.slot_bits.iter() {
        let view = newest(world, slot);
        if view.is_none_or(|view| view.peers().any(|peer| banned.contains(&peer))) {
            return Err(failure(world, format!("who was given up is in {view:?}")));
        }
    }
    Ok(())
}

/// Commands were carried out in every slot since.
fn served_since(world: &World, begin: Duration) -> Result<(), Failure> {
    let mut written: BTreeMap<Slot, usize> = BTreeMap::new();
    for done in &world.clients.finished {
        let counts = done.command.is_some() && done.invoked >= begin && done.completed.is_some();
        *written.entry(slot_of(world, done)).or_default() += usize::from(counts);
    }
    match written.iter().find(|(_, written)| **written < WRITTEN) {
        Some((slot, written)) => Err(failure(world, format!("slot {slot} took only {written} commands afterwards"))),
        None => Ok(()),
    }
}

fn slot_of(world: &World, done: &Finished) -> Slot {
    world.config.slot_bits.slot_of(Id::of_key(&done.at.key))
}

/// What must be found in order after what recoveries have said. If nobody was cut off before, only those slots may lack
/// anything of which no member of the last view was left.
fn admitted(world: &World, strict: bool) -> (History, usize) {
    let mut clients = world.clients.clone();
    let mut admitted = 0;
    for recovery in &world.recoveries {
        for Recovered { view, bound, .. } in &recovery.plan.recovered {
            let certain = match bound {
                Bound::Since(_) if strict => continue,
                // By a clock that may run a little wrong; and it was asked a little before.
                Bound::Since(age) => recovery.claimed.saturating_sub(age.mul_f64(1.02) + SECOND / 2),
                Bound::After(_) | Bound::All => Duration::ZERO,
            };
            let in_doubt = |done: &Finished| {
                slot_of(world, done) == view.slot
                    && done.invoked < recovery.ended
                    && done.completed.is_some_and(|at| at > certain)
            };
            admitted += clients.finished.iter().filter(|done| in_doubt(done) && done.command.is_some()).count();
            clients.finished.retain(|done| !in_doubt(done) || done.command.is_some());
            for done in clients.finished.iter_mut().filter(|done| in_doubt(done)) {
                (done.completed, done.outcome) = (None, None);
            }
        }
    }
    (clients.history(), admitted)
}

fn losses(world: &World) -> Losses {
    let mut losses = Losses { recoveries: world.recoveries.len(), ..Losses::default() };
    for plan in world.recoveries.iter().map(|recovery| &recovery.plan) {
        losses.served += plan.served;
        for slot in &plan.recovered {
            match slot.bound {
                Bound::Since(_) => losses.bounded += 1,
                Bound::After(_) => losses.copied += 1,
                Bound::All => losses.empty += 1,
            }
        }
    }
    losses
}

/// Peers at the beginning, and how many of them are lost.
const PEERS: usize = 5;
const LOST: usize = 3;

/// Commands that each slot takes afterwards, at least.
const WRITTEN: usize = 5;
