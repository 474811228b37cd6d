//! One address and the connection to it.

use std::{sync::Arc, time::Duration};

use tokio::sync::Mutex;
use tonic::transport::{Channel, Endpoint as TonicEndpoint};

use crate::error::Error;

/// Compatible with the limits of gRPC servers in general: they take pings more often than this for an attack.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// A peer's address, connected when it is first needed. tonic connects again by itself when a connection breaks.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    address: String,
    target: TonicEndpoint,
    channel: Arc<Mutex<Option<Channel>>>,
}

impl Endpoint {
    pub(super) fn new(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let malformed = || Error::usage(format!("'{text}' is no endpoint; write HOST:PORT, e.g. 127.0.0.1:7400"));
        let target = TonicEndpoint::from_shared(format!("http://{address}")).map_err(|_| malformed())?;
        let plain = target.uri().path() == "/" && target.uri().query().is_none();
        if !plain || target.uri().port_u16().is_none_or(|port| port == 0) {
            return Err(malformed());
        }
        let target = target
            .user_agent(concat!("dhtctl/", env!("CARGO_PKG_VERSION")))
            .map_err(|_| malformed())?
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        Ok(Self { address: address.to_owned(), target, channel: Arc::default() })
    }

    /// `HOST:PORT`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The connection; connects within `limit` if there is none yet. Concurrent callers wait for the same attempt.
    pub(super) async fn channel(&self, limit: Duration) -> Result<Channel, Error> {
        let mut slot = self.channel.lock().await;
        if let Some(channel) = &*slot {
            return Ok(channel.clone());
        }
        let target = self.target.clone().connect_timeout(limit);
        match tokio::time::timeout(limit, target.connect()).await {
            Ok(Ok(channel)) => Ok(slot.insert(channel).clone()),
            Ok(Err(error)) => Err(Error::unreachable(&self.address, &error)),
            Err(_) => Err(Error::connect_timeout(&self.address, limit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_host_and_port_with_or_without_scheme() {
        for good in ["127.0.0.1:7400", "http://peer:7400/", "[::1]:7400", " peer:1 "] {
            assert!(Endpoint::new(good).is_ok(), "{good}");
        }
        for bad in ["", "peer", "peer:", "peer:0", "peer:70000", "https://peer:1", "peer:1/path", "a b:1", "peer:1?q"] {
            assert!(Endpoint::new(bad).is_err(), "{bad}");
        }
        assert_eq!(Endpoint::new("http://peer:7400/").map(|e| e.address().to_owned()).ok(), Some("peer:7400".into()));
    }
}
