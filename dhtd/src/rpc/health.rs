//! gRPC health mirrors readiness.

use std::{sync::Arc, time::Duration};

use dht_core::overlay::Phase;
use tokio::sync::watch;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::driver::Shared;

/// Ready is a member that is not about to stop and whose store takes writes. There is no event for the store, so it is looked
/// at now and then.
pub async fn report_health(shared: Arc<Shared>, mut stops: watch::Receiver<bool>, health: HealthReporter) {
    let mut phases = shared.phase.subscribe();
    let mut looks = tokio::time::interval(LOOK_AT_STORE_EVERY);
    loop {
        let member = matches!(*phases.borrow_and_update(), Phase::Member | Phase::Island);
        let ready = member && shared.store.failure().is_none() && !*stops.borrow_and_update();
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        health.set_service_status("", status).await;
        tokio::select! {
            changed = phases.changed() => if changed.is_err() {
                return;
            },
            changed = stops.changed() => if changed.is_err() {
                return;
            },
            _ = looks.tick() => {}
        }
    }
}

/// How long a peer may call itself ready although its store has failed. A guess: load balancers ask less often.
const LOOK_AT_STORE_EVERY: Duration = Duration::from_secs(1);
