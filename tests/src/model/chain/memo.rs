//! What comes of an input to a peer depends on the two alone, and the same happens in many worlds: it is worked out once.

use std::{
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    host::{Effects, Host},
    packet::Packet,
};

/// A peer after an input, and what came of it besides.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) host: Arc<Host>,
    pub(super) sent: Arc<Vec<Arc<Packet>>>,
    pub(super) effects: Arc<Effects>,
}

impl Step {
    /// Nothing has come of it.
    pub(super) fn is_idle(&self, before: &Host) -> bool {
        let Effects { replies, installed, applied, .. } = &*self.effects;
        let quiet = replies.is_empty() && installed.is_empty() && applied.is_empty();
        quiet && self.sent.is_empty() && self.host.digest == before.digest
    }
}

/// Steps by the digests of the peer and of the input.
#[derive(Default)]
pub(super) struct Memo {
    shards: [Mutex<Shard>; 16],
    forgets: bool,
}

#[derive(Default)]
struct Shard {
    steps: HashMap<(u64, u64), Option<Step>>,
    hosts: HashMap<u64, Arc<Host>>,
}

impl Memo {
    /// Remembers nothing.
    pub(super) fn none() -> Self {
        Self { forgets: true, ..Self::default() }
    }

    /// The step of this peer by the input of this name.
    pub(super) fn step(
        &self,
        at: usize,
        before: &Arc<Host>,
        input: impl Hash,
        work: impl FnOnce(&mut Host) -> Option<Effects>,
    ) -> Option<Step> {
        let mut hasher = DefaultHasher::new();
        input.hash(&mut hasher);
        let name = (before.digest, hasher.finish());
        let shard = &self.shards[(before.digest ^ name.1) as usize % self.shards.len()];
        let known = shard.lock().unwrap_or_else(PoisonError::into_inner).steps.get(&name).cloned();
        if let Some(step) = known {
            return step;
        }
        let mut host = Host::clone(before);
        let step = work(&mut host).map(|mut effects| {
            let sent = std::mem::take(&mut effects.sent).into_iter();
            let sent = sent.filter_map(|(to, cargo)| Packet::new(at, to, cargo)).map(Arc::new).collect();
            let host = if host.digest == before.digest { Arc::clone(before) } else { Arc::new(host) };
            Step { host, sent: Arc::new(sent), effects: Arc::new(effects) }
        });
        if self.forgets {
            return step;
        }
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if shard.steps.len() > MOST {
            *shard = Shard::default();
        }
        let step = step.map(|step| {
            let host = shard.hosts.entry(step.host.digest).or_insert_with(|| Arc::clone(&step.host));
            Step { host: Arc::clone(host), ..step }
        });
        shard.steps.insert(name, step.clone());
        step
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo")
    }
}

/// Steps that are remembered in one shard: then all are forgotten, for they take memory.
const MOST: usize = 4000;
