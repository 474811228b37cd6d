//! `depart`: takes a peer out of the ring for good.

use std::io::{self, IsTerminal};

use dhtctl::{
    ErrorKind, Messages,
    id::short_hex,
    overlay::phase_name,
    proto::{DepartResponse, StatusResponse},
};
use serde_json::json;

use crate::cli::{
    args::{Arguments, Depart},
    client_of, client_of_one,
    console::Console,
    failure::{Failure, Outcome},
    progress::Progress,
    text,
};

/// Asks, tells the peer to go, and shows how far it is until it is gone.
pub(crate) async fn run(arguments: &Arguments, depart: &Depart, console: &Console) -> Outcome {
    if !depart.yes && !io::stdin().is_terminal() {
        let message = "depart takes a peer out of the ring for good, and there is no terminal to ask on";
        return Err(Failure::usage(message).hint("say --yes if you mean it"));
    }
    let client = match &depart.target {
        Some(target) => client_of(arguments, std::slice::from_ref(target))?,
        None => client_of_one(arguments, "depart")?,
    };
    let status = client.status().await.map_err(|error| Failure::call("can't read the peer's status", &error))?;
    if !depart.yes && !confirm(&status).await? {
        return Err(Failure::new(ErrorKind::Failure, "not confirmed; nothing has been done"));
    }
    let mut messages = client.depart().await.map_err(|error| Failure::call("can't depart", &error))?;
    let progress = Progress::new(console, "slots handed over", Some(0));
    tokio::select! {
        outcome = follow(&mut messages, progress, console) => outcome?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::interrupted().hint("the peer goes on departing; see: dhtctl overlay"));
        }
    }
    let peer = status.peer.unwrap_or_default();
    if console.is_json() {
        return console.document(&json!({ "departed": { "id": dhtctl::id::hex(&peer.id), "address": peer.address } }));
    }
    console.note(&format!("peer {} {} has left the ring", short_hex(&peer.id), peer.address));
    Ok(())
}

/// Shows what is about to happen, and whether the user wants that.
async fn confirm(status: &StatusResponse) -> Result<bool, Failure> {
    let peer = status.peer.clone().unwrap_or_default();
    let (slots, keys) = (text::count(status.slots_held.into(), "slot"), text::count(status.keys, "key"));
    let question = format!(
        "peer {} {} ({}) holds {slots} with {keys}, {} on disk.\n\
         It hands over what others need, then leaves the ring for good. Go on? [y/N] ",
        short_hex(&peer.id),
        peer.address,
        phase_name(status.phase()),
        text::size(status.disk_bytes),
    );
    super::confirm(question).await
}

async fn follow(messages: &mut Messages<DepartResponse>, mut progress: Progress, console: &Console) -> Outcome {
    loop {
        let message = messages.next().await.map_err(|error| {
            progress.finish();
            Failure::call("lost sight of the departing peer", &error)
        })?;
        let Some(message) = message else {
            progress.finish();
            let message = format!("{} ended its report before it had left", messages.endpoint());
            return Err(Failure::new(ErrorKind::Failure, message).hint("see: dhtctl overlay"));
        };
        if message.done {
            progress.finish();
            return Ok(());
        }
        let handed_over = u64::from(message.slots_total.saturating_sub(message.slots_left));
        progress.set_total(message.slots_total.into());
        progress.set(console, handed_over, handed_over);
    }
}
