//! Who decides the next view.

use crate::ring::PeerId;

/// What the electors of a new view are chosen from.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// The new chain.
    pub chain: &'a [PeerId],
    /// The electors of the view before; if the change is planned, without those that have departed or are leaving.
    pub before: &'a [PeerId],
    /// Peers that answer and are not leaving, the better ones first.
    pub live: &'a [PeerId],
    /// How many peers of the ring have not departed and are not leaving.
    pub peers: usize,
    /// The change was asked for; it does not answer a failure.
    pub planned: bool,
}

/// The chain, and as many witnesses as make the number odd, and at least three if the ring has three peers. A witness
/// should live; if none does, a dead elector is kept: were a failure to make the electorate smaller, two failures, one
/// after the other on either side of a cut, could leave two electorates that know nothing of each other. Only a planned
/// change, or that there is nobody else, makes it smaller.
#[must_use]
pub fn choose(choice: &Choice<'_>) -> Vec<PeerId> {
    let mut electors = choice.chain.to_vec();
    let smallest = electors.len().max(if choice.peers >= 3 { 3 } else { 1 });
    let wanted = if choice.planned { smallest } else { smallest.max(choice.before.len()) };
    let wanted = wanted + usize::from(wanted.is_multiple_of(2));
    let kept = choice.before.iter().filter(|peer| choice.live.contains(peer));
    for peer in kept.chain(choice.live).chain(choice.before) {
        if electors.len() < wanted && !electors.contains(peer) {
            electors.push(*peer);
        }
    }
    if electors.len().is_multiple_of(2) {
        electors.pop();
    }
    electors
}

#[cfg(test)]
mod tests {
    use super::{Choice, choose};
    use crate::ring::PeerId;

    fn peers(names: &[u8]) -> Vec<PeerId> {
        names.iter().map(|name| PeerId::new([*name; 16])).collect()
    }

    fn chosen(chain: &[u8], before: &[u8], live: &[u8], count: usize, planned: bool) -> Vec<PeerId> {
        let (chain, before, live) = (peers(chain), peers(before), peers(live));
        choose(&Choice { chain: &chain, before: &before, live: &live, peers: count, planned })
    }

    #[test]
    fn a_chain_of_three_decides_alone() {
        assert_eq!(chosen(&[1, 2, 3], &[1], &[1, 2, 3, 4, 5], 5, true), peers(&[1, 2, 3]));
    }

    #[test]
    fn two_peers_have_one_elector_since_two_would_stop_when_either_dies() {
        assert_eq!(chosen(&[1, 2], &[1], &[1, 2], 2, true), peers(&[1]));
    }

    #[test]
    fn a_witness_stands_in_for_the_dead() {
        assert_eq!(chosen(&[1, 2], &[1, 2, 3], &[1, 2, 4], 4, false), peers(&[1, 2, 4]));
    }

    #[test]
    fn a_dead_elector_is_kept_if_nobody_else_lives() {
        assert_eq!(chosen(&[1, 2], &[1, 2, 3], &[1, 2], 3, false), peers(&[1, 2, 3]));
    }

    #[test]
    fn a_failure_never_makes_the_electorate_smaller() {
        let electors = chosen(&[1, 2, 3], &[1, 2, 3, 4, 5], &[1, 2, 3], 5, false);
        assert_eq!(electors, peers(&[1, 2, 3, 4, 5]));
        assert_eq!(chosen(&[1, 2, 3], &[1, 2, 3, 4, 5], &[1, 2, 3], 5, true), peers(&[1, 2, 3]));
        assert_eq!(chosen(&[1], &[1, 2, 3], &[1], 3, true), peers(&[1, 2, 3]));
    }
}
