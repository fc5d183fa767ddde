//! Who waits for a cache to be ready.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::cache::Ready;

/// Somebody who waits for a cache to be ready.
pub(crate) struct Waiter {
    pub(crate) cache: String,
    pub(crate) deadline: Instant,
    answer: oneshot::Sender<Ready>,
}

impl Waiter {
    pub(crate) fn new(cache: &str, patience: Duration) -> (Self, oneshot::Receiver<Ready>) {
        let (answer, receiver) = oneshot::channel();
        let far = Instant::now() + Duration::from_secs(365 * 86_400);
        let deadline = Instant::now().checked_add(patience).unwrap_or(far);
        (Self { cache: cache.to_owned(), deadline, answer }, receiver)
    }

    /// Nobody waits any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.answer.is_closed()
    }

    pub(crate) fn answer(self, ready: Ready) {
        let _ = self.answer.send(ready);
    }
}
