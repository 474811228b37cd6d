//! Single keys: `insert`, `query`, `delete`, `cas`, `incr`; and `query '*'`.

use std::io::{self, BufWriter, Read, Write};

use bytes::Bytes;
use dhtctl::{
    Client, ErrorKind,
    proto::{DeleteResponse, GetResponse, KeyValue},
};
use serde::Serialize;

use super::{
    args::{Cas, Delete, Expected, Incr, Insert, Lifetime, Query},
    console::Console,
    data::{KeyJson, RecordJson, StampJson, key_argument},
    failure::{Failure, Outcome},
    text,
};

/// Writes one key.
pub(crate) async fn insert(client: &Client, arguments: &Insert, console: &Console) -> Outcome {
    let key = key_argument(&arguments.key, arguments.key_b64)?;
    let value = value_argument(&arguments.value).await?;
    let answer = expiring(client, &arguments.lifetime).put(key.clone(), value, arguments.min_durable).await;
    let answer = answer.map_err(|error| Failure::call(&format!("can't write {}", quoted(&key)), &error))?;
    let (version, revision) = (answer.version.as_ref(), answer.revision);
    if console.is_json() {
        let stamp = StampJson::new(version, revision);
        return console.document(&WrittenJson::new(&key, stamp, answer.durable, answer.existed));
    }
    let done = if answer.existed { "replaced" } else { "inserted" };
    let replicas = text::count(answer.durable.into(), "replica");
    console.note(&format!("{done}: {}, durable on {replicas}", text::stamp(version, revision)));
    Ok(())
}

/// Reads one key, or lists all.
pub(crate) async fn query(client: &Client, arguments: &Query, console: &Console) -> Outcome {
    if arguments.key == "*" && !arguments.literal && !arguments.key_b64 {
        return list(client, console).await;
    }
    let key = key_argument(&arguments.key, arguments.key_b64)?;
    let client = if arguments.any_replica { client.clone().at_any_replica() } else { client.clone() };
    let answer = client.get(key.clone()).await;
    let answer = answer.map_err(|error| Failure::call(&format!("can't read {}", quoted(&key)), &error))?;
    let Some(found) = answer else {
        return Err(Failure::new(ErrorKind::NotFound, format!("no such key: {}", quoted(&key))));
    };
    if console.is_json() {
        return console.document(&FoundJson::new(&key, &found));
    }
    console.bytes(&found.value)?;
    // What is piped must be the value and nothing else.
    if console.stdout_is_terminal && !found.value.ends_with(b"\n") { console.bytes(b"\n") } else { Ok(()) }
}

/// Deletes keys one after another.
pub(crate) async fn delete(client: &Client, arguments: &Delete, console: &Console) -> Outcome {
    let keys = arguments.keys.iter().map(|key| key_argument(key, arguments.key_b64)).collect::<Result<Vec<_>, _>>()?;
    let mut answers = Vec::new();
    let mut failed = None;
    for key in &keys {
        match client.delete(key.clone(), arguments.min_durable).await {
            Ok(answer) => answers.push((key, answer)),
            Err(error) => {
                failed = Some(Failure::call(&format!("can't delete {}", quoted(key)), &error));
                break;
            }
        }
    }
    report_deleted(&answers, console)?;
    failed.map_or(Ok(()), Err)
}

/// Writes a key if it is as expected.
pub(crate) async fn cas(client: &Client, arguments: &Cas, console: &Console) -> Outcome {
    let key = key_argument(&arguments.key, arguments.key_b64)?;
    let new = value_argument(&arguments.new).await?;
    let (Expected { value, revision, .. }, client) = (&arguments.expected, expiring(client, &arguments.lifetime));
    let written = if let Some(revision) = revision {
        client.put_if(key.clone(), new, *revision).await.map(|answer| (answer.revision, answer.durable))
    } else {
        let expected = value.as_ref().map(|value| Bytes::copy_from_slice(value.as_bytes()));
        let answer = client.compare_and_set(key.clone(), expected, new).await;
        answer.map(|answer| (answer.revision, answer.durable))
    };
    let (revision, durable) =
        written.map_err(|error| Failure::call(&format!("can't write {}", quoted(&key)), &error))?;
    if console.is_json() {
        return console.document(&ChangedJson { key: KeyJson::new(&key), total: None, revision, durable });
    }
    console.note(&format!("written: revision {revision}, durable on {}", text::count(durable.into(), "replica")));
    Ok(())
}

