//! A slot is started again by hand: see [`crate::replication::recovery`].

use super::{Body, Change, Log, State, change, replica::Replica};
use crate::{
    replication::recovery::REVISION_JUMP,
    ring::{PeerId, Slot},
    view::{Acceptor, Claim, Epoch, Generation, Position, View},
};

impl State {
    /// What the process has promised a recovery before it was started. To be called before [`State::start`].
    #[must_use]
    pub fn claimed(mut self, claim: Claim) -> Self {
        self.claim = claim;
        self.staying = change::staying(&self.routes, &self.claim);
        self
    }

    /// Peers were given up: this one has no word with them any more, and serves nothing that they might serve, too.
    pub(super) fn claim(&mut self, claim: Claim) {
        self.claim = claim;
        self.staying = change::staying(&self.routes, &self.claim);
        self.revision += 1;
        let stranded = self.replicas.iter().filter(|(_, replica)| self.claim.strands(replica.view()));
        let stranded: Vec<Slot> = stranded.map(|(slot, _)| *slot).collect();
        stranded.into_iter().for_each(|slot| self.end(slot, None));
    }

    /// Whether the recovery that this peer has promised to follow starts the slot again, if this view is the newest. That of
    /// another recovery of the same counter makes it a disputed one, when the promised one is carried out.
    pub(super) fn is_given_up(&self, view: &View) -> bool {
        let (generation, promised) = (view.epoch.generation, self.claim.generation);
        (generation.counter < promised.counter && self.claim.strands(view)) || generation.rivals(promised)
    }

    /// There is another recovery of the counter that this peer goes by. It may have started again whatever had its majority
    /// here, and the other way round.
    pub(super) fn hear_of_rival(&mut self, other: Generation) {
        self.rival = Some(other);
        let disputed = |replica: &Replica| self.rival_of(replica.view()).is_some();
        let disputed: Vec<Slot> =
            self.replicas.iter().filter(|(_, replica)| disputed(replica)).map(|(slot, _)| *slot).collect();
        disputed.into_iter().for_each(|slot| self.dispute(None, slot, other));
    }

    /// The rival that the view has, unless it is of a later recovery.
    pub(super) fn rival_of(&self, view: &View) -> Option<Generation> {
        self.rival.filter(|rival| view.epoch.generation.counter <= rival.counter)
    }

    /// Somebody goes by another recovery of the same counter in this slot. He hears of it, too.
    pub(super) fn dispute(&mut self, with: Option<PeerId>, slot: Slot, other: Generation) {
        let Some(replica) = self.replicas.get(&slot).filter(|replica| replica.acceptor.rival.is_none()) else { return };
        let view = replica.view().clone();
        self.end(slot, Some(other));
        if let Some(peer) = with {
            self.tell(peer, slot, Body::Install(view));
        }
    }

    /// Nothing goes on in the slot, on whatever grounds, before a recovery.
    fn end(&mut self, slot: Slot, rival: Option<Generation>) {
        self.seal(slot);
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        (replica.proposer, replica.levelling, replica.accepting) = (None, None, None);
        // A copy is kept that nobody asks for any more: a recovery may count on it.
        replica.learning = None;
        replica.acceptor.rival = rival.or(replica.acceptor.rival);
        let acceptor = replica.acceptor.clone();
        self.store(slot, Change::Acceptor(acceptor), None);
    }

    /// The recovery that this peer has promised to follow starts the slot again. What comes of an earlier one too late is
    /// not carried out: the later one does not know of it.
    pub(super) fn recover(&mut self, view: View, begins_empty: bool) {
        let (slot, rules) = (view.slot, self.rules);
        let known = self.replicas.get(&slot).map(|replica| replica.view().epoch);
        let follows = known.is_none_or(|known| view.epoch.is_newer(known, rules));
        if view.epoch.generation != self.claim.generation || !follows {
            return;
        }
        if begins_empty {
            let before = Position { seq: view.frontier.seq - REVISION_JUMP, ..view.frontier };
            let empty = Some(Log::new(before, Vec::new(), Vec::new()));
            match self.replicas.get_mut(&slot) {
                Some(replica) => replica.log = empty,
                None => {
                    let (epoch, chain, electors) = (Epoch::default(), Vec::new(), Vec::new());
                    let nobody = View { epoch, chain, electors, ..view.clone() };
                    self.replicas.insert(slot, Replica::new(Acceptor::new(nobody), empty));
                }
            }
        }
        let ends = self.log(slot).map(|log| log.last().seq + REVISION_JUMP);
        if view.has(self.me.peer) && ends != Some(view.frontier.seq) {
            return; // The copy that was counted on is not here any more: better no view than one that lists nobody with data.
        }
        self.bring_into_force(view);
    }
}
