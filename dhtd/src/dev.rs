//! `dhtd dev`: a whole ring on this machine, each peer a process of its own.

use std::{
    env,
    fs::{self, File},
    io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use dht_core::record::Mode;
use dhtctl::{
    Client,
    overlay::{CrawlOptions, Shape, crawl, overlay_table},
};
use thiserror::Error;
use tokio::{
    process::{Child, ChildStdin, Command},
    signal::unix::{SignalKind, signal},
    time::{interval, timeout},
};

use crate::config::{DevArgs, RoutingArg};

/// The ring could not be started, or did not last.
#[derive(Debug, Error)]
pub enum DevError {
    /// A port is taken; nothing was started.
    #[error(
        "port {port} is taken: {source}\nhint: stop what listens there, or choose other ports with --port; nothing was started"
    )]
    Port {
        /// Which.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// There are not as many ports.
    #[error("{peers} peers from port {port} on would go beyond port 65535: choose a lower --port")]
    Ports {
        /// How many.
        peers: u16,
        /// From where.
        port: u16,
    },
    /// Files or processes.
    #[error("{doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A peer has ended before the ring was there.
    #[error("the peer on port {port} has ended ({status})\nhint: its log is {log}")]
    Ended {
        /// Which.
        port: u16,
        /// How.
        status: String,
        /// Where to read why.
        log: String,
    },
    /// The peers run, but do not agree.
    #[error("the ring is not ideal after {0:?}\nhint: look at the logs in {1}")]
    NotIdeal(Duration, String),
}

struct Process {
    port: u16,
    child: Child,
    log: PathBuf,
    /// The peer stops when this is closed, however this process ends.
    _lifeline: Option<ChildStdin>,
}

/// Where the peers keep their data.
struct Place {
    path: PathBuf,
    temporary: bool,
}

