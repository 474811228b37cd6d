//! `verify`: whether the ring keeps the invariant of its maintenance.

use std::fmt::Write as _;

use dhtctl::{
    Client, ErrorKind,
    id::short_hex,
    proto::{Finding, FindingKind, Node, Verdict, VerifyResponse},
};
use serde::Serialize;

use super::schema::{NodeJson, PeerJson};
use crate::cli::{
    console::Console,
    failure::{Failure, Outcome},
    text::{count, micros},
};

/// Has the asked peer walk the ring, prints its report, and fails unless the invariant holds.
pub(crate) async fn run(client: &Client, console: &Console) -> Outcome {
    let report = client.verify().await.map_err(|error| Failure::call("can't verify the ring", &error))?;
    if console.is_json() {
        console.document(&ReportJson::new(&report))?;
    } else {
        console.bytes(text(&report).as_bytes())?;
    }
    match report.verdict() {
        Verdict::Holds => Ok(()),
        Verdict::Violated => Err(Failure::new(ErrorKind::Failure, "the ring violates its invariant")
            .hint("look at the nodes: dhtctl overlay --successors")),
        Verdict::CannotTell | Verdict::Unspecified => {
            Err(Failure::new(ErrorKind::Unavailable, "nobody can tell whether the ring keeps its invariant")
                .hint("try again later, or give it more time with --timeout"))
        }
    }
}

fn text(report: &VerifyResponse) -> String {
    let broken = report.findings.iter().any(|finding| is_violation(finding.kind()));
    let mut text = match report.verdict() {
        Verdict::Holds if report.ideal => "holds: the ring keeps its invariant and is ideal\n",
        Verdict::Holds => "holds: the ring keeps its invariant; it is not ideal yet\n",
        Verdict::Violated => "violated: the ring does not keep its invariant\n",
        _ if report.walks < 2 => "can't tell: there was no time to walk the ring twice\n",
        _ if broken => "can't tell: it looks violated, but not for long enough to be no passing state\n",
        _ if has(report, FindingKind::Unreachable) => "can't tell: a peer that matters does not answer\n",
        _ => "can't tell: the ring does not stand still\n",
    }
    .to_owned();
    for finding in &report.findings {
        _ = writeln!(text, "  {}", sentence(finding, report));
    }
    let (peers, nodes) = (count(report.peers.into(), "peer"), count(report.nodes.into(), "node"));
    let (principals, walks) = (count(report.principals.into(), "principal"), count(report.walks.into(), "walk"));
    let time = micros(report.elapsed_us);
    _ = writeln!(text, "{peers}, {nodes}, r_eff = {}, {principals}; {walks} in {time}", report.reach);
    text
}

const fn is_violation(kind: FindingKind) -> bool {
    matches!(kind, FindingKind::NoLiveSuccessor | FindingKind::OutOfOrder | FindingKind::TooFewPrincipals)
}

fn has(report: &VerifyResponse, kind: FindingKind) -> bool {
    report.findings.iter().any(|finding| finding.kind() == kind)
}

fn sentence(finding: &Finding, report: &VerifyResponse) -> String {
    let (node, by) = (place(finding.node.as_ref()), place(finding.by.as_ref()));
    let peer = finding.peer.clone().unwrap_or_default();
    let peer = format!("peer {} {}", short_hex(&peer.id), peer.address);
    match finding.kind() {
        FindingKind::NoLiveSuccessor => format!("the list of {node} has no live node of another peer"),
        FindingKind::OutOfOrder => format!("the list of {node} is not in the order of the circle"),
        FindingKind::TooFewPrincipals => {
            let needed = report.reach + 1;
            format!("only {} of the {needed} peers needed have a node that no list skips", report.principals)
        }
        FindingKind::Skipped => format!("{node} is skipped by the list of {by}"),
        FindingKind::Unreachable => format!("{peer} does not answer, but the list of {node} names it"),
        FindingKind::Changing => format!("{peer} was changing"),
        FindingKind::Silent => format!("{peer} does not answer; the ring takes it for dead: no list names it"),
        FindingKind::NotIdeal => format!("{node} does not name all the neighbours that it should have"),
        FindingKind::Unspecified => "something that this dhtctl does not know: use the release of the peers".to_owned(),
    }
}

fn place(node: Option<&Node>) -> String {
    let node = node.cloned().unwrap_or_default();
    format!("node {} (peer {} {})", short_hex(&node.id), short_hex(&node.peer_id), node.address)
}

const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "holds",
        Verdict::Violated => "violated",
        Verdict::CannotTell | Verdict::Unspecified => "cannot_tell",
    }
}

const fn kind_name(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::NoLiveSuccessor => "no_live_successor",
        FindingKind::OutOfOrder => "out_of_order",
        FindingKind::TooFewPrincipals => "too_few_principals",
        FindingKind::Skipped => "skipped",
        FindingKind::Unreachable => "unreachable",
        FindingKind::Changing => "changing",
        FindingKind::Silent => "silent",
        FindingKind::NotIdeal => "not_ideal",
        FindingKind::Unspecified => "unknown",
    }
}

#[derive(Serialize)]
struct ReportJson {
    /// `holds`, `violated` or `cannot_tell`.
    verdict: &'static str,
    /// Unset unless the invariant holds.
    ideal: Option<bool>,
    peers: u32,
    nodes: u32,
    r_eff: u32,
    principals: u32,
    walks: u32,
    elapsed_us: u64,
    findings: Vec<FindingJson>,
}

impl ReportJson {
    fn new(report: &VerifyResponse) -> Self {
        Self {
            verdict: verdict_name(report.verdict()),
            ideal: (report.verdict() == Verdict::Holds).then_some(report.ideal),
            peers: report.peers,
            nodes: report.nodes,
            r_eff: report.reach,
            principals: report.principals,
            walks: report.walks,
            elapsed_us: report.elapsed_us,
            findings: report.findings.iter().map(FindingJson::new).collect(),
        }
    }
}

#[derive(Serialize)]
struct FindingJson {
    kind: &'static str,
    node: Option<NodeJson>,
    by: Option<NodeJson>,
    peer: Option<PeerJson>,
}

impl FindingJson {
    fn new(finding: &Finding) -> Self {
        Self {
            kind: kind_name(finding.kind()),
            node: finding.node.as_ref().map(NodeJson::new),
            by: finding.by.as_ref().map(NodeJson::new),
            peer: finding.peer.as_ref().map(PeerJson::new),
        }
    }
}
