//! What a recovery makes of what it is told. Of two slots the first is told of.

use super::*;
use crate::replication::chain::Extent;

fn peer(name: u8) -> PeerId {
    PeerId::new([name; 16])
}

fn peers(names: &[u8]) -> Vec<PeerId> {
    names.iter().copied().map(peer).collect()
}

fn view(chain: &[u8], electors: &[u8]) -> View {
    let member = |name: &u8| Member { peer: peer(*name), incarnation: 1 };
    let founded = View::founding(Slot(0), member(&1));
    View { chain: chain.iter().map(member).collect(), electors: peers(electors), epoch: Epoch::FIRST.next(), ..founded }
}

/// A peer goes by the view, with so many entries if it has data.
fn survey(view: &View, entries: Option<u64>, leaving: bool) -> Survey {
    let position = |seq| Position { epoch: view.epoch, seq };
    let log = entries.map(|seq| Extent { applied: position(seq), last: position(seq), committed: seq });
    let (sealed, changing, copying, disputed, certain_for) = (true, false, false, false, None);
    let report = Report { view: view.clone(), sealed, changing, copying, disputed, certain_for, log };
    let (claim, members) = (Claim::default(), peers(&[1, 2, 3, 4, 5]).into_iter().collect());
    Survey { incarnation: 1, claim, members, leaving, reports: vec![report] }
}

fn plan(dead: &[u8], answers: impl IntoIterator<Item = (u8, Survey)>) -> Plan {
    let mut inquiry = Inquiry::new(BTreeSet::new(), peers(dead).into_iter().collect());
    answers.into_iter().for_each(|(from, survey)| inquiry.answered(peer(from), survey));
    assert_eq!(inquiry.missing(), []);
    inquiry.plan(&inquiry.claim(peer(1)), SlotBits::new(1).expect("two slots"), 3)
}

#[test]
fn a_slot_of_whose_chain_nobody_is_left_is_recovered_although_its_electors_have_a_majority() {
    let view = view(&[1], &[1, 2, 3]);
    let witness = || survey(&view, None, false);
    let older = survey(&view, Some(3), false);
    let found = plan(&[1], [(2, witness()), (3, witness()), (4, older), (5, witness())]);
    let recovered = &found.recovered[0];
    assert_eq!(recovered.view.slot, Slot(0), "{found:?}");
    assert!(!recovered.begins_empty, "the fourth has what it copied once");
    assert_eq!(recovered.view.chain.iter().map(|member| member.peer).collect::<Vec<_>>(), peers(&[4]));
    assert_eq!(recovered.bound, Bound::After(3));
}

#[test]
fn who_is_about_to_depart_decides_nothing_in_a_recovered_slot_unless_nobody_else_is_left() {
    let view = view(&[1, 2, 3], &[1, 2, 3]);
    let answers = |others_leave: bool| {
        [
            (1, survey(&view, Some(7), others_leave)),
            (4, survey(&view, None, true)),
            (5, survey(&view, None, others_leave)),
            (6, survey(&view, None, others_leave)),
        ]
    };
    let electors = |found: Plan| found.recovered[0].view.electors.clone();
    assert_eq!(electors(plan(&[2, 3], answers(false))), peers(&[1, 5, 6]));
    assert_eq!(electors(plan(&[2, 3], answers(true))).len(), 3);
}
