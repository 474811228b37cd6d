//! The peer daemon of dhtd: everything that touches the world. The protocols themselves are in `dht-core`.
//!
//! Read `ARCHITECTURE.md` beside this crate's manifest first. Arrows between the modules run one way:
//! `main -> config, server, dev, systemd`; `server ->` all others; `rpc -> coordinator -> driver, transport`;
//! `driver -> storage, transport`; `rpc, transport -> wire`; `systemd -> driver`.

pub mod clock;
pub mod config;
pub mod coordinator;
pub mod dev;
pub mod driver;
pub mod rpc;
pub mod server;
pub mod storage;
pub mod systemd;
pub mod transport;
pub mod wire;
