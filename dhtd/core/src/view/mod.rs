//! Who holds a slot's chain-mode data *now*, and by what right its members serve it.
//!
//! A slot's membership is changed by the slot itself: the electors of the view in force decide the next one by
//! single-decree Paxos (Lamport, *Paxos made simple*, 2001; the shape is that of Lamport, Malkhi and Zhou, *Vertical
//! Paxos and primary-backup replication*, PODC 2009). Here are the parts; [`crate::replication::chain`] puts them
//! together with the log that they protect.
//!
//! - [`View`], [`Epoch`], [`Ballot`], [`Position`]: the words.
//! - [`Acceptor`]: what an elector has promised and accepted, on disk.
//! - [`Proposer`]: one attempt at deciding the next view.
//! - [`Leases`]: for how long others have promised to accept no next view, so that reads may be answered alone.
//! - [`electors`]: who decides.
//! - [`Claim`]: who was given up for lost by hand; [`crate::replication::recovery`] says how.

mod acceptor;
mod claim;
pub mod delta;
pub mod electors;
mod lease;
mod proposer;
mod words;

pub use acceptor::Acceptor;
pub use claim::{Claim, Heard};
pub use lease::{Contact, Grant, Heartbeat, LeaseConfig, Leases};
pub use proposer::{Circumstances, Plan, Promise, Proposer, Round};
pub use words::{Ballot, Epoch, Generation, Member, Position, View};
