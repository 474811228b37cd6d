//! Explain: where a key is and why, by asking everyone concerned.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use dht_core::{
    overlay::{Home, Node, Peer},
    record::{Mode, RecordKey},
    replication::chain::{KeyReport, Report},
    ring::{Id, PeerId, Slot},
    view::View,
};
use dhtd_proto::v1::{self, PlacementReason as Reason, peer_call::Call, peer_reply::Reply};
use tokio::task::JoinSet;

use super::{Coordinator, Held, OperationError};
use crate::{transport::Lane, wire};

/// Where a key is and why.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The key's identifier.
    pub id: Id,
    /// Its slot.
    pub slot: Slot,
    /// How it is replicated.
    pub mode: Mode,
    /// The owner of the slot's point.
    pub owner: Node,
    /// The peers that should hold the slot.
    pub home: Vec<PeerId>,
    /// Chain mode: the newest view that anybody who answers knows.
    pub view: Option<View>,
    /// How everyone concerned stands, those in the chain first; `None`: no answer.
    pub copies: Vec<(PeerId, Option<Stand>)>,
    /// Why the key is where it is.
    pub reason: Reason,
    /// Whom the reason is about.
    pub about: Vec<PeerId>,
    /// The descriptions of all peers that this one knows.
    pub peers: BTreeMap<PeerId, Peer>,
}

/// How a peer stands in a slot and with the key.
#[derive(Clone, Debug)]
pub enum Stand {
    /// Chain mode; `None`: it knows nothing of the slot.
    Chain(Option<Box<(Report, KeyReport)>>),
    /// Eventual mode.
    Eventual(Held),
}

impl Coordinator {
    /// Where a key is and why.
    ///
    /// # Errors
    /// If the key is none, this peer is in no ring, or the ring does not say who owns the slot.
    pub async fn explain(&self, keyspace: &str, key: Bytes) -> Result<Explanation, OperationError> {
        let (mode, at) = self.place(keyspace, key).await?;
        let slot = self.shards()?.slot_of(&at.key);
        let bits = self.0.shared.routes.load().slot_bits().ok_or(OperationError::NotAMember)?;
        let found = self.0.control.lookup(bits.point(slot)).await.map_err(|_| OperationError::NoReplica)?;
        let home = found.home.as_ref().map(|Home { group, .. }| group.clone()).unwrap_or_default();
        let known = |overlay: &dht_core::overlay::State| overlay.peers().map(|known| known.peer.clone()).collect();
        let known: Vec<Peer> = self.0.control.inspect(move |overlay, _| known(overlay)).await.unwrap_or_default();
        let me = self.0.shared.routes.load().me.clone();
        let peers: BTreeMap<PeerId, Peer> =
            found.peers.iter().cloned().chain(known).chain([me]).map(|peer| (peer.id, peer)).collect();
        let replicas = self.0.shared.routes.load().ring.map_or(1, |ring| ring.replicas);
        let id = Id::of_key(&at.key);
        let (view, copies, (reason, about)) = match mode {
            Mode::Chain => {
                let (view, reports) = self.gather_reports(slot, &at, &home, &peers).await?;
                let verdict = judge_chain(view.as_ref(), &home, replicas, &reports);
                let order = view.iter().flat_map(View::peers).collect::<Vec<_>>();
                let stands = reports
                    .into_iter()
                    .map(|(peer, report)| (peer, report.map(|it| Stand::Chain(it.map(Box::new)))))
                    .collect();
                (view, in_order(stands, &order, &home), verdict)
            }
            Mode::Eventual => {
                let held = self.gather_held(&at, &home, &peers).await;
                let verdict = judge_eventual(&home, replicas, &held);
                let stands = held.into_iter().map(|(peer, held)| (peer, held.map(Stand::Eventual))).collect();
                (None, in_order(stands, &[], &home), verdict)
            }
        };
        Ok(Explanation { id, slot, mode, owner: found.owner, home, view, copies, reason, about, peers })
    }

    /// How this peer stands in a slot, for another peer.
    ///
    /// # Errors
    /// If it takes part in no chains, or the key is none.
    pub async fn report_for_peer(&self, call: v1::ReportCall) -> Result<v1::ReportReply, OperationError> {
        let at = Self::key_in(call.keyspace, call.key)?;
        let report = self.chains()?.report(Slot(call.slot), at).await;
        Ok(v1::ReportReply { slot: report.map(|(report, key)| wire::chain::report(&report, key)) })
    }

    /// Asks the home group and everyone in the newest view, which may name more of them.
    async fn gather_reports(
        &self,
        slot: Slot,
        at: &RecordKey,
        home: &[PeerId],
        peers: &BTreeMap<PeerId, Peer>,
    ) -> Result<(Option<View>, Reports), OperationError> {
        let mut view = self.chains()?.view(slot).as_deref().cloned();
        let mut reports = Reports::new();
        loop {
            let concerned = home.iter().copied().chain(view.iter().flat_map(View::peers));
            let next: BTreeSet<PeerId> = concerned.filter(|peer| !reports.contains_key(peer)).collect();
            if next.is_empty() {
                return Ok((view, reports));
            }
            let mut asked = JoinSet::new();
            for peer in next {
                let (coordinator, at, known) = (self.clone(), at.clone(), peers.get(&peer).cloned());
                asked.spawn(async move { (peer, coordinator.report_of(peer, known, slot, at).await) });
            }
            for (peer, report) in asked.join_all().await {
                if let Some(Some((report, _))) = &report
                    && view.as_ref().is_none_or(|view| view.epoch < report.view.epoch)
                {
                    view = Some(report.view.clone());
                }
                reports.insert(peer, report);
            }
        }
    }

