//! `explain`: where a key is, and why.

use std::fmt::Write as _;

use bytes::Bytes;
use dhtctl::{
    Client,
    grid::grid,
    id::{hex, short_hex},
    overlay::mode_name,
    proto::{ExplainResponse, Mode, Peer, PlacementReason, SlotCopy, SlotView},
};
use serde::Serialize;

use super::schema::{NodeJson, PeerJson};
use crate::cli::{
    args::Explain,
    console::Console,
    data::{KeyJson, VersionJson, key_argument},
    failure::{Failure, Outcome},
    kv::quoted,
    text::{self, count, grouped},
};

/// Asks where a key is, and shows every copy and a sentence that says why.
pub(crate) async fn run(client: &Client, arguments: &Explain, console: &Console) -> Outcome {
    let key = key_argument(&arguments.key, arguments.key_b64)?;
    let answer = client.explain(key.clone()).await;
    let answer = answer.map_err(|error| Failure::call("can't explain it", &error))?;
    if console.is_json() {
        return console.document(&ExplanationJson::new(&key, &answer));
    }
    console.bytes(table(&key, &answer).as_bytes())
}

fn table(key: &Bytes, answer: &ExplainResponse) -> String {
    let mut text = format!("key {} has id {}, slot {}\n\n", quoted(key), hex(&answer.id), answer.slot);
    if let Some(owner) = &answer.owner {
        let (peer, node) = (short_hex(&owner.peer_id), short_hex(&owner.id));
        _ = writeln!(text, "owner:      {peer} {} (node {node})", owner.address);
    }
    let shorts = |peers: &mut dyn Iterator<Item = &Bytes>| peers.map(|id| short_hex(id)).collect::<Vec<_>>().join(" ");
    _ = writeln!(text, "home group: {}", shorts(&mut answer.home_group.iter().map(|peer| &peer.id)));
    if let Some(view) = &answer.view {
        _ = writeln!(text, "view:       {}; a write needs {}", epoch(view), count(view.min_in_sync.into(), "replica"));
        _ = writeln!(text, "chain:      {} (head first)", shorts(&mut view.chain.iter()));
        _ = writeln!(text, "electors:   {}", shorts(&mut view.electors.iter()));
    }
    text.push('\n');
    if answer.mode() == Mode::Chain {
        let header = ["PEER", "ADDRESS", "ROLE", "STATE", "VIEW", "KEY AT", "SLOT AT"];
        text.push_str(&grid(&header, &[5, 6], answer.copies.iter().map(|copy| chain_row(answer, copy))));
    } else {
        let header = ["PEER", "ADDRESS", "STATE", "VERSION"];
        text.push_str(&grid(&header, &[], answer.copies.iter().map(eventual_row)));
    }
    _ = writeln!(text, "\n{}", sentence(answer));
    text
}

fn epoch(view: &SlotView) -> String {
    epoch_text(view.generation, view.epoch)
}

fn epoch_text(generation: u32, epoch: u64) -> String {
    let recovered = if generation > 0 { format!(", recovered (generation {generation})") } else { String::new() };
    format!("epoch {}{recovered}", grouped(epoch))
}

fn chain_row(answer: &ExplainResponse, copy: &SlotCopy) -> Vec<String> {
    let peer = copy.peer.clone().unwrap_or_default();
    let revision = |revision: u64| if revision == 0 { "-".to_owned() } else { grouped(revision) };
    let key = match copy.pending_revision {
        0 => revision(copy.revision),
        pending => format!("{} ({} pending)", revision(copy.revision), grouped(pending)),
    };
    let seen = match (copy.epoch, copy.generation) {
        (0, _) => "-".to_owned(),
        (epoch, 0) => grouped(epoch),
        (epoch, generation) => format!("{generation}.{epoch}"),
    };
    let slot = if copy.holds { grouped(copy.slot_revision) } else { "-".to_owned() };
    let role = role(answer, &peer).to_owned();
    vec![short_hex(&peer.id), peer.address, role, state(copy).to_owned(), seen, key, slot]
}

fn eventual_row(copy: &SlotCopy) -> Vec<String> {
    let peer = copy.peer.clone().unwrap_or_default();
    let version = copy.version.as_ref().map_or_else(|| "-".to_owned(), text::version);
    vec![short_hex(&peer.id), peer.address, state(copy).to_owned(), version]
}

/// What the peer is to the slot.
fn role(answer: &ExplainResponse, peer: &Peer) -> &'static str {
    let view = answer.view.clone().unwrap_or_default();
    match view.chain.iter().position(|id| *id == peer.id) {
        Some(0) => "head",
        Some(place) if place + 1 == view.chain.len() => "tail",
        Some(_) => "member",
        None if view.electors.contains(&peer.id) => "witness",
        None => "home group",
    }
}

fn state(copy: &SlotCopy) -> &'static str {
    match copy {
        SlotCopy { answered: false, .. } => "no answer",
        SlotCopy { in_sync: true, .. } => "in sync",
        SlotCopy { sealed: true, .. } => "sealed",
        SlotCopy { copying: true, .. } => "copying",
        SlotCopy { holds: true, .. } => "behind",
        _ => "no data",
    }
}

