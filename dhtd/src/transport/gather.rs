//! Larger batches for those who take what waits.

use tokio::{sync::mpsc, task::yield_now};

/// Adds to a batch what else is in the queue, up to so many in all, once everything has run that is ready to: whoever is about
/// to send as well shares the batch.
pub async fn gather<T>(queue: &mut mpsc::Receiver<T>, batch: &mut Vec<T>, most: usize) {
    yield_now().await;
    while batch.len() < most
        && let Ok(item) = queue.try_recv()
    {
        batch.push(item);
    }
}
