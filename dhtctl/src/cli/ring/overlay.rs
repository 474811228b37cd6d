//! `overlay`: the ring in its order.

use dhtctl::{
    Client,
    overlay::{Columns, CrawlOptions, crawl, overlay_table_with},
};

use super::schema::OverlayJson;
use crate::cli::{
    args::Overlay,
    console::Console,
    failure::{Failure, Outcome},
};

/// Asks every peer for its part of the ring and puts the parts in order.
pub(crate) async fn run(client: &Client, arguments: &Overlay, console: &Console) -> Outcome {
    let view = crawl(client, &CrawlOptions::default()).await;
    let view = view.map_err(|error| Failure::call("can't read the ring", &error))?;
    let columns = Columns { nodes: arguments.nodes, successors: arguments.successors, fingers: arguments.fingers };
    if !console.is_json() {
        return console.bytes(overlay_table_with(&view, columns).as_bytes());
    }
    let document = OverlayJson::new(&view);
    if columns.by_node() { console.rows(&document, &document.nodes) } else { console.rows(&document, &document.peers) }
}
