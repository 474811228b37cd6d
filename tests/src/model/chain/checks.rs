//! What must hold besides that histories are linearizable.

use std::sync::Arc;

use dht_core::{replication::chain::Entry, view::View};

use super::{Place, World, host::peer};

impl World {
    pub(super) fn installed(&mut self, at: Place, view: &View, has_data: bool) {
        let newest = self.decided.keys().next_back().is_none_or(|newest| *newest <= view.epoch);
        if !has_data && newest {
            self.fail(|| format!("{LACKS_DATA}: {view:?} at {}", peer(at)));
        }
        match self.decided.get(&view.epoch) {
            Some(known) if known != view => {
                let known = known.clone();
                self.fail(|| format!("{TWO_VIEWS}: {known:?} and {view:?}"));
            }
            Some(_) => {}
            None => {
                Arc::make_mut(&mut self.decided).insert(view.epoch, view.clone());
                if let Some(lost) = self.lost() {
                    self.fail(|| lost);
                }
            }
        }
    }

    pub(super) fn applied(&mut self, entry: &Entry) {
        let seq = entry.position.seq;
        match self.applied.get(&seq) {
            Some(known) if known != entry => {
                let known = known.clone();
                self.fail(|| format!("{TWO_ENTRIES}: {known:?} and {entry:?}"));
            }
            Some(_) => {}
            None => drop(Arc::make_mut(&mut self.applied).insert(seq, entry.clone())),
        }
    }

    /// A write that was acknowledged and is not in a later view's history.
    pub(super) fn lost(&self) -> Option<String> {
        self.clients.acknowledged().find_map(|(revision, epoch)| {
            let later = self.decided.range(epoch..).filter(|(decided, _)| **decided > epoch);
            let view = later.map(|(_, view)| view).find(|view| view.frontier.seq < revision)?;
            Some(format!("{LOST}: {revision} of epoch {epoch}, by {view:?}"))
        })
    }

    fn fail(&mut self, what: impl FnOnce() -> String) {
        self.violation.get_or_insert_with(what);
    }
}

/// A member of a view holds no data.
pub const LACKS_DATA: &str = "a view lists a peer without the data";

/// Two views of one epoch came into force.
pub const TWO_VIEWS: &str = "two views of one epoch";

/// Two members have applied different entries of one number.
pub const TWO_ENTRIES: &str = "two entries of one number";

/// An acknowledged write is not in the history before a later view.
pub const LOST: &str = "an acknowledged write is lost";
