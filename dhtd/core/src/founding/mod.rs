//! How N peers that nobody has put in charge found one ring (`--expect N`).
//!
//! Each peer is started with the same flags, the terms, in any order. Each tells its seeds, and everyone whom it hears of by
//! them, that it waits, for what, and whom it has heard.
//!
//! ```text
//! listens      until every seed was heard, or for some time: a seed may belong to a ring that is there already
//! Founded      from a member of a ring -> join it; whatever was fixed is of no account any more
//! fix          the lowest that waits, once it has heard N of like terms, itself included:  roster := the N lowest
//!              the others, once they hear of a roster with themselves in it:               roster := that one
//!              written and fsynced BEFORE anybody is told; never another one as long as there is the data directory
//! found        the lowest of a roster, once all others of it have told it that they have fixed the same one
//! ```
//!
//! So a roster is founded by one peer only, and two rosters that are founded have nobody in common: each of their members
//! would have fixed two. Among N peers there is one founding at most. The ring's id is made from the roster: a founder that
//! is killed before anybody knows founds the very same ring when it is there again.
//!
//! Messages may be lost, doubled, reordered and late: each says all that its sender has to say.

mod roster;
mod status;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
    time::Duration,
};

pub use self::{
    roster::{MOST_EXPECTED, Roster, Terms},
    status::Status,
};
use crate::{overlay::Ring, ring::PeerId};

/// How a founding is waited for. The defaults are guesses.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How often everyone is told anew. Default 500 ms.
    pub round: Duration,
    /// Nobody fixes a roster before every seed was heard or this time has passed. Default 2 s.
    pub listen: Duration,
    /// Who was not heard for so long waits no more, as far as is known. Default 3 s: several rounds.
    pub silent_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { round: ms(500), listen: ms(2000), silent_after: ms(3000) }
    }
}

/// A peer, and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// Who it is.
    pub id: PeerId,
    /// HOST:PORT.
    pub address: Arc<str>,
}

/// What peers tell each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// The sender waits for a founding.
    Waiting {
        /// What it was told to found.
        terms: Terms,
        /// Whom it has heard, of whatever terms.
        heard: Vec<Candidate>,
        /// What it has fixed: on its disk.
        fixed: Option<Roster>,
    },
    /// The sender is in a ring, to which this is the answer to who waits.
    Founded(Ring),
}

/// What the host gives to the state machine.
#[derive(Clone, Debug)]
pub enum Input {
    /// Begin.
    Start,
    /// A message has arrived, from this peer.
    Message(Candidate, Message),
    /// The timer has fired.
    Timer(Timer),
    /// What [`Output::Fix`] asked for is on disk.
    Fixed(Roster),
    /// What [`Output::Found`] asked for is done, and on disk.
    Founded,
}

/// What the host has to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a message; it may get lost.
    Send(Arc<str>, Message),
    /// Give [`Input::Timer`] back after this time.
    SetTimer(Duration, Timer),
    /// Write this to the disk, then report [`Input::Fixed`]. If that fails, it is asked for again.
    Fix(Roster),
    /// Found this ring, then report [`Input::Founded`]. If that fails, it is asked for again.
    Found(Ring),
    /// Join this ring through any of these addresses. Nothing else follows.
    Join(Ring, Vec<Arc<str>>),
}

/// What the host is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Tell everyone.
    Round,
}

/// A peer that waits for a founding.
///
/// Call contract: give it [`Input::Start`] once, then everything else as it comes, with a `now` that never goes back;
/// carry out the outputs of each call in order before the next one.
#[derive(Clone, Debug)]
pub struct State {
    config: Config,
    terms: Terms,
    me: Candidate,
    seeds: Vec<Arc<str>>,
    now: Duration,
    began: Duration,
    /// What this peer fixes: whether it is on disk is not known as long as a write fails, so that it does not change.
    chosen: Option<Roster>,
    /// What it has fixed: it is on disk.
    fixed: Option<Roster>,
    others: BTreeMap<PeerId, Other>,
    /// Whom others have heard.
    rumoured: BTreeSet<Arc<str>>,
    /// A ring that is there, but of other terms.
    unlike: Option<(Candidate, Ring)>,
    done: bool,
    outputs: Vec<Output>,
}

