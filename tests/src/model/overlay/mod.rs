//! The overlay under a model checker (stateright): every schedule of a small world, over the code that the daemon runs.
//!
//! What it has found, and how far it has come, is in `tests/tests/overlay_model.rs`.
//!
//! The world: a few founders in an ideal ring at rest, one node each, into which others join while one peer fails, with
//! r = 2 and k = 1, so that successor lists reach over R = max(r, k + 1) = 2 other peers. [`Overlay`] says who.
//!
//! What may happen next ([`Action`]):
//! - a message on its way arrives, in any order. It may as well never do: a state in which a message is lost can do
//!   nothing that the state in which it is still on its way cannot, so losing it needs no action of its own;
//! - a peer begins to join through any member; a member fails without a word;
//! - a node that is at leisure begins a round of maintenance: so many times each;
//! - a node that others wait for has run out of time, drops its operation and answers them;
//! - the failure detector of a peer finds out that another has failed: any time later, and never wrongly;
//! - an ideal ring into which nobody is on the way counts as settled: lists on their way get lost.
//!
//! What must hold in every state ([`World::violation`]): the inductive invariant of
//! [`dht_core::overlay::invariant`], as the simulator checks it: every member's list is in order and has a live entry,
//! and min(s, R + 1) members are principal, where s counts the living of those that were members when the ring was last
//! settled. That no identifier has two owners is not promised (`dhtd/ARCHITECTURE.md`).
//!
//! Time stands still. Timers that maintenance waits for are actions; patience is set so that a suspect is given up at
//! the next heartbeat, and nobody is suspected but by a failed connection. With no clock, no measured round trips, and
//! [`Routing::Fingers`](dht_core::overlay::Routing::Fingers), a peer's future is what its
//! [`Essence`](dht_core::overlay::Essence) tells. Operations are numbered by their peers; a number is only ever
//! compared with that of the operation in flight and none comes back, so for a state to be known it is enough to know of
//! each number in it whether it is the current one of its node. A test compares what comes of states that are taken for
//! equal. Peers are not interchangeable: their places on the circle differ.
//!
//! # What is left out
//!
//! Each of these takes schedules away and adds none, so what is found is real; but a violation that needs them is not.
//! - No message is doubled; of two equal ones on their way at once one gets lost.
//! - Heartbeats, announcements of home groups, reconciliation (merging) and what it sends, `Busy`, and confirmations of
//!   lookups: all lost. `Busy` only makes its receiver wait longer.
//! - Lookups other than a join's, so fingers are as they were at the beginning; a round is begun by the timer that does
//!   nothing else ([`Timer::Retry`](dht_core::overlay::Timer::Retry)). A join whose lookup gets lost is not tried again.
//! - A question is repeated only on the way to giving way, and the repetition is lost.
//! - Six lost questions in a row look like a dead node although its peer is alive: a false verdict, like those of the
//!   failure detector, of which nobody can promise anything (Fischer, Lynch and Paterson 1985).
//! - A failure that the ring could not survive is none that it has to: one that leaves a member without a live entry,
//!   fewer principals than are counted on, or one settled member alone (Zave 2017: the operating assumption). In Zave's
//!   model a query and its answer are one step, and lists are full before anyone fails. Here an answer may be on its way
//!   when the only peer that it lists fails, or from before the ring has settled; it gets lost then. If it does not,
//!   its receiver lists nobody alive, or skips a member, until its next question: it asks the node before it, or the
//!   one that it lists, and has the right list again. Zave's invariant does not hold in between.
//! - Answers that nobody waits for any more, and news that change nothing, are taken off the network: their arrival has
//!   no effect, now or later.

mod action;
mod host;
mod lookup;
mod packet;
mod world;

pub use action::{Action, Place, deliver, fail, give_way, join, notice, round};
pub use packet::What;
pub use world::World;

use dht_core::Rules;
use stateright::{Model, Property};

/// A small world, as it begins.
#[derive(Clone, Copy, Debug)]
pub struct Overlay {
    /// Who is in the ring from the beginning: places on the circle, which goes A, B, C, D.
    pub founders: &'static [Place],
    /// Who may join.
    pub joiners: &'static [Place],
    /// How many may fail.
    pub failures: u8,
    /// How many rounds of maintenance each node may begin.
    pub rounds: u8,
    /// The rules in force.
    pub rules: Rules,
}

/// The worlds of four peers, but for turning the circle: founders and joiners.
pub const WORLDS: [(&[Place], &[Place]); 3] = [
    // Both join between the same two, or each between two others.
    (&[0, 1], &[2, 3]),
    (&[0, 2], &[1, 3]),
    // Lists are full from the beginning, so anyone may fail at any time.
    (&[0, 1, 2], &[3]),
];

/// The name of the property that the invariant holds.
pub const INVARIANT: &str = "the invariant holds";

impl Model for Overlay {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        actions.extend(world.actions());
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        world.after(action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(INVARIANT, |_, world: &World| world.violation().is_none())]
    }
}
