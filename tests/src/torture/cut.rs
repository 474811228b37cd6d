//! Links are cut, and every peer is asked what it says then.
//!
//! A slot's side is the part of the network with most of its electors. Peers of the other part must not answer reads for
//! longer than a lease lasts, nor any write, and must say that they can't (`NO_QUORUM`) in good time; the side goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dhtctl::Client;
use rand::{RngExt, seq::SliceRandom};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    clients::{client_of, reason},
    faults::Stage,
    held::{all_held, at_rest},
};

/// Which links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// All between two groups.
    Groups,
    /// The same, but one way only.
    OneWay,
    /// Those between two peers.
    Pair,
}

/// A cut: who can't send to whom.
struct Cut {
    links: Vec<(usize, usize)>,
    /// For each peer the part of the network that it is in; empty if it is not clear.
    sides: Vec<BTreeSet<usize>>,
    text: String,
}

/// Requests that go to every peer while links are cut.
struct Probes {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Probe>>>,
    tasks: JoinSet<()>,
}

/// One request.
struct Probe {
    key: usize,
    peer: usize,
    write: bool,
    invoked: Instant,
    ended: Instant,
    /// Why it was refused.
    refused: Option<String>,
}

/// What is found out about one cut. Times count from it.
#[derive(Default)]
struct Findings {
    /// Reads that the wrong side answered: when the last of them was asked for, and when it was answered.
    last_read: Option<(Duration, Duration)>,
    /// When the last write was asked for that the wrong side acknowledged.
    last_write: Option<Duration>,
    /// When the last read and the last write were asked for that the wrong side refused for something else than `NO_QUORUM`.
    unclear_read: Option<(Duration, String)>,
    unclear_write: Option<(Duration, String)>,
    /// How many requests the wrong side refused, and how long it took to, at most.
    refused: usize,
    slowest_read: Duration,
    slowest_write: Duration,
    /// How many others were refused.
    refused_elsewhere: usize,
    /// For each key when the first write was acknowledged.
    written: BTreeMap<usize, Duration>,
}

impl Stage<'_> {
    /// Cuts links for some seconds, and makes them whole again.
    ///
    /// # Panics
    /// If the ring does not come to rest afterwards.
    pub(super) async fn cut(&mut self, shape: Shape) {
        at_rest(self.ring).await;
        let cut = self.choose(shape);
        let keys: Vec<Bytes> = (0..KEYS).map(|key| format!("probe {key}").into()).collect();
        let held = all_held(self.ring, &keys).await;
        let addresses: Vec<String> = self.ring.peers.iter().map(|peer| peer.address.clone()).collect();
        // Whether a peer is with most of a key's electors; not clear if the network has no two parts.
        let is_with_most = |key: usize, peer: usize| {
            let side = &cut.sides[peer];
            let side: BTreeSet<&String> = side.iter().map(|peer| &addresses[*peer]).collect();
            (!side.is_empty()).then(|| held[&keys[key]].has_majority_among(&side))
        };
        let probes = Probes::start(&addresses, &keys);
        sleep(BEFORE).await;
        let network = self.ring.network.as_ref().expect("cuts take a network");
        network.cut(&cut.links);
        let began = Instant::now();
        sleep(LENGTH).await;
        let seen = probes.stop().await;
        network.cut(&[]);
        let healed = Instant::now();
        let findings = Findings::of(&seen, began, is_with_most);
        at_rest(self.ring).await;
        let (lasted, rested) = (healed - began, healed.elapsed());
        let text = format!("{} for {lasted:.1?}: {}; at rest {rested:.1?} after that", cut.text, findings.text());
        self.wrong.extend(findings.wrong(shape).map(|wrong| format!("{wrong}: {text}")));
        self.done.push(text);
    }

    fn choose(&mut self, shape: Shape) -> Cut {
        let peers = self.ring.peers.len();
        let mut order: Vec<usize> = (0..peers).collect();
        order.shuffle(&mut self.random);
        let both = |(a, b)| [(a, b), (b, a)];
        if shape == Shape::Pair {
            let links = both((order[0], order[1])).to_vec();
            let text = format!("cut between {} and {} only", order[0], order[1]);
            return Cut { links, sides: vec![BTreeSet::new(); peers], text };
        }
        let (few, many) = order.split_at(self.random.random_range(1..=(peers - 1) / 2));
        let across = few.iter().flat_map(|a| many.iter().map(move |b| (*a, *b)));
        let (links, text): (Vec<_>, _) = match shape {
            Shape::OneWay if self.random.random() => (across.collect(), format!("cut from {few:?} to {many:?}")),
            Shape::OneWay => (across.map(|(a, b)| (b, a)).collect(), format!("cut from {many:?} to {few:?}")),
            _ => (across.flat_map(both).collect(), format!("cut between {few:?} and {many:?}")),
        };
        let side = |peer: &usize| if few.contains(peer) { few } else { many }.iter().copied().collect();
        Cut { links, sides: (0..peers).map(|peer| side(&peer)).collect(), text }
    }
}

