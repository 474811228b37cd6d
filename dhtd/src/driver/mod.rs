//! The loops that own state machines: they collect inputs, apply them, and carry out outputs.
//!
//! - [`control`]: the overlay and replication, on one task.
//! - [`shards`]: the data of eventual mode, on a thread for each shard.
//! - [`chains`]: chain mode, on a task for each group of slots.
//!
//! [`Shared`] is what they and the data path have in common. Control and data are apart: the control loop publishes an
//! immutable picture of the ring, and the data path reads it without waiting for anybody.

pub mod catalogue;
pub mod chains;
mod claims;
pub mod control;
mod membership;
mod pulse;
mod range;
pub mod shards;
mod sweep;
mod transfer;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use dht_core::overlay::{Peer, Phase, Routes};
use tokio::sync::{mpsc, watch};

use self::{chains::Chains, shards::Shards};
use crate::{
    clock::WallClock,
    storage::Engine,
    transport::{Calls, Channels, Exchange, Trouble},
};

pub use claims::Claims;
pub use control::{Control, Handle};
pub use membership::{Membership, RingFile, Standing};
pub use pulse::Pulse;
pub use range::KeyRange;
pub use sweep::sweep;

/// What the loops and the data path of one peer share.
pub struct Shared {
    /// The newest picture of the ring.
    pub routes: Arc<ArcSwap<Routes>>,
    /// The newest catalogue that this peer knows.
    pub catalogue: catalogue::Known,
    /// What the data is kept in, to be asked how it is.
    pub store: Arc<dyn Engine>,
    /// The data; unset until the peer knows its ring.
    pub shards: OnceLock<Arc<Shards>>,
    /// The chains; unset until the peer knows its ring.
    pub chains: OnceLock<Arc<Chains>>,
    /// What the peer has promised a recovery.
    pub claims: Claims,
    /// The time of day.
    pub wall_clock: Arc<WallClock>,
    /// One-way messages to other peers.
    pub exchange: Exchange,
    /// The same for chain mode's entries and what goes with them: nothing else waits behind them.
    pub replicate: Exchange,
    /// Calls to other peers.
    pub calls: Calls,
    /// Connections to other peers.
    pub channels: Arc<Channels>,
    /// Where the peer stands, for whoever wants to wait for it.
    pub phase: watch::Sender<Phase>,
}

impl Shared {
    /// What a peer that is in no ring yet has; `trouble` hears of peers that can't be reached.
    #[must_use]
    pub fn new(me: Peer, trouble: mpsc::Sender<Trouble>, store: Arc<dyn Engine>, catalogue: catalogue::Known) -> Self {
        let routes = Arc::new(ArcSwap::from_pointee(Routes::outside(me)));
        let channels = Arc::new(Channels::default());
        let claims = Claims::new(routes.load().me.id);
        let exchange =
            |channels| Exchange::new(channels, routes.clone(), catalogue.shared(), claims.shared(), trouble.clone());
        Self {
            exchange: exchange(channels.clone()),
            replicate: exchange(Arc::default()),
            claims,
            wall_clock: Arc::default(),
            calls: Calls::new(channels.clone(), routes.clone()),
            catalogue,
            store,
            shards: OnceLock::new(),
            chains: OnceLock::new(),
            channels,
            routes,
            phase: watch::Sender::new(Phase::Idle),
        }
    }
}
