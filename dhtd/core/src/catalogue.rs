//! What a ring agrees on after its founding: its keyspaces, and k.
//!
//! The catalogue is one record of keyspace [`KeyspaceId::SYSTEM`], in chain mode, changed by compare-and-set on its
//! revision; every peer has a copy (DESIGN, section 5). A ring in which nothing was ever changed has no record yet: then the
//! catalogue is what follows from the founding, at revision 0.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use thiserror::Error;

use crate::{
    overlay::Ring,
    record::{KeyspaceId, Mode, RecordKey},
};

/// A named set of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyspace {
    /// Never used for another one, not even when this one is gone.
    pub id: KeyspaceId,
    /// 1 to 64 characters of `a` to `z`, `0` to `9`, `_` and `-`; does not begin with `_`.
    pub name: Arc<str>,
    /// How it is replicated; it never changes.
    pub mode: Mode,
}

/// One revision of a ring's catalogue. The default belongs to no ring: it has no keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Of the record that it was read from; 0 if there is none. A greater one is newer.
    pub revision: u64,
    replicas: usize,
    next: u32,
    keyspaces: BTreeMap<Arc<str>, Keyspace>,
    /// Those of `keyspaces`.
    ids: BTreeSet<KeyspaceId>,
}

/// A catalogue cannot be changed like that. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CatalogueError {
    /// It is no name of a keyspace.
    #[error("{0:?} is no name for a keyspace: 1 to 64 characters of a-z, 0-9, _ and -, the first of them no _")]
    BadName(String),
    /// The name is taken.
    #[error("there is a keyspace {0} already, in {1} mode")]
    Exists(String, Mode),
    /// No keyspace has the name.
    #[error("there is no keyspace {0}")]
    NotFound(String),
    /// Requests that name no keyspace are about `default`.
    #[error("the keyspace default cannot be dropped: requests that name no keyspace are about it")]
    IsDefault,
    /// The record would grow too long.
    #[error("a ring has at most {MAX_KEYSPACES} keyspaces")]
    Full,
    /// A request is about a keyspace that was there when it was sent.
    #[error("the keyspace was dropped")]
    Dropped,
    /// k is out of range.
    #[error("a ring keeps 1 to {MAX_REPLICAS} copies of each key, not {0}")]
    BadReplicas(usize),
}

/// What was read is no catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct BadCatalogue(pub &'static str);

impl Catalogue {
    /// The name that requests mean if they name none.
    pub const DEFAULT: &str = "default";

    /// Where the record is.
    #[must_use]
    pub fn key() -> RecordKey {
        RecordKey { keyspace: KeyspaceId::SYSTEM, key: Bytes::from_static(b"catalogue") }
    }

    /// What follows from the founding.
    #[must_use]
    pub fn founding(ring: &Ring) -> Self {
        let default = Keyspace { id: KeyspaceId::DEFAULT, name: Self::DEFAULT.into(), mode: ring.mode };
        Self { replicas: ring.replicas, next: KeyspaceId::DEFAULT.0 + 1, ..Self::default() }.with(default)
    }

    /// A catalogue made of its parts: `next` is the number that the next keyspace is given.
    ///
    /// # Errors
    /// If nobody can have made it: a name or a number that is none or occurs twice, no `default`, no copies.
    pub fn assemble(
        revision: u64,
        replicas: usize,
        next: u32,
        keyspaces: impl IntoIterator<Item = Keyspace>,
    ) -> Result<Self, BadCatalogue> {
        if !(1..=MAX_REPLICAS).contains(&replicas) {
            return Err(BadCatalogue("a catalogue whose k is out of range"));
        }
        let mut catalogue = Self { revision, replicas, next, ..Self::default() };
        for keyspace in keyspaces {
            if check_name(&keyspace.name).is_err() {
                return Err(BadCatalogue("a catalogue with a name that no keyspace can have"));
            }
            if !(KeyspaceId::DEFAULT.0..next).contains(&keyspace.id.0) {
                return Err(BadCatalogue("a catalogue with a keyspace whose number was never given"));
            }
            if catalogue.keyspaces.contains_key(&keyspace.name) || catalogue.ids.contains(&keyspace.id) {
                return Err(BadCatalogue("a catalogue that has a keyspace twice"));
            }
            catalogue = catalogue.with(keyspace);
        }
        let default = catalogue.keyspaces.get(Self::DEFAULT);
        if default.is_none_or(|default| default.id != KeyspaceId::DEFAULT) {
            return Err(BadCatalogue("a catalogue without the keyspace default"));
        }
        Ok(catalogue)
    }

