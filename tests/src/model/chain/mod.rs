//! Chain mode under a model checker (stateright): every schedule of a small world, over the code that is to run.
//!
//! What it has found, and how far it has come, is in `tests/tests/chain_model.rs`; what it finds with a rule switched off,
//! in `tests/tests/chain_mutants.rs`.
//!
//! The world: one slot and up to four peers with their disks, of which some are the chain and some the electors of the
//! first view ([`Start`]); all have leases. Then what has [happened before](Chain::before), so that the way to what is of
//! interest is short. From there on, whatever [`Chain`] allows may happen at any time ([`Action`]):
//! - a message on its way arrives, in any order, or never; of some worlds one also arrives twice;
//! - a client writes or reads, or tries a command that has a name once more; an attempt that arrives late is one that is
//!   made then, and one that is refused at once is none;
//! - an attempt at a next view begins, whether or not one is needed, also in the middle of another: ballots decide. What
//!   decides in the daemon whether and when (`care`) is left out, and with it everything that ticks do;
//! - a proposer has waited long enough for more promises than it needs;
//! - a lease's length passes, for all: clocks run alike. A peer that does not notice is one to which nothing arrives;
//! - a peer sends heartbeats;
//! - a peer that copies the slot gives that up, where nobody asks for it any more;
//! - an fsync ends, where disks are slow; elsewhere it takes no time;
//! - a process is killed and starts again. Of what no fsync has covered, any beginning is on disk. What was on its way to
//!   it arrives all the same.
//!
//! What must hold in every state ([`World::violation`]):
//! - what clients were told is linearizable, and all attempts at one command are told the same;
//! - no two views of one epoch come into force;
//! - a write that was acknowledged is in the history before every later view;
//! - no two peers apply different entries of one number;
//! - whoever a view lists has the data when it comes into force there.
//!
//! A peer's future is what its [`Essence`](dht_core::replication::chain::Essence) and its disk tell, so what comes of an
//! input to it is worked out once (`memo`). A test compares what comes of states that are taken for equal.
//!
//! # What is left out
//!
//! Each of these takes schedules away and adds none, so what is found is real; but a violation that needs them is not.
//! - Ticks: nothing is sent again by itself, farewells are not said, and an answer that waits for a lease goes out with
//!   the next commit only. The commit frontier goes down the chain at once, and may be late there.
//! - Of two equal messages on their way at once one gets lost. Answers to an attempt that is over, and news of an epoch
//!   that is over, are taken off the network where their arrival changes nothing.
//! - Clocks that run at different rates: `lease_tests.rs` in the core, and the simulator.
//! - Nobody is lost or departs, and disks do not fill up. Of time, only whole lengths of a lease.

mod action;
mod checks;
mod clients;
mod host;
mod large;
mod memo;
mod packet;
mod parts;
mod world;
mod worlds;

pub use action::{Action, Place};
pub use checks::{LACKS_DATA, LOST, TWO_ENTRIES, TWO_VIEWS};
pub use clients::{Ask, Operation};
pub use large::LARGE;
pub use packet::What;
pub use world::World;
pub use worlds::{Named, WORLDS};

use dht_core::Rules;
use stateright::{Model, Property};

/// A small world, as it begins, and what may happen in it.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    /// The rules in force.
    pub rules: Rules,
    /// The first view.
    pub start: Start,
    /// What has happened before, in order.
    pub before: &'static [Action],
    /// Attempts at a next view, each made at most once, at any time.
    pub attempts: &'static [(Place, Aim)],
    /// What clients do.
    pub operations: &'static [Operation],
    /// To whom clients turn.
    pub serving: &'static [Place],
    /// How often a lease's length passes.
    pub waits: u8,
    /// How often one of these sends heartbeats.
    pub beats: u8,
    /// Who does.
    pub beating: &'static [Place],
    /// How often one of these is restarted.
    pub restarts: u8,
    /// Who is.
    pub restarting: &'static [Place],
    /// Who gives its copy up if nobody asks for it.
    pub forgetting: &'static [Place],
    /// Whose fsyncs take time.
    pub slow: &'static [Place],
    /// How many messages are doubled.
    pub doubled: u8,
    /// For how many entries outcomes are remembered.
    pub window: u64,
}

/// Who holds the slot at first, and who decides.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The chain.
    pub members: &'static [Place],
    /// The electors.
    pub electors: &'static [Place],
}

/// What an attempt wants.
#[derive(Clone, Copy, Debug)]
pub enum Aim {
    /// The members that answer, without these.
    Without(&'static [Place]),
    /// The members that answer, in this order.
    Order(&'static [Place]),
    /// This chain.
    Become(&'static [Place]),
}

/// The name of the property that nothing is wrong.
pub const SAFE: &str = "nothing is wrong";

impl Model for Chain {
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
        vec![Property::always(SAFE, |_, world: &World| world.violation().is_none())]
    }
}
