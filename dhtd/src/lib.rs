//! The peer daemon: a Chord ring of gRPC peers that keeps keys replicated on disk.

pub mod storage;
