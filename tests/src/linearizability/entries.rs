//! The calls and returns that are still to be placed, as a list from which an operation is lifted, and put back.

use super::calls::Call;

/// A doubly linked list in the order of time. Lifted entries keep their links, so that the last one that was lifted can
/// be put back at once (Wing and Gong 1993, section 4; "dancing links").
#[derive(Clone, Debug)]
pub(super) struct Entries {
    /// By place; place 0 is the head.
    links: Vec<Link>,
    /// By call.
    places: Vec<(usize, usize)>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: usize,
    next: usize,
    entry: Entry,
}

/// One entry, with the number of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// The end of the list, which is its head.
    End,
    Call(usize),
    Return(usize),
}

impl Entries {
    /// All entries of answered calls.
    pub(super) fn new(calls: &[Call]) -> Self {
        let entries = calls.iter().enumerate().flat_map(|(number, call)| {
            let answered = call.answered.map(|at| (at, true, Entry::Return(number)));
            answered.into_iter().chain([(call.invoked, false, Entry::Call(number))])
        });
        let mut entries: Vec<_> = entries.collect();
        // Calls go before returns of the same moment: whether they overlap cannot be told.
        entries.sort_by_key(|(at, returns, _)| (*at, *returns));
        let count = entries.len() + 1;
        let mut places = vec![(0, 0); calls.len()];
        let mut links = vec![Link { previous: count - 1, next: 1 % count, entry: Entry::End }];
        for (place, (.., entry)) in (1..).zip(entries) {
            match entry {
                Entry::Call(call) => places[call].0 = place,
                Entry::Return(call) => places[call].1 = place,
                Entry::End => {}
            }
            links.push(Link { previous: place - 1, next: (place + 1) % count, entry });
        }
        Self { links, places }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first() == 0
    }

    /// The place of the first entry.
    pub(super) fn first(&self) -> usize {
        self.links[0].next
    }

    /// What is at a place, and the place after it.
    pub(super) fn at(&self, place: usize) -> (Entry, usize) {
        (self.links[place].entry, self.links[place].next)
    }

    /// Takes out both entries of a call. The place after its call is still right: its return goes first.
    pub(super) fn lift(&mut self, call: usize) {
        let (called, returned) = self.places[call];
        self.unlink(returned);
        self.unlink(called);
    }

    /// Undoes the last [`Self::lift`] that was not undone.
    pub(super) fn put_back(&mut self, call: usize) {
        let (called, returned) = self.places[call];
        self.link(called);
        self.link(returned);
    }

    fn unlink(&mut self, place: usize) {
        let Link { previous, next, .. } = self.links[place];
        self.links[previous].next = next;
        self.links[next].previous = previous;
    }

    fn link(&mut self, place: usize) {
        let Link { previous, next, .. } = self.links[place];
        self.links[previous].next = place;
        self.links[next].previous = place;
    }
}
