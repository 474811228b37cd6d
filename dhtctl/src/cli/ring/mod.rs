//! Commands about the ring itself.

pub(crate) mod depart;
pub(crate) mod explain;
pub(crate) mod health;
pub(crate) mod join;
pub(crate) mod keyspace;
pub(crate) mod lookup;
pub(crate) mod overlay;
pub(crate) mod recover;
pub(crate) mod replicas;
pub(crate) mod schema;
pub(crate) mod status;
pub(crate) mod verify;

use std::io::{self, BufRead, Write};

use super::failure::Failure;

/// Asks a question on the terminal, and says whether the answer is yes.
async fn confirm(question: String) -> Result<bool, Failure> {
    let ask = move || {
        io::stderr().write_all(question.as_bytes())?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    };
    let answer = tokio::task::spawn_blocking(ask).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    answer.map_err(|error: io::Error| Failure::io("can't read your answer", &error))
}
