//! Peers come and go.

use rand::RngExt;
use tokio::time::Instant;

use super::faults::Stage;

impl Stage<'_> {
    /// One or two peers join; then as many depart, whoever they are. The ring is whole after each step, and clients ask
    /// whoever is in it, also those that are about to go.
    ///
    /// # Panics
    /// If the ring does not become whole.
    pub(super) async fn change_members(&mut self) {
        let newcomers = self.random.random_range(1..=2);
        for _ in 0..newcomers {
            let began = Instant::now();
            let address = self.ring.join().address.clone();
            self.ask_all();
            self.ring.ideal(self.ring.peers.len()).await;
            self.done.push(format!("{address} joined: {} peers, whole after {:.1?}", self.peers(), began.elapsed()));
        }
        for _ in 0..newcomers {
            let began = Instant::now();
            let leaver = self.random.random_range(0..self.peers());
            let mut progress = self.ring.peers[leaver].client().depart().await.expect("it is a member");
            while progress.next().await.expect("it says how far it is").is_some_and(|step| !step.done) {}
            let mut peer = self.ring.peers.remove(leaver);
            self.ask_all();
            assert!(peer.wait(), "it departed well");
            self.ring.ideal(self.peers()).await;
            let (address, peers) = (&peer.address, self.peers());
            self.done.push(format!("{address} departed: {peers} peers, whole after {:.1?}", began.elapsed()));
        }
    }

    fn peers(&self) -> usize {
        self.ring.peers.len()
    }

    fn ask_all(&self) {
        let addresses: Vec<String> = self.ring.peers.iter().map(|peer| peer.address.clone()).collect();
        self.clients.ask(&addresses);
    }
}
