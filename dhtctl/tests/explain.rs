//! What `explain` says.

mod common;

use common::{
    dhtctl,
    fake::{Fake, locked, peer},
};
use dhtctl::proto::{ExplainResponse, Mode, PlacementReason, SlotCopy, SlotView, Version};
use serde_json::json;

fn address(name: u8) -> String {
    format!("10.0.0.{name}:7400")
}

fn copy(name: u8) -> SlotCopy {
    let peer = Some(peer(name, &address(name)));
    SlotCopy { peer, answered: true, holds: true, in_sync: true, epoch: 4, slot_revision: 12, ..SlotCopy::default() }
}

async fn explained(reason: PlacementReason, about: &[u8]) -> Fake {
    let fake = Fake::start().await;
    let ids = |names: &[u8]| names.iter().map(|name| vec![*name; 16].into()).collect();
    let (chain, electors) = (ids(&[1, 2]), ids(&[1, 2, 3]));
    let view = SlotView { epoch: 4, generation: 0, chain, electors, min_in_sync: 2 };
    *locked(&fake.state.explanation) = ExplainResponse {
        id: vec![0xaa; 20].into(),
        slot: 682,
        mode: Mode::Chain.into(),
        owner: None,
        home_group: [1, 2, 4].map(|name| peer(name, &address(name))).to_vec(),
        view: Some(view),
        copies: vec![
            SlotCopy { revision: 9, pending_revision: 12, ..copy(1) },
            SlotCopy { revision: 9, in_sync: false, sealed: true, ..copy(2) },
            SlotCopy { answered: false, ..SlotCopy { peer: copy(3).peer, ..SlotCopy::default() } },
            SlotCopy { holds: false, in_sync: false, copying: true, slot_revision: 0, ..copy(4) },
        ],
        reason: reason.into(),
        about: about.iter().map(|name| peer(*name, &address(*name))).collect(),
    };
    fake
}

#[tokio::test]
async fn a_key_is_explained_copy_by_copy() {
    let fake = explained(PlacementReason::Copying, &[4]).await;
    let ran = dhtctl(&fake.address, &["explain", "greeting"]).await.expect_code(0);
    let lines: Vec<&str> = ran.text().lines().collect();
    assert_eq!(lines[0], format!("key 'greeting' has id {}, slot 682", "aa".repeat(20)));
    for line in [
        "home group: 01010101 02020202 04040404",
        "view:       epoch 4; a write needs 2 replicas",
        "chain:      01010101 02020202 (head first)",
        "electors:   01010101 02020202 03030303",
        "The home group has changed, and 04040404 is copying the slot; until then those before serve it.",
    ] {
        assert!(lines.contains(&line), "{line} in {}", ran.text());
    }
    let row = |name: &str| {
        let of_copies = lines.iter().filter(|line| line.contains(":7400"));
        let line = of_copies.clone().find(|line| line.contains(name)).expect("a row");
        line.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("01010101")[2..], ["head", "in", "sync", "4", "9", "(12", "pending)", "12"]);
    assert_eq!(row("02020202")[2..], ["tail", "sealed", "4", "9", "12"]);
    assert_eq!(row("03030303")[2..], ["witness", "no", "answer", "-", "-", "-"]);
    assert_eq!(row("04040404")[2..], ["home", "group", "copying", "4", "-", "-"]);
}

#[tokio::test]
async fn each_reason_is_one_sentence() {
    let sentences = [
        (PlacementReason::AtHome, &[][..], "The key is at its home group: the owner"),
        (PlacementReason::TooFewPeers, &[], "The key is at its home group, which has only 3 peers"),
        (PlacementReason::Settling, &[4], "The home group has changed: 04040404 will copy the slot"),
        (PlacementReason::Settling, &[], "The chain is not the home group in its order"),
        (PlacementReason::Lost, &[3], "03030303 does not answer: the slot goes on without it."),
        (PlacementReason::Lost, &[2, 3], "02020202, 03030303 do not answer: the slot goes on without them."),
        (PlacementReason::NoMajority, &[2, 3], "02020202, 03030303 do not answer, and the other electors are no"),
        (PlacementReason::Changing, &[2], "The slot's view is being changed"),
        (PlacementReason::Disputed, &[1], "Two recoveries, neither of which knew of the other"),
        (PlacementReason::ViewUnknown, &[], "Nobody who answers knows who holds the slot."),
    ];
    for (reason, about, sentence) in sentences {
        let fake = explained(reason, about).await;
        let ran = dhtctl(&fake.address, &["explain", "greeting"]).await.expect_code(0);
        assert!(ran.text().lines().last().is_some_and(|line| line.starts_with(sentence)), "{}", ran.text());
    }
}

#[tokio::test]
async fn what_is_not_known_is_unset_in_json() {
    let fake = explained(PlacementReason::NoMajority, &[2, 3]).await;
    let document = dhtctl(&fake.address, &["explain", "greeting", "-o", "json"]).await.expect_code(0).json();
    assert_eq!((&document["key"], &document["slot"]), (&json!("greeting"), &json!(682)));
    assert_eq!((&document["reason"], &document["view"]["epoch"]), (&json!("no_majority"), &json!(4)));
    assert_eq!(document["copies"][0]["pending_revision"], json!(12));
    assert_eq!(document["copies"][1]["state"], json!("sealed"));
    let silent = &document["copies"][2];
    assert_eq!((&silent["state"], &silent["role"]), (&json!("no answer"), &json!("witness")));
    assert!(silent["epoch"].is_null() && silent["slot_revision"].is_null() && silent["revision"].is_null());
    assert_eq!(document["about"][1]["address"], json!("10.0.0.3:7400"));
}

#[tokio::test]
async fn an_eventual_copy_has_a_version_and_no_role() {
    let fake = explained(PlacementReason::AtHome, &[]).await;
    {
        let mut explanation = locked(&fake.state.explanation);
        let version = Some(Version { clock: 1_700_000_000_000 << 16, peer_id: vec![0xab; 16].into() });
        explanation.copies = vec![SlotCopy { version, epoch: 0, ..copy(1) }];
        (explanation.mode, explanation.view) = (Mode::Eventual.into(), None);
    }
    let ran = dhtctl(&fake.address, &["explain", "greeting"]).await.expect_code(0);
    assert!(ran.text().contains("in sync  2023-11-14T22:13:20.000Z+0/abababab"), "{}", ran.text());
    let document = dhtctl(&fake.address, &["explain", "greeting", "-o", "json"]).await.expect_code(0).json();
    assert!(document["copies"][0]["role"].is_null() && document["view"].is_null());
}
