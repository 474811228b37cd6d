//! One HTTP/2 connection for each address, made when it is first needed.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tonic::transport::{Channel, Endpoint};

/// The connections of a peer.
#[derive(Debug, Default)]
pub struct Channels {
    by_address: Mutex<HashMap<String, Channel>>,
}

impl Channels {
    /// The connection to HOST:PORT; `None` if that is no address. It connects, and connects again, by itself.
    pub fn get(&self, address: &str) -> Option<Channel> {
        let mut channels = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Some(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
        let channel = endpoint
            .connect_timeout(CONNECT_TIME_OUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
            .keep_alive_timeout(KEEP_ALIVE_TIME_OUT)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW * 2)
            .connect_lazy();
        channels.insert(address.to_owned(), channel.clone());
        Some(channel)
    }
}

/// A peer on the same continent answers well within this; the failure detector is quicker still. A guess.
const CONNECT_TIME_OUT: Duration = Duration::from_secs(1);

/// Finds connections whose other end is gone without a word (a pulled cable), so that calls on them end. Guesses.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIME_OUT: Duration = Duration::from_secs(2);

/// HTTP/2's default of 64 KiB would stall a stream of 1 MiB values at every round trip.
const WINDOW: u32 = 4 << 20;
