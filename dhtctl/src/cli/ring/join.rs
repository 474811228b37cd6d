//! `join`: tells a peer to join a ring.

use dhtctl::{id::short_hex, overlay::mode_name};
use serde_json::json;

use super::schema::RingJson;
use crate::cli::{
    args::{Arguments, Join},
    client_of_one,
    console::Console,
    failure::{Failure, Outcome},
};

/// Asks the peer at `--peer` to join through the seeds, and waits until it is a member.
pub(crate) async fn run(arguments: &Arguments, join: &Join, console: &Console) -> Outcome {
    let client = client_of_one(arguments, "join")?;
    let answer = client.join(join.seeds.clone()).await;
    let answer = answer.map_err(|error| {
        let failure = Failure::call("the peer has not joined", &error);
        if error.may_have_executed() { failure.hint("it may go on trying; see: dhtctl status --this") } else { failure }
    })?;
    let ring = answer.ring.unwrap_or_default();
    if console.is_json() {
        return console.document(&json!({ "ring": RingJson::new(&ring) }));
    }
    let (id, mode) = (short_hex(&ring.id), mode_name(ring.mode()));
    console.note(&format!("joined ring {id}: {mode} mode, k = {}", ring.replicas));
    Ok(())
}
