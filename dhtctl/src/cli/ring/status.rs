//! `status`: what each peer of the ring holds and how it fares.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dhtctl::{
    Client, Error,
    grid::grid,
    id::short_hex,
    overlay::{CrawlOptions, crawl, phase_name},
    proto::{Peer, StatusResponse},
};
use serde::Serialize;
use tokio::task::JoinSet;

use super::schema::{PeerJson, RingJson, SilentJson};
use crate::cli::{
    args::Status,
    console::Console,
    failure::{Failure, Outcome},
    text,
};

const HEADER: [&str; 10] =
    ["PEER", "ADDRESS", "PHASE", "SLOTS", "SYNCING", "KEYS", "DISK", "UP SINCE", "TRANSFERS", "VERSION"];

/// How many peers are asked at a time: a guess, as in the walk of the ring.
const CONCURRENCY: usize = 16;

/// Asks one peer, or every peer that the ring knows.
pub(crate) async fn run(client: &Client, arguments: &Status, console: &Console) -> Outcome {
    let (answers, silent) = if arguments.this { (vec![one(client).await?], vec![]) } else { all(client).await? };
    let ring = answers.iter().find_map(|status| status.ring.as_ref()).map(RingJson::new);
    if console.is_json() {
        let peers: Vec<StatusJson> = answers.iter().map(StatusJson::new).collect();
        let unreachable = silent.iter().map(|(peer, message)| SilentJson::new(peer, message)).collect();
        let document = RingStatusJson { ring, peers: &peers, unreachable };
        return console.rows(&document, &peers);
    }
    let rows = answers.iter().map(row).chain(silent.iter().map(|(peer, _)| silent_row(peer)));
    let mut table = grid(&HEADER, &[3, 4, 5, 6, 8], rows);
    if let Some(ring) = answers.iter().find_map(|status| status.ring.as_ref()) {
        let changing: u64 = answers.iter().map(|status| u64::from(status.slots_changing)).sum();
        let changing = text::count(changing, "slot");
        table.push_str(&format!("k = {}; {changing} not held by those that should hold them\n", ring.replicas));
    }
    let discarded: u64 = answers.iter().map(|status| status.lww_discarded).sum();
    if discarded > 0 {
        let values = text::count(discarded, "value");
        table.push_str(&format!("{values} of eventual keyspaces lost to concurrent writes (last writer wins)\n"));
    }
    for status in answers.iter().filter(|status| !status.store_failure.is_empty()) {
        let peer = status.peer.clone().unwrap_or_default();
        table.push_str(&format!("read-only: {} {}: {}\n", short_hex(&peer.id), peer.address, status.store_failure));
    }
    for (peer, message) in &silent {
        table.push_str(&format!("unreachable: {} {}: {message}\n", short_hex(&peer.id), peer.address));
    }
    console.bytes(table.as_bytes())
}

async fn one(client: &Client) -> Result<StatusResponse, Failure> {
    client.status().await.map_err(|error| Failure::call("can't read the status", &error))
}

/// A peer that does not answer, and what came instead.
pub(super) type Silent = (Peer, String);

/// The status of every peer, in the order of the ring, and those that don't answer.
pub(super) async fn all(client: &Client) -> Result<(Vec<StatusResponse>, Vec<Silent>), Failure> {
    let view = crawl(client, &CrawlOptions::default()).await;
    let view = view.map_err(|error| Failure::call("can't read the ring", &error))?;
    if view.ring.is_none() {
        return Ok((vec![one(client).await?], vec![]));
    }
    let mut silent: Vec<Silent> = view.unreachable.into_iter().map(|peer| (peer.peer, peer.message)).collect();
    let mut answers = Vec::new();
    let mut calls = JoinSet::new();
    for (i, peer) in view.peers.into_iter().enumerate() {
        if calls.len() >= CONCURRENCY {
            collect(calls.join_next().await, &mut answers, &mut silent);
        }
        let client = client.only(&peer.peer.address);
        calls.spawn(async move {
            let answer = match client {
                Ok(client) => client.status().await,
                Err(error) => Err(error),
            };
            (i, peer.peer, answer)
        });
    }
    while !calls.is_empty() {
        collect(calls.join_next().await, &mut answers, &mut silent);
    }
    answers.sort_by_key(|(i, _)| *i);
    Ok((answers.into_iter().map(|(_, answer)| answer).collect(), silent))
}

type Call = (usize, Peer, Result<StatusResponse, Error>);

fn collect(
    call: Option<Result<Call, tokio::task::JoinError>>,
    answers: &mut Vec<(usize, StatusResponse)>,
    silent: &mut Vec<Silent>,
) {
    match call {
        Some(Ok((i, _, Ok(answer)))) => answers.push((i, answer)),
        Some(Ok((_, peer, Err(error)))) => silent.push((peer, error.summary())),
        Some(Err(_)) | None => {} // The tasks are neither cancelled nor do they panic.
    }
}

fn row(status: &StatusResponse) -> Vec<String> {
    let peer = status.peer.clone().unwrap_or_default();
    let up_since = up_since(status.uptime_seconds).replace('T', " ");
    vec![
        short_hex(&peer.id),
        peer.address,
        phase_name(status.phase()).to_owned(),
        text::grouped(status.slots_held.into()),
        text::grouped(status.slots_syncing.into()),
        text::grouped(status.keys),
        text::size(status.disk_bytes),
        up_since,
        text::grouped(status.transfers.into()),
        status.version.clone(),
    ]
}

fn silent_row(peer: &Peer) -> Vec<String> {
    let known = [short_hex(&peer.id), peer.address.clone(), "unreachable".to_owned()];
    known.into_iter().chain((0..7).map(|_| "-".to_owned())).collect()
}

/// By the clock of this machine: the peer only says for how long.
fn up_since(uptime_seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    text::timestamp(now.saturating_sub(uptime_seconds).saturating_mul(1000), false)
}

#[derive(Serialize)]
struct RingStatusJson<'a> {
    ring: Option<RingJson>,
    peers: &'a [StatusJson],
    unreachable: Vec<SilentJson>,
}

#[derive(Serialize)]
struct StatusJson {
    #[serde(flatten)]
    peer: PeerJson,
    phase: &'static str,
    nodes: u32,
    slots_held: u32,
    slots_syncing: u32,
    slots_changing: u32,
    keys: u64,
    disk_bytes: u64,
    uptime_seconds: u64,
    up_since: String,
    transfers: u32,
    version: String,
    /// Values written there, since it started, that were lost to concurrent writes of eventual mode.
    lww_discarded: u64,
    /// Why the store takes no writes any more; unset while it does.
    store_failure: Option<String>,
}

impl StatusJson {
    fn new(status: &StatusResponse) -> Self {
        let peer = status.peer.clone().unwrap_or_default();
        Self {
            peer: PeerJson::new(&peer),
            phase: phase_name(status.phase()),
            nodes: peer.nodes,
            slots_held: status.slots_held,
            slots_syncing: status.slots_syncing,
            slots_changing: status.slots_changing,
            keys: status.keys,
            disk_bytes: status.disk_bytes,
            uptime_seconds: status.uptime_seconds,
            up_since: up_since(status.uptime_seconds),
            transfers: status.transfers,
            version: status.version.clone(),
            lww_discarded: status.lww_discarded,
            store_failure: Some(status.store_failure.clone()).filter(|cause| !cause.is_empty()),
        }
    }
}
