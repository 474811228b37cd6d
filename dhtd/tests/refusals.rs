//! What `dhtd` refuses to do: clear errors, the right exit codes, and nothing changed.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use bytes::Bytes;
use dhtd_proto::v1::{self, peer_service_client::PeerServiceClient};
use tempfile::{TempDir, tempdir};
use tonic::{Status, transport::Endpoint};
use tonic_types::StatusExt;

fn dhtd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dhtd"));
    command.stdin(Stdio::null());
    command
}

/// Runs a peer that is expected not to start.
fn refused(dir: &Path, args: &[&str]) -> (i32, String) {
    let data = dir.to_str().expect("a temporary directory has a plain name");
    let listen = if args.contains(&"--listen") { &[][..] } else { &["--listen", "127.0.0.1:0"] };
    let mut child = dhtd()
        .args(["run", "--data-dir", data])
        .args(listen)
        .args(args)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it was built");
    let log = child.stderr.take().expect("it is piped");
    let mut message = String::new();
    for line in BufReader::new(log).lines().map_while(Result::ok) {
        message += &(line + "\n");
        if message.contains("serving address=") {
            child.kill().expect("it is ours");
        }
    }
    let status = child.wait().expect("it is ours");
    (status.code().unwrap_or_else(|| panic!("it was not refused:\n{message}")), message)
}

/// A peer that runs until it is dropped.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(dir: &Path, args: &[&str]) -> Self {
        let mut child = dhtd()
            .args(["run", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir)
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .expect("it was built");
        let log = child.stderr.take().expect("it is piped");
        let mut lines = BufReader::new(log).lines().map_while(Result::ok);
        let address = lines.find_map(|line| line.split_once("serving address=").map(|(_, at)| at.trim().to_owned()));
        // Whoever writes to a closed pipe is told so; the peer's log is read to its end instead.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: address.expect("it serves") }
    }

    /// Stops it as systemd would, and returns its exit code.
    fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill is there").success());
        self.child.wait().expect("it is ours").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn founded() -> TempDir {
    let dir = tempdir().expect("a temporary directory");
    assert_eq!(Running::start(dir.path(), &["--bootstrap"]).terminate(), Some(0));
    dir
}

#[test]
fn a_peer_that_is_told_nothing_says_what_it_could_be_told() {
    let dir = tempdir().expect("a temporary directory");
    let (code, message) = refused(dir.path(), &[]);
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("--bootstrap") && message.contains("--join") && message.contains("--idle"), "{message}");
}

#[test]
fn a_taken_port_is_named_and_nothing_is_created() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port of the system's choice");
    let address = taken.local_addr().expect("it is bound").to_string();
    let dir = tempdir().expect("a temporary directory");
    let (code, message) = refused(&dir.path().join("new"), &["--listen", &address, "--bootstrap"]);
    assert_eq!(code, 69, "{message}");
    assert!(message.contains(&address), "{message}");
    assert!(!dir.path().join("new").exists());
}

#[test]
fn a_data_directory_has_one_process() {
    let dir = tempdir().expect("a temporary directory");
    let _running = Running::start(dir.path(), &["--bootstrap"]);
    let (code, message) = refused(dir.path(), &["--bootstrap"]);
    assert_eq!(code, 74, "{message}");
    assert!(message.contains("in use"), "{message}");
}

#[test]
fn an_unknown_format_and_a_strangers_directory_are_refused_and_left_alone() {
    let dir = founded();
    fs::write(dir.path().join("FORMAT"), "dhtd 99\n").expect("it is ours");
    let (code, message) = refused(dir.path(), &[]);
    assert_eq!(code, 74, "{message}");
    assert!(message.contains("99"), "{message}");

    let home = tempdir().expect("a temporary directory");
    fs::write(home.path().join("letter.txt"), "dear").expect("it is ours");
    let (code, message) = refused(home.path(), &["--bootstrap"]);
    assert_eq!(code, 74, "{message}");
    assert_eq!(fs::read_dir(home.path()).expect("it is there").count(), 1);
}

#[test]
fn what_a_ring_was_founded_with_does_not_change() {
    let dir = founded();
    let (code, message) = refused(dir.path(), &["--bootstrap", "--replicas", "5"]);
    assert_eq!(code, 78, "{message}");
    assert!(message.contains("--replicas 5") && message.contains("founded with 3"), "{message}");
    // The same again is no change: it founds nothing, and is no error.
    assert_eq!(Running::start(dir.path(), &["--bootstrap", "--replicas", "3"]).terminate(), Some(0));
}

#[test]
fn what_was_agreed_with_others_is_kept() {
    let dir = tempdir().expect("a temporary directory");
    assert_eq!(Running::start(dir.path(), &["--expect", "2"]).terminate(), Some(0));
    assert!(!dir.path().join("ring.json").exists());
    let members = r#"[{"id": "01010101010101010101010101010101", "address": "127.0.0.1:1"},
                      {"id": "02020202020202020202020202020202", "address": "127.0.0.1:2"}]"#;
    let agreed = format!(r#"{{"replicas": 3, "slot_bits": 10, "mode": "chain", "members": {members}}}"#);
    fs::write(dir.path().join("founding.json"), agreed).expect("it is ours");
    for other in [&["--bootstrap"][..], &["--expect", "3"], &["--expect", "2", "--replicas", "2"]] {
        let (code, message) = refused(dir.path(), other);
        assert_eq!(code, 78, "{message}");
        assert!(message.contains("--expect 2 --replicas 3 --slot-bits 10 --mode chain with 01010101"), "{message}");
    }
    for same in [&["--expect", "2", "--replicas", "3"][..], &[], &["--join", "127.0.0.1:1"]] {
        assert_eq!(Running::start(dir.path(), same).terminate(), Some(0), "{same:?}");
    }
}

