//! One RPC per operation.

use std::time::{Duration, Instant};

use dhtd_proto::v1::{GetRequest, PutRequest, kv_service_client::KvServiceClient};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::{Draw, Load, Operation, Target, VALUE_BYTES, key, micros};

/// A task for each operation in flight. The tasks are spread over the servers in turn.
pub(super) async fn run(load: &Load, target: &Target) -> Result<Vec<u32>, String> {
    let deadline = Instant::now() + load.time;
    let mut loops = JoinSet::new();
    for (number, channel) in (0..load.in_flight).zip(target.channels.iter().cycle()) {
        let draw = Draw::new(load, number as u64);
        loops.spawn(one_loop(load.operation, KvServiceClient::new(channel.clone()), draw, deadline));
    }
    let mut latencies = Vec::new();
    for done in loops.join_all().await {
        latencies.extend(done?);
    }
    Ok(latencies)
}

/// Writes every key once; what is refused, as long as replicas are still being made, is tried again.
pub(super) async fn fill(load: &Load, target: &Target) -> Result<(), String> {
    let mut loops = JoinSet::new();
    for (number, channel) in (0..load.in_flight as u64).zip(target.channels.iter().cycle()) {
        let (mut draw, mut client) = (Draw::new(load, number), KvServiceClient::new(channel.clone()));
        let min_durable = load.operation.min_durable();
        let keys = (number..load.keys).step_by(load.in_flight);
        loops.spawn(async move {
            for number in keys {
                let begun = Instant::now();
                loop {
                    let request =
                        PutRequest { key: key(number), value: draw.value(), min_durable, ..PutRequest::default() };
                    match client.put(request).await {
                        Ok(_) => break,
                        Err(status) if begun.elapsed() > FILL_TIME => return Err(status.to_string()),
                        Err(_) => {}
                    }
                }
            }
            Ok(())
        });
    }
    loops.join_all().await.into_iter().collect()
}

async fn one_loop(
    operation: Operation,
    mut client: KvServiceClient<Channel>,
    mut draw: Draw,
    deadline: Instant,
) -> Result<Vec<u32>, String> {
    let mut latencies = Vec::new();
    while Instant::now() < deadline {
        let key = draw.any_key();
        let begun = Instant::now();
        match operation {
            Operation::Put { min_durable } => {
                let request = PutRequest { key, value: draw.value(), min_durable, ..PutRequest::default() };
                let answer = client.put(request).await.map_err(|status| status.to_string())?.into_inner();
                if answer.durable < min_durable {
                    return Err(format!("durable on {} peers, not {min_durable}", answer.durable));
                }
            }
            Operation::Get => {
                let answer = client
                    .get(GetRequest { key, ..GetRequest::default() })
                    .await
                    .map_err(|status| status.to_string())?;
                if answer.get_ref().value.len() != VALUE_BYTES {
                    return Err("a value of another length".to_owned());
                }
            }
        }
        latencies.push(micros(begun));
    }
    Ok(latencies)
}

/// How long it may take until a key is written for the first time.
const FILL_TIME: Duration = Duration::from_secs(60);
