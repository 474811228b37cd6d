//! `dhtctl health`, against the health service that peers have.

mod common;

use common::{dead_address, dhtctl};
use serde_json::json;
use tokio::net::TcpListener;
use tonic::transport::{Server, server::TcpIncoming};
use tonic_health::{ServingStatus, server::HealthReporter};

/// A server of health alone, and where it is.
async fn server(status: ServingStatus) -> (String, HealthReporter) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it has an address").to_string();
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("", status).await;
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
    (address, reporter)
}

#[tokio::test]
async fn a_peer_that_serves_is_healthy_as_long_as_it_does() {
    let (address, reporter) = server(ServingStatus::Serving).await;
    let ran = dhtctl(&address, &["health"]).await.expect_code(0);
    assert_eq!((ran.text(), ran.stderr.as_str()), ("", "serving\n"));
    assert_eq!(dhtctl(&address, &["health", "-o", "json"]).await.expect_code(0).json(), json!({ "serving": true }));
    reporter.set_service_status("", ServingStatus::NotServing).await;
    let ran = dhtctl(&address, &["health"]).await.expect_code(5);
    assert!(ran.stderr.starts_with("error: the peer does not serve: NOT_SERVING\n"), "{}", ran.stderr);
    let ran = dhtctl(&address, &["health", "-o", "json"]).await.expect_code(5);
    assert_eq!((ran.json(), ran.error()["exit_code"].clone()), (json!({ "serving": false }), json!(5)));
}

#[tokio::test]
async fn who_does_not_answer_is_not_healthy() {
    let ran = dhtctl(&dead_address(), &["health"]).await.expect_code(5);
    assert!(ran.stderr.starts_with("error: can't ask the peer for its health at 127.0.0.1:"), "{}", ran.stderr);
}

#[tokio::test]
async fn health_is_about_one_peer() {
    dhtctl("127.0.0.1:1,127.0.0.1:2", &["health"]).await.expect_code(2);
}
