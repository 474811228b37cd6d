//! First figures: what a ring of real processes carries, beside bare tonic servers that answer the same messages in the
//! same run. Operations per second say as much about the machine and its other work as about the ring; their ratio, and
//! the CPU time of an operation, say more. Every figure is a median over rounds that alternate between the two.

mod cpu;
mod echo;
mod load;
mod report;

use std::{io, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use dht_tests::process::Ring;
use dhtctl::overlay::{CrawlOptions, crawl};

use crate::{
    echo::Echo,
    load::{Load, Operation, Target, Way},
    report::{Case, Report, Side},
};

/// What a ring carries, beside bare tonic servers.
#[derive(Parser)]
struct Bench {
    #[command(flatten)]
    plan: Plan,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Be the server that is measured against.
    #[command(hide = true)]
    Echo,
}

#[derive(Args)]
struct Plan {
    /// Rings of so many peers, one after another.
    #[arg(long, value_delimiter = ',', default_value = "1,5")]
    peers: Vec<usize>,
    /// Operations in flight, one to an RPC.
    #[arg(long, value_delimiter = ',', num_args = 0.., default_value = "64")]
    unary: Vec<usize>,
    /// Operations in flight on streams, whatever waits in one message.
    #[arg(long, value_delimiter = ',', num_args = 0.., default_value = "64")]
    stream: Vec<usize>,
    /// Messages in flight on streams, each with --batch-size operations.
    #[arg(long, value_delimiter = ',', num_args = 0.., default_value = "64")]
    batch: Vec<usize>,
    /// Operations in flight on the streams of `KvService.Pipeline`, as clients use them.
    #[arg(long, value_delimiter = ',', num_args = 0.., default_value = "1024")]
    pipeline: Vec<usize>,
    /// Calls in flight of `KvService.BatchGet` and `BatchWrite`, each with --batch-size operations.
    #[arg(long, value_delimiter = ',', num_args = 0.., default_value = "16")]
    batch_rpc: Vec<usize>,
    /// Pipelines and the batches of --batch-rpc go to any peer, not to one that holds the keys.
    #[arg(long)]
    anywhere: bool,
    /// See --batch and --batch-rpc.
    #[arg(long, default_value_t = 64)]
    batch_size: usize,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each measurement takes.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Keys of 16 bytes that are written and read, with values of 100 bytes.
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Replicas that must have a write on disk before it is answered, as far as there are peers.
    #[arg(long, default_value_t = 2)]
    min_durable: u32,
    /// How the ring replicates. What --stream and --batch measure are RPCs that peers use in eventual mode: in chain mode they
    /// are left out.
    #[arg(long, value_enum, default_value_t = Mode::Eventual)]
    mode: Mode,
    /// When peers sync, as `dhtd run --fsync`.
    #[arg(long, default_value = "always")]
    fsync: String,
    /// Where the peers keep their data [default: the system's temporary directory].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Everything random comes from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Chain,
    Eventual,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Bench { plan, role } = Bench::parse();
    if let Some(Role::Echo) = role {
        echo::serve().await;
        return ExitCode::SUCCESS;
    }
    for peers in &plan.peers {
        match plan.measure(*peers).await {
            Ok(report) => match plan.output {
                Output::Table => print!("{}", report.table()),
                Output::Json => println!("{}", report.json()),
            },
            Err(message) => {
                eprintln!("error: {message}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

impl Plan {
    /// Everything about a ring of one size.
    async fn measure(&self, peers: usize) -> Result<Report, String> {
        let dir = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        let ring = Ring::start_in(&dir, peers, &["--mode", self.mode.name()], &["--fsync", &self.fsync]).await;
        let echo = Echo::start(peers);
        let options = CrawlOptions::default();
        let view = crawl(&ring.client(), &options).await.map_err(|error| error.to_string())?;
        let addresses: Vec<String> = view.peers.iter().map(|peer| peer.peer.address.clone()).collect();
        let ring_side = Measured { pids: ring.pids(), target: Target::connect(&addresses, &view).await? };
        let echo_side = Measured { pids: echo.pids(), target: Target::connect(&echo.addresses(), &view).await? };

        let put = Operation::Put { min_durable: self.min_durable.min(u32::try_from(peers).unwrap_or(u32::MAX)) };
        let way = if self.mode == Mode::Chain { Way::Unary } else { Way::Stream };
        self.load(put, way, FILL).fill(&ring_side.target).await?;
        let mut cases = self.cases(put);
        for _ in 0..self.rounds {
            for (load, case) in &mut cases {
                case.echo.push(echo_side.measure(load).await?);
                case.ring.push(ring_side.measure(load).await?);
            }
        }
        let idle = ring_side.idle(self.time()).await?;
        let cases = cases.into_iter().map(|(_, case)| case).collect();
        let store = filesystem(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let (fsync, rounds, time) = (self.fsync.clone(), self.rounds, self.time());
        Ok(Report { peers, min_durable: put.min_durable(), fsync, store, rounds, time, idle, cases })
    }

    fn cases(&self, put: Operation) -> Vec<(Load, Case)> {
        let unary = self.unary.iter().map(|in_flight| (Way::Unary, *in_flight));
        let stream = self.stream.iter().map(|in_flight| (Way::Stream, *in_flight));
        let batch = self.batch.iter().map(|in_flight| (Way::Batch(self.batch_size.max(1)), *in_flight));
        let (size, held) = (self.batch_size.max(1), !self.anywhere);
        let pipeline = self.pipeline.iter().map(move |in_flight| (Way::Pipeline(held), *in_flight));
        let batch_rpc = self.batch_rpc.iter().map(move |in_flight| (Way::BatchRpc(size, held), *in_flight));
        let ways = unary.chain(stream.chain(batch).filter(|_| self.mode == Mode::Eventual));
        let ways = ways.chain(pipeline).chain(batch_rpc);
        let load = |(way, in_flight)| [put, Operation::Get].map(|operation| self.load(operation, way, in_flight));
        ways.flat_map(load).map(|load| (load, Case::new(&load))).collect()
    }

    fn load(&self, operation: Operation, way: Way, in_flight: usize) -> Load {
        Load { operation, way, in_flight: in_flight.max(1), keys: self.keys.max(1), time: self.time(), seed: self.seed }
    }

    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Eventual => "eventual",
        }
    }
}

/// Servers and the way to them.
struct Measured {
    pids: Vec<u32>,
    target: Target,
}

impl Measured {
    async fn measure(&self, load: &Load) -> Result<Side, String> {
        let before = self.cpu()?;
        let done = load.run(&self.target).await?;
        let after = self.cpu()?;
        Ok(Side::new(&done, after.0.saturating_sub(before.0), after.1.saturating_sub(before.1)))
    }

    /// CPU time of the servers for each second in which nobody asks anything.
    async fn idle(&self, time: Duration) -> Result<Duration, String> {
        let before = self.cpu()?;
        tokio::time::sleep(time).await;
        let (servers, _) = self.cpu()?;
        Ok(servers.saturating_sub(before.0).div_f64(time.as_secs_f64()))
    }

    /// Of the servers, and of this process.
    fn cpu(&self) -> Result<(Duration, Duration), String> {
        let both = || -> io::Result<_> { Ok((cpu::of_all(&self.pids)?, cpu::of_process(std::process::id())?)) };
        both().map_err(|error| error.to_string())
    }
}

/// Whether an fsync there reaches a disk.
fn filesystem(dir: &std::path::Path) -> io::Result<&'static str> {
    Ok(if rustix::fs::statfs(dir)?.f_type == TMPFS_MAGIC { "tmpfs" } else { "disk" })
}

/// Writes in flight before anything is measured.
const FILL: usize = 1024;

/// `TMPFS_MAGIC` of linux/magic.h.
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;
