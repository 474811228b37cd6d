//! What is waited for, and what an operator should do about it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{Candidate, Roster, State, Terms};
use crate::{overlay::Ring, ring::PeerId};

/// How a founding stands at one peer, for people.
#[derive(Clone, Debug)]
pub struct Status {
    terms: Terms,
    /// Who waits for the same, the peer itself included.
    candidates: BTreeMap<PeerId, Arc<str>>,
    /// Who waits for something else.
    unlike: Vec<(Candidate, Terms)>,
    fixed: Option<Roster>,
    /// Members of what is fixed that have not said so, in this life of the peer, or are silent.
    missing: Vec<Candidate>,
    /// What others have fixed, if that is something else, and who has.
    elsewhere: Vec<(Roster, Vec<PeerId>)>,
    ring: Option<(Candidate, Ring)>,
}

impl Status {
    pub(super) fn new(state: &State) -> Self {
        let candidates = state.candidates();
        let named = |(id, address): (&PeerId, &Arc<str>)| Candidate { id: *id, address: address.clone() };
        let lasting = state.others.iter().filter(|(_, other)| !state.is_silent(other));
        let unlike = lasting.filter(|(_, other)| other.terms != state.terms);
        let unlike = unlike.map(|(id, other)| (named((id, &other.address)), other.terms)).collect();
        let roster = state.fixed.as_ref();
        let here = |id: &PeerId| *id == state.me.id || state.others.get(id).is_some_and(|it| !state.is_silent(it));
        let missing = roster.into_iter().flat_map(|roster| {
            let agrees = move |id: &PeerId| here(id) && (*id == state.me.id || state.has_fixed(*id, roster));
            roster.members.iter().filter(move |(id, _)| !agrees(id)).map(named)
        });
        let missing = missing.collect();
        let mut elsewhere: Vec<(Roster, Vec<PeerId>)> = Vec::new();
        for (id, other) in &state.others {
            let Some(fixed) = other.fixed.as_ref().filter(|fixed| roster.is_none_or(|it| !it.is_as(fixed))) else {
                continue;
            };
            match elsewhere.iter_mut().find(|(known, _)| known.is_as(fixed)) {
                Some((_, peers)) => peers.push(*id),
                None => elsewhere.push((fixed.clone(), vec![*id])),
            }
        }
        let (terms, fixed, ring) = (state.terms, state.fixed.clone(), state.unlike.clone());
        Self { terms, candidates, unlike, fixed, missing, elsewhere, ring }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected = self.terms.peers;
        if let Some((candidate, ring)) = &self.ring {
            let (bits, mode) = (ring.slot_bits.bits(), ring.mode);
            return write!(
                f,
                "not joining: {} belongs to a ring that was founded with --slot-bits {bits} --mode {mode}, and this peer was \
                 told {}: correct its flags",
                Named(candidate),
                self.terms,
            );
        }
        match &self.fixed {
            None => {
                let known = self.candidates.iter().map(|(id, address)| (*id, address));
                write!(f, "waiting for {expected} peers: know {} ({})", self.candidates.len(), List(known))?;
            }
            Some(roster) if self.missing.is_empty() => {
                let founder = roster.founder().map_or_else(String::new, |id| id.short());
                write!(f, "all {expected} peers have agreed to found a ring: waiting for {founder} to do so")?;
            }
            Some(_) => {
                let missing = self.missing.iter().map(|it| (it.id, &it.address));
                write!(
                    f,
                    "{expected} peers are to found a ring, for good: waiting for {} (whose data directory is lost: no ring \
                     is founded; stop all, empty all data directories, there is nothing in them yet, and start again)",
                    List(missing)
                )?;
            }
        }
        for (candidate, terms) in &self.unlike {
            let (theirs, ours) = (terms, self.terms);
            write!(f, "; {} was started with {theirs}, this peer with {ours}: make them alike", Named(candidate))?;
        }
        for (roster, peers) in &self.elsewhere {
            let (members, peers) = (List(roster.members.iter().map(|(id, address)| (*id, address))), Short(peers));
            write!(f, "; {peers} will only found a ring of {members}, ")?;
            match (&self.fixed, roster.terms == self.terms) {
                (None, true) => write!(f, "which this peer will join")?,
                (Some(_), true) => write!(
                    f,
                    "which is another one than this peer's: stop all, empty their data directories, and start {expected} \
                     of them first"
                )?,
                (_, false) => write!(f, "with {}", roster.terms)?,
            }
        }
        Ok(())
    }
}

struct Named<'a>(&'a Candidate);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.id.short(), self.0.address)
    }
}

struct Short<'a>(&'a [PeerId]);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(PeerId::short).collect();
        write!(f, "{}", names.join(", "))
    }
}

/// Peers with their addresses.
struct List<I>(I);

impl<'a, I: Iterator<Item = (PeerId, &'a Arc<str>)> + Clone> fmt::Display for List<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (id, address)) in self.0.clone().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{} {address}", id.short())?;
        }
        Ok(())
    }
}
