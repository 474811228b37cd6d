//! The search for a linearization of the calls on one key.

use std::{collections::HashMap, time::Duration};

use super::{
    calls::{Calls, Placed},
    entries::{Entries, Entry},
    model::State,
    needs::Needs,
};

/// What the search has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// All answered calls can be placed.
    Linearization,
    /// They cannot; of the orders that were tried, the longest.
    Stuck(Vec<Placed>),
    /// Nobody knows: the steps are used up.
    Tired,
}

/// Why a call cannot come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// Its answer would be wrong.
    Answer,
    /// This call could not be placed any more.
    Ousts(Placed),
}

/// A linearization in the making.
#[derive(Clone, Debug)]
pub(super) struct Search<'a> {
    calls: &'a Calls,
    entries: Entries,
    needs: Needs,
    state: State,
    trail: Vec<Move>,
    /// How many answered calls are placed.
    placed: usize,
    /// A bit for each answered call that is placed, in the order of invocation.
    known_bits: Vec<u64>,
    /// A bit for each call of unknown outcome that is placed.
    unknown_bits: Vec<u64>,
    /// How many of each class are placed.
    used: Vec<usize>,
    /// With which calls of unknown outcome each configuration was entered; sets that hold none of the others.
    seen: HashMap<Configuration, Vec<Box<[u64]>>>,
    longest: Vec<Placed>,
    /// How many answered calls are in it.
    longest_known: usize,
    steps_left: u64,
}

/// One call placed.
#[derive(Clone, Copy, Debug)]
struct Move {
    placed: Placed,
    before: State,
    /// What to try instead; `None` if nothing else need be tried.
    instead: Option<Cursor>,
}

/// What to try next at some point of the search.
#[derive(Clone, Copy, Debug)]
enum Cursor {
    /// The entry at this place, and those after it.
    Entry(usize),
    /// This class of calls of unknown outcome, and those after it; the first return that is left is at this time.
    Class(usize, Option<Duration>),
}

/// Which answered calls are placed, and what that comes to. What can follow depends on nothing else but which calls of
/// unknown outcome are left, and the more, the better.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Configuration {
    /// The word of the first answered call that is not placed: all before are full.
    first_word: usize,
    /// The bits from that word to the last that has any.
    words: Box<[u64]>,
    state: State,
}

impl<'a> Search<'a> {
    pub(super) fn new(calls: &'a Calls, steps: u64) -> Self {
        Self {
            calls,
            entries: Entries::new(&calls.known),
            needs: Needs::new(calls),
            state: State::FIRST,
            trail: Vec::new(),
            placed: 0,
            known_bits: vec![0; calls.known.len().div_ceil(64)],
            unknown_bits: vec![0; calls.unknown.len().div_ceil(64)],
            used: vec![0; calls.classes.len()],
            seen: HashMap::new(),
            longest: Vec::new(),
            longest_known: 0,
            steps_left: steps,
        }
    }

    /// Searches all orders, or until the steps are used up.
    pub(super) fn run(mut self) -> Found {
        let mut next = self.settle();
        loop {
            if self.entries.is_empty() {
                return Found::Linearization;
            }
            if self.steps_left == 0 {
                return Found::Tired;
            }
            next = match next.and_then(|cursor| self.advance(cursor)) {
                Some(instead) => {
                    self.trail.last_mut().into_iter().for_each(|last| last.instead = Some(instead));
                    self.settle()
                }
                None => match self.back() {
                    Some(cursor) => Some(cursor),
                    None => return Found::Stuck(self.longest),
                },
            };
        }
    }

    /// Places these calls, one after the other.
    pub(super) fn follow(&mut self, order: &[Placed]) {
        order.iter().for_each(|placed| assert!(self.place(*placed), "they were placed like this before"));
    }

