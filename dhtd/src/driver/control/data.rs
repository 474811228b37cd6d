//! The part of the loop that feeds replication and carries out what it asks for.

use std::sync::Arc;

use dht_core::{
    Rules,
    overlay::{self, Ring},
    replication::eventual::{self, Memory},
};

use super::{Command, Control, Timer, Waiter};
use crate::{
    driver::{chains::Chains, shards::Shards, transfer},
    transport::Urgency,
    wire::PeerBody,
};

impl Control {
    /// From now on there is data. Whoever founds a ring holds all of it, and there is none.
    pub(super) fn know_ring(&mut self, ring: Ring, founds: bool) {
        if self.shared.shards.get().is_some() {
            return;
        }
        let opened = (self.open_shards)(ring.slot_bits).and_then(|shards| {
            let memory = shards.memory()?;
            Ok((shards, memory))
        });
        match opened {
            Ok((shards, memory)) => {
                let memory = if founds { Memory::founder(ring.slot_bits.iter()) } else { memory };
                remember(&shards, &memory);
                let shards = Arc::new(shards);
                drop(self.shared.shards.set(shards.clone()));
                self.shared.catalogue.begin(&ring);
                let routes = Arc::new(self.overlay.routes());
                self.shared.routes.store(routes.clone());
                match Chains::open(&self.shared, &self.handle, &shards, ring.slot_bits, founds) {
                    Ok(chains) => drop(self.shared.chains.set(Arc::new(chains))),
                    Err(error) => return tracing::error!(error = %error.chain(), "cannot open the chains"),
                }
                let (config, expected) = (self.replication_config.clone(), self.expected_peers);
                let mut replication = eventual::State::new(config, Rules::ALL, routes, expected, memory);
                let outputs = replication.start(self.started.elapsed());
                self.replication = Some(replication);
                outputs.into_iter().for_each(|output| self.replicate(output));
            }
            // The server looks whether the data could be opened, and stops if not.
            Err(error) => tracing::error!(error = %error.chain(), "cannot open the data"),
        }
    }

    /// Goes by the newest catalogue. Before the first change there is nothing in it that the ring does not say itself.
    pub(super) fn follow_catalogue(&mut self) {
        let catalogue = self.shared.catalogue.newest();
        if catalogue.revision > 0 {
            self.overlay(overlay::Input::Replicas(catalogue.replicas()));
        }
    }

    pub(super) fn replication(&mut self, input: eventual::Input) {
        let Some((replication, shards)) = self.replication.as_mut().zip(self.shared.shards.get()) else { return };
        let outputs = replication.handle(self.started.elapsed(), input, &**shards.table());
        let mut memory = Memory::default();
        for output in &outputs {
            match output {
                eventual::Output::Note(slot, note) => memory.notes.push((*slot, note.clone())),
                eventual::Output::Departed(peer) => drop(memory.departed.insert(*peer)),
                _ => {}
            }
        }
        remember(shards, &memory);
        outputs.into_iter().for_each(|output| self.replicate(output));
    }

    fn replicate(&mut self, output: eventual::Output) {
        let Some(shards) = self.shared.shards.get().cloned() else { return };
        match output {
            eventual::Output::Send(to, message) => {
                let Some(peer) = self.shared.routes.load().peer(to).cloned() else { return };
                let shared = self.shared.clone();
                tokio::spawn(async move {
                    // Others let go of their copies by what they hear is held here: after a loss of power, too. A store that
                    // has failed takes nothing in any more, but what it has is asked for.
                    drop(shards.ticket().await);
                    let address = peer.address.clone();
                    shared.exchange.send(&address, Some(peer), PeerBody::Replication(message), Urgency::Now);
                });
            }
            eventual::Output::SetTimer(after, timer) => self.set_timer(after, Timer::Replication(timer)),
            eventual::Output::Synced(slot, synced) => shards.table().set_synced(slot, synced),
            eventual::Output::Note(..) | eventual::Output::Departed(_) => {} // Remembered all at once.
            eventual::Output::Locate(slot) => {
                if let Some(bits) = self.overlay.ring().map(|ring| ring.slot_bits) {
                    self.lookup(bits.point(slot), Waiter::Locate(slot));
                }
            }
            eventual::Output::Transfer(slot, to, theirs) => {
                let (shared, handle) = (self.shared.clone(), self.handle.clone());
                tokio::spawn(async move {
                    let peer = shared.routes.load().peer(to).cloned();
                    let digest = match peer {
                        Some(peer) => transfer::send_slot(&shared, slot, &peer, theirs).await,
                        None => None,
                    };
                    handle.send(Command::Transferred(slot, to, digest)).await;
                });
            }
            eventual::Output::Reclaim(slot, horizon) => {
                tokio::spawn(async move {
                    if let Err(error) = shards.reclaim(slot, horizon).await {
                        tracing::error!(%slot, %error, "cannot forget deletions that everyone has");
                    }
                });
            }
            eventual::Output::Drop(slot, digest) => {
                tokio::spawn(async move {
                    let result = match shards.drop_slot(slot, digest).await {
                        // Others go by it that nothing is left here: that should be so after a loss of power, too.
                        Ok(true) => shards.flush().await.map_err(Into::into),
                        other => other.map(|_| ()),
                    };
                    if let Err(error) = result {
                        tracing::error!(%slot, %error, "cannot drop a slot that others hold now");
                    }
                });
            }
        }
    }
}

fn remember(shards: &Shards, memory: &Memory) {
    if let Err(error) = shards.remember(memory) {
        tracing::error!(error = %error.chain(), "cannot note who holds what");
    }
}
