//! Whoever is dropped from a view departs once a majority of the new electors has confirmed that it knows the view
//! (decision 0006). So a confirmation must hold whatever crashes: it may be that nobody else knows any more.

use std::{sync::Arc, time::Duration};

use dht_core::{
    Rules,
    overlay::{Peer, Routes},
    record::RecordKey,
    replication::chain::{Body, Config, Input, Message, Output, Record, State, Table},
    ring::{PeerId, Slot},
    view::{Member, View},
};

const SLOT: Slot = Slot(0);

struct Nothing;

impl Table for Nothing {
    fn get(&self, _slot: Slot, _at: &RecordKey) -> Option<Record> {
        None
    }
}

fn member(name: u8) -> Member {
    Member { peer: PeerId::new([name; 16]), incarnation: 1 }
}

/// What a witness of the next view answers to who leaves, when it hears of the view for the second time, before the first
/// is on disk and after that.
fn confirms(rules: Rules) -> (bool, bool) {
    let (leaving, me) = (member(1).peer, member(2));
    let address = "b:1".into();
    let known = Peer { id: me.peer, address, incarnation: 1, nodes: 1, leaving: false };
    let mut state = State::new(Config::default(), rules, me, Arc::new(Routes::outside(known)), [], 1);
    state.start(Duration::ZERO);
    let founded = View::founding(SLOT, member(1));
    let next = View { epoch: founded.epoch.next(), chain: vec![member(3)], electors: vec![me.peer], ..founded };
    let mut told = |input| state.handle(Duration::ZERO, input, &Nothing);
    let install = || Input::Message(leaving, Message::Slot(SLOT, Box::new(Body::Install(next.clone()))));
    let confirmation = Output::Send(leaving, Message::Slot(SLOT, Box::new(Body::Installed(next.epoch))));
    let first = told(install());
    let sync = first.iter().find_map(|output| if let Output::Sync(number) = output { Some(*number) } else { None });
    let early = told(install()).contains(&confirmation);
    told(Input::Synced(sync.expect("a view is made durable")));
    (early, told(install()).contains(&confirmation))
}

#[test]
fn a_view_is_confirmed_to_who_leaves_once_it_is_on_disk() {
    assert_eq!(confirms(Rules::ALL), (false, true));
    assert_eq!(confirms(Rules { install_before_use: false, ..Rules::ALL }), (true, true));
}