    /// The state after all that is placed.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// What is against each answered call that may come next, as far as time goes, and against the calls of unknown
    /// outcome that would make its answer right. Those that nothing is against are left out: there are none among the
    /// answered ones after the longest order.
    pub(super) fn obstacles(&mut self) -> Vec<(Placed, Obstacle)> {
        let until = self.first_return();
        let next = (0..self.calls.known.len()).filter(|call| Some(self.calls.known[*call].invoked) <= until);
        let next: Vec<usize> = next.filter(|call| !self.is_placed(*call)).collect();
        let classes = 0..self.calls.classes.len();
        let helpers = classes.filter_map(|class| self.candidate(Cursor::Class(class, until))?.0);
        let helpers: Vec<Placed> = helpers.filter(|helper| self.helps(*helper, &next)).collect();
        let all = next.into_iter().map(Placed::Known).chain(helpers);
        all.filter_map(|call| Some((call, self.obstacle(call)?))).collect()
    }

    fn obstacle(&mut self, call: Placed) -> Option<Obstacle> {
        let before = self.state;
        let Some(after) = self.after(call) else { return Some(Obstacle::Answer) };
        self.lift(call);
        let lost = |other: &usize| self.needs.is_lost(&self.calls.known[*other], before, after);
        let ousted = (0..self.calls.known.len()).filter(|other| !self.is_placed(*other)).find(lost);
        self.put_back(call);
        ousted.map(|other| Obstacle::Ousts(Placed::Known(other)))
    }

    /// Whether one of these answers is wrong now, and right after the helper.
    fn helps(&self, helper: Placed, answered: &[usize]) -> bool {
        let Some(after) = self.after(helper) else { return false };
        answered.iter().any(|call| {
            let call = &self.calls.known[*call];
            let fits = |state| self.calls.model.after(state, call.ask, call.said, call.told).is_some();
            !fits(self.state) && fits(after)
        })
    }

    fn is_placed(&self, known: usize) -> bool {
        self.known_bits[known / 64] >> (known % 64) & 1 == 1
    }

    /// When the first answered call that is not placed has returned.
    fn first_return(&self) -> Option<Duration> {
        let left = (0..self.calls.known.len()).filter(|call| !self.is_placed(*call));
        left.filter_map(|call| self.calls.known[call].answered).min()
    }

    /// Places one of the calls from the cursor on that may come next; says what to try instead of it.
    fn advance(&mut self, mut cursor: Cursor) -> Option<Cursor> {
        loop {
            let (candidate, instead) = self.candidate(cursor)?;
            self.steps_left = self.steps_left.saturating_sub(1);
            if let Some(placed) = candidate
                && self.place(placed)
            {
                return Some(instead);
            }
            cursor = instead;
        }
    }

    /// What is at the cursor, and the next cursor; `None` if there is no more.
    fn candidate(&self, cursor: Cursor) -> Option<(Option<Placed>, Cursor)> {
        match cursor {
            Cursor::Entry(place) => match self.entries.at(place) {
                (Entry::Call(call), next) => Some((Some(Placed::Known(call)), Cursor::Entry(next))),
                (Entry::Return(call), _) => Some((None, Cursor::Class(0, self.calls.known[call].answered))),
                (Entry::End, _) => None,
            },
            Cursor::Class(class, returns) => {
                let mut range = self.calls.classes.get(class)?.clone();
                // The first that is left stands for all: it may be placed wherever a later one may.
                let call =
                    range.nth(self.used[class]).filter(|call| Some(self.calls.unknown[*call].invoked) <= returns);
                Some((call.map(Placed::Unknown), Cursor::Class(class + 1, returns)))
            }
        }
    }

    /// Places the call, if the answer is right here and no other call loses its place.
    fn place(&mut self, placed: Placed) -> bool {
        let Some(after) = self.after(placed) else { return false };
        let before = self.state;
        self.trail.push(Move { placed, before, instead: None });
        self.state = after;
        self.lift(placed);
        let keeps = !self.needs.lost(before, after);
        if !keeps {
            self.undo();
        }
        keeps
    }