    #[allow(clippy::option_option, reason = "whether it answers, and whether it knows anything")]
    async fn report_of(
        &self,
        peer: PeerId,
        known: Option<Peer>,
        slot: Slot,
        at: RecordKey,
    ) -> Option<Option<(Report, KeyReport)>> {
        if peer == self.me() {
            return Some(self.chains().ok()?.report(slot, at).await);
        }
        let call = v1::ReportCall { slot: slot.0, keyspace: at.keyspace.0, key: at.key };
        let calls = &self.0.shared.calls;
        match calls.call(&known?.address, Lane::Foreground, Call::Report(call), ANSWER_TIME).await {
            Ok(Reply::Report(v1::ReportReply { slot: report })) => {
                report.map(|report| wire::chain::decode_report(slot, report)).transpose().ok()
            }
            _ => None,
        }
    }

    async fn gather_held(
        &self,
        at: &RecordKey,
        home: &[PeerId],
        peers: &BTreeMap<PeerId, Peer>,
    ) -> BTreeMap<PeerId, Option<Held>> {
        let mut asked = JoinSet::new();
        for peer in home.iter().copied() {
            let (coordinator, at, known) = (self.clone(), at.clone(), peers.get(&peer).cloned());
            asked.spawn(async move {
                let held = match known {
                    _ if peer == coordinator.me() => coordinator.read_here(&at).ok(),
                    Some(known) => coordinator.read_there(&known, &at).await.ok(),
                    None => None,
                };
                (peer, held)
            });
        }
        asked.join_all().await.into_iter().collect()
    }
}

/// Everyone who was asked: no answer, knows nothing, or how it stands.
type Reports = BTreeMap<PeerId, Option<Option<(Report, KeyReport)>>>;

/// Everything up to here is committed, as far as those that go by the view know.
pub fn committed<'a>(view: &View, reports: impl Iterator<Item = &'a Report>) -> u64 {
    let committed = |report: &Report| report.log.filter(|_| report.view == *view).map(|log| log.committed);
    reports.filter_map(committed).max().unwrap_or(view.frontier.seq)
}

/// Those in the view first, in its order; then the home group in its.
fn in_order<T>(mut all: BTreeMap<PeerId, T>, first: &[PeerId], then: &[PeerId]) -> Vec<(PeerId, T)> {
    first.iter().chain(then).filter_map(|peer| all.remove_entry(peer)).collect()
}

/// Why a slot in chain mode is where it is. What stops it altogether is named before what it waits for.
fn judge_chain(view: Option<&View>, home: &[PeerId], replicas: usize, reports: &Reports) -> (Reason, Vec<PeerId>) {
    let report = |peer: PeerId| reports.get(&peer).and_then(Option::as_ref).and_then(Option::as_ref).map(|it| &it.0);
    let silent = |peer: &PeerId| reports.get(peer).is_none_or(Option::is_none);
    let Some(view) = view else {
        return (Reason::ViewUnknown, home.iter().copied().filter(silent).collect());
    };
    let disputed: Vec<PeerId> = view.peers().filter(|peer| report(*peer).is_some_and(|it| it.disputed)).collect();
    if !disputed.is_empty() {
        return (Reason::Disputed, disputed);
    }
    if !view.majority(view.electors.iter().copied().filter(|peer| !silent(peer))) {
        return (Reason::NoMajority, view.electors.iter().copied().filter(silent).collect());
    }
    let stops = |peer: &PeerId| report(*peer).is_some_and(|it| it.sealed || it.changing || it.view != *view);
    let changing: Vec<PeerId> = view.peers().filter(stops).collect();
    if !changing.is_empty() {
        return (Reason::Changing, changing);
    }
    let outside = home.iter().copied().filter(|peer| !view.peers().any(|other| other == *peer));
    let lost: Vec<PeerId> = view.peers().chain(outside).filter(silent).collect();
    if !lost.is_empty() {
        return (Reason::Lost, lost);
    }
    let missing: Vec<PeerId> = home.iter().copied().filter(|peer| !view.has(*peer)).collect();
    let copying: Vec<PeerId> = missing.iter().copied().filter(|it| report(*it).is_some_and(|it| it.copying)).collect();
    if !copying.is_empty() {
        return (Reason::Copying, copying);
    }
    if view.chain.iter().map(|member| member.peer).ne(home.iter().copied()) {
        return (Reason::Settling, missing);
    }
    (if home.len() < replicas { Reason::TooFewPeers } else { Reason::AtHome }, Vec::new())
}

