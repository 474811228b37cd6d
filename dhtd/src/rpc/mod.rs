//! The gRPC services: check, call, map the error, reply.

mod batch;
mod deadline;
mod explain;
mod health;
mod kv;
mod operations;
mod peer;
mod pipeline;
mod recover;
mod replies;
mod ring;
mod status;

pub use deadline::{Deadline, DeadlineLayer};
pub use health::report_health;
pub use kv::KvApi;
pub use peer::PeerApi;
pub use pipeline::Results;
pub use replies::Replies;
pub use ring::RingApi;