impl Probes {
    /// Asks each peer by turns for all keys.
    fn start(addresses: &[String], keys: &[Bytes]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for (peer, address) in addresses.iter().enumerate() {
            for write in [false, true] {
                let (stop, seen, keys, client) = (stop.clone(), seen.clone(), keys.to_vec(), client_of(address));
                tasks.spawn(async move {
                    let mut pace = interval(if write { WRITE_EVERY } else { READ_EVERY });
                    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    let mut asked = JoinSet::new();
                    for key in (0..keys.len()).cycle() {
                        pace.tick().await;
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let (client, at, seen) = (client.clone(), keys[key].clone(), seen.clone());
                        asked.spawn(async move {
                            let probe = Probe::send(&client, (key, at), peer, write).await;
                            seen.lock().unwrap_or_else(PoisonError::into_inner).push(probe);
                        });
                    }
                    asked.join_all().await;
                });
            }
        }
        Self { stop, seen, tasks }
    }

    /// Asks no more, waits for the last answers, and returns what was seen.
    async fn stop(self) -> Vec<Probe> {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Probe {
    async fn send(client: &Client, (key, at): (usize, Bytes), peer: usize, write: bool) -> Self {
        let invoked = Instant::now();
        let result = match write {
            true => client.put(at, "probe", 1).await.map(drop),
            false => client.get(at).await.map(drop),
        };
        Self { key, peer, write, invoked, ended: Instant::now(), refused: result.err().map(|error| reason(&error)) }
    }
}

impl Findings {
    fn of(seen: &[Probe], began: Instant, is_with_most: impl Fn(usize, usize) -> Option<bool>) -> Self {
        let mut findings = Self::default();
        // What was asked for before may have been answered before.
        for probe in seen.iter().filter(|probe| probe.invoked >= began) {
            let (asked, ended) = (probe.invoked - began, probe.ended - began);
            let wrong_side = is_with_most(probe.key, probe.peer) == Some(false);
            match &probe.refused {
                None if wrong_side && probe.write => findings.last_write = findings.last_write.max(Some(asked)),
                None if wrong_side => findings.last_read = findings.last_read.max(Some((asked, ended))),
                None if probe.write => {
                    let first = findings.written.entry(probe.key).or_insert(ended);
                    *first = ended.min(*first);
                }
                None => {}
                Some(reason) if wrong_side => {
                    let (slowest, unclear) = match probe.write {
                        true => (&mut findings.slowest_write, &mut findings.unclear_write),
                        false => (&mut findings.slowest_read, &mut findings.unclear_read),
                    };
                    *slowest = ended.saturating_sub(asked).max(*slowest);
                    if reason != NO_QUORUM {
                        *unclear = unclear.take().max(Some((asked, reason.clone())));
                    }
                    findings.refused += 1;
                }
                Some(_) => findings.refused_elsewhere += 1,
            }
        }
        findings
    }

    fn text(&self) -> String {
        let ms = Duration::as_millis;
        let mut parts = Vec::new();
        if self.refused > 0 {
            parts.push(match &self.last_read {
                Some((asked, answered)) => format!(
                    "the last read that the wrong side answered was asked for after {} ms and answered after {} ms",
                    ms(asked),
                    ms(answered)
                ),
                None => "the wrong side answered no read".to_owned(),
            });
            let (reads, writes) = (ms(&self.slowest_read), ms(&self.slowest_write));
            parts.push(format!("it refused {}, reads within {reads} ms, writes within {writes} ms", self.refused));
            if let Some((asked, reason)) = self.unclear_read.iter().chain(&self.unclear_write).max() {
                parts.push(format!(
                    "all with NO_QUORUM that were asked for after {} ms, before also {reason}",
                    ms(asked)
                ));
            }
        }
        parts.push(format!("{} others were refused", self.refused_elsewhere));
        let last = self.written.values().max().map_or(0, ms);
        parts.push(format!("{} of {KEYS} keys were written again, the last after {last} ms", self.written.len()));
        parts.join("; ")
    }

    /// What must not be.
    fn wrong(&self, shape: Shape) -> impl Iterator<Item = &'static str> {
        let (clear_after, written_within) = match shape {
            Shape::OneWay => (TOLD_CLEAR_AFTER, TOLD_WRITES_REFUSED_WITHIN),
            Shape::Groups | Shape::Pair => (CLEAR_AFTER, WRITES_REFUSED_WITHIN),
        };
        let slow = self.slowest_read > READS_REFUSED_WITHIN || self.slowest_write > written_within;
        let unclear = self.unclear_write.as_ref().is_some_and(|(asked, _)| *asked > clear_after);
        let wrong = [
            (self.last_read.is_some_and(|(asked, _)| asked > LEASE), "a side without a majority answered a read"),
            (self.last_write.is_some(), "a side without a majority acknowledged a write"),
            (slow, "a side without a majority took long to refuse"),
            (unclear || self.unclear_read.is_some(), "a side without a majority does not say so"),
            (self.written.len() < KEYS, "a side with a majority did not go on"),
        ];
        wrong.into_iter().filter_map(|(is_so, what)| is_so.then_some(what))
    }
}

const NO_QUORUM: &str = "NO_QUORUM";

/// Keys that are asked for.
const KEYS: usize = 16;

/// At each peer.
const READ_EVERY: Duration = Duration::from_millis(20);
const WRITE_EVERY: Duration = Duration::from_millis(25);

/// All must be served before.
const BEFORE: Duration = Duration::from_secs(1);

/// How long requests are made after the cut; it is as long as the last of them takes to be refused.
const LENGTH: Duration = Duration::from_secs(6);

/// What peers have as default. A lease counts from before it was asked for, and a read takes one that holds after it was asked
/// for: nothing has to be added for what is on its way.
const LEASE: Duration = Duration::from_millis(500);

/// A peer tries for 2 s. Half a second more for a busy machine, here and below.
const READS_REFUSED_WITHIN: Duration = Duration::from_millis(2500);

/// What was sent to somebody who was taken to be there is given up after 2.5 s.
const WRITES_REFUSED_WITHIN: Duration = Duration::from_secs(3);

/// Until contact is lost, which takes 400 ms, a write may get lost on its way: nobody knows what came of it.
const CLEAR_AFTER: Duration = Duration::from_secs(1);

/// Whoever can't speak but hear is told that its slots have gone on without it. It keeps leases with nobody then, so nothing
/// tells it at once that nobody hears it: at the latest the connections do, which take 4 s.
const TOLD_CLEAR_AFTER: Duration = Duration::from_millis(4500);
const TOLD_WRITES_REFUSED_WITHIN: Duration = Duration::from_secs(5);
