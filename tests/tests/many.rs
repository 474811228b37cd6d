//! Many operations at once, and scans, in rings of real processes.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use dht_tests::process::{EVENTUAL, FEW_SLOTS, Peer, Ring, eventually};
use dhtctl::{
    Client, Error, Options, Pipeline, Write, Written,
    proto::{
        BatchGetRequest, BatchWriteRequest, GetRequest, Operation, PipelineRequest, PutRequest, ScanRequest,
        kv_service_client::KvServiceClient, operation, operation_result,
    },
};
use tokio::{sync::Notify, task::JoinSet};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

const NODES: &[&str] = &["--nodes", "4"];

/// Of both modes.
const FOUNDINGS: [&[&str]; 2] = [FEW_SLOTS, EVENTUAL];

fn keys(range: std::ops::Range<usize>) -> impl Iterator<Item = String> + Clone {
    range.map(|number| format!("key {number:05}"))
}

/// Writes keys until each is on three disks, which is so once the chains are whole.
async fn written(client: &Client, keys: impl Iterator<Item = String> + Clone) {
    eventually("all keys are on three disks", async || {
        let writes = keys.clone().map(|key| Write::put(key.clone(), key).min_durable(3));
        client.batch_write(writes).await.iter().all(|result| result.as_ref().is_ok_and(|done| done.durable == 3))
    })
    .await;
}

