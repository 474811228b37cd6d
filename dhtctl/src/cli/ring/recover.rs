//! `recover`: starts slots again that have lost most of their electors for good.

use std::{
    fmt::Write as _,
    io::{self, BufRead, IsTerminal, Write},
    time::Duration,
};

use bytes::Bytes;
use dhtctl::{
    Client, ErrorKind,
    grid::grid,
    id::{hex, short_hex},
    proto::{OverlayResponse, Peer, RecoverResponse, RecoveredSlot, SlotLoss},
};
use serde::Serialize;

use super::schema::PeerJson;
use crate::cli::{
    args::Recover,
    console::Console,
    failure::{Failure, Outcome},
    text::{count, grouped, span},
};

/// Shows what would be done, asks, and has the asked peer do it.
pub(crate) async fn run(client: &Client, arguments: &Recover, console: &Console) -> Outcome {
    if !arguments.dry_run && !arguments.yes && !io::stdin().is_terminal() {
        let message = "recover gives peers up for good, and there is no terminal to ask on";
        return Err(Failure::usage(message).hint("look with --dry-run first; say --yes if you mean it"));
    }
    let overlay = client.overlay().await.map_err(|error| Failure::call("can't read the ring", &error))?;
    let dead = arguments.dead.iter().map(|text| peer_id(&overlay, text)).collect::<Result<Vec<Bytes>, _>>()?;
    let failed = |error| Failure::call("can't recover", &error);
    if arguments.dry_run || !arguments.yes {
        let preview = client.recover(dead.clone(), true).await.map_err(failed)?;
        if arguments.dry_run {
            return print(&preview, console);
        }
        if !confirm(text(&preview)).await? {
            return Err(Failure::new(ErrorKind::Failure, "not confirmed; nothing has been done"));
        }
    }
    let done = client.recover(dead, false).await.map_err(|error| {
        let failure = failed(error);
        failure.hint("look what is left to do with --dry-run, and run it again")
    })?;
    print(&done, console)
}

/// The peer whose id begins so: 8 digits are what other commands show.
fn peer_id(overlay: &OverlayResponse, text: &str) -> Result<Bytes, Failure> {
    let known = overlay.peers.iter().filter_map(|known| known.peer.as_ref());
    let mut found = known.filter(|peer| text.len() >= 8 && hex(&peer.id).starts_with(&text.to_lowercase()));
    match (found.next(), found.next()) {
        (Some(peer), None) => Ok(peer.id.clone()),
        (Some(_), Some(_)) => Err(Failure::usage(format!("several peers have ids that begin with '{text}'"))
            .hint("give more of its digits: dhtctl overlay -o json")),
        (None, _) => Err(Failure::usage(format!("'{text}' is the id of no peer that the asked one knows"))
            .hint("see: dhtctl overlay")),
    }
}

fn print(answer: &RecoverResponse, console: &Console) -> Outcome {
    if console.is_json() {
        return console.document(&RecoveryJson::new(answer));
    }
    console.bytes(text(answer).as_bytes())
}

async fn confirm(preview: String) -> Result<bool, Failure> {
    let ask = move || {
        io::stderr().write_all(preview.as_bytes())?;
        io::stderr().write_all(b"\nThose that are given up can never come back with what they have. Go on? [y/N] ")?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    };
    let answer = tokio::task::spawn_blocking(ask).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    answer.map_err(|error: io::Error| Failure::io("can't read your answer", &error))
}

fn text(answer: &RecoverResponse) -> String {
    let peers = |peers: &[Peer]| {
        let named = peers.iter().map(|peer| format!("{} {}", short_hex(&peer.id), peer.address));
        named.map(|peer| peer.trim_end().to_owned()).collect::<Vec<_>>().join(", ")
    };
    let would = if answer.done { "" } else { "would be " };
    let mut text = format!("recovery {}{}\n", answer.counter, if answer.done { "" } else { " (not carried out)" });
    _ = writeln!(text, "{would}given up: {}", peers(&answer.given_up));
    _ = writeln!(text, "left:     {}", peers(&answer.survivors));
    if !answer.slots.is_empty() {
        let rows = answer.slots.iter().map(row);
        text.push('\n');
        text.push_str(&grid(&["SLOT", "GOES ON AT", "REVISION", "MAY BE MISSING"], &[0, 2], rows));
    }
    for slot in &answer.disputed {
        let by: Vec<String> = slot.recovered_by.iter().map(|id| short_hex(id)).collect();
        _ = writeln!(
            text,
            "slot {} was recovered twice, by {}, and stays sealed: give up the peers of one side",
            slot.slot,
            by.join(" and by ")
        );
    }
    let (slots, served) = (count(answer.slots.len() as u64, "slot"), count(answer.slots_served.into(), "slot"));
    let started = if answer.done { "started again" } else { "to be started again" };
    _ = writeln!(text, "\n{slots} {started}; {served} with a majority left alone");
    text
}

fn row(slot: &RecoveredSlot) -> Vec<String> {
    let chain: Vec<String> = slot.chain.iter().map(|id| short_hex(id)).collect();
    let missing = match slot.loss() {
        SlotLoss::Since => {
            format!(
                "what was acknowledged later than {} before this",
                span(Duration::from_secs(slot.certain_ms.div_ceil(1000)))
            )
        }
        SlotLoss::After => "what was written after that revision".to_owned(),
        SlotLoss::All | SlotLoss::Unspecified => "everything: no copy is left, and it begins empty".to_owned(),
    };
    vec![slot.slot.to_string(), chain.join(" "), grouped(slot.revision), missing]
}

const fn loss_name(loss: SlotLoss) -> &'static str {
    match loss {
        SlotLoss::Since => "since",
        SlotLoss::After => "after",
        SlotLoss::All => "all",
        SlotLoss::Unspecified => "unknown",
    }
}

#[derive(Serialize)]
struct RecoveryJson {
    done: bool,
    counter: u32,
    given_up: Vec<PeerJson>,
    survivors: Vec<PeerJson>,
    slots_served: u32,
    slots: Vec<SlotJson>,
    disputed: Vec<DisputedJson>,
}

#[derive(Serialize)]
struct SlotJson {
    slot: u32,
    chain: Vec<String>,
    revision: u64,
    /// `since`, `after` or `all`.
    may_be_missing: &'static str,
    /// Only for `since`.
    certain_ms: Option<u64>,
}

#[derive(Serialize)]
struct DisputedJson {
    slot: u32,
    counter: u32,
    recovered_by: Vec<String>,
}

impl RecoveryJson {
    fn new(answer: &RecoverResponse) -> Self {
        let ids = |ids: &[Bytes]| ids.iter().map(|id| hex(id)).collect();
        let slot = |slot: &RecoveredSlot| SlotJson {
            slot: slot.slot,
            chain: ids(&slot.chain),
            revision: slot.revision,
            may_be_missing: loss_name(slot.loss()),
            certain_ms: (slot.loss() == SlotLoss::Since).then_some(slot.certain_ms),
        };
        let disputed = answer.disputed.iter().map(|it| DisputedJson {
            slot: it.slot,
            counter: it.counter,
            recovered_by: ids(&it.recovered_by),
        });
        Self {
            done: answer.done,
            counter: answer.counter,
            given_up: answer.given_up.iter().map(PeerJson::new).collect(),
            survivors: answer.survivors.iter().map(PeerJson::new).collect(),
            slots_served: answer.slots_served,
            slots: answer.slots.iter().map(slot).collect(),
            disputed: disputed.collect(),
        }
    }
}
