//! `replicas set`: changes how many copies of each key the ring keeps.

use std::time::Duration;

use dhtctl::{Client, proto::StatusResponse};
use serde_json::json;
use tokio::time::interval;

use super::status;
use crate::cli::{
    args::{ReplicasCommand, SetReplicas},
    console::Console,
    failure::{Failure, Outcome},
    progress::Progress,
    text,
};

/// How often the peers are asked how far they are. A guess.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Carries one of the subcommands out.
pub(crate) async fn run(client: &Client, command: &ReplicasCommand, console: &Console) -> Outcome {
    match command {
        ReplicasCommand::Set(set) => self::set(client, set, console).await,
    }
}

/// Changes k, and shows how far the ring is with that until every slot has its copies.
async fn set(client: &Client, set: &SetReplicas, console: &Console) -> Outcome {
    let answer = client.set_replicas(set.replicas).await;
    let answer = answer.map_err(|error| Failure::call("can't set the number of replicas", &error))?;
    let copies = set.replicas.min(answer.peers);
    if copies < set.replicas {
        let (peers, replicas) = (text::count(answer.peers.into(), "peer"), text::count(copies.into(), "replica"));
        console.warn(&format!("the ring has {peers}: {replicas} of each key until more join"));
    }
    if set.replicas == 1 {
        console.warn("k = 1: what a peer holds is lost with its disk");
    }
    if set.no_wait {
        return report(set, answer.previous, copies, false, console);
    }
    tokio::select! {
        outcome = follow(client, set.replicas, console) => outcome?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::interrupted().hint("k is set, and the ring goes on; see: dhtctl status"));
        }
    }
    report(set, answer.previous, copies, true, console)
}

fn report(set: &SetReplicas, previous: u32, copies: u32, complete: bool, console: &Console) -> Outcome {
    let replicas = set.replicas;
    if console.is_json() {
        let document = json!({ "replicas": replicas, "previous": previous, "copies": copies, "complete": complete });
        return console.document(&document);
    }
    let state = if complete { "done" } else { "set" };
    console.note(&format!("{state}: k = {replicas}, it was {previous}"));
    Ok(())
}

async fn follow(client: &Client, replicas: u32, console: &Console) -> Outcome {
    let mut progress = Progress::new(console, "slots as they should be", Some(0));
    let mut ticks = interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        let (answers, _) = status::all(client).await.inspect_err(|_| progress.finish())?;
        let total =
            answers.iter().find_map(|status| status.ring.as_ref()).map_or(0, |ring| 1_u64 << ring.slot_bits.min(32));
        let goes_by_it = |status: &StatusResponse| status.ring.as_ref().is_some_and(|ring| ring.replicas == replicas);
        let left: u64 = answers.iter().map(|status| u64::from(status.slots_changing.max(status.slots_syncing))).sum();
        if left == 0 && answers.iter().all(goes_by_it) {
            progress.finish();
            return Ok(());
        }
        let done = total.saturating_sub(left);
        progress.set_total(total);
        progress.set(console, done, done);
    }
}