/// What another peer has said last.
#[derive(Clone, Debug)]
struct Other {
    address: Arc<str>,
    at: Duration,
    terms: Terms,
    fixed: Option<Roster>,
}

impl State {
    /// A peer with these terms and seeds, and what it had fixed before it stopped.
    #[must_use]
    pub fn new(config: Config, me: Candidate, terms: Terms, seeds: Vec<Arc<str>>, fixed: Option<Roster>) -> Self {
        Self {
            config,
            terms,
            me,
            seeds,
            now: Duration::ZERO,
            began: Duration::ZERO,
            chosen: None,
            fixed,
            others: BTreeMap::new(),
            rumoured: BTreeSet::new(),
            unlike: None,
            done: false,
            outputs: Vec::new(),
        }
    }

    /// Takes one input at the time `now` and returns what is to be done.
    pub fn handle(&mut self, now: Duration, input: Input) -> Vec<Output> {
        self.now = now;
        match input {
            _ if self.done => {}
            Input::Start => {
                self.began = now;
                self.round();
            }
            Input::Timer(Timer::Round) => self.round(),
            Input::Message(from, _) if from.id == self.me.id => {} // A seed is this very peer.
            Input::Message(from, Message::Founded(ring)) => self.meet(from, ring),
            Input::Message(from, Message::Waiting { terms, heard, fixed }) => self.hear(from, terms, heard, fixed),
            Input::Fixed(roster) => {
                self.fixed = Some(roster);
                self.tell_everyone();
                self.consider();
            }
            Input::Founded => self.founded(),
        }
        mem::take(&mut self.outputs)
    }