/// Why the key is where it is.
fn sentence(answer: &ExplainResponse) -> String {
    let names: Vec<String> = answer.about.iter().map(|peer| short_hex(&peer.id)).collect();
    let about = names.join(", ");
    let (is, does) = if names.len() == 1 { ("is", "does") } else { ("are", "do") };
    let it = if names.len() == 1 { "it" } else { "them" };
    let copies = count(answer.home_group.len() as u64, "peer");
    match answer.reason() {
        PlacementReason::AtHome => {
            "The key is at its home group: the owner of its slot and the peers that follow it on the circle.".to_owned()
        }
        PlacementReason::TooFewPeers => {
            format!("The key is at its home group, which has only {copies}: there are no more to hold it.")
        }
        PlacementReason::Copying if answer.mode() == Mode::Chain => {
            format!("The home group has changed, and {about} {is} copying the slot; until then those before serve it.")
        }
        PlacementReason::Copying => format!("{about} {is} still taking over the slot; the others answer for {it}."),
        PlacementReason::Settling if names.is_empty() => {
            "The chain is not the home group in its order; it will be, once that has been the same for some seconds."
                .to_owned()
        }
        PlacementReason::Settling => {
            format!(
                "The home group has changed: {about} will copy the slot, once it has been the same for some seconds."
            )
        }
        PlacementReason::Lost => format!("{about} {does} not answer: the slot goes on without {it}."),
        PlacementReason::NoMajority => format!(
            "{about} {does} not answer, and the other electors are no majority: nobody may serve the slot before most \
             of them are back."
        ),
        PlacementReason::Changing => "The slot's view is being changed: it is served again in a moment.".to_owned(),
        PlacementReason::Disputed => {
            "Two recoveries, neither of which knew of the other, have started the slot again: nobody serves it before a \
             third one gives up the peers of one side."
                .to_owned()
        }
        PlacementReason::ViewUnknown => "Nobody who answers knows who holds the slot.".to_owned(),
        PlacementReason::Unspecified => {
            "For a reason that this dhtctl does not know: use the peers' release.".to_owned()
        }
    }
}

const fn reason_name(reason: PlacementReason) -> &'static str {
    match reason {
        PlacementReason::AtHome => "at_home",
        PlacementReason::TooFewPeers => "too_few_peers",
        PlacementReason::Copying => "copying",
        PlacementReason::Settling => "settling",
        PlacementReason::Lost => "lost",
        PlacementReason::NoMajority => "no_majority",
        PlacementReason::Changing => "changing",
        PlacementReason::ViewUnknown => "view_unknown",
        PlacementReason::Disputed => "disputed",
        PlacementReason::Unspecified => "unknown",
    }
}

#[derive(Serialize)]
struct ExplanationJson<'a> {
    #[serde(flatten)]
    key: KeyJson<'a>,
    id: String,
    slot: u32,
    mode: &'static str,
    owner: Option<NodeJson>,
    home_group: Vec<PeerJson>,
    view: Option<ViewJson>,
    copies: Vec<CopyJson>,
    reason: &'static str,
    about: Vec<PeerJson>,
    sentence: String,
}

impl<'a> ExplanationJson<'a> {
    fn new(key: &'a Bytes, answer: &ExplainResponse) -> Self {
        Self {
            key: KeyJson::new(key),
            id: hex(&answer.id),
            slot: answer.slot,
            mode: mode_name(answer.mode()),
            owner: answer.owner.as_ref().map(NodeJson::new),
            home_group: answer.home_group.iter().map(PeerJson::new).collect(),
            view: answer.view.as_ref().map(ViewJson::new),
            copies: answer.copies.iter().map(|copy| CopyJson::new(answer, copy)).collect(),
            reason: reason_name(answer.reason()),
            about: answer.about.iter().map(PeerJson::new).collect(),
            sentence: sentence(answer),
        }
    }
}

#[derive(Serialize)]
struct ViewJson {
    epoch: u64,
    generation: u32,
    chain: Vec<String>,
    electors: Vec<String>,
    min_in_sync: u32,
}

impl ViewJson {
    fn new(view: &SlotView) -> Self {
        let (chain, electors) = (view.chain.iter(), view.electors.iter());
        Self {
            epoch: view.epoch,
            generation: view.generation,
            chain: chain.map(|id| hex(id)).collect(),
            electors: electors.map(|id| hex(id)).collect(),
            min_in_sync: view.min_in_sync,
        }
    }
}

/// What is not known of a peer that does not answer is unset, and so is what the mode does not have.
#[derive(Serialize)]
struct CopyJson {
    #[serde(flatten)]
    peer: PeerJson,
    role: Option<&'static str>,
    state: &'static str,
    in_sync: bool,
    epoch: Option<u64>,
    generation: Option<u32>,
    slot_revision: Option<u64>,
    applied_revision: Option<u64>,
    revision: Option<u64>,
    pending_revision: Option<u64>,
    version: Option<VersionJson>,
}

impl CopyJson {
    fn new(answer: &ExplainResponse, copy: &SlotCopy) -> Self {
        let peer = copy.peer.clone().unwrap_or_default();
        let chain = answer.mode() == Mode::Chain;
        let (known, holds) = (copy.epoch > 0, copy.holds && chain);
        let positive = |number: u64| Some(number).filter(|number| *number > 0);
        Self {
            peer: PeerJson::new(&peer),
            role: chain.then(|| role(answer, &peer)),
            state: state(copy),
            in_sync: copy.in_sync,
            epoch: known.then_some(copy.epoch),
            generation: known.then_some(copy.generation),
            slot_revision: holds.then_some(copy.slot_revision),
            applied_revision: holds.then_some(copy.applied_revision),
            revision: positive(copy.revision),
            pending_revision: positive(copy.pending_revision),
            version: copy.version.as_ref().map(VersionJson::new),
        }
    }
}
