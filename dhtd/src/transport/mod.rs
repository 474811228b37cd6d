//! Connections to other peers.
//!
//! - [`Exchange`]: Chord's one-way messages, which may get lost.
//! - [`Calls`]: requests with answers, many in flight on one stream.
//!
//! Both batch whatever waits. A peer is reached at its advertised address over one HTTP/2 connection.

mod by_address;
mod calls;
mod channels;
mod exchange;
mod gather;

pub use calls::{Answer, CallError, Calls, Lane};
pub use channels::Channels;
pub use exchange::{Exchange, Trouble, Urgency};
pub use gather::gather;