    /// The state after the call; `None` if its answer is wrong here, or it need not be tried.
    fn after(&self, placed: Placed) -> Option<State> {
        let call = self.calls.get(placed);
        if self.state.unobserved && call.overwrites() {
            return None;
        }
        let after = self.calls.model.after(self.state, call.ask, call.said, call.told)?;
        Some(State { unobserved: call.answered.is_none(), ..after })
    }

    /// Places the calls that may come next, have the right answer and change nothing, then says where to go on; `None`
    /// if the search has been here before.
    fn settle(&mut self) -> Option<Cursor> {
        let mut place = self.entries.first();
        let returns = loop {
            match self.entries.at(place).0 {
                Entry::Call(call) => {
                    let observed = State { unobserved: false, ..self.state };
                    if self.calls.known[call].only_observes() && self.after(Placed::Known(call)) == Some(observed) {
                        self.place(Placed::Known(call));
                    }
                }
                Entry::Return(call) => break self.calls.known[call].answered,
                Entry::End => break None,
            }
            place = self.entries.at(place).1;
        };
        self.is_new(returns).then_some(Cursor::Entry(self.entries.first()))
    }

    /// Whether the search was never here with as many calls of unknown outcome left, and remembers that it is now.
    fn is_new(&mut self, returns: Option<Duration>) -> bool {
        let seen = self.seen.entry(self.configuration(returns)).or_default();
        let used: &[u64] = &self.unknown_bits;
        let within = |small: &[u64], large: &[u64]| small.iter().zip(large).all(|(small, large)| small & !large == 0);
        let is_new = !seen.iter().any(|earlier| within(earlier, used));
        if is_new {
            seen.retain(|earlier| !within(used, earlier));
            seen.push(used.into());
        }
        is_new
    }

    /// Where the search is, the first return of an answered call that is not placed being at this time.
    fn configuration(&self, returns: Option<Duration>) -> Configuration {
        let first = match self.entries.at(self.entries.first()) {
            (Entry::Call(call), _) => call / 64,
            _ => self.known_bits.len(),
        };
        // What is placed was invoked before anything returned that is not.
        let end = self.calls.known.partition_point(|call| Some(call.invoked) <= returns).div_ceil(64).max(first);
        Configuration { first_word: first, words: self.known_bits[first..end].into(), state: self.state }
    }

    /// Takes back calls up to the last one instead of which another can be tried.
    fn back(&mut self) -> Option<Cursor> {
        if self.placed > self.longest_known {
            self.longest_known = self.placed;
            self.longest = self.trail.iter().map(|step| step.placed).collect();
        }
        while let Some(step) = self.undo() {
            if step.instead.is_some() {
                return step.instead;
            }
        }
        None
    }

    fn undo(&mut self) -> Option<Move> {
        let step = self.trail.pop()?;
        self.put_back(step.placed);
        self.state = step.before;
        Some(step)
    }

    fn lift(&mut self, placed: Placed) {
        match placed {
            Placed::Known(number) => {
                self.entries.lift(number);
                self.needs.take(number, &self.calls.known[number]);
                self.known_bits[number / 64] ^= 1 << (number % 64);
                self.placed += 1;
            }
            Placed::Unknown(number) => {
                self.needs.take_unknown(&self.calls.unknown[number]);
                self.unknown_bits[number / 64] ^= 1 << (number % 64);
                self.used[self.calls.class_of(number)] += 1;
            }
        }
    }

    fn put_back(&mut self, placed: Placed) {
        match placed {
            Placed::Known(number) => {
                self.entries.put_back(number);
                self.needs.put_back(number, &self.calls.known[number]);
                self.known_bits[number / 64] ^= 1 << (number % 64);
                self.placed -= 1;
            }
            Placed::Unknown(number) => {
                self.needs.put_back_unknown(&self.calls.unknown[number]);
                self.unknown_bits[number / 64] ^= 1 << (number % 64);
                self.used[self.calls.class_of(number)] -= 1;
            }
        }
    }
}
