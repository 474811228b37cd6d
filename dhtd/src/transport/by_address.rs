//! What there is one of for each address: looked at by everybody at once, opened once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;

/// One `T` for each address, made when it is first needed.
#[derive(Debug)]
pub(super) struct ByAddress<T> {
    /// Copied when one is added, which is rare, so that nobody who looks at it waits.
    entries: ArcSwap<HashMap<Arc<str>, T>>,
    /// Held while one is added.
    opening: Mutex<()>,
}

impl<T: Clone> ByAddress<T> {
    pub(super) fn get_or_open(&self, address: &Arc<str>, open: impl FnOnce() -> T) -> T {
        let find = || self.entries.load().get(address).cloned();
        find().unwrap_or_else(|| {
            let _turn = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
            // Another caller may have had its turn.
            find().unwrap_or_else(|| {
                let opened = open();
                let mut entries = HashMap::clone(&self.entries.load());
                entries.insert(address.clone(), opened.clone());
                self.entries.store(Arc::new(entries));
                opened
            })
        })
    }
}

impl<T> Default for ByAddress<T> {
    fn default() -> Self {
        Self { entries: ArcSwap::default(), opening: Mutex::default() }
    }
}
