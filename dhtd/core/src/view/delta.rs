//! A map that one peer keeps and another copies, over messages that may be lost, doubled and reordered: the source sends
//! what has changed since the version that the copy has confirmed; the copy takes in only what continues its own.

use std::collections::BTreeMap;

/// What a copy has: the number of the source's life, and the version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Grows at every start of the source's peer: what was copied from an earlier process is void.
    pub life: u64,
    /// Counts the source's changes.
    pub number: u64,
}

/// The changes from one version to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Delta<K, V> {
    /// What the copy must have; `None`: nothing, this is the whole map.
    pub from: Option<Version>,
    /// What it has afterwards.
    pub to: Version,
    /// New values; `None`: the key is gone.
    pub changes: Vec<(K, Option<V>)>,
}

/// The map, and when each key has changed.
#[derive(Clone, Debug, Hash)]
pub struct Source<K, V> {
    values: BTreeMap<K, V>,
    version: Version,
    changed: BTreeMap<u64, K>,
    last_change: BTreeMap<K, u64>,
}

impl<K: Ord + Clone, V: Clone + PartialEq> Source<K, V> {
    /// An empty map of a process with this number.
    #[must_use]
    pub fn new(life: u64) -> Self {
        let version = Version { life, number: 1 };
        Self { values: BTreeMap::new(), version, changed: BTreeMap::new(), last_change: BTreeMap::new() }
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }

    /// The version of what is here.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Changes a key. Returns whether that was a change.
    pub fn set(&mut self, key: K, value: Option<V>) -> bool {
        if self.values.get(&key) == value.as_ref() {
            return false;
        }
        self.version.number += 1;
        if let Some(old) = self.last_change.insert(key.clone(), self.version.number) {
            self.changed.remove(&old);
        }
        self.changed.insert(self.version.number, key.clone());
        match value {
            Some(value) => drop(self.values.insert(key, value)),
            None => drop(self.values.remove(&key)),
        }
        true
    }

    /// What a copy of this version lacks.
    #[must_use]
    pub fn since(&self, seen: Version) -> Delta<K, V> {
        let to = self.version;
        if seen.life != to.life || seen.number > to.number || seen.number == 0 {
            let changes = self.values.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
            return Delta { from: None, to, changes };
        }
        let changed = self.changed.range(seen.number + 1..).map(|(_, key)| key);
        let changes = changed.map(|key| (key.clone(), self.values.get(key).cloned())).collect();
        Delta { from: Some(seen), to, changes }
    }
}

/// The copy.
#[derive(Clone, Debug, Hash)]
pub struct Mirror<K, V> {
    values: BTreeMap<K, V>,
    version: Version,
}

impl<K, V> Default for Mirror<K, V> {
    fn default() -> Self {
        Self { values: BTreeMap::new(), version: Version::default() }
    }
}

impl<K: Ord + Clone, V: Clone> Mirror<K, V> {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }

    /// All of it, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.values.iter()
    }

    /// What is here, to be confirmed to the source.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Takes in the changes, if they continue what is here. Returns the keys that they name, or `None`.
    pub fn apply(&mut self, delta: Delta<K, V>) -> Option<Vec<K>> {
        let newer = delta.to >= self.version;
        let mut touched: Vec<K> = match delta.from {
            None if newer => {
                let old = std::mem::take(&mut self.values);
                old.into_keys().collect()
            }
            Some(from) if from == self.version => Vec::new(),
            _ => return None,
        };
        self.version = delta.to;
        for (key, value) in delta.changes {
            touched.push(key.clone());
            match value {
                Some(value) => drop(self.values.insert(key, value)),
                None => drop(self.values.remove(&key)),
            }
        }
        Some(touched)
    }
}

#[cfg(test)]
mod tests {
    use super::{Mirror, Source};

    fn contents(copy: &Mirror<u8, u8>) -> Vec<(u8, u8)> {
        copy.iter().map(|(key, value)| (*key, *value)).collect()
    }

    #[test]
    fn a_copy_follows_its_source_through_lost_doubled_and_late_messages() {
        let (mut source, mut copy) = (Source::new(1), Mirror::default());
        source.set(1, Some(10));
        source.set(2, Some(20));
        let first = source.since(copy.version());
        assert!(copy.apply(first.clone()).is_some());
        source.set(1, None);
        let lost = source.since(copy.version());
        source.set(3, Some(30));
        let second = source.since(copy.version());
        assert_eq!(second.changes.len(), 2);
        assert!(copy.apply(second.clone()).is_some());
        assert_eq!(contents(&copy), [(2, 20), (3, 30)]);
        assert!(copy.apply(second).is_none() && copy.apply(lost).is_none() && copy.apply(first).is_none());
        assert_eq!(contents(&copy), [(2, 20), (3, 30)]);
    }

    #[test]
    fn what_was_copied_from_an_earlier_process_is_void() {
        let (mut old, mut new, mut copy) = (Source::new(1), Source::new(2), Mirror::default());
        for key in 1..9 {
            old.set(key, Some(key));
        }
        copy.apply(old.since(copy.version()));
        new.set(1, Some(5));
        let delta = new.since(copy.version());
        assert_eq!(delta.from, None);
        assert_eq!(copy.apply(delta).map(|touched| touched.len()), Some(9));
        assert_eq!(contents(&copy), [(1, 5)]);
        assert!(copy.apply(old.since(copy.version())).is_none());
    }

    #[test]
    fn setting_what_is_there_changes_nothing() {
        let mut source = Source::new(1);
        assert!(source.set(1, Some(1)) && !source.set(1, Some(1)) && !source.set(2, None));
        assert!(source.since(source.version()).changes.is_empty());
    }
}
