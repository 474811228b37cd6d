//! `health`: whether a peer serves, for whoever watches over it.

use dhtctl::ErrorKind;
use serde_json::json;

use crate::cli::{
    args::Arguments,
    client_of_one,
    console::Console,
    failure::{Failure, Outcome},
};

/// Asks the peer at `--peer`, and fails unless it is a member of a ring and its store takes writes.
pub(crate) async fn run(arguments: &Arguments, console: &Console) -> Outcome {
    let client = client_of_one(arguments, "health")?;
    let serving =
        client.is_serving().await.map_err(|error| Failure::call("can't ask the peer for its health", &error))?;
    if console.is_json() {
        console.document(&json!({ "serving": serving }))?;
    }
    if !serving {
        return Err(Failure::new(ErrorKind::Unavailable, "the peer does not serve: NOT_SERVING")
            .hint("it may be joining, or its store may have failed; see: dhtctl status --this"));
    }
    if !console.is_json() {
        console.note("serving");
    }
    Ok(())
}