    /// What is waited for.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::new(self)
    }

    fn round(&mut self) {
        self.outputs.push(Output::SetTimer(self.config.round, Timer::Round));
        self.tell_everyone();
        self.consider();
    }

    fn hear(&mut self, from: Candidate, terms: Terms, heard: Vec<Candidate>, fixed: Option<Roster>) {
        // What a peer has fixed, it has fixed for good: a message from before comes late.
        let before = self.others.get(&from.id);
        let fixed = fixed.or_else(|| before.and_then(|other| other.fixed.clone()));
        let told = |other: &Other| other.address == from.address && other.terms == terms && other.fixed == fixed;
        let news = !before.is_some_and(told);
        let room = MOST_ADDRESSES.saturating_sub(self.rumoured.len());
        self.rumoured.extend(heard.into_iter().map(|candidate| candidate.address).take(room));
        let other = Other { address: from.address.clone(), at: self.now, terms, fixed };
        self.others.insert(from.id, other);
        if news {
            // It may not have heard of this peer, nor the others of it.
            self.tell_everyone();
        }
        self.consider();
    }

    fn meet(&mut self, from: Candidate, ring: Ring) {
        if (ring.slot_bits, ring.mode) != (self.terms.slot_bits, self.terms.mode) {
            self.unlike = Some((from, ring)); // k may have been changed since.
            return;
        }
        let seeds = self.addresses().into_iter().chain([from.address]).collect::<BTreeSet<_>>();
        self.outputs.push(Output::Join(ring, seeds.into_iter().collect()));
        self.done = true;
    }

    fn founded(&mut self) {
        let Some(roster) = &self.fixed else { return };
        let ring = roster.ring();
        for address in self.addresses() {
            self.outputs.push(Output::Send(address, Message::Founded(ring)));
        }
        self.done = true;
    }

    /// Fixes a roster, or founds the ring of the one that is fixed, if all is there for it.
    fn consider(&mut self) {
        if self.unlike.is_some() {
            return;
        }
        match &self.fixed {
            None => {
                self.chosen = self.chosen.take().or_else(|| self.fitting());
                self.outputs.extend(self.chosen.clone().map(Output::Fix));
            }
            Some(roster) => {
                let agrees = |id: &PeerId| *id == self.me.id || self.has_fixed(*id, roster);
                if roster.founder() == Some(self.me.id) && roster.members.keys().all(agrees) {
                    self.outputs.push(Output::Found(roster.ring()));
                }
            }
        }
    }

    fn has_fixed(&self, id: PeerId, roster: &Roster) -> bool {
        self.others.get(&id).and_then(|other| other.fixed.as_ref()).is_some_and(|fixed| fixed.is_as(roster))
    }

    /// The roster that this peer may fix: one that it was given a place in, or, if it is the lowest, of those that wait.
    fn fitting(&self) -> Option<Roster> {
        let mut given: Vec<&Roster> = self.rosters().filter(|roster| self.may_take(roster)).collect();
        given.sort_unstable_by_key(|roster| roster.members.keys().copied().collect::<Vec<_>>());
        if let Some(roster) = given.first() {
            return Some((*roster).clone());
        }
        let has_place = |id: PeerId| self.rosters().any(|roster| roster.members.contains_key(&id));
        let free = self.candidates().into_iter().filter(|(id, _)| !has_place(*id));
        let members: BTreeMap<PeerId, Arc<str>> = free.take(self.terms.peers).collect();
        let roster = Roster { terms: self.terms, members };
        (self.has_listened() && self.may_take(&roster) && roster.founder() == Some(self.me.id)).then_some(roster)
    }

    fn may_take(&self, roster: &Roster) -> bool {
        roster.terms == self.terms && roster.is_whole() && roster.members.contains_key(&self.me.id)
    }

    /// What others have fixed.
    fn rosters(&self) -> impl Iterator<Item = &Roster> {
        self.others.values().filter_map(|other| other.fixed.as_ref())
    }

    /// Who waits for the same as this peer, itself included.
    fn candidates(&self) -> BTreeMap<PeerId, Arc<str>> {
        let waits = |other: &&Other| other.terms == self.terms && !self.is_silent(other);
        let others = self.others.iter().filter(|(_, other)| waits(other));
        let others = others.map(|(id, other)| (*id, other.address.clone()));
        others.chain([(self.me.id, self.me.address.clone())]).collect()
    }

    fn is_silent(&self, other: &Other) -> bool {
        self.now.saturating_sub(other.at) > self.config.silent_after
    }

    fn has_listened(&self) -> bool {
        let heard = |seed: &Arc<str>| *seed == self.me.address || self.others.values().any(|it| it.address == *seed);
        self.seeds.iter().all(heard) || self.now.saturating_sub(self.began) >= self.config.listen
    }

    fn tell_everyone(&mut self) {
        let heard = self.others.iter().filter(|(_, other)| !self.is_silent(other));
        let heard = heard.map(|(id, other)| Candidate { id: *id, address: other.address.clone() });
        let heard = heard.take(MOST_ADDRESSES).collect();
        let message = Message::Waiting { terms: self.terms, heard, fixed: self.fixed.clone() };
        for address in self.addresses() {
            self.outputs.push(Output::Send(address, message.clone()));
        }
    }

    /// Everyone who may wait, or may know of a ring.
    fn addresses(&self) -> BTreeSet<Arc<str>> {
        let fixed = self.fixed.iter().flat_map(|roster| roster.members.values());
        let others = self.others.values().map(|other| &other.address);
        let mut all: BTreeSet<Arc<str>> =
            self.seeds.iter().chain(&self.rumoured).chain(fixed).chain(others).cloned().collect();
        all.remove(&self.me.address);
        all
    }
}

/// No more addresses are taken from others, or named to them, than this: what is told stays small.
const MOST_ADDRESSES: usize = 2 * MOST_EXPECTED;
