//! One process.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, OnceLock, PoisonError, mpsc},
    thread,
};

use dhtctl::Client;

use super::{LIMIT, Network};

/// One `dhtd` process and its data directory.
#[derive(Debug)]
pub struct Peer {
    /// Where it is reached; the system chose the port when it was first started.
    pub address: String,
    dir: PathBuf,
    child: Option<Child>,
    args: Vec<String>,
    /// The network namespace that it runs in, if not that of this process.
    namespace: Option<String>,
    /// What it writes to its log.
    log: Option<mpsc::Receiver<String>>,
    /// Panics, over all its lives.
    panics: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    pub(super) fn new(dir: PathBuf, args: &[&str]) -> Self {
        let args = args.iter().map(ToString::to_string).collect();
        let address = "127.0.0.1:0".to_owned();
        Self { address, dir, child: None, args, namespace: None, log: None, panics: Arc::default() }
    }

    /// The same peer, not yet started, on a host of a network.
    pub(super) fn on(mut self, network: &Network, host: usize) -> Self {
        self.address = format!("{}:0", network.address(host));
        self.namespace = Some(network.namespace(host));
        self.args.push("--insecure".to_owned());
        self
    }

    /// v, as its arguments have it.
    pub(super) fn nodes(&self) -> u32 {
        let given = self.args.iter().skip_while(|arg| *arg != "--nodes").nth(1);
        given.map_or(16, |nodes| nodes.parse().expect("--nodes takes a number"))
    }

    /// Starts the process, with what is in its data directory if it ran before.
    ///
    /// # Panics
    /// If it does not serve: its log is in the message.
    pub fn start(&mut self) {
        self.launch();
        self.await_service();
    }

    pub(super) fn launch(&mut self) {
        // `ip` becomes the program that it starts: its process is the peer's.
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(binary("dhtd"));
                command
            }
            None => Command::new(binary("dhtd")),
        };
        let mut child = command
            .args(["run", "--stop-with-stdin", "--listen", &self.address, "--data-dir"])
            .arg(&self.dir)
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("dhtd was built");
        let log = child.stderr.take().expect("it is piped");
        let (sender, lines) = mpsc::channel();
        let panics = self.panics.clone();
        thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                if line.contains("panicked at") {
                    panics.lock().unwrap_or_else(PoisonError::into_inner).push(line.clone());
                }
                let _ = sender.send(line);
            }
        });
        self.child = Some(child);
        self.log = Some(lines);
    }

    pub(super) fn await_service(&mut self) {
        let lines = self.log.as_ref().expect("it was launched");
        let mut said = Vec::new();
        self.address = loop {
            match lines.recv_timeout(LIMIT) {
                Ok(line) => match line.split_once("serving address=") {
                    Some((_, address)) => break address.trim().to_owned(),
                    None => said.push(line),
                },
                Err(_) => panic!("a peer does not serve:\n{}", said.join("\n")),
            }
        };
        // What made it a member the first time is on disk now.
        self.args.retain(|arg| arg != "--bootstrap");
    }

    /// Starts the process although it will refuse to run, and returns what it says about that.
    ///
    /// # Panics
    /// If it ends well.
    pub fn refuse_to_start(&mut self) -> String {
        self.launch();
        // Left open, since it is to end by itself, which may take it a moment.
        let _stdin = self.child.as_mut().and_then(|child| child.stdin.take());
        assert!(!self.wait(), "it ended well");
        self.log.iter().flat_map(mpsc::Receiver::iter).collect::<Vec<_>>().join("\n")
    }

    /// Waits until it writes such a line to its log.
    ///
    /// # Panics
    /// If it does not within three minutes, or ends.
    pub fn says(&self, what: &str) {
        let lines = self.log.as_ref().expect("it was launched");
        let mut said = Vec::new();
        loop {
            match lines.recv_timeout(LIMIT) {
                Ok(line) if line.contains(what) => return,
                Ok(line) => said.push(line),
                Err(_) => panic!("a peer does not say {what:?}:\n{}", said.join("\n")),
            }
        }
    }

    /// What it has written to its log since it began to serve, or since this was last asked.
    pub fn said(&self) -> Vec<String> {
        self.log.iter().flat_map(mpsc::Receiver::try_iter).collect()
    }

    /// What nobody did to it: it has ended by itself, or one of its threads has panicked.
    pub fn broken(&mut self) -> Option<String> {
        let panics = self.panics.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
        let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
        match ended {
            Some(status) => Some(format!("{} ended by itself, {status}: {panics}", self.address)),
            None => (!panics.is_empty()).then(|| format!("{} panicked: {panics}", self.address)),
        }
    }

    /// Ends the process without a chance to do anything (`kill -9`).
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
    }

    /// Tells the process to stop (SIGTERM), as systemd would.
    pub fn terminate(&mut self) {
        self.signal("-TERM");
    }

    /// Stops the process where it is (`kill -STOP`): it is there, but does nothing.
    pub fn pause(&mut self) {
        self.signal("-STOP");
    }

    /// Lets a paused process go on.
    pub fn unpause(&mut self) {
        self.signal("-CONT");
    }

    fn signal(&mut self, signal: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().is_ok_and(|status| status.success()));
    }

    /// Waits until the process ends by itself; returns whether it was content.
    pub fn wait(&mut self) -> bool {
        let mut child = self.child.take().expect("it runs");
        child.wait().expect("it is ours").success()
    }

    /// As [`Peer::wait`], for who has something else to do meanwhile. What it said stays to be asked for.
    ///
    /// # Panics
    /// If it was not content.
    pub async fn wait_for(&mut self) {
        let mut child = self.child.take().expect("it runs");
        // Left open: the end of its input would tell it to stop once more.
        let _stdin = child.stdin.take();
        let ended = tokio::task::spawn_blocking(move || child.wait().expect("it is ours").success()).await;
        assert!(ended.is_ok_and(|content| content), "it did not end well");
    }

    /// A client of this peer.
    pub fn client(&self) -> Client {
        Client::lazy([&self.address], dhtctl::Options::default()).expect("an address of this machine")
    }

    /// The process's id; none while it does not run.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A binary of the workspace, built if need be: cargo builds only libraries for the programs of another package.
pub(super) fn binary(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let program = std::env::current_exe().expect("it runs");
        let beside = program.parent().expect("target/PROFILE/PROGRAM or target/PROFILE/deps/TEST");
        let folder =
            if beside.ends_with("deps") { beside.parent().expect("target/PROFILE") } else { beside }.to_owned();
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build
            .args(["build", "--quiet", "--locked", "--workspace", "--bin", "dhtd", "--bin", "dhtctl"])
            .env("CARGO_TARGET_DIR", folder.parent().expect("target"));
        if folder.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().is_ok_and(|status| status.success()), "the binaries can't be built");
        folder
    });
    folder.join(name)
}
