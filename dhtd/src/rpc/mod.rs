//! The gRPC services: check, call, map the error, reply.

mod deadline;
mod explain;
mod health;
mod kv;
mod peer;
mod recover;
mod replies;
mod ring;
mod status;

pub use deadline::{Deadline, DeadlineLayer};
pub use health::report_health;
pub use kv::KvApi;
pub use peer::PeerApi;
pub use replies::Replies;
pub use ring::RingApi;