/// Starts the ring, prints what it is and how to use it, and stops it on Ctrl-C.
///
/// # Errors
/// See [`DevError`]. No peer is left running.
pub async fn run(args: DevArgs) -> Result<(), DevError> {
    let ports = check_ports(&args)?;
    let place = Place::new(args.data_dir.clone())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io_error("listen to signals"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(io_error("listen to signals"))?;
    eprintln!("starting {} peers on 127.0.0.1:{}-{}", args.peers, ports[0], ports[ports.len() - 1]);
    let mut processes = Vec::new();
    let result = tokio::select! {
        result = live(&args, &ports, &place, &mut processes) => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    eprintln!("stopping {} peers", processes.len());
    stop(processes).await;
    if result.is_ok() {
        place.leave();
    }
    result
}

/// Starts everything, shows it, and waits for something to go wrong.
async fn live(args: &DevArgs, ports: &[u16], place: &Place, processes: &mut Vec<Process>) -> Result<(), DevError> {
    for port in ports {
        processes.push(start(args, ports[0], *port, place)?);
    }
    let begun = Instant::now();
    let mut ticks = interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        check_alive(processes)?;
        if let Some(table) = ideal_ring(ports).await
            && (held_as_it_should_be(ports).await == Some(true) || begun.elapsed() > IDEAL_WITHIN)
        {
            println!("{table}");
            break;
        }
        if begun.elapsed() > IDEAL_WITHIN {
            return Err(DevError::NotIdeal(IDEAL_WITHIN, place.path.display().to_string()));
        }
    }
    println!("{}", instructions(ports[0], place));
    loop {
        ticks.tick().await;
        tell_of_the_dead(processes)?;
        if processes.is_empty() {
            return Ok(());
        }
    }
}

/// The ring goes on without a peer that was killed or told to depart: that is what one may want to see.
fn tell_of_the_dead(processes: &mut Vec<Process>) -> Result<(), DevError> {
    let program = env::current_exe().map_err(io_error("find this program"))?;
    processes.retain_mut(|process| {
        let Ok(Some(status)) = process.child.try_wait() else { return true };
        let (port, data) = (process.port, process.log.with_extension(""));
        eprintln!("the peer on port {port} has ended ({status}); the others go on. To start it again:");
        eprintln!("  {} run --listen 127.0.0.1:{port} --data-dir {}", program.display(), data.display());
        false
    });
    Ok(())
}

fn check_ports(args: &DevArgs) -> Result<Vec<u16>, DevError> {
    let last = args.port.checked_add(args.peers - 1).ok_or(DevError::Ports { peers: args.peers, port: args.port })?;
    let ports: Vec<u16> = (args.port..=last).collect();
    for port in &ports {
        TcpListener::bind(("127.0.0.1", *port)).map_err(|source| DevError::Port { port: *port, source })?;
    }
    Ok(ports)
}

fn start(args: &DevArgs, first: u16, port: u16, place: &Place) -> Result<Process, DevError> {
    let program = env::current_exe().map_err(io_error("find this program"))?;
    let log = place.path.join(format!("peer-{port}.log"));
    let file = File::create(&log).map_err(io_error("create a log"))?;
    let mut command = Command::new(program);
    command
        .args(["run", "--stop-with-stdin", "--listen", &format!("127.0.0.1:{port}")])
        .args(["--nodes", &args.nodes.to_string()])
        .args(["--routing", if args.routing == RoutingArg::Full { "full" } else { "fingers" }])
        .arg("--data-dir")
        .arg(place.path.join(format!("peer-{port}")))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(file)
        .kill_on_drop(true);
    if port == first {
        command.arg("--bootstrap");
        if let Some(mode) = args.mode {
            command.args(["--mode", &Mode::from(mode).to_string()]);
        }
        if let Some(replicas) = args.replicas {
            command.args(["--replicas", &replicas.to_string()]);
        }
    } else {
        command.args(["--join", &format!("127.0.0.1:{first}")]);
    }
    let mut child = command.spawn().map_err(io_error("start a peer"))?;
    let lifeline = child.stdin.take();
    Ok(Process { port, child, log, _lifeline: lifeline })
}

fn check_alive(processes: &mut [Process]) -> Result<(), DevError> {
    for process in processes {
        if let Ok(Some(status)) = process.child.try_wait() {
            let (port, log) = (process.port, process.log.display().to_string());
            return Err(DevError::Ended { port, status: status.to_string(), log });
        }
    }
    Ok(())
}

/// The ring's table, once every peer is in it and all agree.
async fn ideal_ring(ports: &[u16]) -> Option<String> {
    let client = Client::connect([format!("127.0.0.1:{}", ports[0])]).await.ok()?;
    let view = crawl(&client, &CrawlOptions::default()).await.ok()?;
    let whole = view.peers.len() == ports.len() && matches!(view.shape(), Shape::Ideal);
    whole.then(|| overlay_table(&view))
}

/// Whether every slot has its k copies, so that no first write finds fewer. None if somebody does not say.
async fn held_as_it_should_be(ports: &[u16]) -> Option<bool> {
    for port in ports {
        let client = Client::connect([format!("127.0.0.1:{port}")]).await.ok()?;
        let status = client.status().await.ok()?;
        if status.slots_changing + status.slots_syncing > 0 {
            return Some(false);
        }
    }
    Some(true)
}

fn instructions(port: u16, place: &Place) -> String {
    let dhtctl = dhtctl_command();
    let peer = if port == 7400 { String::new() } else { format!(" --peer 127.0.0.1:{port}") };
    let data = if place.temporary { "is deleted at the end" } else { "stays there" };
    format!(
        "The ring is up. In another terminal:\n\n  \
         {dhtctl}{peer} insert hello world\n  \
         {dhtctl}{peer} query hello\n  \
         {dhtctl}{peer} query '*'\n  \
         {dhtctl}{peer} lookup hello\n  \
         {dhtctl}{peer} overlay\n  \
         {dhtctl}{peer} status\n\n\
         Logs and data are in {} (the data {data}). Ctrl-C stops everything.",
        place.path.display()
    )
}

/// How to call dhtctl from where this program was called.
fn dhtctl_command() -> String {
    let beside = env::current_exe().ok().map(|program| program.with_file_name("dhtctl")).filter(|path| path.is_file());
    let here = env::current_dir().ok();
    match beside {
        Some(path) => {
            let relative = here.as_deref().and_then(|here| path.strip_prefix(here).ok()).map(Path::to_path_buf);
            relative.unwrap_or(path).display().to_string()
        }
        None if env::var_os("CARGO").is_some() => "cargo run --release --quiet --bin dhtctl --".to_owned(),
        None => "dhtctl".to_owned(),
    }
}

/// Ctrl-C in a terminal reaches the peers as well; those that it did not reach are told by the end of their input.
async fn stop(processes: Vec<Process>) {
    let mut children: Vec<Child> = processes.into_iter().map(|process| process.child).collect();
    for child in &mut children {
        if timeout(STOP_WITHIN, child.wait()).await.is_err() {
            drop(child.kill().await);
        }
    }
}

impl Place {
    fn new(wanted: Option<PathBuf>) -> Result<Self, DevError> {
        let temporary = wanted.is_none();
        let path = wanted.unwrap_or_else(|| env::temp_dir().join(format!("dhtd-dev-{}", std::process::id())));
        fs::create_dir_all(&path).map_err(io_error("create the data directory"))?;
        Ok(Self { path, temporary })
    }

    fn leave(&self) {
        if self.temporary {
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

fn io_error(doing: &str) -> impl FnOnce(io::Error) -> DevError {
    let doing = format!("cannot {doing}");
    move |source| DevError::Io { doing, source }
}

/// How often the peers are looked at. A guess.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A ring on one machine takes a few seconds; much longer means that something is wrong.
const IDEAL_WITHIN: Duration = Duration::from_secs(60);

/// A peer that takes longer to stop is killed.
const STOP_WITHIN: Duration = Duration::from_secs(5);
