//! Who was given up for lost by hand, and by which recovery.

use std::collections::BTreeSet;

use super::{Generation, View};
use crate::ring::PeerId;

/// What a peer has promised a recovery: nothing of an earlier one, and no word with those that were given up. It is on
/// disk before the recovery hears of it. The default: there was no recovery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Of the slots that this recovery starts again.
    pub generation: Generation,
    /// Those that were given up, by this recovery and by all before it.
    pub banned: BTreeSet<PeerId>,
}

/// What it means to a peer that somebody goes by another claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing: it is the same, or an earlier one.
    Nothing,
    /// There was a recovery that this peer has not heard of.
    Newer,
    /// This peer was given up: it must not take part any more.
    GivenUp,
    /// Two recoveries of one counter, neither of which knew of the other: nothing ranks them.
    Rival,
}

impl Claim {
    /// Whether whoever has promised this may promise the other one: it is later, and takes back no ban. The same one again
    /// is fine, too. Of two recoveries of one counter only the first is admitted, whoever carries them out.
    #[must_use]
    pub fn admits(&self, next: &Self) -> bool {
        let later = next.generation.counter > self.generation.counter && self.banned.is_subset(&next.banned);
        later || next == self
    }

    /// What it means that somebody goes by this claim.
    #[must_use]
    pub fn hear(&self, me: PeerId, other: &Self) -> Heard {
        if other.generation.rivals(self.generation) {
            return Heard::Rival;
        }
        if other.generation.counter <= self.generation.counter {
            return Heard::Nothing;
        }
        if other.banned.contains(&me) { Heard::GivenUp } else { Heard::Newer }
    }

    /// Whether the view can neither go on nor be followed by a next one: no majority of its electors is left, or nobody of its
    /// chain, one of which has to take part in deciding the next.
    #[must_use]
    pub fn strands(&self, view: &View) -> bool {
        let left = |peer: &PeerId| !self.banned.contains(peer);
        let decides = view.majority(view.electors.iter().copied().filter(left));
        !decides || !view.chain.iter().any(|member| left(&member.peer))
    }
}

impl Generation {
    /// Whether these are two different recoveries of one counter.
    #[must_use]
    pub fn rivals(self, other: Self) -> bool {
        self.counter == other.counter && self.by != other.by
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ring::Slot, view::Member};

    fn peer(name: u8) -> PeerId {
        PeerId::new([name; 16])
    }

    fn claim(counter: u32, by: u8, banned: &[u8]) -> Claim {
        let generation = Generation { counter, by: Some(peer(by)) };
        Claim { generation, banned: banned.iter().copied().map(peer).collect() }
    }

    #[test]
    fn one_of_two_recoveries_of_a_counter_is_admitted() {
        let none = Claim::default();
        let (first, second) = (claim(1, 1, &[8, 9]), claim(1, 2, &[8, 9]));
        assert!(none.admits(&first) && none.admits(&second));
        assert!(first.admits(&first) && !first.admits(&second) && !second.admits(&first));
        assert!(first.admits(&claim(2, 2, &[7, 8, 9])));
        assert!(!first.admits(&claim(2, 2, &[9])), "a ban is for good");
        assert!(!claim(2, 2, &[8, 9]).admits(&first));
    }

    #[test]
    fn who_is_given_up_hears_so_but_not_from_a_rival() {
        let me = peer(9);
        assert_eq!(Claim::default().hear(me, &claim(1, 1, &[9])), Heard::GivenUp);
        assert_eq!(Claim::default().hear(peer(3), &claim(1, 1, &[9])), Heard::Newer);
        assert_eq!(claim(1, 9, &[1]).hear(me, &claim(1, 1, &[9])), Heard::Rival);
        assert_eq!(claim(2, 9, &[1]).hear(me, &claim(1, 1, &[9])), Heard::Nothing);
        assert_eq!(claim(1, 9, &[1]).hear(me, &claim(2, 1, &[9])), Heard::GivenUp);
        assert_eq!(Claim::default().hear(me, &Claim::default()), Heard::Nothing);
    }

    #[test]
    fn a_view_is_stranded_without_a_majority_or_without_a_member() {
        let member = |name| Member { peer: peer(name), incarnation: 1 };
        let founded = View::founding(Slot(0), member(1));
        let view = |chain: &[u8]| View {
            chain: chain.iter().copied().map(member).collect(),
            electors: vec![peer(1), peer(2), peer(3)],
            ..founded.clone()
        };
        assert!(!claim(1, 3, &[2]).strands(&view(&[1])));
        assert!(claim(1, 3, &[1, 2]).strands(&view(&[1, 2, 3])), "one elector of three is left");
        assert!(claim(1, 3, &[1]).strands(&view(&[1])), "two witnesses are left, and no data");
        assert!(!claim(1, 3, &[1]).strands(&view(&[1, 2])));
    }
}
