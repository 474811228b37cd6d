//! When a write of a batch is answered, and what with.

use std::sync::mpsc;

use dht_core::hlc::Timestamp;

use super::*;

const FIRST: usize = 0;
const SECOND: usize = 1;

type Answers = mpsc::Receiver<(usize, Result<u32, String>)>;

/// A batch of writes, each with its `min_durable` and its targets of two; and what they are answered with, by place:
/// on how many disks they are.
fn batch(writes: &[(u32, &[usize])]) -> (Spreading, Answers) {
    let (sender, answers) = mpsc::channel();
    let target =
        |id: u8| Peer { id: PeerId::new([id; 16]), address: "a:1".into(), incarnation: 1, nodes: 1, leaving: false };
    let mut spreading = Spreading { targets: vec![(target(1), vec![]), (target(2), vec![])], ..Spreading::default() };
    for (place, (min_durable, targets)) in writes.iter().enumerate() {
        let sender = sender.clone();
        let done: Done = Box::new(move |outcome| {
            let durable = outcome.map(|done| done.durable).map_err(|error| error.to_string());
            sender.send((place, durable)).expect("somebody listens");
        });
        targets.iter().for_each(|target| spreading.targets[*target].1.push(place));
        spreading.writes.push(Write {
            slot: Slot(place as u32 / 2),
            version: Version { time: Timestamp::from_bits(1), peer: PeerId::default() },
            existed: false,
            min_durable: *min_durable,
            confirmed: 0,
            outstanding: targets.len() as u32,
            done: Some(done),
        });
    }
    (spreading, answers)
}

fn told(answers: &Answers) -> Vec<(usize, Result<u32, String>)> {
    answers.try_iter().collect()
}

#[test]
fn nothing_is_answered_before_the_fsync_here_and_no_confirmation_before_it_is_forgotten() {
    let (mut batch, answers) = batch(&[(1, &[FIRST]), (2, &[FIRST, SECOND])]);
    batch.pushed(FIRST, true);
    assert_eq!(told(&answers), []);
    batch.synced(Ok(()));
    assert_eq!(told(&answers), [(0, Ok(2)), (1, Ok(2))]);
}

#[test]
fn a_write_waits_for_as_many_replicas_as_it_asks_for_and_for_no_other_write() {
    let (mut batch, answers) = batch(&[(1, &[FIRST]), (2, &[SECOND]), (3, &[FIRST, SECOND])]);
    batch.synced(Ok(()));
    assert_eq!(told(&answers), [(0, Ok(1))]);
    batch.pushed(SECOND, true);
    assert_eq!(told(&answers), [(1, Ok(2))]);
    batch.pushed(FIRST, true);
    assert_eq!(told(&answers), [(2, Ok(3))]);
}

#[test]
fn a_replica_that_does_not_confirm_is_compared_in_each_slot_once_and_counts_for_nobody() {
    let (mut batch, answers) = batch(&[(2, &[FIRST]), (2, &[FIRST, SECOND]), (1, &[FIRST])]);
    batch.synced(Ok(()));
    let (peer, slots) = batch.pushed(FIRST, false);
    assert_eq!((peer, slots), (PeerId::new([1; 16]), vec![Slot(0), Slot(1)]));
    let reached = "written, but only 1 of 2 replicas confirmed it in time".to_owned();
    assert_eq!(told(&answers), [(2, Ok(1)), (0, Err(reached))]);
    let (_, slots) = batch.pushed(SECOND, true);
    assert_eq!((slots, told(&answers)), (vec![], vec![(1, Ok(2))]));
}

#[test]
fn a_failed_fsync_fails_every_write_whoever_else_has_it() {
    let (mut batch, answers) = batch(&[(1, &[FIRST]), (2, &[FIRST])]);
    batch.pushed(FIRST, true);
    batch.synced(Err(EngineError::ReadOnly { cause: "it broke".into() }));
    assert!(told(&answers).iter().all(|(_, answer)| answer.is_err()));
    assert!(batch.writes.iter().all(|write| write.done.is_none()));
}