#[test]
fn a_ring_that_is_there_is_not_expected_again() {
    let dir = founded();
    let ring = fs::read_to_string(dir.path().join("ring.json")).expect("it was founded");
    assert_eq!(Running::start(dir.path(), &["--expect", "3", "--join", "127.0.0.1:1"]).terminate(), Some(0));
    let (code, message) = refused(dir.path(), &["--expect", "3", "--slot-bits", "5"]);
    assert_eq!(code, 78, "{message}");
    assert!(message.contains("--slot-bits 5"), "{message}");
    assert_eq!(fs::read_to_string(dir.path().join("ring.json")).expect("it is there"), ring);
}

#[test]
fn one_that_expects_nobody_else_founds_a_ring_and_one_that_was_killed_while_it_founded_goes_on() {
    let dir = tempdir().expect("a temporary directory");
    assert_eq!(Running::start(dir.path(), &["--expect", "1"]).terminate(), Some(0));
    let path = dir.path().join("ring.json");
    let ring = fs::read_to_string(&path).expect("it was founded");
    let half = ring.replace("\n}", ",\n  \"founding\": true\n}");
    assert_ne!(half, ring);
    fs::write(&path, half).expect("it is ours");
    assert_eq!(Running::start(dir.path(), &[]).terminate(), Some(0));
    assert_eq!(fs::read_to_string(&path).expect("it was founded"), ring);
}

#[test]
fn the_network_is_not_served_without_saying_that_it_is_insecure() {
    let dir = tempdir().expect("a temporary directory");
    let (code, message) = refused(dir.path(), &["--listen", "0.0.0.0:0", "--bootstrap"]);
    assert_eq!(code, 78, "{message}");
    assert!(message.contains("--insecure"), "{message}");
}

#[test]
fn a_damaged_store_is_not_opened_and_the_message_says_what_to_do() {
    let dir = founded();
    let journal = fs::read_dir(dir.path().join("store"))
        .expect("the store is there")
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "jnl"))
        .expect("the store has a journal");
    let mut bytes = fs::read(&journal).expect("it is ours");
    bytes.iter_mut().take(64).for_each(|byte| *byte ^= 0x5a);
    fs::write(&journal, bytes).expect("it is ours");
    let (code, message) = refused(dir.path(), &[]);
    assert_eq!(code, 74, "{message}");
    assert!(message.contains("empty data directory"), "{message}");
}

/// What a peer answers to the messages of another one.
async fn exchange(address: &str, request: v1::ExchangeRequest) -> Result<(), Status> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let mut client = PeerServiceClient::new(endpoint.connect().await.expect("it serves"));
    client.exchange(tokio_stream::once(request)).await.map(drop)
}

#[tokio::test]
async fn peers_of_another_ring_or_protocol_are_refused() {
    let dir = tempdir().expect("a temporary directory");
    let running = Running::start(dir.path(), &["--bootstrap"]);
    let peer = |id: u8| v1::Peer { id: vec![id; 16].into(), address: "127.0.0.1:1".into(), ..v1::Peer::default() };
    let stranger = v1::ExchangeRequest {
        protocol_version: dhtd_proto::PROTOCOL_VERSION,
        sender: Some(peer(1)),
        ..v1::ExchangeRequest::default()
    };
    assert!(exchange(&running.address, stranger.clone()).await.is_ok());
    let requests = [
        ("WRONG_RING", v1::ExchangeRequest { ring_id: vec![9; 16].into(), ..stranger.clone() }),
        ("WRONG_PEER", v1::ExchangeRequest { receiver_id: vec![9; 16].into(), ..stranger.clone() }),
        ("PROTOCOL_VERSION", v1::ExchangeRequest { protocol_version: 99, ..stranger.clone() }),
        ("MALFORMED_MESSAGE", v1::ExchangeRequest { sender: None, ..stranger }),
    ];
    for (reason, request) in requests {
        let status = exchange(&running.address, request).await.expect_err(reason);
        let details = status.get_error_details();
        assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some(reason), "{status:?}");
    }
}

#[tokio::test]
async fn peers_of_another_ring_or_protocol_are_told_nothing() {
    let dir = tempdir().expect("a temporary directory");
    let running = Running::start(dir.path(), &["--bootstrap"]);
    let endpoint = Endpoint::from_shared(format!("http://{}", running.address)).expect("an address");
    let mut client = PeerServiceClient::new(endpoint.connect().await.expect("it serves"));
    let request = v1::TestifyRequest { protocol_version: dhtd_proto::PROTOCOL_VERSION, ring_id: Bytes::new() };
    let answer = client.testify(request.clone()).await.expect("a peer in no ring may ask").into_inner();
    assert_eq!(answer.members.len(), 16);
    let requests = [
        ("WRONG_RING", v1::TestifyRequest { ring_id: vec![9; 16].into(), ..request.clone() }),
        ("PROTOCOL_VERSION", v1::TestifyRequest { protocol_version: 99, ..request }),
    ];
    for (reason, request) in requests {
        let status = client.testify(request).await.expect_err(reason);
        let details = status.get_error_details();
        assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some(reason), "{status:?}");
    }
}
