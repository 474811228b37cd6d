//! The wire format of dhtd: package `dhtd.v1`, generated from `proto/dhtd/v1/*.proto` when the crate is built,
//! and its descriptor set. Nothing here interprets a message; that is the daemon's `wire` module.

/// Package `dhtd.v1`.
#[allow(missing_docs, reason = "generated; the documents are in the .proto files")]
#[allow(clippy::doc_markdown, clippy::doc_lazy_continuation, reason = "generated")]
#[allow(clippy::large_enum_variant, reason = "generated; most chain messages are of the large variant")]
pub mod v1 {
    tonic::include_proto!("dhtd.v1");
}

/// The encoded `google.protobuf.FileDescriptorSet` of the package, for server reflection and for the lint test.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/dhtd.v1.bin"));

/// The protocol that peers speak among themselves. Peers of different versions refuse each other.
pub const PROTOCOL_VERSION: u32 = 8;

/// The longest key, in bytes. The shortest is 1 byte.
pub const MAX_KEY_BYTES: usize = 4096;

/// The longest value, in bytes, unless a peer is configured otherwise.
pub const MAX_VALUE_BYTES: usize = 1 << 20;
