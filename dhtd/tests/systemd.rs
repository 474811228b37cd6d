//! What systemd hears of a peer. The test stands in for it: it binds the socket.

use std::{
    fs::{self, File},
    os::unix::net::UnixDatagram,
    process::{Child, Command, Stdio},
    time::Duration,
};

use dhtctl::Client;
use tempfile::TempDir;

/// A peer, and what it says to systemd.
struct Service {
    child: Child,
    socket: UnixDatagram,
    dir: TempDir,
}

impl Service {
    fn start(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("it is free");
        socket.set_read_timeout(Some(LIMIT)).expect("it is not zero");
        let child = Command::new(env!("CARGO_BIN_EXE_dhtd"))
            .args(["run", "--stop-with-stdin", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir.path().join("data"))
            .args(args)
            .env("NOTIFY_SOCKET", path)
            .env("WATCHDOG_USEC", "300000")
            .stdin(Stdio::piped())
            .stderr(File::create(dir.path().join("log")).expect("a log"))
            .spawn()
            .expect("dhtd was built");
        Self { child, socket, dir }
    }

    /// Everything up to the first message with this line in it.
    fn hear(&self, line: &str) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            let mut bytes = [0; 1024];
            let length = self.socket.recv(&mut bytes).unwrap_or_else(|error| panic!("no {line}: {error}; {heard:?}"));
            heard.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
            if heard.last().is_some_and(|message| message.lines().any(|it| it == line)) {
                return heard;
            }
        }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().is_ok_and(|status| status.success()));
    }

    /// Where it listens. It has said so before systemd hears anything.
    fn address(&self) -> String {
        let log = fs::read_to_string(self.dir.path().join("log")).expect("it was created");
        let said = log.lines().find_map(|line| line.split_once("serving address="));
        said.expect(&log).1.trim().to_owned()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn is_ready(heard: &[String]) -> bool {
    heard.iter().any(|message| message.lines().any(|line| line == "READY=1"))
}

#[tokio::test]
async fn a_peer_is_ready_once_it_is_a_member() {
    let founder = Service::start(&["--bootstrap", "--slot-bits", "4"]);
    let heard = founder.hear("READY=1");
    assert!(heard.last().is_some_and(|message| message.contains("STATUS=a member of its ring\n")), "{heard:?}");

    let joiner = Service::start(&["--idle"]);
    let mut heard = joiner.hear("STATUS=in no ring yet");
    // It is alive for a while, and not ready.
    for _ in 0..3 {
        heard.extend(joiner.hear("WATCHDOG=1"));
    }
    assert!(!is_ready(&heard), "{heard:?}");
    let client = Client::connect([joiner.address()]).await.expect("it serves");
    client.with_timeout(LIMIT).join(vec![founder.address()]).await.expect("it joins");
    joiner.hear("READY=1");
}

#[test]
fn a_peer_says_that_it_lives_and_that_it_stops() {
    let mut peer = Service::start(&["--bootstrap", "--slot-bits", "4"]);
    peer.hear("READY=1");
    for _ in 0..3 {
        let heard = peer.hear("WATCHDOG=1");
        assert!(!is_ready(&heard), "it was ready before: {heard:?}");
    }
    peer.signal("-TERM");
    peer.hear("STOPPING=1");
    assert!(peer.child.wait().is_ok_and(|status| status.success()));
}

/// Far more than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