    /// k: copies of each key.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.replicas
    }

    /// The number that the next keyspace is given.
    #[must_use]
    pub fn next(&self) -> u32 {
        self.next
    }

    /// The keyspace of this name; an empty name means `default`.
    #[must_use]
    pub fn keyspace(&self, name: &str) -> Option<&Keyspace> {
        self.keyspaces.get(if name.is_empty() { Self::DEFAULT } else { name })
    }

    /// All keyspaces, by name.
    pub fn keyspaces(&self) -> impl Iterator<Item = &Keyspace> {
        self.keyspaces.values()
    }

    /// Whether the keyspace was there and is no more. What is stored under its number belongs to nobody.
    #[must_use]
    pub fn is_dropped(&self, id: KeyspaceId) -> bool {
        (KeyspaceId::DEFAULT.0..self.next).contains(&id.0) && !self.ids.contains(&id)
    }

    /// How many keyspaces were dropped so far.
    #[must_use]
    pub fn dropped(&self) -> usize {
        (self.next as usize).saturating_sub(self.ids.len() + KeyspaceId::DEFAULT.0 as usize)
    }

    /// Adds a keyspace.
    ///
    /// # Errors
    /// If the name is none or taken, or there are too many.
    pub fn create(&mut self, name: &str, mode: Mode) -> Result<Keyspace, CatalogueError> {
        check_name(name)?;
        if let Some(there) = self.keyspaces.get(name) {
            return Err(CatalogueError::Exists(name.to_owned(), there.mode));
        }
        if self.keyspaces.len() >= MAX_KEYSPACES || self.next == u32::MAX {
            return Err(CatalogueError::Full);
        }
        let keyspace = Keyspace { id: KeyspaceId(self.next), name: name.into(), mode };
        self.next += 1;
        *self = std::mem::take(self).with(keyspace.clone());
        Ok(keyspace)
    }

    /// Takes a keyspace away; its number is not given again.
    ///
    /// # Errors
    /// If there is none of that name, or it is `default`.
    pub fn remove(&mut self, name: &str) -> Result<Keyspace, CatalogueError> {
        if name == Self::DEFAULT {
            return Err(CatalogueError::IsDefault);
        }
        let keyspace = self.keyspaces.remove(name).ok_or_else(|| CatalogueError::NotFound(name.to_owned()))?;
        self.ids.remove(&keyspace.id);
        Ok(keyspace)
    }

    /// Changes k, and returns what it was.
    ///
    /// # Errors
    /// If it is out of range.
    pub fn set_replicas(&mut self, replicas: usize) -> Result<usize, CatalogueError> {
        if !(1..=MAX_REPLICAS).contains(&replicas) {
            return Err(CatalogueError::BadReplicas(replicas));
        }
        Ok(std::mem::replace(&mut self.replicas, replicas))
    }

    /// Gives no number that the other catalogue has given. It may know of keyspaces that this one does not if the record's
    /// slot was recovered by hand from an older copy.
    pub fn spare_numbers_of(&mut self, other: &Self) {
        self.next = self.next.max(other.next);
    }

    fn with(mut self, keyspace: Keyspace) -> Self {
        self.ids.insert(keyspace.id);
        self.keyspaces.insert(keyspace.name.clone(), keyspace);
        self
    }
}

fn check_name(name: &str) -> Result<(), CatalogueError> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    let good = (1..=MAX_NAME).contains(&name.len()) && !name.starts_with('_') && name.bytes().all(fits);
    if good { Ok(()) } else { Err(CatalogueError::BadName(name.to_owned())) }
}

/// The most copies of each key that a ring may keep. A guess: successor lists are longer than k.
pub const MAX_REPLICAS: usize = 16;

/// Keyspaces of a ring at most: the record stays far below the longest value. A guess.
pub const MAX_KEYSPACES: usize = 1000;

