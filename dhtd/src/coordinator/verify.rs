//! Verify: whether the ring keeps its invariant, by asking every peer that can be found.

use std::time::{Duration, Instant};

use dht_core::overlay::{
    Peer,
    audit::{Audit, Report, Testimony, Walk},
};
use dhtd_proto::{PROTOCOL_VERSION, v1};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout, timeout_at},
};

use super::{Coordinator, OperationError};
use crate::wire;

impl Coordinator {
    /// Walks the ring until there is something definite to say, for at most `limit`.
    ///
    /// # Errors
    /// If this peer is no member, or stops.
    pub async fn verify(&self, limit: Duration) -> Result<Report, OperationError> {
        let begun = Instant::now();
        let until = begun + limit;
        let reach = self.0.control.inspect(|overlay, _| overlay.wanted_reach()).await;
        let mut audit = Audit::new(reach.ok_or(OperationError::Stopping)?);
        // The second walk follows at once: a ring at rest is judged in a moment.
        for pause in std::iter::once(Duration::ZERO).chain(std::iter::repeat(PAUSE)) {
            let from = begun.elapsed();
            let Ok(walk) = timeout_at(until.into(), self.walk()).await else { break };
            if let Some(report) = audit.take(from, begun.elapsed(), walk?) {
                return Ok(report);
            }
            if Instant::now() + pause >= until {
                break;
            }
            sleep(pause).await;
        }
        Ok(audit.give_up())
    }

    /// Asks this peer, then every peer that anyone remembers.
    async fn walk(&self) -> Result<Walk, OperationError> {
        let own = self.0.control.inspect(|overlay, _| overlay.testimony()).await.ok_or(OperationError::Stopping)?;
        if own.members.is_empty() {
            return Err(OperationError::NotAMember);
        }
        let mut walk = Walk::new(own);
        let mut asked = JoinSet::new();
        loop {
            while asked.len() < ASKED_AT_ONCE
                && let Some(peer) = walk.next_to_ask()
            {
                let coordinator = self.clone();
                asked.spawn(async move {
                    let answer = timeout(ANSWER_TIME, coordinator.ask(&peer)).await.unwrap_or(None);
                    (peer, answer)
                });
            }
            match asked.join_next().await {
                Some(Ok((peer, answer))) => walk.take(&peer, answer),
                Some(Err(_)) => {} // The tasks end with this walk only, and they do not panic.
                None => return Ok(walk),
            }
        }
    }

    /// What another peer says of itself; `None` if it does not answer, or refuses.
    async fn ask(&self, peer: &Peer) -> Option<Testimony> {
        let channel = self.0.shared.channels.get(&peer.address)?;
        let mut client =
            v1::peer_service_client::PeerServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
        let ring_id = wire::ring_id_bytes(self.0.shared.routes.load().ring.as_ref());
        let request = v1::TestifyRequest { protocol_version: PROTOCOL_VERSION, ring_id };
        let answer = client.testify(request).await.map_err(|status| status.message().to_owned());
        let testimony = answer
            .and_then(|answer| wire::decode_testimony(answer.into_inner()).map_err(|malformed| malformed.to_string()));
        testimony.inspect_err(|error| tracing::debug!(address = %peer.address, %error, "a peer does not testify")).ok()
    }
}

/// How long an audit goes on if the client sets no earlier deadline: long enough for a violation to stand still
/// ([`dht_core::overlay::audit::REST`]) after the ring was seen changing.
pub const VERIFY_TIME: Duration = Duration::from_secs(10);

/// Between two walks while the ring changes. A guess.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a peer may take to testify. It answers from memory; one that takes longer counts as silent. A guess.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// How many peers are asked at a time, so that a walk of a large ring is no burst. A guess.
const ASKED_AT_ONCE: usize = 32;

/// A testimony names everyone whom its peer remembers, in about 60 bytes each.
const MESSAGE_BYTES: usize = 16 << 20;
