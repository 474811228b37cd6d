//! Keys, values and versions in JSON: the format of import and export. Field names are frozen.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use dhtctl::{id::hex, proto::Version};
use serde::Serialize;

use super::failure::Failure;

/// A key: `key` if it is UTF-8, otherwise `key_b64`.
#[derive(Serialize)]
pub(crate) struct KeyJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_b64: Option<String>,
}

impl<'a> KeyJson<'a> {
    pub(crate) fn new(key: &'a [u8]) -> Self {
        let (key, key_b64) = text_or_base64(key);
        Self { key, key_b64 }
    }
}

/// A key and its value, both as strings where they are UTF-8.
#[derive(Serialize)]
pub(crate) struct RecordJson<'a> {
    #[serde(flatten)]
    key: KeyJson<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_b64: Option<String>,
}

impl<'a> RecordJson<'a> {
    pub(crate) fn new(key: &'a [u8], value: &'a [u8]) -> Self {
        let (value, value_b64) = text_or_base64(value);
        Self { key: KeyJson::new(key), value, value_b64 }
    }
}

/// Which write it is: a version in eventual mode, in chain mode a revision.
#[derive(Serialize)]
pub(crate) struct StampJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<VersionJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
}

impl StampJson {
    pub(crate) fn new(version: Option<&Version>, revision: u64) -> Self {
        let revision = version.is_none().then_some(revision);
        Self { version: version.map(VersionJson::new), revision }
    }
}

/// A version. The clock does not fit the numbers of many JSON readers, so it is a string.
#[derive(Serialize)]
pub(crate) struct VersionJson {
    clock: String,
    unix_ms: u64,
    counter: u64,
    peer_id: String,
}

impl VersionJson {
    pub(crate) fn new(version: &Version) -> Self {
        Self {
            clock: version.clock.to_string(),
            unix_ms: version.clock >> 16,
            counter: version.clock & 0xffff,
            peer_id: hex(&version.peer_id),
        }
    }
}

/// The key that an argument names.
pub(crate) fn key_argument(text: &str, is_base64: bool) -> Result<Bytes, Failure> {
    let key = if is_base64 {
        let decoded = STANDARD.decode(text);
        decoded.map_err(|error| Failure::usage(format!("'{text}' is no base64")).cause(error.to_string()))?
    } else {
        text.as_bytes().to_vec()
    };
    check_key(&key).map_err(Failure::usage)?;
    Ok(key.into())
}

/// The bytes of a `*_b64` field.
pub(crate) fn from_base64(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    STANDARD.decode(text)
}

/// What no peer would take as a key is refused before it is sent.
pub(crate) fn check_key(key: &[u8]) -> Result<(), String> {
    match key.len() {
        0 => Err("the key is empty".into()),
        length if length > dhtd_proto::MAX_KEY_BYTES => {
            Err(format!("the key has {length} bytes; at most {} are allowed", dhtd_proto::MAX_KEY_BYTES))
        }
        _ => Ok(()),
    }
}

fn text_or_base64(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}
