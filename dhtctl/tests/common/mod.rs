//! A peer of nothing but memory, and the tool run against it.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod fake;

use std::process::{ExitStatus, Stdio};

use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
};

/// What the tool did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("stdout is text")
    }

    /// Stdout as one JSON document.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The error in JSON on stderr, which has one line then.
    pub(crate) fn error(&self) -> Value {
        let document: Value = serde_json::from_str(&self.stderr).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        document["error"].clone()
    }

    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// The tool, set to talk to `peers`.
pub(crate) fn command(peers: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dhtctl"));
    command.args(arguments).kill_on_drop(true);
    command
        .env_remove("DHTCTL_OUTPUT")
        .env_remove("DHTCTL_TIMEOUT")
        .env_remove("DHTCTL_KEYSPACE")
        .env("DHTCTL_PEER", peers);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the tool to its end.
pub(crate) async fn dhtctl(peers: &str, arguments: &[&str]) -> Ran {
    dhtctl_with(peers, arguments, b"").await
}

/// Runs the tool to its end, with something on stdin.
pub(crate) async fn dhtctl_with(peers: &str, arguments: &[&str], stdin: &[u8]) -> Ran {
    let mut child = command(peers, arguments).stdin(Stdio::piped()).spawn().expect("the tool starts");
    let mut pipe = child.stdin.take().expect("stdin is piped");
    let stdin = stdin.to_vec();
    let feed = tokio::spawn(async move {
        // The tool may be done before it has read everything.
        _ = pipe.write_all(&stdin).await;
    });
    let ran = finish(child).await;
    feed.await.expect("feeding stdin does not panic");
    ran
}

pub(crate) async fn finish(child: Child) -> Ran {
    let output = child.wait_with_output().await.expect("the tool ends");
    let stderr = String::from_utf8(output.stderr).expect("stderr is text");
    Ran { code: code(output.status), stdout: output.stdout, stderr }
}

pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| panic!("ended by a signal: {status}"))
}

/// An address on which nobody listens.
pub(crate) fn dead_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it has an address").to_string()
}
