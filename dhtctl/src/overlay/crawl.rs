//! Walking a ring: from one peer to all that it knows, and on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use dhtd_proto::v1::{KnownPeer, OverlayResponse, Peer, Ring};
use tokio::task::JoinSet;

use super::{RingView, Unreachable};
use crate::{Client, Error};

/// How a ring is walked.
#[derive(Clone, Debug)]
pub struct CrawlOptions {
    /// How many peers are asked at a time.
    pub concurrency: usize,
    /// How many peers are asked at all: a bound on what a misbehaving peer can make a client do.
    pub max_peers: usize,
}

impl Default for CrawlOptions {
    /// Guesses: 16 keep a walk of a large ring short without a burst; no ring is expected to have 10,000 peers.
    fn default() -> Self {
        Self { concurrency: 16, max_peers: 10_000 }
    }
}

/// Asks the peer that `client` is connected to, then every live peer that anyone knows, for its part of the ring.
///
/// # Errors
/// Only if the first peer does not answer. Others that don't are listed in the view.
pub async fn crawl(client: &Client, options: &CrawlOptions) -> Result<RingView, Error> {
    let first = client.overlay().await?;
    let start = first.peer.clone().unwrap_or_default();
    let mut walk = Walk { ring: first.ring.clone(), ..Walk::default() };
    walk.seen.insert(start.id.clone());
    walk.take(start, Ok(first));
    let mut asked = JoinSet::new();
    loop {
        while asked.len() < options.concurrency.max(1)
            && walk.seen.len() < options.max_peers
            && let Some(peer) = walk.queue.pop_front()
        {
            if walk.seen.insert(peer.id.clone()) {
                asked.spawn(ask(client.clone(), peer));
            }
        }
        match asked.join_next().await {
            Some(Ok((peer, answer))) => walk.take(peer, answer),
            Some(Err(_)) => {} // The task is neither cancelled nor does it panic.
            None => break,
        }
    }
    Ok(walk.finish())
}

async fn ask(client: Client, peer: Peer) -> (Peer, Result<OverlayResponse, Error>) {
    let answer = match client.only(&peer.address) {
        Ok(client) => client.overlay().await,
        Err(error) => Err(error),
    };
    (peer, answer)
}

#[derive(Default)]
struct Walk {
    ring: Option<Ring>,
    seen: BTreeSet<Bytes>,
    queue: VecDeque<Peer>,
    answers: Vec<OverlayResponse>,
    unreachable: Vec<Unreachable>,
    /// Peers that somebody takes for dead, by id.
    dead: BTreeMap<Bytes, KnownPeer>,
}

impl Walk {
    fn take(&mut self, asked: Peer, answer: Result<OverlayResponse, Error>) {
        let message = match answer {
            Err(error) => error.summary(),
            Ok(answer) => match self.objection(&asked, &answer) {
                Some(objection) => objection,
                None => {
                    self.learn(&answer.peers);
                    self.answers.push(answer);
                    return;
                }
            },
        };
        self.unreachable.push(Unreachable { peer: asked, message });
    }

    /// Why an answer is not part of this ring.
    fn objection(&self, asked: &Peer, answer: &OverlayResponse) -> Option<String> {
        let answered = answer.peer.as_ref().map(|peer| &peer.id);
        if answered.is_some_and(|id| *id != asked.id) {
            return Some("another peer answers at its address".into());
        }
        let id = |ring: &Option<Ring>| ring.as_ref().map(|ring| ring.id.clone());
        (id(&answer.ring) != id(&self.ring)).then(|| match answer.ring {
            Some(_) => "it belongs to another ring".into(),
            None => "it belongs to no ring yet".into(),
        })
    }

    fn learn(&mut self, peers: &[KnownPeer]) {
        for known in peers {
            let Some(peer) = &known.peer else { continue };
            if known.alive {
                self.queue.push_back(peer.clone());
            } else {
                self.dead.insert(peer.id.clone(), known.clone());
            }
        }
    }

    fn finish(mut self) -> RingView {
        // Whom one peer takes for dead another may have talked to a moment ago: what was asked is no longer listed.
        self.dead.retain(|id, _| !self.seen.contains(id));
        RingView::new(self.ring, self.answers, self.unreachable, self.dead.into_values().collect())
    }
}
