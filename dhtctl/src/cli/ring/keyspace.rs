//! `keyspace`: creates, lists and drops keyspaces.

use std::io::{self, IsTerminal};

use dhtctl::{Client, ErrorKind, grid::grid, overlay::mode_name, proto};
use serde::Serialize;
use serde_json::json;

use super::confirm;
use crate::cli::{
    args::{CreateKeyspace, DropKeyspace, KeyspaceCommand},
    console::Console,
    failure::{Failure, Outcome},
};

/// Carries one of the subcommands out.
pub(crate) async fn run(client: &Client, command: &KeyspaceCommand, console: &Console) -> Outcome {
    match command {
        KeyspaceCommand::Create(create) => self::create(client, create, console).await,
        KeyspaceCommand::List => list(client, console).await,
        KeyspaceCommand::Drop(drop) => self::drop(client, drop, console).await,
    }
}

async fn create(client: &Client, create: &CreateKeyspace, console: &Console) -> Outcome {
    let created = client.create_keyspace(&create.name, create.mode.into()).await;
    let created =
        created.map_err(|error| Failure::call(&format!("can't create keyspace '{}'", create.name), &error))?;
    if console.is_json() {
        return console.document(&json!({ "created": KeyspaceJson::new(&created) }));
    }
    console.note(&format!("created: keyspace {}, {} mode", created.name, mode_name(created.mode())));
    Ok(())
}

async fn list(client: &Client, console: &Console) -> Outcome {
    let keyspaces = client.keyspaces().await.map_err(|error| Failure::call("can't list the keyspaces", &error))?;
    if console.is_json() {
        let rows: Vec<KeyspaceJson> = keyspaces.iter().map(KeyspaceJson::new).collect();
        return console.rows(&json!({ "keyspaces": rows }), &rows);
    }
    let row = |keyspace: &proto::Keyspace| {
        vec![keyspace.name.clone(), mode_name(keyspace.mode()).to_owned(), keyspace.id.to_string()]
    };
    console.bytes(grid(&["KEYSPACE", "MODE", "NUMBER"], &[2], keyspaces.iter().map(row)).as_bytes())
}

async fn drop(client: &Client, drop: &DropKeyspace, console: &Console) -> Outcome {
    if !drop.yes {
        if !io::stdin().is_terminal() {
            let message = "drop deletes all keys of a keyspace for good, and there is no terminal to ask on";
            return Err(Failure::usage(message).hint("say --yes if you mean it"));
        }
        let question = format!("All keys of keyspace {} are deleted for good. Go on? [y/N] ", drop.name);
        if !confirm(question).await? {
            return Err(Failure::new(ErrorKind::Failure, "not confirmed; nothing has been done"));
        }
    }
    let dropped = client.drop_keyspace(&drop.name).await;
    let dropped = dropped.map_err(|error| Failure::call(&format!("can't drop keyspace '{}'", drop.name), &error))?;
    if console.is_json() {
        return console.document(&json!({ "dropped": KeyspaceJson::new(&dropped) }));
    }
    console.note(&format!("dropped: keyspace {}; every peer deletes what it holds of it", dropped.name));
    Ok(())
}

/// Field names are frozen.
#[derive(Serialize)]
struct KeyspaceJson<'a> {
    name: &'a str,
    mode: &'static str,
    id: u32,
}

impl<'a> KeyspaceJson<'a> {
    fn new(keyspace: &'a proto::Keyspace) -> Self {
        Self { name: &keyspace.name, mode: mode_name(keyspace.mode()), id: keyspace.id }
    }
}