/// Adds to a counter.
pub(crate) async fn incr(client: &Client, arguments: &Incr, console: &Console) -> Outcome {
    let key = key_argument(&arguments.key, arguments.key_b64)?;
    let answer = client.increment(key.clone(), arguments.by).await;
    let answer = answer.map_err(|error| Failure::call(&format!("can't increment {}", quoted(&key)), &error))?;
    let (total, revision, durable) = (answer.total, answer.revision, answer.durable);
    if console.is_json() {
        return console.document(&ChangedJson { key: KeyJson::new(&key), total: Some(total), revision, durable });
    }
    console.bytes(format!("{total}\n").as_bytes())
}

fn report_deleted(answers: &[(&Bytes, DeleteResponse)], console: &Console) -> Outcome {
    let deleted = answers.iter().filter(|(_, answer)| answer.existed).count();
    if console.is_json() {
        let keys: Vec<_> = answers
            .iter()
            .map(|(key, answer)| {
                let stamp = StampJson::new(answer.version.as_ref(), answer.revision);
                WrittenJson::new(key, stamp, answer.durable, answer.existed)
            })
            .collect();
        return console.rows(&DeletedJson { deleted, keys: &keys }, &keys);
    }
    console.bytes(format!("{deleted}\n").as_bytes())
}

/// Prints all keys: in the table format escaped, so that each has one line; in JSON as `export` does.
async fn list(client: &Client, console: &Console) -> Outcome {
    let failed = |error| Failure::call("can't list the keys", &error);
    let mut messages = client.export().await.map_err(failed)?;
    let mut stdout = BufWriter::new(io::stdout().lock());
    while let Some(message) = messages.next().await.map_err(failed)? {
        for item in &message.items {
            let written = if console.is_json() {
                write_json_line(&mut stdout, &RecordJson::new(&item.key, &item.value))
            } else {
                writeln!(stdout, "{}\t{}", text::escaped(&item.key), text::escaped(&item.value))
            };
            written.map_err(|error| Failure::stdout(&error))?;
        }
    }
    stdout.flush().map_err(|error| Failure::stdout(&error))
}

/// One JSON object and a newline.
pub(crate) fn write_json_line(out: &mut impl Write, document: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, document)?;
    out.write_all(b"\n")
}

/// A key in a message.
pub(crate) fn quoted(key: &[u8]) -> String {
    format!("'{}'", text::escaped(key))
}

async fn value_argument(text: &str) -> Result<Bytes, Failure> {
    match text {
        "-" => read_stdin().await,
        text => Ok(Bytes::copy_from_slice(text.as_bytes())),
    }
}

pub(super) async fn read_stdin() -> Result<Bytes, Failure> {
    let read = || {
        let mut value = Vec::new();
        io::stdin().lock().read_to_end(&mut value).map(|_| Bytes::from(value))
    };
    let read = tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    read.map_err(|error| Failure::io("can't read the value from stdin", &error))
}

/// The same client, or one whose values expire.
fn expiring(client: &Client, lifetime: &Lifetime) -> Client {
    lifetime.ttl.map_or_else(|| client.clone(), |ttl| client.clone().expiring_after(ttl))
}

#[derive(Serialize)]
pub(super) struct FoundJson<'a> {
    #[serde(flatten)]
    record: RecordJson<'a>,
    #[serde(flatten)]
    stamp: StampJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at_ms: Option<u64>,
}

impl<'a> FoundJson<'a> {
    pub(super) fn new(key: &'a [u8], found: &'a GetResponse) -> Self {
        let GetResponse { value, version, revision, expires_at_ms, .. } = found;
        Self::of(key, value, StampJson::new(version.as_ref(), *revision), *expires_at_ms)
    }

    pub(super) fn listed(item: &'a KeyValue) -> Self {
        let KeyValue { key, value, version, revision, expires_at_ms, .. } = item;
        Self::of(key, value, StampJson::new(version.as_ref(), *revision), *expires_at_ms)
    }

    fn of(key: &'a [u8], value: &'a [u8], stamp: StampJson, expires_at_ms: u64) -> Self {
        let expires_at_ms = (expires_at_ms > 0).then_some(expires_at_ms);
        Self { record: RecordJson::new(key, value), stamp, expires_at_ms }
    }
}

#[derive(Serialize)]
pub(super) struct WrittenJson<'a> {
    #[serde(flatten)]
    key: KeyJson<'a>,
    #[serde(flatten)]
    stamp: StampJson,
    durable: u32,
    existed: bool,
}

impl<'a> WrittenJson<'a> {
    pub(super) fn new(key: &'a [u8], stamp: StampJson, durable: u32, existed: bool) -> Self {
        Self { key: KeyJson::new(key), stamp, durable, existed }
    }
}

#[derive(Serialize)]
struct ChangedJson<'a> {
    #[serde(flatten)]
    key: KeyJson<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<i64>,
    revision: u64,
    durable: u32,
}

#[derive(Serialize)]
struct DeletedJson<'a> {
    deleted: usize,
    keys: &'a [WrittenJson<'a>],
}
