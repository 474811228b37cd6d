//! The ring as a table for people.

use std::fmt::Write as _;

use dhtd_proto::v1::Node;

use super::{RingView, Shape, mode_name, phase_name};
use crate::{grid::grid, id::short_hex};

/// How many disagreements the summary spells out.
const MAX_LISTED: usize = 5;

/// What the table shows. Neighbours and fingers are those of nodes, so each of them gives every node its row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Columns {
    /// A row for every node rather than for every peer.
    pub nodes: bool,
    /// Predecessor and successors.
    pub successors: bool,
    /// Fingers.
    pub fingers: bool,
}

impl Columns {
    /// Whether the rows are nodes.
    pub fn by_node(self) -> bool {
        self.nodes || self.successors || self.fingers
    }
}

/// The ring in order, a row for every peer, what did not answer, and a summary in one line.
pub fn overlay_table(view: &RingView) -> String {
    overlay_table_with(view, Columns::default())
}

/// As [`overlay_table`], with a choice of columns.
pub fn overlay_table_with(view: &RingView, columns: Columns) -> String {
    let mut text = if columns.by_node() { node_rows(view, columns) } else { peer_rows(view) };
    for silent in &view.unreachable {
        let peer = short_hex(&silent.peer.id);
        _ = writeln!(text, "unreachable: {peer} {}: {}", silent.peer.address, silent.message);
    }
    for known in view.dead.iter().filter_map(|known| known.peer.as_ref()) {
        _ = writeln!(text, "taken for dead: {} {}", short_hex(&known.id), known.address);
    }
    text.push_str(&summary(view));
    text
}

fn peer_rows(view: &RingView) -> String {
    let rows = view.peers.iter().map(|peer| {
        vec![
            peer.first.map_or_else(|| "-".into(), |id| percent(id.as_fraction())),
            peer.first.map_or_else(|| "-".into(), |id| short_hex(id.as_bytes())),
            short_hex(&peer.peer.id),
            peer.peer.address.clone(),
            peer.joined.to_string(),
            percent(peer.share),
            phase_name(peer.phase).to_owned(),
        ]
    });
    grid(&["PLACE", "FIRST", "PEER", "ADDRESS", "NODES", "SHARE", "PHASE"], &[0, 4, 5], rows)
}

fn node_rows(view: &RingView, columns: Columns) -> String {
    let mut header = vec!["PLACE", "NODE", "PEER", "ADDRESS", "INDEX", "SHARE"];
    if columns.successors {
        header.extend(["PREDECESSOR", "SUCCESSORS"]);
    }
    if columns.fingers {
        header.push("FINGERS");
    }
    let rows = view.places.iter().map(|place| {
        let mut row = vec![
            percent(place.id.as_fraction()),
            short_hex(place.id.as_bytes()),
            short_hex(&place.node.peer_id),
            place.node.address.clone(),
            place.node.index.to_string(),
            percent(place.share),
        ];
        if columns.successors {
            row.push(place.predecessor.as_ref().map_or_else(|| "-".into(), short));
            row.push(joined(place.successors.iter().map(short)));
        }
        if columns.fingers {
            let fingers = place.fingers.iter().filter_map(|finger| Some((finger.bit, finger.node.as_ref()?)));
            row.push(joined(fingers.map(|(bit, node)| format!("2^{bit}:{}", short(node)))));
        }
        row
    });
    grid(&header, &[0, 4, 5], rows)
}

fn summary(view: &RingView) -> String {
    let mut text = count(view.peers.len(), "peer");
    _ = write!(text, ", {}", count(view.places.len(), "node"));
    if let (Some(ring), Some(slots)) = (&view.ring, view.slots()) {
        let mode = mode_name(ring.mode());
        _ = write!(text, ", {mode} mode, k = {}, {slots} slots", ring.replicas);
    } else {
        text.push_str(", in no ring");
    }
    match view.shape() {
        Shape::Ideal => text.push_str("; the ring is ideal\n"),
        Shape::Unknown if view.places.is_empty() => text.push('\n'),
        Shape::Unknown => {
            let silent = count(view.unreachable.len(), "peer");
            _ = writeln!(text, "; can't tell whether the ring is ideal: {silent} did not answer");
        }
        Shape::NotIdeal(wrong) => {
            _ = writeln!(text, "; the ring is not ideal: {} wrong", count(wrong.len(), "neighbour"));
            for disagreement in wrong.iter().take(MAX_LISTED) {
                let named = disagreement.named.map_or_else(|| "no".into(), |id| short_hex(id.as_bytes()));
                let (node, expected) =
                    (short_hex(disagreement.node.as_bytes()), short_hex(disagreement.expected.as_bytes()));
                _ = writeln!(text, "  {node} names {named} as its {}, not {expected}", disagreement.neighbour);
            }
            if wrong.len() > MAX_LISTED {
                _ = writeln!(text, "  and {} more", wrong.len() - MAX_LISTED);
            }
        }
    }
    text
}

fn joined(items: impl Iterator<Item = String>) -> String {
    let text = items.collect::<Vec<_>>().join(" ");
    if text.is_empty() { "-".into() } else { text }
}

fn short(node: &Node) -> String {
    short_hex(&node.id)
}

fn percent(fraction: f64) -> String {
    format!("{:.2}%", fraction * 100.0)
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
