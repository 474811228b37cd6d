//! What must hold of a ring at every moment (Zave 2017, section 5), and what holds once it is at rest.
//!
//! The same check serves the simulator after every event, the model checker, and `dhtctl verify` on a live ring.

use std::collections::{BTreeMap, BTreeSet};

use super::{NodeState, peer::Node};
use crate::ring::{Id, PeerId, between};

/// What one member shows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Which node.
    pub node: Node,
    /// Its predecessor, unless unknown.
    pub predecessor: Option<Node>,
    /// Its successor list.
    pub successors: Vec<Node>,
}

impl From<&NodeState> for View {
    fn from(state: &NodeState) -> Self {
        Self { node: state.node, predecessor: state.predecessor, successors: state.successors.clone() }
    }
}

/// How a ring breaks the invariant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A member's list has no live node of another peer, though there are some.
    #[error("{0:?} has no live successor")]
    NoLiveSuccessor(Node),
    /// A list is not in the order of the circle, or names a node twice.
    #[error("the successor list of {0:?} is out of order")]
    OutOfOrder(Node),
    /// Fewer peers than needed have a node that no list skips: lists are about to lose track of the ring.
    #[error("only {found} peers are principal, {needed} are needed")]
    TooFewPrincipals {
        /// Peers with a node that is skipped by no adjacent pair of anyone's extended list.
        found: usize,
        /// r_eff + 1.
        needed: usize,
    },
}

/// The members of a ring, kept up to date one by one, so that checking after every event stays cheap.
#[derive(Clone, Debug, Default)]
pub struct Census {
    members: BTreeMap<Id, View>,
    /// How many adjacent pairs of extended lists skip a member. Members without an entry are skipped by none.
    skipped: BTreeMap<Id, usize>,
}

impl Census {
    /// Whether this is what is known of the member already.
    #[must_use]
    pub fn has(&self, state: &NodeState) -> bool {
        self.members
            .get(&state.node.id)
            .is_some_and(|known| known.predecessor == state.predecessor && known.successors == state.successors)
    }

    /// Takes in a member, or its new view; `None` takes it out (it is dead, or not yet a member).
    pub fn update(&mut self, id: Id, view: Option<View>) {
        let known = self.members.get(&id).cloned();
        if let Some(old) = &known {
            self.count_skips(old, false);
            self.members.remove(&id);
        }
        let Some(view) = view else {
            self.skipped.remove(&id);
            return;
        };
        if known.is_none() {
            let skips = self.members.values().map(|other| skips_of(other, id)).sum();
            if skips > 0 {
                self.skipped.insert(id, skips);
            }
        }
        self.members.insert(id, view.clone());
        self.count_skips(&view, true);
    }

    /// All members in the order of the circle.
    pub fn members(&self) -> impl Iterator<Item = &View> {
        self.members.values()
    }

    /// All members from the first one at or after `id` on, clockwise: the owner of `id` first.
    pub fn from(&self, id: Id) -> impl Iterator<Item = &View> {
        self.members.range(id..).chain(self.members.range(..id)).map(|(_, view)| view)
    }

    /// Peers with a node that no extended list skips.
    #[must_use]
    pub fn principals(&self) -> BTreeSet<PeerId> {
        let principal = self.members.iter().filter(|(id, _)| !self.skipped.contains_key(id));
        principal.map(|(_, view)| view.node.peer).collect()
    }

    /// A member whose extended list skips `id`, if there is one: the one that keeps it from being principal.
    #[must_use]
    pub fn skipped_by(&self, id: Id) -> Option<&View> {
        self.members.values().find(|view| skips_of(view, id) > 0)
    }

