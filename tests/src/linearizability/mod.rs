//! Whether what clients saw could have come from one copy of the data, one operation after the other: a checker of
//! linearizability (Herlihy and Wing, "Linearizability: a correctness condition for concurrent objects", 1990).
//!
//! # What is checked
//!
//! A history is linearizable if and only if each key's part is (locality, section 3.1 there), so every key is checked
//! alone. For each an order is sought of all answered operations, and of as many as one likes of those whose outcome is
//! unknown, such that
//!
//! - an operation that was answered before another was invoked comes before it (equal times do not tell: whoever knows
//!   the order of events better can use their numbers as times);
//! - every answer is right: a get returns what is there, the condition of a compare-and-set holds if it was done and
//!   does not if it failed, an increment returns the sum of all since there was nothing;
//! - there are revisions that fit. Nothing has revision 0 until something is written; every effective write gets a
//!   greater one than the write before it in the order (so no two have the same), also a delete, and also one whose
//!   answer tells no revision or whose outcome is unknown: so a write that is observed between revisions 5 and 6 is
//!   wrong. The revision in the answer of an effective write is its own; in that of a get or of a failed compare-and-set
//!   it is that of the last write before it, even if nothing is there. What is not told is filled in as it fits, once
//!   for all: two gets cannot tell different revisions for one write.
//!
//! Deleting nothing may be a write or not. What is not checked: that a failed compare-and-set whose condition is a
//! revision, and whose answer tells none, failed on a revision that is told only later. Answers of the wrong kind are
//! never right. Puts and increments of one key do not mix: to increment a value is never right.
//!
//! # How
//!
//! The search is that of Wing and Gong, "Testing and verifying concurrent objects", 1993: place one of the operations
//! that were invoked before the first return that is left, lift its two entries from the list, and put them back if
//! that leads nowhere. It never enters the same configuration twice, that is the set of placed operations and the state
//! (Lowe, "Testing for linearizability", 2017; Horn and Kroening, "Faster linearizability checking via
//! P-compositionality", 2015). Five things are our own; none of them changes the verdict.
//!
//! 1. *Observers first.* A get or a failed compare-and-set that may come next, is right here and does not narrow the
//!    revision down is placed at once, without alternative: moved here from a later place it is as right, and nobody
//!    misses it there.
//! 2. *Nothing needed is left.* See `needs`: a step after which some answered call can find its place nowhere is not
//!    taken. It could only have led to failure.
//! 3. *No write of unknown outcome is overwritten unseen.* If it is followed at once by a put or a delete, leave it out:
//!    the overwriting write finds at most a lower revision before it, which only widens what its own may be, and leaves
//!    the same content. So there is an order without it if there is one with it.
//! 4. *Writes of unknown outcome that do the same are one class*, and of a class the one invoked first is placed first.
//!    If an order has a later one in place of an earlier, exchange them: the earlier may come wherever the later does,
//!    and the later, which never returns, may come wherever it was invoked before. All values that no answer and no
//!    condition names count as the same.
//!
//! 5. *Never again with fewer.* A configuration is not entered either if it was before with more of the writes of unknown
//!    outcome left: whatever could follow now could have followed then.
//!
//! Together they hold because, of all orders of a history, those with the fewest writes of unknown outcome keep rule 3,
//! and the exchanges of rules 1 and 4 do not change that number. So a write of unknown outcome costs something only
//! where an answer needs it. The checker is still exponential at worst: each key has a budget of steps.

mod calls;
mod entries;
mod history;
mod model;
mod needs;
mod report;
mod search;

use std::collections::BTreeMap;

use bytes::Bytes;

pub use self::{
    history::{Action, Expected, History, Operation, Outcome, Reply, Value},
    report::{Stuck, Verdict, Violation},
};

use self::{
    calls::Calls,
    search::{Found, Search},
};

impl History {
    /// Checks every key, each with at most so many steps of the search. The first key that is not linearizable is
    /// reported. An optimised build takes some 0.2 s and 50 MB for a million steps; 500 operations, all with values of
    /// their own and with revisions, seldom need more than some thousand.
    #[must_use]
    pub fn check(&self, steps_per_key: u64) -> Verdict {
        let mut by_key: BTreeMap<&Bytes, Vec<usize>> = BTreeMap::new();
        for (place, operation) in self.operations.iter().enumerate() {
            by_key.entry(&operation.key).or_default().push(place);
        }
        let mut unknown = Vec::new();
        for (key, places) in by_key {
            let calls = Calls::new(&self.operations, &places);
            match Search::new(&calls, steps_per_key).run() {
                Found::Linearization => {}
                Found::Tired => unknown.push(key.clone()),
                Found::Stuck(longest) => {
                    let violation = Violation::new(key.clone(), &self.operations, &calls, &longest);
                    return Verdict::Violation(Box::new(violation));
                }
            }
        }
        if unknown.is_empty() { Verdict::Linearizable } else { Verdict::Unknown { keys: unknown } }
    }
}
