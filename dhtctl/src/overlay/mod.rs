//! A whole ring, put together from what its peers say about themselves.
//!
//! The peers are asked one after another, so this is no atomic snapshot: while peers come and go, neighbours may seem to
//! disagree although each was right when it was asked.

mod crawl;
#[cfg(feature = "cli")]
mod table;
mod view;

#[cfg(feature = "cli")]
pub use self::table::{Columns, overlay_table, overlay_table_with};
pub use self::{
    crawl::{CrawlOptions, crawl},
    view::{Disagreement, PeerView, Place, RingView, Shape, Unreachable, mode_name, phase_name},
};
