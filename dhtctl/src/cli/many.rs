//! Many keys: `scan`, `mget`, `mput`.

use std::{
    collections::HashSet,
    io::{self, BufWriter, Write as _},
};

use bytes::Bytes;
use dhtctl::{Client, Error, ErrorKind, Write, Written, proto::KeyValue};
use serde::Serialize;
use serde_json::Value;

use super::{
    args::{Mget, Mput, Scan},
    console::Console,
    data::{KeyJson, StampJson, check_key, from_base64, key_argument},
    failure::{Failure, Outcome},
    import::Layout,
    kv::{FoundJson, WrittenJson, quoted, read_stdin, write_json_line},
    text,
};

/// Lists keys, page after page.
pub(crate) async fn scan(client: &Client, arguments: &Scan, console: &Console) -> Outcome {
    let prefix = if arguments.prefix_b64 {
        let no_base64 = |error| Failure::usage(format!("'{}' is no base64: {error}", arguments.prefix));
        from_base64(&arguments.prefix).map_err(no_base64)?
    } else {
        arguments.prefix.clone().into_bytes()
    };
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    let page_size = arguments.page_size.min(u32::try_from(left).unwrap_or(u32::MAX));
    let mut scan = client.scan(prefix).page_size(page_size);
    if arguments.keys_only {
        scan = scan.keys_only();
    }
    let mut stdout = BufWriter::new(io::stdout().lock());
    while left > 0 {
        let page = scan.next_page().await.map_err(|error| Failure::call("can't list all keys", &error))?;
        let Some(page) = page else { break };
        for item in page.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            write_item(&mut stdout, item, arguments.keys_only, console).map_err(|error| Failure::stdout(&error))?;
        }
        left = left.saturating_sub(page.len() as u64);
        stdout.flush().map_err(|error| Failure::stdout(&error))?;
    }
    Ok(())
}

/// In the table format escaped, so that each has one line.
fn write_item(out: &mut impl io::Write, item: &KeyValue, keys_only: bool, console: &Console) -> io::Result<()> {
    if console.is_json() {
        if keys_only {
            let stamp = StampJson::new(item.version.as_ref(), item.revision);
            return write_json_line(out, &ListedJson { key: KeyJson::new(&item.key), stamp });
        }
        return write_json_line(out, &FoundJson::listed(item));
    }
    out.write_all(text::escaped(&item.key).as_bytes())?;
    if !keys_only {
        write!(out, "\t{}", text::escaped(&item.value))?;
    }
    out.write_all(b"\n")
}

/// Reads keys; the first that can't be read, or else is not there, decides the exit code.
pub(crate) async fn mget(client: Client, arguments: &Mget, console: &Console) -> Outcome {
    let client = if arguments.any_replica { client.at_any_replica() } else { client };
    let keys = arguments.keys.iter().map(|key| key_argument(key, arguments.key_b64)).collect::<Result<Vec<_>, _>>()?;
    let (mut rows, mut missing, mut failed) = (Vec::new(), None, None);
    let results = client.batch_get(keys.iter().cloned()).await;
    for (key, result) in keys.iter().zip(&results) {
        match result {
            Ok(Some(found)) if console.is_json() => {
                rows.push(GotJson::Found(FoundJson::new(key, found)));
            }
            Ok(Some(found)) => {
                console.bytes(format!("{}\t{}\n", text::escaped(key), text::escaped(&found.value)).as_bytes())?;
            }
            Ok(None) => {
                console.note(&format!("no such key: {}", quoted(key)));
                rows.push(GotJson::Missing { key: KeyJson::new(key), missing: true });
                missing.get_or_insert(key);
            }
            Err(error) => {
                rows.push(GotJson::Failed(FailedJson::new(key, error)));
                failed.get_or_insert((key, error));
            }
        }
    }
    if console.is_json() {
        console.rows(&rows, &rows)?;
    }
    match (failed, missing) {
        (Some((key, error)), _) => Err(Failure::call(&format!("can't read {}", quoted(key)), error)),
        (None, Some(key)) => Err(Failure::new(ErrorKind::NotFound, format!("no such key: {}", quoted(key)))),
        (None, None) => Ok(()),
    }
}

