//! A lookup in the middle of everything else: who says that it is the owner?

use std::time::Duration;

use dht_core::overlay::{Body, Destination, Event, Input, Output};

use super::{
    Place, World,
    host::{peer, place_of},
};

impl World {
    /// Whom a lookup names as the owner of a peer's node if it sets out from a member now, and nothing but its own
    /// messages arrives until it ends; `None` if it does not end.
    #[must_use]
    pub fn owner_of(&self, target: Place, asker: Place) -> Option<Place> {
        let mut world = self.clone();
        let target = dht_core::overlay::Node::of(peer(target).id, 0).id;
        let mut due = vec![(asker, Input::Lookup { token: 0, target })];
        while let Some((place, input)) = due.pop() {
            for output in world.state_mut(place)?.handle(Duration::ZERO, input) {
                match output {
                    Output::Event(Event::Lookup { result, .. }) => return place_of(result.ok()?.owner.peer),
                    Output::Send(Destination::Peer(to), message)
                        if matches!(message.body, Body::Find(_) | Body::Found(_)) =>
                    {
                        due.extend(place_of(to.id).map(|to| (to, Input::Message(message))));
                    }
                    _ => {}
                }
            }
        }
        None
    }
}