/// Characters of a name at most.
const MAX_NAME: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{overlay::RingId, ring::SlotBits};

    fn founded() -> Catalogue {
        let slot_bits = SlotBits::DEFAULT;
        Catalogue::founding(&Ring { id: RingId([1; 16]), replicas: 3, slot_bits, mode: Mode::Eventual })
    }

    #[test]
    fn requests_that_name_no_keyspace_are_about_default() {
        let catalogue = founded();
        let default = catalogue.keyspace("").expect("every ring has it");
        assert_eq!((default.id, default.mode), (KeyspaceId::DEFAULT, Mode::Eventual));
        assert_eq!(catalogue.keyspace("default"), Some(default));
        assert_eq!(catalogue.keyspace("other"), None);
    }

    #[test]
    fn a_number_is_never_given_twice() {
        let mut catalogue = founded();
        let first = catalogue.create("a", Mode::Chain).expect("the name is free");
        assert!(!catalogue.is_dropped(first.id) && catalogue.dropped() == 0);
        assert_eq!(catalogue.remove("a"), Ok(first.clone()));
        assert!(catalogue.is_dropped(first.id) && catalogue.dropped() == 1);
        let second = catalogue.create("a", Mode::Eventual).expect("the name is free again");
        assert!(second.id > first.id && catalogue.is_dropped(first.id) && !catalogue.is_dropped(second.id));
        let mut older = founded();
        older.spare_numbers_of(&catalogue);
        assert!(older.create("b", Mode::Chain).expect("the name is free").id > second.id);
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_changes_nothing() {
        let mut catalogue = founded();
        catalogue.create("a", Mode::Chain).expect("the name is free");
        let before = catalogue.clone();
        assert_eq!(catalogue.create("a", Mode::Chain), Err(CatalogueError::Exists("a".into(), Mode::Chain)));
        for name in ["", "_system", "Upper", "a b", "ä", "a/b", &"x".repeat(65)] {
            assert_eq!(catalogue.create(name, Mode::Chain), Err(CatalogueError::BadName(name.into())));
        }
        assert_eq!(catalogue.remove("b"), Err(CatalogueError::NotFound("b".into())));
        assert_eq!(catalogue.remove("default"), Err(CatalogueError::IsDefault));
        for k in [0, MAX_REPLICAS + 1] {
            assert_eq!(catalogue.set_replicas(k), Err(CatalogueError::BadReplicas(k)));
        }
        assert_eq!(catalogue, before);
        assert!(catalogue.create(&"x".repeat(64), Mode::Chain).is_ok() && catalogue.create("0_-", Mode::Chain).is_ok());
    }

    #[test]
    fn a_ring_has_so_many_keyspaces_and_no_more() {
        let mut catalogue = founded();
        for number in 1..MAX_KEYSPACES {
            catalogue.create(&format!("k{number}"), Mode::Chain).expect("there is room");
        }
        assert_eq!(catalogue.create("one-more", Mode::Chain), Err(CatalogueError::Full));
    }

    #[test]
    fn only_what_can_have_been_made_is_put_together() {
        let keyspace = |id, name: &str| Keyspace { id: KeyspaceId(id), name: name.into(), mode: Mode::Chain };
        let (default, a) = (keyspace(1, "default"), keyspace(2, "a"));
        let made = Catalogue::assemble(7, 3, 5, [default.clone(), a.clone()]).expect("it can be made");
        assert_eq!((made.revision, made.replicas(), made.next()), (7, 3, 5));
        assert!(made.is_dropped(KeyspaceId(4)) && !made.is_dropped(KeyspaceId(2)) && !made.is_dropped(KeyspaceId(5)));
        assert!(!made.is_dropped(KeyspaceId::SYSTEM));
        for bad in [
            vec![a.clone()],
            vec![default.clone(), keyspace(2, "_a")],
            vec![default.clone(), keyspace(5, "a")],
            vec![default.clone(), keyspace(0, "a")],
            vec![default.clone(), a.clone(), keyspace(2, "b")],
            vec![default.clone(), a.clone(), keyspace(3, "a")],
            vec![keyspace(2, "default")],
        ] {
            assert!(Catalogue::assemble(7, 3, 5, bad).is_err());
        }
        assert!(Catalogue::assemble(7, 0, 5, [default.clone()]).is_err());
        assert!(Catalogue::assemble(7, 17, 5, [default]).is_err());
    }
}
