//! What is done to the processes.

use std::time::Duration;

use clap::ValueEnum;
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use tokio::time::{Instant, sleep};

use super::{
    clients::Clients,
    cut::Shape,
    held::{Held, held},
};
use crate::process::{Peer, Ring};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// None.
    None,
    /// `kill -9` of a random peer, which is started again after a while.
    Kill,
    /// `kill -STOP` of the head, then of the tail, of a slot in use, each of which goes on after 5 s.
    Pause,
    /// The same for 60 s.
    LongPause,
    /// Everything is killed at once, and started again.
    All,
    /// The network is cut in two.
    Cut,
    /// What one part of the network sends to the other is lost.
    OneWay,
    /// Two peers do not reach each other.
    Pair,
    /// Peers join, and others depart.
    Members,
}

/// The ring, who uses it, and what has been done to it.
pub(super) struct Stage<'a> {
    pub(super) ring: &'a mut Ring,
    pub(super) clients: &'a Clients,
    pub(super) random: ChaCha8Rng,
    /// What has been done.
    pub(super) done: Vec<String>,
    /// What was not as it must be.
    pub(super) wrong: Vec<String>,
    /// Counts faults that come in two kinds by turns.
    turn: usize,
}

impl Fault {
    /// Whether the peers must be in a network that can be cut.
    #[must_use]
    pub fn needs_network(self) -> bool {
        matches!(self, Self::Cut | Self::OneWay | Self::Pair)
    }

    /// Does this to the ring again and again until `end`, then leaves it whole. Returns what was done, and what was
    /// not as it must be.
    pub(super) async fn go_on(
        self,
        ring: &mut Ring,
        clients: &Clients,
        end: Instant,
        seed: u64,
    ) -> (Vec<String>, Vec<String>) {
        let random = ChaCha8Rng::seed_from_u64(seed);
        let mut stage = Stage { ring, clients, random, done: Vec::new(), wrong: Vec::new(), turn: 0 };
        loop {
            sleep(stage.between(500, 3000)).await;
            if Instant::now() >= end {
                return (stage.done, stage.wrong);
            }
            match self {
                Self::None => continue,
                Self::Kill => stage.kill().await,
                Self::Pause => stage.pause(Duration::from_secs(5)).await,
                Self::LongPause => stage.pause(Duration::from_secs(60)).await,
                Self::All => stage.kill_all().await,
                Self::Cut => stage.cut(Shape::Groups).await,
                Self::OneWay => stage.cut(Shape::OneWay).await,
                Self::Pair => stage.cut(Shape::Pair).await,
                Self::Members => stage.change_members().await,
            }
        }
    }
}

impl Stage<'_> {
    /// Milliseconds.
    pub(super) fn between(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.random.random_range(from..to))
    }

    async fn kill(&mut self) {
        let victim = self.random.random_range(0..self.ring.peers.len());
        self.ring.peers[victim].kill();
        let down = self.between(0, 3000);
        sleep(down).await;
        self.ring.peers[victim].start();
        self.done.push(format!("peer {victim} killed, and started again after {} ms", down.as_millis()));
    }

    /// Stops whoever is the head, or the tail, of some slot in use.
    async fn pause(&mut self, time: Duration) {
        let keys = self.clients.keys();
        let held: Vec<Held> = held(&self.ring.client(), &keys).await.into_values().collect();
        self.turn += 1;
        let place = if self.turn % 2 == 1 { Held::head } else { Held::tail };
        let chosen = held.get(self.random.random_range(0..held.len().max(1))).and_then(place);
        // Nobody may be able to tell before the ring has got over the last one.
        let Some(address) = chosen.cloned() else { return };
        let victim = self.ring.peers.iter().position(|peer| peer.address == address).expect("it is one of them");
        self.ring.peers[victim].pause();
        sleep(time).await;
        self.ring.peers[victim].unpause();
        let of = |place: fn(&Held) -> Option<&String>| held.iter().filter(|held| place(held) == Some(&address)).count();
        let (heads, tails) = (of(Held::head), of(Held::tail));
        let slots = held.len();
        let chosen = if self.turn % 2 == 1 { "head" } else { "tail" };
        self.done.push(format!(
            "peer {victim} stopped for {} s, chosen as a {chosen}: of {slots} keys in use it was the head for {heads} and \
             the tail for {tails}",
            time.as_secs()
        ));
    }

    async fn kill_all(&mut self) {
        self.ring.peers.iter_mut().for_each(Peer::kill);
        let mut order: Vec<usize> = (0..self.ring.peers.len()).collect();
        order.shuffle(&mut self.random);
        order.into_iter().for_each(|peer| self.ring.peers[peer].start());
        self.done.push("all killed and started again".to_owned());
        let pause = self.between(5_000, 10_000);
        sleep(pause).await;
    }
}