    /// Whether one member's own list is in order and has a live entry of another peer, if there is any.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_member(&self, id: Id) -> Result<(), Violation> {
        let Some(view) = self.members.get(&id) else { return Ok(()) };
        let list = &view.successors;
        let extended: Vec<Id> = std::iter::once(view.node.id).chain(list.iter().map(|node| node.id)).collect();
        if extended.windows(2).any(|pair| !between(pair[0], pair[1], view.node.id)) {
            return Err(Violation::OutOfOrder(view.node));
        }
        let live = |node: &Node| node.peer != view.node.peer && self.members.contains_key(&node.id);
        let alone = || self.members.values().all(|other| other.node.peer == view.node.peer);
        if list.iter().any(live) || alone() { Ok(()) } else { Err(Violation::NoLiveSuccessor(view.node)) }
    }

    /// Whether enough peers are principal.
    ///
    /// # Errors
    /// If fewer than `needed` are.
    pub fn check_principals(&self, needed: usize) -> Result<(), Violation> {
        // Most members are principal: it is enough to see that few are skipped.
        if self.members.len() - self.skipped.len() >= needed {
            let found = self.principals().len();
            if found >= needed {
                return Ok(());
            }
            return Err(Violation::TooFewPrincipals { found, needed });
        }
        Err(Violation::TooFewPrincipals { found: self.principals().len(), needed })
    }

    /// The first member whose neighbours are not those of an ideal ring: its predecessor is the member before it, and
    /// its list names the members after it in order, at least until they are of `reach` other peers or of all. What
    /// stands beyond is a hint.
    #[must_use]
    pub fn not_ideal(&self, reach: usize) -> Option<&View> {
        let circle: Vec<&View> = self.members.values().collect();
        let peers: BTreeSet<PeerId> = circle.iter().map(|view| view.node.peer).collect();
        let reach = reach.min(peers.len().saturating_sub(1));
        let wrong = |(place, view): &(usize, &View)| {
            let before = circle[(place + circle.len() - 1) % circle.len()].node;
            let after = circle[place + 1..].iter().chain(&circle[..*place]).map(|view| view.node);
            let mut others = BTreeSet::new();
            let needed = after.take_while(|node| {
                let needed = others.len() < reach;
                others.extend(Some(node.peer).filter(|peer| *peer != view.node.peer));
                needed
            });
            let needed: Vec<Node> = needed.collect();
            view.predecessor != Some(before) || !view.successors.starts_with(&needed)
        };
        circle.iter().copied().enumerate().find(|member| wrong(member)).map(|(_, view)| view)
    }

    fn count_skips(&mut self, view: &View, add: bool) {
        let extended = std::iter::once(&view.node).chain(&view.successors).map(|node| node.id);
        let pairs: Vec<(Id, Id)> = extended.clone().zip(extended.skip(1)).collect();
        for (a, b) in pairs {
            let skipped: Vec<Id> = self.inside(a, b).collect();
            for id in skipped {
                let count = self.skipped.entry(id).or_default();
                *count = if add { *count + 1 } else { *count - 1 };
                if *count == 0 {
                    self.skipped.remove(&id);
                }
            }
        }
    }

    /// Members strictly inside (a, b).
    fn inside(&self, a: Id, b: Id) -> impl Iterator<Item = Id> {
        let after = self.members.range(a..).chain(self.members.range(..a)).map(|(id, _)| *id);
        after.skip_while(move |id| *id == a).take_while(move |id| between(a, *id, b))
    }
}

/// How many adjacent pairs of the view's extended list skip `id`.
fn skips_of(view: &View, id: Id) -> usize {
    let extended = std::iter::once(&view.node).chain(&view.successors).map(|node| node.id);
    extended.clone().zip(extended.skip(1)).filter(|(a, b)| between(*a, id, *b)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(place: u8) -> Node {
        let mut id = [0; 20];
        id[0] = place;
        Node { id: Id::new(id), peer: PeerId::new([place; 16]), index: 0 }
    }

    fn view(place: u8, before: u8, successors: &[u8]) -> View {
        let successors = successors.iter().map(|place| node(*place)).collect();
        View { node: node(place), predecessor: Some(node(before)), successors }
    }

    fn census(views: &[View]) -> Census {
        let mut census = Census::default();
        views.iter().for_each(|view| census.update(view.node.id, Some(view.clone())));
        census
    }

    #[test]
    fn an_ideal_ring_is_ideal_and_all_its_members_principal() {
        let ring = census(&[view(1, 3, &[2, 3]), view(2, 1, &[3, 1]), view(3, 2, &[1, 2])]);
        assert_eq!(ring.not_ideal(2), None);
        assert_eq!(ring.principals().len(), 3);
        assert!(ring.check_principals(3).is_ok() && ring.check_member(node(1).id).is_ok());
    }

    #[test]
    fn a_skipped_member_is_no_principal_until_it_is_listed() {
        let mut ring = census(&[view(1, 3, &[3]), view(3, 1, &[1]), view(2, 1, &[3, 1])]);
        assert_eq!(ring.check_principals(3), Err(Violation::TooFewPrincipals { found: 2, needed: 3 }));
        assert!(ring.not_ideal(2).is_some());
        ring.update(node(1).id, Some(view(1, 3, &[2, 3])));
        assert!(ring.check_principals(3).is_ok());
    }

    #[test]
    fn a_list_of_dead_nodes_and_one_out_of_order_are_found() {
        let ring = census(&[view(1, 3, &[2]), view(3, 1, &[1])]);
        assert_eq!(ring.check_member(node(1).id), Err(Violation::NoLiveSuccessor(node(1))));
        let ring = census(&[view(1, 3, &[3, 2]), view(2, 1, &[3]), view(3, 1, &[1])]);
        assert_eq!(ring.check_member(node(1).id), Err(Violation::OutOfOrder(node(1))));
    }
}
