//! How far the disk has come, as the thread that syncs tells a group.

use dht_core::replication::chain::Input;
use tokio::sync::watch;

use crate::storage::EngineError;

/// What a group has been told, and what is new of it. Only the newest counts.
#[derive(Debug)]
pub(super) struct Synced {
    told: watch::Sender<OnDisk>,
    heard: watch::Receiver<OnDisk>,
    before: OnDisk,
}

#[derive(Clone, Copy, Debug, Default)]
struct OnDisk {
    /// The last number of `Output::Sync`.
    upto: u64,
    /// The disk has failed.
    fails: bool,
}

impl Default for Synced {
    fn default() -> Self {
        let (told, heard) = watch::channel(OnDisk::default());
        Self { told, heard, before: OnDisk::default() }
    }
}

impl Synced {
    /// What is to be called when everything up to this number is on disk, or can't be put there.
    pub(super) fn once(&self, number: u64) -> impl FnOnce(Result<(), EngineError>) + Send + 'static {
        let told = self.told.clone();
        move |result| {
            told.send_modify(|it| match result {
                Ok(()) => it.upto = it.upto.max(number),
                Err(_) => it.fails = true,
            });
        }
    }

    /// Waits until there may be news.
    pub(super) async fn changed(&mut self) {
        // It is never closed: the other end is here, too.
        drop(self.heard.changed().await);
    }

    /// What the state machine has to hear, if anything.
    pub(super) fn news(&mut self) -> [Option<Input>; 2] {
        let newest = *self.heard.borrow_and_update();
        let before = std::mem::replace(&mut self.before, newest);
        let synced = (newest.upto > before.upto).then_some(Input::Synced(newest.upto));
        [synced, (newest.fails && !before.fails).then_some(Input::Disk(false))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_on_disk_is_told_once_and_never_goes_back() {
        let mut synced = Synced::default();
        assert!(synced.news().iter().all(Option::is_none));
        let (first, second, third) = (synced.once(1), synced.once(2), synced.once(3));
        second(Ok(()));
        synced.changed().await;
        assert!(matches!(synced.news(), [Some(Input::Synced(2)), None]));
        first(Ok(()));
        assert!(synced.news().iter().all(Option::is_none), "that is nothing new");
        third(Err(EngineError::ReadOnly { cause: "full".into() }));
        assert!(matches!(synced.news(), [None, Some(Input::Disk(false))]));
        assert!(synced.news().iter().all(Option::is_none));
    }
}