/// Writes keys; the first that fails decides the exit code.
pub(crate) async fn mput(client: &Client, arguments: &Mput, console: &Console) -> Outcome {
    let pairs = pairs(&arguments.pairs).await?;
    let write = |(key, value): &(Bytes, Bytes)| {
        let put = Write::put(key.clone(), value.clone()).min_durable(arguments.min_durable);
        match arguments.lifetime.ttl {
            Some(ttl) => put.expires_after(ttl),
            None => put,
        }
    };
    let results = client.batch_write(pairs.iter().map(write)).await;
    let written: Vec<(&Bytes, &Written)> =
        pairs.iter().zip(&results).filter_map(|((key, _), result)| Some((key, result.as_ref().ok()?))).collect();
    let failed: Vec<(&Bytes, &Error)> =
        pairs.iter().zip(&results).filter_map(|((key, _), result)| Some((key, result.as_ref().err()?))).collect();
    if console.is_json() {
        let row = |((key, _), result): (&'_ (Bytes, Bytes), &'_ Result<Written, Error>)| row(key, result);
        let rows: Vec<Value> = pairs.iter().zip(&results).map(row).collect();
        console.rows(&rows, &rows)?;
    } else {
        let replaced = written.iter().filter(|(_, written)| written.existed).count();
        let (inserted, failed) = (written.len() - replaced, failed.len());
        console.note(&format!("{inserted} inserted, {replaced} replaced, {failed} failed"));
    }
    match failed.first() {
        Some((key, error)) => Err(Failure::call(&format!("can't write {}", quoted(key)), error)),
        None => Ok(()),
    }
}

fn row(key: &Bytes, result: &Result<Written, Error>) -> Value {
    let row = match result {
        Ok(written) => {
            let stamp = StampJson::new(written.version.as_ref(), written.revision);
            serde_json::to_value(WrittenJson::new(key, stamp, written.durable, written.existed))
        }
        Err(error) => serde_json::to_value(FailedJson::new(key, error)),
    };
    row.unwrap_or_default() // Strings and numbers always become JSON.
}

/// What to write, each key once.
async fn pairs(arguments: &[String]) -> Result<Vec<(Bytes, Bytes)>, Failure> {
    let pairs: Vec<(Bytes, Bytes)> = if arguments == ["-"] {
        let input = read_stdin().await?;
        let lines = (1..).zip(input.split(|byte| *byte == b'\n')).filter(|(_, line)| !line.trim_ascii().is_empty());
        let parse = |(number, line): (u64, &[u8])| {
            Layout::Records.parse(line).map_err(|message| Failure::usage(format!("line {number}: {message}")))
        };
        lines.map(parse).collect::<Result<_, _>>()?
    } else {
        if arguments.len() % 2 == 1 {
            let last = arguments.last().map_or("", String::as_str);
            return Err(Failure::usage(format!("the key '{last}' has no value")));
        }
        let bytes = |text: &String| Bytes::copy_from_slice(text.as_bytes());
        arguments.chunks_exact(2).map(|pair| (bytes(&pair[0]), bytes(&pair[1]))).collect()
    };
    let mut keys = HashSet::new();
    for (key, _) in &pairs {
        check_key(key).map_err(Failure::usage)?;
        if !keys.insert(key) {
            return Err(Failure::usage(format!("the key {} is there twice", quoted(key))));
        }
    }
    Ok(pairs)
}

#[derive(Serialize)]
struct ListedJson<'a> {
    #[serde(flatten)]
    key: KeyJson<'a>,
    #[serde(flatten)]
    stamp: StampJson,
}

#[derive(Serialize)]
#[serde(untagged)]
enum GotJson<'a> {
    Found(FoundJson<'a>),
    Missing {
        #[serde(flatten)]
        key: KeyJson<'a>,
        missing: bool,
    },
    Failed(FailedJson<'a>),
}

#[derive(Serialize)]
struct FailedJson<'a> {
    #[serde(flatten)]
    key: KeyJson<'a>,
    error: Value,
}

impl<'a> FailedJson<'a> {
    fn new(key: &'a Bytes, error: &Error) -> Self {
        let failure = Failure::call(&format!("can't carry it out for {}", quoted(key)), error).json();
        Self { key: KeyJson::new(key), error: failure["error"].clone() }
    }
}