/// All keys that a scan finds, each once; something may happen after each page.
async fn scanned(
    client: &Client,
    prefix: &'static str,
    page_size: u32,
    mut after_page: impl AsyncFnMut(usize),
) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut scan = client.scan(prefix).page_size(page_size);
    for page in 0.. {
        let mut items = None;
        // A peer that was asked may just have been killed.
        eventually("the page can be read", async || match scan.next_page().await {
            Ok(page) => {
                items = page;
                true
            }
            Err(_) => false,
        })
        .await;
        let Some(items) = items else { break };
        assert!(items.len() <= page_size as usize);
        for item in items {
            let key = String::from_utf8(item.key.to_vec()).expect("keys are text");
            assert_eq!(item.value, key);
            assert!(found.insert(key.clone()), "{key} comes twice");
        }
        after_page(page).await;
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_through_a_join_and_a_kill_finds_each_key_once() {
    for founding in FOUNDINGS {
        let mut ring = Ring::start(4, founding, NODES).await;
        let client = ring.client();
        written(&client, keys(0..3000)).await;
        written(&client, (0..50).map(|number| format!("other {number}"))).await;
        let expected: BTreeSet<String> = keys(0..3000).collect();
        assert_eq!(scanned(&client, "key ", 1000, async |_| {}).await, expected);

        let changes = async |page| match page {
            3 => {
                ring.join();
                ring.ideal(5).await;
            }
            8 => ring.peers[1].kill(),
            _ => {}
        };
        assert_eq!(scanned(&client, "key ", 200, changes).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_over_all_slots_what_is_acknowledged_survives_a_kill_in_the_middle() {
    for founding in FOUNDINGS {
        let mut ring = Ring::start(5, founding, NODES).await;
        let survivor = Client::lazy([&ring.peers[0].address], Options::default()).expect("an address of this machine");
        written(&survivor, (0..500).map(|number| format!("first {number}"))).await;
        let started = Arc::new(Notify::new());
        let writing = tokio::spawn({
            let (client, started) = (survivor.clone(), started.clone());
            async move {
                let mut outcomes: BTreeMap<String, Result<Written, Error>> = BTreeMap::new();
                for round in 0..40 {
                    let batch: Vec<String> = keys(round * 250..(round + 1) * 250).collect();
                    let writes = batch.iter().map(|key| Write::put(key.clone(), key.clone()).min_durable(2));
                    let results = client.batch_write(writes).await;
                    assert_eq!(results.len(), batch.len());
                    outcomes.extend(batch.into_iter().zip(results));
                    if round == 5 {
                        started.notify_one();
                    }
                }
                outcomes
            }
        });
        started.notified().await;
        ring.peers[2].kill();
        let outcomes = writing.await.expect("it does not panic");
        for (key, outcome) in outcomes.iter().filter_map(|(key, outcome)| Some((key, outcome.as_ref().err()?))) {
            assert!(outcome.reason().is_some(), "{key}: {outcome}");
        }
        let acknowledged: Vec<&String> =
            outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(key, _)| key).collect();
        assert!(acknowledged.len() >= 5000, "most go on: {} of {}", acknowledged.len(), outcomes.len());
        let mut left = acknowledged;
        eventually("all acknowledged writes can be read", async || {
            let results = survivor.batch_get(left.iter().map(|key| (*key).clone())).await;
            left = left
                .iter()
                .zip(results)
                .filter(|(key, result)| match result {
                    Ok(Some(found)) => {
                        assert_eq!(found.value, key.as_bytes());
                        false
                    }
                    Ok(None) => panic!("{key} is lost"),
                    Err(_) => true,
                })
                .map(|(key, _)| *key)
                .collect();
            left.is_empty()
        })
        .await;
    }
}

async fn all_done<T: Send + 'static>(
    pipeline: &Pipeline,
    count: usize,
    operation: impl Fn(Pipeline, usize) -> Pin<Box<dyn Future<Output = T> + Send>>,
) -> Vec<T> {
    let mut operations = JoinSet::new();
    (0..count).for_each(|number| drop(operations.spawn(operation(pipeline.clone(), number))));
    operations.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_carries_five_thousand_operations_at_once() {
    for founding in FOUNDINGS {
        let ring = Ring::start(3, founding, NODES).await;
        let client = ring.client().with_timeout(Duration::from_secs(60));
        let pipeline = client.pipeline();
        let put = |pipeline: Pipeline, number: usize| -> Pin<Box<dyn Future<Output = _> + Send>> {
            Box::pin(async move { pipeline.write(Write::put(format!("key {number}"), format!("{number}"))).await })
        };
        for result in all_done(&pipeline, 5000, put).await {
            result.expect("nobody is away");
        }
        let get = |pipeline: Pipeline, number: usize| -> Pin<Box<dyn Future<Output = _> + Send>> {
            Box::pin(async move { (number, pipeline.get(format!("key {number}")).await) })
        };
        for (number, result) in all_done(&pipeline, 6000, get).await {
            let found = result.expect("nobody is away").map(|found| found.value);
            assert_eq!(found, (number < 5000).then(|| number.to_string().into()), "key {number}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_counter_counts_all_increments_of_a_pipeline_and_a_failure_ends_nothing() {
    let ring = Ring::start(3, FEW_SLOTS, NODES).await;
    let pipeline = ring.client().with_timeout(Duration::from_secs(60)).pipeline();
    pipeline.write(Write::put("text", "no counter")).await.expect("it is served");
    let increment = |pipeline: Pipeline, number: usize| -> Pin<Box<dyn Future<Output = _> + Send>> {
        let key = if number.is_multiple_of(10) { "text" } else { "counter" };
        Box::pin(async move { (number, pipeline.write(Write::increment(key, 1)).await) })
    };
    let mut totals = BTreeSet::new();
    for (number, result) in all_done(&pipeline, 2000, increment).await {
        if number.is_multiple_of(10) {
            assert_eq!(result.expect_err("it is no counter").reason(), Some("WRONG_TYPE"));
        } else {
            totals.insert(result.expect("it is served").total.expect("it is an increment"));
        }
    }
    assert_eq!(totals, (1..=1800).collect(), "each increment has a total of its own");
    let absent = pipeline.write(Write::put_if("once", "a", 0)).await.expect("it has no value");
    let failed = pipeline.write(Write::put_if("once", "b", 0)).await.expect_err("it has one");
    assert_eq!((failed.condition_failed(), failed.revision()), (true, Some(absent.revision)));
    pipeline.write(Write::compare_and_set("once", Some("a".into()), "c")).await.expect("it is so");
    assert!(pipeline.write(Write::delete("once")).await.expect("it is served").existed);
    assert_eq!(pipeline.get("once").await.expect("it is served"), None);
}

async fn raw(peer: &Peer) -> KvServiceClient<Channel> {
    KvServiceClient::connect(format!("http://{}", peer.address)).await.expect("it serves")
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().expect("every error has one").reason
}

fn asked(operation: operation::Operation) -> Operation {
    Operation { tag: 9, operation: Some(operation) }
}

fn put(key: &'static str, keyspace: &str) -> Operation {
    let request = PutRequest { key: key.into(), value: "v".into(), keyspace: keyspace.into(), ..PutRequest::default() };
    asked(operation::Operation::Put(request))
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_batches_tokens_and_operations_get_clear_errors() {
    let ring = Ring::start(1, FEW_SLOTS, NODES).await;
    let mut client = raw(&ring.peers[0]).await;
    let get = asked(operation::Operation::Get(GetRequest { key: "k".into(), ..GetRequest::default() }));
    let large =
        asked(operation::Operation::Put(PutRequest { value: vec![0; 4 << 20].into(), ..PutRequest::default() }));
    for (operations, says) in [
        (vec![put("a", "default"); 2], "a second time"),
        (vec![put("a", "default"), get], "operation 1 is no write"),
        (vec![Operation::default(); 1001], "at most 1000 items, not 1001"),
        (vec![large], "bytes"),
    ] {
        let refused = client.batch_write(BatchWriteRequest { operations }).await.expect_err("it is refused");
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "BAD_BATCH"));
        assert!(refused.message().contains(says) || says == "a second time", "{refused}");
    }
    let refused =
        client.batch_get(BatchGetRequest { keys: vec!["k".into(); 1001], ..BatchGetRequest::default() }).await;
    assert_eq!(reason(&refused.expect_err("it is refused")), "BAD_BATCH");

    let operations = vec![put("", ""), Operation::default(), put("k", "nowhere"), put("k", "")];
    let results =
        client.batch_write(BatchWriteRequest { operations }).await.expect("each is told by itself").into_inner();
    let reasons: Vec<_> = results
        .results
        .into_iter()
        .map(|result| match result.result {
            Some(operation_result::Result::Failure(failure)) => failure.reason,
            Some(operation_result::Result::Put(put)) => format!("on {}", put.durable),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(reasons, ["BAD_KEY", "MALFORMED_MESSAGE", "KEYSPACE_NOT_FOUND", "on 1"]);

    for token in ["x", "\u{1}nonsense nonsense"] {
        let request = ScanRequest { page_token: token.into(), ..ScanRequest::default() };
        let refused = client.scan(request).await.expect_err("it is refused");
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "BAD_PAGE_TOKEN"));
    }
    let request = ScanRequest { keyspace: "nowhere".into(), ..ScanRequest::default() };
    assert_eq!(reason(&client.scan(request).await.expect_err("it is refused")), "KEYSPACE_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_ends_at_its_deadline_and_what_it_had_begun_is_done() {
    let ring = Ring::start(1, FEW_SLOTS, NODES).await;
    let mut client = raw(&ring.peers[0]).await;
    let (sender, operations) = tokio::sync::mpsc::channel(1);
    let mut request = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(operations));
    request.set_timeout(Duration::from_millis(500));
    let mut results = client.pipeline(request).await.expect("it begins").into_inner();
    sender.send(PipelineRequest { operations: vec![put("k", "")] }).await.expect("it is read");
    let answer = results.message().await.expect("it is answered").expect("it has not ended");
    assert_eq!(answer.results.len(), 1);
    let ended = results.message().await.expect_err("the deadline has passed");
    assert_eq!((ended.code(), reason(&ended).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));

    // A client that goes away when it knows that its message was read.
    let (sender, operations) = tokio::sync::mpsc::channel(1);
    let results = client.pipeline(tokio_stream::wrappers::ReceiverStream::new(operations)).await.expect("it begins");
    let put = |key: String| PutRequest { key: key.into(), ..PutRequest::default() };
    let operations = keys(0..2000).map(|key| asked(operation::Operation::Put(put(key)))).collect();
    sender.send(PipelineRequest { operations }).await.expect("it is read");
    let answered = results.into_inner().message().await.expect("it is answered").expect("it has not ended");
    drop(sender);
    assert!(!answered.results.is_empty());
    let at = ring.client();
    eventually("all of them are carried out", async || {
        at.batch_get(keys(0..2000)).await.iter().all(|found| matches!(found, Ok(Some(_))))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_replica_answers_where_most_others_are_away() {
    let mut ring = Ring::start(3, FEW_SLOTS, NODES).await;
    let client = Client::lazy([&ring.peers[0].address], Options::default()).expect("an address of this machine");
    eventually("all three replicas have it", async || {
        client.put("k", "v", 3).await.is_ok_and(|answer| answer.durable == 3)
    })
    .await;
    let any = client.clone().at_any_replica();
    eventually("this one knows that it is committed", async || matches!(any.get("k").await, Ok(Some(_)))).await;
    ring.peers[1].kill();
    ring.peers[2].kill();
    eventually("nothing is certain any more", async || client.get("k").await.is_err()).await;
    assert_eq!(any.get("k").await.expect("one is there").expect("it was written").value, "v");
    let both = any.batch_get(["k", "absent"]).await;
    assert_eq!(both[0].as_ref().expect("one is there").as_ref().expect("it was written").value, "v");
    assert_eq!(both[1].as_ref().expect("one is there"), &None);
}
