//! `bench`: load on a ring, and how it stands it.

mod draw;
mod load;
mod report;

use std::{
    fs::File,
    io::{self, Write as _},
    time::Duration,
};

use dhtctl::{
    Client, ErrorKind,
    overlay::{CrawlOptions, crawl},
};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use self::{
    load::{Load, Seen},
    report::{Report, Second},
};
use super::{
    args::Bench,
    console::Console,
    failure::{Failure, Outcome},
    progress::Progress,
};

/// Puts load on the ring for a while, and prints what it saw.
pub(crate) async fn run(client: &Client, plan: &Bench, console: &Console) -> Outcome {
    let mut series = plan.series.as_deref().map(Series::create).transpose()?;
    let endpoints = endpoints(client, plan).await?;
    let mut load = Load::start(plan, &endpoints);
    let begun = Instant::now();
    let mut ticks = interval_at(begun + SECOND, SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut progress = Progress::new(console, "operations", Some(plan.seconds.ceil() as u64));
    let (mut all, mut seconds, mut looked) = (Seen::default(), Vec::new(), begun);
    loop {
        let ended = tokio::select! {
            () = load.ended() => true,
            _ = ticks.tick() => false,
            _ = tokio::signal::ctrl_c() => return Err(Failure::interrupted()),
        };
        let seen = load.take();
        let second = Second::new(begun.elapsed(), looked.elapsed(), &seen);
        looked = Instant::now();
        all.add(seen);
        if !ended || second.operations > 0 || second.failed > 0 {
            if let Some(series) = &mut series {
                series.write(&second)?;
            }
            seconds.push(second);
        }
        progress.set(console, all.operations, begun.elapsed().as_secs());
        if ended {
            break;
        }
    }
    progress.finish();
    if let Some(error) = all.failure.as_ref().filter(|_| all.operations == 0) {
        return Err(Failure::call("no operation was answered", error));
    }
    let report = Report::new(plan, endpoints.len(), begun.elapsed(), &all, seconds);
    if console.is_json() {
        return console.document(&report);
    }
    console.bytes(report.table().as_bytes())?;
    if let Some(error) = &all.failure {
        console.warn(&format!("operations failed, one of them: {}", Failure::call("", error).line()));
    }
    if all.missing > 0 {
        console.note("Some keys had no value: write them with dhtctl bench insert, with the same --keys and --prefix.");
    }
    Ok(())
}

/// A client for each peer that load goes to.
async fn endpoints(client: &Client, plan: &Bench) -> Result<Vec<Client>, Failure> {
    let addresses: Vec<String> = if plan.everywhere {
        let view = crawl(client, &CrawlOptions::default()).await;
        let view = view.map_err(|error| Failure::call("can't find the ring's peers", &error))?;
        view.peers.into_iter().map(|peer| peer.peer.address).collect()
    } else {
        client.endpoints().map(str::to_owned).collect()
    };
    let only = |address: &String| client.only(address).map_err(|error| Failure::usage(error.message()));
    let clients: Vec<Client> = addresses.iter().map(only).collect::<Result<_, _>>()?;
    // Connections are made before anything is timed.
    for client in &clients {
        client.ready().await.map_err(|error| Failure::call("can't connect", &error))?;
    }
    if clients.is_empty() { Err(Failure::new(ErrorKind::Unavailable, "the ring has no peers")) } else { Ok(clients) }
}

/// The figures of each second, as they come.
struct Series {
    name: String,
    file: File,
}

impl Series {
    fn create(path: &std::path::Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let file = File::create(path).map_err(|error| Failure::io(format!("can't create {name}"), &error))?;
        let mut series = Self { name, file };
        series.line(Second::HEADER)?;
        Ok(series)
    }

    fn write(&mut self, second: &Second) -> Result<(), Failure> {
        self.line(&second.csv())
    }

    fn line(&mut self, line: &str) -> Result<(), Failure> {
        let written: io::Result<()> = writeln!(self.file, "{line}");
        written.map_err(|error| Failure::io(format!("can't write {}", self.name), &error))
    }
}

/// How often the load is looked at.
const SECOND: Duration = Duration::from_secs(1);
