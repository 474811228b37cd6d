//! The Rust client of dhtd.
//!
//! [`Client`] talks to any peer of a ring; the peer sends each request on to where the key is. Give it several endpoints
//! and it falls over to the next one when a peer is gone. [`overlay`] walks a whole ring and puts its nodes in order.
//!
//! ```no_run
//! # async fn example() -> Result<(), dhtctl::Error> {
//! let client = dhtctl::Client::connect(["127.0.0.1:7400", "127.0.0.1:7401"]).await?;
//! client.put("greeting", "hello", 2).await?;
//! let found = client.get("greeting").await?;
//! assert_eq!(found.map(|record| record.value), Some("hello".into()));
//! # Ok(())
//! # }
//! ```
//!
//! The feature `cli` (on by default) adds what the command-line tool needs, and the renderer of the ring's table.
//! Without it the library depends on neither clap nor any output crate.

pub mod client;
pub mod error;
#[cfg(feature = "cli")]
pub mod grid;
pub mod id;
pub mod overlay;

pub use client::{Client, Messages, Options, Pipeline, Scan, Write, Written};
pub use dhtd_proto::v1 as proto;
pub use error::{Error, ErrorKind};
