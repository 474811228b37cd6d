//! What `recover` asks and says.

mod common;

use common::{
    dhtctl,
    fake::{Fake, known, locked, peer},
};
use dhtctl::proto::{DisputedSlot, RecoverResponse, RecoveredSlot, SlotLoss};
use serde_json::json;

async fn ring_with_losses() -> Vec<Fake> {
    let ring = Fake::ring(2).await;
    locked(&ring[0].state.overlay).peers.extend([8, 9].map(|name| known(&peer(name, "10.0.0.9:7400"))));
    let slot = |slot, loss: SlotLoss, revision, certain_ms| RecoveredSlot {
        slot,
        chain: vec![vec![0; 16].into()],
        loss: loss.into(),
        revision,
        certain_ms,
    };
    let recovered_by = vec![vec![1; 16].into(), vec![2; 16].into()];
    *locked(&ring[0].state.findings) = RecoverResponse {
        done: false,
        counter: 1,
        survivors: vec![peer(0, "10.0.0.1:7400"), peer(1, "10.0.0.2:7400")],
        given_up: vec![peer(8, "10.0.0.8:7400"), peer(9, "")],
        slots_served: 1021,
        slots: vec![
            slot(4, SlotLoss::Since, 1234, 3200),
            slot(5, SlotLoss::After, 17, 0),
            slot(6, SlotLoss::All, 0, 0),
        ],
        disputed: vec![DisputedSlot { slot: 7, counter: 1, recovered_by }],
    };
    ring
}

#[tokio::test]
async fn a_dry_run_says_slot_by_slot_what_may_be_missing() {
    let ring = ring_with_losses().await;
    let ran = dhtctl(&ring[0].address, &["recover", "--dead", "08080808,09090909", "--dry-run"]).await.expect_code(0);
    for part in [
        "recovery 1 (not carried out)",
        "would be given up: 08080808 10.0.0.8:7400, 09090909",
        "1,234  what was acknowledged later than 4s before this",
        "17  what was written after that revision",
        "0  everything: no copy is left, and it begins empty",
        "slot 7 was recovered twice, by 01010101 and by 02020202, and stays sealed",
        "3 slots to be started again; 1,021 slots with a majority left alone",
    ] {
        assert!(ran.text().contains(part), "{part} in {}", ran.text());
    }
    let asked = locked(&ring[0].state.recovered).clone();
    assert_eq!(asked, [(vec![vec![8; 16].into(), vec![9; 16].into()], true)]);
}

#[tokio::test]
async fn without_a_terminal_it_needs_yes() {
    let ring = ring_with_losses().await;
    let ran = dhtctl(&ring[0].address, &["recover", "--dead", "08080808"]).await.expect_code(2);
    assert!(ran.stderr.contains("hint: look with --dry-run first"), "{}", ran.stderr);
    assert!(locked(&ring[0].state.recovered).is_empty());
    let arguments = ["recover", "--dead", "08080808", "--yes", "-o", "json"];
    let document = dhtctl(&ring[0].address, &arguments).await.expect_code(0).json();
    assert_eq!((&document["done"], &document["slots"][0]["certain_ms"]), (&json!(true), &json!(3200)));
    let lost = &document["slots"][2];
    assert_eq!((&lost["may_be_missing"], &lost["certain_ms"]), (&json!("all"), &json!(null)));
    assert_eq!(*locked(&ring[0].state.recovered), [(vec![vec![8; 16].into()], false)]);
}

#[tokio::test]
async fn whoever_is_given_up_must_be_known() {
    let ring = ring_with_losses().await;
    for dead in ["0707070707", "0808"] {
        let ran = dhtctl(&ring[0].address, &["recover", "--dead", dead, "--dry-run"]).await.expect_code(2);
        assert!(ran.stderr.contains("is the id of no peer"), "{}", ran.stderr);
    }
    dhtctl(&ring[0].address, &["recover", "--dry-run"]).await.expect_code(2);
    assert!(locked(&ring[0].state.recovered).is_empty());
}
