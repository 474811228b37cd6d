//! The Chord overlay, in its corrected version.
//!
//! Sources: Stoica et al., *Chord: a scalable peer-to-peer lookup protocol for Internet applications*, IEEE/ACM
//! Transactions on Networking, 2003 ("the paper"); Zave, *Reasoning about identifier spaces: how to make Chord
//! correct*, IEEE Transactions on Software Engineering, 2017. The original ring maintenance is not correct; the rules
//! marked in [`crate::Rules`] make it so. Merging of split rings follows the idea of Shafaat, Ghodsi and Haridi,
//! *Dealing with network partitions in structured overlay networks*, 2009.
//!
//! One [`State`] is one peer. It hosts v nodes; everything that is about safety counts distinct peers. Each node keeps
//! its predecessor, a successor list and fingers, and has at most one maintenance operation in flight:
//!
//! ```text
//! tick (idle):               op := Successor(succ[0]); ask it for its neighbours
//! its answer (s, p, L):      succ := s + L.   p = me -> accepted;   p in (predecessor, me) -> predecessor := p
//!                            p in (me, s) -> op := Candidate(p), ask p;   else idle; notify s
//! answer of the candidate p: still in (me, succ[0]) -> succ := p + L.   idle; notify succ[0]
//! no answer, peer dead:      its nodes leave all lists.   Successor -> go on with the new head;   Candidate -> idle; notify
//! notify(q):                 predecessor unknown, dead, or q in (predecessor, me) -> predecessor := q
//!                            else keep q until the predecessor is heard again; if it is dead -> predecessor := q
//! asked while busy:          answer Busy, keep the asker; after two time-outs drop the own operation, answer, retry
//! ```
//!
//! Deviations from what both sources share: a node takes a nearer predecessor on the word of its successor too, not only
//! by being notified, so that a newcomer does not answer for what an earlier one owns (the invariant does not depend on
//! predecessors). And a candidate may come from anything else that is heard (a lookup of the own identifier by another
//! peer, a revived peer): it is verified by the same operation before it is adopted. That is how rings which were split,
//! or wind around the circle twice, become one again.

pub mod audit;
mod circle;
mod directory;
mod essence;
mod fingers;
mod homes;
mod interface;
pub mod invariant;
mod join;
mod lookup;
mod maintain;
pub mod message;
mod node;
mod patience;
mod peer;
mod state;

pub use circle::Circle;
pub use directory::{Health, Known};
pub use essence::Essence;
pub use homes::Routes;
pub use interface::{Config, Destination, Event, Input, Lookup, LookupFailed, Output, Phase, Routing, Saved, Timer};
pub use message::{Body, Find, FindId, Found, Home, Hop, HopReason, Message, OpId, Purpose};
pub use node::NodeState;
pub use patience::Patience;
pub use peer::{MAX_NODES, Node, Peer, Ring, RingId};
pub use state::State;
