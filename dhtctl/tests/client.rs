//! The library against fake peers.

#[allow(dead_code, reason = "shared with the tests of the tool")]
#[path = "common/fake.rs"]
mod fake;

use std::time::Duration;

use dhtctl::{
    Client, ErrorKind, Options,
    overlay::{CrawlOptions, Shape, crawl},
};
use fake::{Fake, known, locked, peer, refusal};
use tonic::Code;

/// An address on which nobody listens.
fn dead_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it has an address").to_string()
}

#[tokio::test]
async fn written_value_is_read_back_and_deleted() {
    let fake = Fake::start().await;
    let client = Client::connect([&fake.address]).await.expect("it connects");
    let written = client.put("k", "v", 2).await.expect("it is written");
    assert_eq!((written.existed, written.durable), (false, 2));
    assert_eq!(client.get("k").await.expect("it is read").map(|found| found.value), Some("v".into()));
    assert!(client.delete("k", 1).await.expect("it is deleted").existed);
    assert_eq!(client.get("k").await.expect("it is read"), None);
}

#[tokio::test]
async fn first_endpoint_that_answers_is_used() {
    let fake = Fake::start().await;
    let client = Client::connect([dead_address(), fake.address.clone()]).await.expect("it connects");
    client.put("k", "v", 1).await.expect("nothing was sent to the dead one, so a write may move on");
    assert_eq!(fake.stored().len(), 1);
}

#[tokio::test]
async fn unavailable_read_moves_on_and_write_does_not() {
    let (away, fine) = (Fake::start().await, Fake::start().await);
    *locked(&away.state.read_refusal) = Some(refusal(Code::Unavailable, "VIEW_UNKNOWN"));
    fine.put(b"k", b"v");
    let endpoints = [&away.address, &fine.address];
    let client = Client::connect(endpoints).await.expect("it connects");
    assert!(client.get("k").await.expect("the second answers").is_some());

    let client = Client::connect(endpoints).await.expect("it connects");
    away.refuse(1, Code::Unavailable, "OUTCOME_UNKNOWN");
    let error = client.put("k", "new", 1).await.expect_err("the outcome is unknown");
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Unavailable, Some("OUTCOME_UNKNOWN")));
    assert!(error.may_have_executed());
    assert_eq!(error.endpoint(), Some(away.address.as_str()));
    assert_eq!(fine.stored()[b"k".as_slice()], "v", "it was not written a second time");
}

#[tokio::test]
async fn unanswered_write_ends_at_its_deadline_and_is_in_doubt() {
    let fake = Fake::start().await;
    fake.state.open.send_replace(false);
    let options = Options { timeout: Duration::from_millis(200), ..Options::default() };
    let client = Client::connect_with([&fake.address], options).await.expect("it connects");
    let error = client.put("k", "v", 1).await.expect_err("the gate is closed");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.may_have_executed() && !error.is_not_connected(), "{error:?}");
}

#[tokio::test]
async fn connection_that_breaks_is_made_again() {
    let fake = Fake::start().await;
    let client = Client::connect([&fake.address]).await.expect("it connects");
    client.put("k", "v", 1).await.expect("it is written");
    let address = fake.address.clone();
    drop(fake);
    let error = loop {
        // The peer goes away while calls are made.
        if let Err(error) = client.put("k", "v", 1).await {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let error = client.put("k", "v", 1).await.expect_err("nobody listens");
    assert!(error.is_not_connected() && !error.may_have_executed(), "{error:?}");
    let again = Fake::start_at(&address).await;
    client.put("k", "again", 1).await.expect("the connection is made again");
    assert_eq!(again.stored()[b"k".as_slice()], "again");
}

#[tokio::test]
async fn crawl_finds_all_peers_and_reports_those_that_are_silent() {
    let mut ring = Fake::ring(4).await;
    let client = Client::connect([&ring[2].address]).await.expect("it connects");
    let view = crawl(&client, &CrawlOptions { concurrency: 1, ..CrawlOptions::default() }).await.expect("one answers");
    assert_eq!((view.peers.len(), view.places.len(), view.unreachable.len()), (4, 8, 0));
    assert_eq!(view.shape(), Shape::Ideal);

    let gone = ring.remove(3);
    let address = gone.address.clone();
    drop(gone);
    let ghost = peer(9, &dead_address());
    locked(&ring[0].state.overlay).peers.push(known(&ghost));
    *locked(&ring[1].state.read_refusal) = Some(refusal(Code::Unavailable, "STARTING"));
    let options = Options { timeout: Duration::from_secs(2), ..Options::default() };
    let client = Client::connect_with([&ring[0].address], options).await.expect("it connects");
    let view = crawl(&client, &CrawlOptions::default()).await.expect("one answers");
    assert_eq!(view.peers.len(), 2);
    let silent: Vec<&str> = view.unreachable.iter().map(|silent| silent.peer.address.as_str()).collect();
    assert!(silent.contains(&address.as_str()) && silent.contains(&ghost.address.as_str()), "{silent:?}");
    assert_eq!(silent.len(), 3);
    assert_eq!(view.shape(), Shape::Unknown);
}
