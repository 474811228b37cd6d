//! Whether the loops of a peer still turn.

use std::sync::Arc;

use super::{Handle, Shared};

/// Feels whether the loops of a peer still turn. Cheap to clone.
#[derive(Clone)]
pub struct Pulse {
    control: Handle,
    shared: Arc<Shared>,
}

impl Pulse {
    /// The pulse of the peer that these belong to.
    #[must_use]
    pub fn new(control: Handle, shared: Arc<Shared>) -> Self {
        Self { control, shared }
    }

    /// Returns once the control loop and every group of chains have come round to answer. A loop that has ended does not
    /// hang: others have been told, or the whole peer is about to end.
    pub async fn beat(&self) {
        let _ = self.control.inspect(|_, _| ()).await;
        if let Some(chains) = self.shared.chains.get() {
            chains.come_round().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use dht_core::{overlay::Peer, ring::PeerId};
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        driver::{catalogue::Known, control::Command},
        storage::{DataDir, MemoryEngine},
    };

    #[tokio::test]
    async fn a_control_loop_that_hangs_has_no_pulse() {
        let dir = tempfile::tempdir().expect("a directory");
        let (dir, _) = DataDir::open_or_create(dir.path(), rand::random).expect("it is empty");
        let catalogue = Known::load(Arc::new(dir)).expect("there is none");
        let id = PeerId::new([1; 16]);
        let me = Peer { id, address: "127.0.0.1:1".into(), incarnation: 1, nodes: 0, leaving: false };
        let shared = Arc::new(Shared::new(me, mpsc::channel(1).0, Arc::new(MemoryEngine::new()), catalogue));
        let (handle, mut inbox) = Handle::new();
        let mut beating = tokio::spawn(async move { Pulse::new(handle, shared).beat().await });
        let asked = inbox.recv().await.expect("it is asked");
        assert!(matches!(asked, Command::Inspect(_)));
        let hung = tokio::time::timeout(std::time::Duration::from_millis(50), &mut beating).await;
        assert!(hung.is_err(), "nobody has answered");
        drop(asked); // As if the loop had come round.
        beating.await.expect("it returns");
    }
}
