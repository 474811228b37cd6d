//! Everything reads back as it was written, over the bytes; what makes no sense is refused.

mod malformed;
mod random;

use std::fmt::Debug;

use bytes::Bytes;
use dht_core::replication::chain::{Effect, Value};
use dhtd_proto::v1;
use prost::Message as _;

use self::random::Random;
use super::*;

/// How many of each kind are tried.
const ROUNDS: u64 = 1000;

/// The message as the other side has it.
fn sent<M: prost::Message + Default>(message: &M) -> M {
    M::decode(Bytes::from(message.encode_to_vec())).expect("it was encoded here")
}

/// Tries random things, and panics with the seed of the first that does not come out as it went in.
fn read_back<T, M>(
    draw: impl Fn(&mut Random) -> Vec<T>,
    there: impl Fn(&T) -> M,
    back: impl Fn(M) -> Result<T, Malformed>,
) where
    T: Debug + PartialEq,
    M: prost::Message + Default,
{
    for seed in 0..ROUNDS {
        for original in draw(&mut Random::new(seed)) {
            assert_eq!(back(sent(&there(&original))).as_ref(), Ok(&original), "seed {seed}");
        }
    }
}

#[test]
fn every_message_reads_back() {
    let there = |(group, original): &(u32, Message)| message(*group, original);
    read_back(Random::messages, there, decode_message);
}

#[test]
fn what_is_known_of_views_reads_back() {
    read_back(|random| vec![random.acceptor()], acceptor, decode_acceptor);
    read_back(|random| vec![random.view()], view, decode_view);
    read_back(|random| vec![random.epoch()], |of| epoch(*of), decode_epoch);
    read_back(|random| vec![random.position()], |of| position(*of), decode_position);
}

#[test]
fn how_a_peer_stands_reads_back() {
    let back = |of: v1::SlotReport| decode_report(Slot(of.view.as_ref().map_or(0, |view| view.slot)), of);
    read_back(|random| vec![random.report()], |(of, key)| report(of, *key), back);
}

#[test]
fn what_recoveries_say_reads_back() {
    read_back(|random| vec![random.claim()], claim, decode_claim);
    read_back(|random| vec![random.survey()], survey, decode_survey);
}

#[test]
fn what_is_stored_reads_back() {
    read_back(Random::entries_of_each_effect, entry, decode_entry);
    read_back(Random::recorded, |of| recorded(*of), decode_recorded);
    read_back(Random::records, |(at, of)| record(at, of), decode_record);
}

#[test]
fn commands_and_what_comes_of_them_read_back() {
    read_back(Random::commands, |it| command(it, 0), |it| decode_command(it, 0));
    read_back(Random::outcomes, |of| outcome(*of), decode_outcome);
    read_back(Random::refusals, |of| refusal(*of), decode_refusal);
}

#[test]
fn keys_and_values_are_not_copied() {
    let mut original = Random::new(1).entry();
    original.effect = Effect::Put(Value::Bytes(Bytes::from(vec![7; 100])), None);
    let Effect::Put(Value::Bytes(value), _) = &original.effect else { unreachable!("it was set above") };
    let (key_at, value_at) = (original.at.key.as_ptr(), value.as_ptr());
    let decoded = decode_entry(entry(&original)).expect("it was encoded here");
    assert_eq!(decoded.at.key.as_ptr(), key_at);
    assert!(matches!(decoded.effect, Effect::Put(Value::Bytes(value), _) if value.as_ptr() == value_at));
}

/// Whatever arrives, decoding it does no harm; and what is taken for a message is one.
#[test]
fn damaged_messages_are_refused_or_are_others() {
    for seed in 0..ROUNDS {
        let mut random = Random::new(seed);
        for (group, original) in random.messages() {
            let mut bytes = message(group, &original).encode_to_vec();
            random.damage(&mut bytes);
            let Ok(arrived) = v1::ChainMessage::decode(Bytes::from(bytes)) else { continue };
            if let Ok((group, other)) = decode_message(arrived) {
                assert_eq!(decode_message(sent(&message(group, &other))), Ok((group, other)), "seed {seed}");
            }
        }
    }
}