/// Why a slot in eventual mode is where it is.
fn judge_eventual(home: &[PeerId], replicas: usize, held: &BTreeMap<PeerId, Option<Held>>) -> (Reason, Vec<PeerId>) {
    let of = |peer: &PeerId| held.get(peer).and_then(Option::as_ref);
    let lost: Vec<PeerId> = home.iter().copied().filter(|peer| of(peer).is_none()).collect();
    let behind: Vec<PeerId> = home.iter().copied().filter(|peer| of(peer).is_some_and(|held| !held.synced)).collect();
    match () {
        () if !lost.is_empty() => (Reason::Lost, lost),
        () if !behind.is_empty() => (Reason::Copying, behind),
        () if home.len() < replicas => (Reason::TooFewPeers, Vec::new()),
        () => (Reason::AtHome, Vec::new()),
    }
}

/// How long a peer may take to say how it stands: it answers from memory. A guess.
const ANSWER_TIME: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use dht_core::{
        replication::chain::Extent,
        view::{Epoch, Member},
    };

    use super::*;

    fn peers(names: &[u8]) -> Vec<PeerId> {
        names.iter().map(|name| PeerId::new([*name; 16])).collect()
    }

    fn view(chain: &[u8], electors: &[u8]) -> View {
        let member = |peer| Member { peer, incarnation: 1 };
        let chain: Vec<Member> = peers(chain).into_iter().map(member).collect();
        let founded = View::founding(Slot(0), chain[0]);
        View { electors: peers(electors), epoch: Epoch::FIRST.next(), chain, ..founded }
    }

    fn at(view: &View) -> Report {
        let log = Some(Extent::default());
        Report {
            view: view.clone(),
            sealed: false,
            changing: false,
            copying: false,
            disputed: false,
            certain_for: None,
            log,
        }
    }

    fn judged(view: &View, home: &[u8], answers: &[(u8, Option<Report>)]) -> (Reason, Vec<PeerId>) {
        let report = |(name, report): &(u8, Option<Report>)| {
            (PeerId::new([*name; 16]), report.clone().map(|report| Some((report, KeyReport::default()))))
        };
        judge_chain(Some(view), &peers(home), 3, &answers.iter().map(report).collect())
    }

    #[test]
    fn each_reason_is_told_from_the_others() {
        let whole = view(&[1, 2, 3], &[1, 2, 3]);
        let all = |answers: &[u8]| answers.iter().map(|name| (*name, Some(at(&whole)))).collect::<Vec<_>>();
        assert_eq!(judged(&whole, &[1, 2, 3], &all(&[1, 2, 3])), (Reason::AtHome, vec![]));
        assert_eq!(judged(&whole, &[2, 1, 3], &all(&[1, 2, 3])), (Reason::Settling, vec![]));
        assert_eq!(judged(&whole, &[1, 2, 4], &all(&[1, 2, 3, 4])), (Reason::Settling, peers(&[4])));
        let mut copying = all(&[1, 2, 3]);
        copying.push((4, Some(Report { copying: true, ..at(&whole) })));
        assert_eq!(judged(&whole, &[1, 2, 4], &copying), (Reason::Copying, peers(&[4])));
        assert_eq!(judged(&whole, &[1, 2, 3], &all(&[1, 3])), (Reason::Lost, peers(&[2])));
        assert_eq!(judged(&whole, &[1, 2, 3], &all(&[3])), (Reason::NoMajority, peers(&[1, 2])));
        let sealed = [(1, Some(Report { sealed: true, ..at(&whole) })), (2, Some(at(&whole))), (3, None)];
        assert_eq!(judged(&whole, &[1, 2, 3], &sealed), (Reason::Changing, peers(&[1])));
        let disputed = [(1, Some(Report { disputed: true, sealed: true, ..at(&whole) })), (2, None), (3, None)];
        assert_eq!(judged(&whole, &[1, 2, 3], &disputed), (Reason::Disputed, peers(&[1])));
        let small = view(&[1, 2], &[1]);
        let both = [(1, Some(at(&small))), (2, Some(at(&small)))];
        assert_eq!(judged(&small, &[1, 2], &both), (Reason::TooFewPeers, vec![]));
        let unknown = judge_chain(None, &peers(&[1]), 3, &Reports::new());
        assert_eq!(unknown, (Reason::ViewUnknown, peers(&[1])));
    }

    #[test]
    fn a_copy_is_in_sync_that_has_what_is_committed_and_may_serve() {
        let view = view(&[1, 2], &[1]);
        let with = |committed, last| {
            let mut report = at(&view);
            report.log = Some(Extent { committed, ..Extent::default() });
            report.log.as_mut().expect("just put").last.seq = last;
            report
        };
        let (head, tail) = (with(5, 7), with(3, 5));
        let known = committed(&view, [&head, &tail].into_iter());
        assert_eq!(known, 5);
        assert!(tail.in_sync(&view, known) && !with(3, 4).in_sync(&view, known));
        assert!(!Report { sealed: true, ..tail }.in_sync(&view, known));
    }
}
