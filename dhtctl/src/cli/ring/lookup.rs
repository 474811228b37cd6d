//! `lookup`: who owns a key, and the way there.

use std::{fmt::Write as _, time::Instant};

use dhtctl::{
    Client,
    grid::grid,
    id::{from_hex, hex, short_hex},
    proto::{Hop, HopReason, LookupResponse, lookup_request::Target},
};
use serde::Serialize;

use super::schema::{NodeJson, PeerJson};
use crate::cli::{
    args::Lookup,
    console::Console,
    data::{KeyJson, key_argument},
    failure::{Failure, Outcome},
    kv::quoted,
    text::{count, micros},
};

/// Looks up a key or an identifier, and shows every hop.
pub(crate) async fn run(client: &Client, arguments: &Lookup, console: &Console) -> Outcome {
    let target = target(arguments)?;
    let asked = Instant::now();
    let answer = client.lookup(target.clone()).await;
    let answer = answer.map_err(|error| Failure::call("can't look it up", &error))?;
    let total_us = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
    if console.is_json() {
        return console.document(&LookupJson::new(&target, &answer, total_us));
    }
    console.bytes(table(&target, &answer, total_us).as_bytes())
}

fn target(arguments: &Lookup) -> Result<Target, Failure> {
    if let Some(text) = &arguments.id {
        let id = from_hex(text).filter(|id| id.len() == 20);
        let malformed = || Failure::usage(format!("'{text}' is no identifier: it takes 40 hex digits"));
        return id.map(|id| Target::Id(id.into())).ok_or_else(malformed);
    }
    let key = arguments.key.as_deref().unwrap_or_default();
    Ok(Target::Key(key_argument(key, arguments.key_b64)?))
}

fn table(target: &Target, answer: &LookupResponse, total_us: u64) -> String {
    let mut text = String::new();
    if let Target::Key(key) = target {
        _ = write!(text, "key {} has ", quoted(key));
    }
    _ = writeln!(text, "id {}, slot {}\n", hex(&answer.id), answer.slot);
    let rows = answer.hops.iter().enumerate().map(|(i, hop)| {
        let node = hop.node.clone().unwrap_or_default();
        let time = if hop.round_trip_us == 0 { "-".into() } else { micros(hop.round_trip_us) };
        vec![i.to_string(), short_hex(&node.peer_id), node.address, short_hex(&node.id), via(hop), time]
    });
    text.push_str(&grid(&["HOP", "PEER", "ADDRESS", "NODE", "VIA", "ROUND TRIP"], &[0, 5], rows));
    let hops = count(answer.hops.len().saturating_sub(1) as u64, "hop");
    let (inside, total) = (micros(answer.elapsed_us), micros(total_us));
    _ = writeln!(text, "\n{hops}, {} on the way", count(answer.timeouts.into(), "time-out"));
    _ = writeln!(text, "time:       {inside} in the ring, {total} as seen from here");
    if let Some(owner) = &answer.owner {
        let (peer, node) = (short_hex(&owner.peer_id), short_hex(&owner.id));
        _ = writeln!(text, "owner:      {peer} {} (node {node})", owner.address);
    }
    for (i, peer) in answer.home_group.iter().enumerate() {
        let label = if i == 0 { "home group:" } else { "" };
        _ = writeln!(text, "{label:11} {} {}", short_hex(&peer.id), peer.address);
    }
    text
}

/// Why the hop was made.
fn via(hop: &Hop) -> String {
    match hop.reason() {
        HopReason::Finger => format!("finger 2^{}", hop.finger_bit),
        HopReason::FingerSuccessor => format!("successor of finger 2^{}", hop.finger_bit),
        reason => reason_name(reason).to_owned(),
    }
}

const fn reason_name(reason: HopReason) -> &'static str {
    match reason {
        HopReason::Start => "start",
        HopReason::Finger => "finger",
        HopReason::Successor => "successor",
        HopReason::FingerSuccessor => "finger successor",
        HopReason::Predecessor => "predecessor",
        HopReason::Table => "table",
        HopReason::Unspecified => "unknown",
    }
}

#[derive(Serialize)]
struct LookupJson<'a> {
    #[serde(flatten)]
    key: Option<KeyJson<'a>>,
    id: String,
    slot: u32,
    owner: Option<NodeJson>,
    home_group: Vec<PeerJson>,
    hops: Vec<HopJson>,
    timeouts: u32,
    elapsed_us: u64,
    total_us: u64,
}

impl<'a> LookupJson<'a> {
    fn new(target: &'a Target, answer: &LookupResponse, total_us: u64) -> Self {
        let key = match target {
            Target::Key(key) => Some(KeyJson::new(key)),
            Target::Id(_) => None,
        };
        Self {
            key,
            id: hex(&answer.id),
            slot: answer.slot,
            owner: answer.owner.as_ref().map(NodeJson::new),
            home_group: answer.home_group.iter().map(PeerJson::new).collect(),
            hops: answer.hops.iter().map(HopJson::new).collect(),
            timeouts: answer.timeouts,
            elapsed_us: answer.elapsed_us,
            total_us,
        }
    }
}

#[derive(Serialize)]
struct HopJson {
    node: Option<NodeJson>,
    reason: &'static str,
    finger_bit: Option<u32>,
    round_trip_us: Option<u64>,
}

impl HopJson {
    fn new(hop: &Hop) -> Self {
        let reason = hop.reason();
        Self {
            node: hop.node.as_ref().map(NodeJson::new),
            reason: reason_name(reason),
            finger_bit: matches!(reason, HopReason::Finger | HopReason::FingerSuccessor).then_some(hop.finger_bit),
            round_trip_us: (hop.round_trip_us != 0).then_some(hop.round_trip_us),
        }
    }
}
