//! What is logged of chains.

use dht_core::replication::chain::{Body, Change, Message, Output};

/// Changes of views, step by step.
pub(super) fn log_change(output: &Output) {
    let (slot, to, step) = match output {
        Output::Store(slot, change) => {
            if let Change::Install { acceptor, .. } = &**change {
                let epoch = acceptor.view.epoch;
                let chain: Vec<String> = acceptor.view.chain.iter().map(|it| it.peer.short()).collect();
                tracing::debug!(%slot, %epoch, chain = chain.join(","), "a view is in force");
            }
            return;
        }
        Output::Send(to, Message::Slot(slot, body)) => match &**body {
            Body::PreVote(..) => (slot, to, "asks for a vote"),
            Body::Lost(..) => (slot, to, "votes"),
            Body::Prepare(..) => (slot, to, "asks for a promise"),
            Body::Promise(..) => (slot, to, "promises"),
            Body::Level { .. } => (slot, to, "asks to be level"),
            Body::Ready(..) => (slot, to, "is level"),
            Body::Accept { .. } => (slot, to, "asks to accept"),
            Body::Accepted(..) => (slot, to, "accepts"),
            Body::Reject(..) => (slot, to, "rejects"),
            _ => return,
        },
        _ => return,
    };
    tracing::debug!(%slot, to = %to.short(), "next view: {step}");
}
