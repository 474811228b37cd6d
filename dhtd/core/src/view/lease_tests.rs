use super::*;

const MS: Duration = Duration::from_millis(1);
const SLOT: Slot = Slot(7);

fn peer(name: u8) -> PeerId {
    PeerId::new([name; 16])
}

/// A holder (1) and a granter (2) which share a slot at the first epoch.
fn pair() -> (Leases, Leases) {
    let leases = || Leases::new(LeaseConfig::default(), Rules::ALL, 1);
    let (mut holder, mut granter) = (leases(), leases());
    holder.share(Duration::ZERO, peer(2));
    granter.share(Duration::ZERO, peer(1));
    holder.register(Duration::ZERO, peer(2), SLOT, Some(Epoch::FIRST));
    (holder, granter)
}

fn beat(holder: &mut Leases, now: Duration) -> Heartbeat {
    holder.heartbeats(now).remove(0).1
}

fn stands(epoch: Epoch) -> impl Fn(Slot) -> Option<Epoch> {
    move |_| Some(epoch)
}

#[test]
fn a_lease_lasts_from_the_moment_when_it_was_asked_for() {
    let (mut holder, mut granter) = pair();
    let heartbeat = beat(&mut holder, 100 * MS);
    let grant = granter.asked(400 * MS, peer(1), heartbeat, true, stands(Epoch::FIRST));
    assert!(!holder.holds(401 * MS, peer(2), SLOT, Epoch::FIRST));
    holder.granted(450 * MS, peer(2), grant);
    assert!(holder.holds(599 * MS, peer(2), SLOT, Epoch::FIRST));
    assert!(!holder.holds(600 * MS, peer(2), SLOT, Epoch::FIRST));
    assert!(!holder.holds(599 * MS, peer(2), SLOT, Epoch::FIRST.next()));
}

#[test]
fn a_granter_that_stops_covering_remembers_how_long_its_word_holds() {
    let (mut holder, mut granter) = pair();
    let heartbeat = beat(&mut holder, Duration::ZERO);
    let grant = granter.asked(10 * MS, peer(1), heartbeat, true, stands(Epoch::FIRST));
    granter.stands(20 * MS, SLOT, None);
    let until = granter.granted_to_others(20 * MS, SLOT, &[]).expect("a grant is out");
    assert!(until > 510 * MS && until < 530 * MS);
    assert_eq!(granter.granted_to_others(20 * MS, SLOT, &[peer(1)]), None);
    assert_eq!(granter.granted_to_others(until, SLOT, &[]), None);
    holder.granted(30 * MS, peer(2), grant);
    // Later grants are for other slots: the holder hears in the same message that this one is not covered.
    let heartbeat = beat(&mut holder, 100 * MS);
    let grant = granter.asked(110 * MS, peer(1), heartbeat, true, |_| None);
    holder.granted(120 * MS, peer(2), grant);
    assert!(!holder.holds(130 * MS, peer(2), SLOT, Epoch::FIRST));
    assert_eq!(granter.granted_to_others(120 * MS, SLOT, &[]), Some(until));
}

#[test]
fn a_granter_at_another_epoch_grants_nothing() {
    let (mut holder, mut granter) = pair();
    let heartbeat = beat(&mut holder, Duration::ZERO);
    let grant = granter.asked(MS, peer(1), heartbeat, true, stands(Epoch::FIRST.next()));
    assert_eq!(granter.uncovered(peer(1)).collect::<Vec<_>>(), [(SLOT, Epoch::FIRST)]);
    holder.granted(2 * MS, peer(2), grant);
    assert!(!holder.holds(3 * MS, peer(2), SLOT, Epoch::FIRST));
    // Once it stands there, the next answer says so.
    granter.stands(4 * MS, SLOT, Some(Epoch::FIRST));
    let heartbeat = beat(&mut holder, 5 * MS);
    let grant = granter.asked(6 * MS, peer(1), heartbeat, true, stands(Epoch::FIRST));
    holder.granted(7 * MS, peer(2), grant);
    assert!(holder.holds(8 * MS, peer(2), SLOT, Epoch::FIRST));
}

#[test]
fn a_restarted_granter_grants_nothing_before_the_holder_has_registered_again() {
    let (mut holder, mut granter) = pair();
    let heartbeat = beat(&mut holder, Duration::ZERO);
    let grant = granter.asked(MS, peer(1), heartbeat, true, stands(Epoch::FIRST));
    holder.granted(2 * MS, peer(2), grant);
    let mut restarted = Leases::new(LeaseConfig::default(), Rules::ALL, 2);
    let heartbeat = beat(&mut holder, 600 * MS);
    let grant = restarted.asked(601 * MS, peer(1), heartbeat, true, stands(Epoch::FIRST));
    holder.granted(602 * MS, peer(2), grant);
    assert!(!holder.holds(603 * MS, peer(2), SLOT, Epoch::FIRST));
    let heartbeat = beat(&mut holder, 700 * MS);
    let grant = restarted.asked(701 * MS, peer(1), heartbeat, true, stands(Epoch::FIRST));
    holder.granted(702 * MS, peer(2), grant);
    assert!(holder.holds(703 * MS, peer(2), SLOT, Epoch::FIRST));
}

#[test]
fn a_full_disk_grants_nothing() {
    let (mut holder, mut granter) = pair();
    let heartbeat = beat(&mut holder, Duration::ZERO);
    let grant = granter.asked(MS, peer(1), heartbeat, false, stands(Epoch::FIRST));
    holder.granted(2 * MS, peer(2), grant);
    assert!(!holder.holds(3 * MS, peer(2), SLOT, Epoch::FIRST) && !holder.disk_ok(peer(2)));
    assert_eq!(granter.granted_to_others(2 * MS, SLOT, &[]), None);
}

#[test]
fn a_peer_is_lost_when_no_round_trip_was_completed() {
    let (mut holder, mut granter) = pair();
    let heartbeat = beat(&mut holder, 300 * MS);
    assert!(!holder.has_lost(400 * MS, peer(2)) && holder.has_lost(401 * MS, peer(2)));
    let grant = granter.asked(301 * MS, peer(1), heartbeat, true, stands(Epoch::FIRST));
    // That the other hears this one is not enough.
    assert!(granter.has_lost(500 * MS, peer(1)));
    holder.granted(402 * MS, peer(2), grant);
    assert!(holder.in_contact(700 * MS, peer(2)) && holder.has_lost(701 * MS, peer(2)));
}
