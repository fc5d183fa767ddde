//! Callers that wait for a cache to be ready, or for members.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::cache::Ready;

/// Too few other members are live. Returned by [`Node::wait_for_members`](crate::Node::wait_for_members).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{present} other members are live, and {wanted} are required: check the seeds and the network")]
#[non_exhaustive]
pub struct TooFewMembers {
    /// The number of members that the caller waited for.
    pub wanted: usize,
    /// The number of members that were live at the timeout, or when the node was shut down.
    pub present: usize,
}

/// A caller that waits for members.
pub(crate) struct MemberWaiter {
    wanted: usize,
    deadline: Instant,
    answer: oneshot::Sender<Result<(), TooFewMembers>>,
}

impl MemberWaiter {
    pub(crate) fn new(wanted: usize, limit: Duration) -> (Self, oneshot::Receiver<Result<(), TooFewMembers>>) {
        let (answer, receiver) = oneshot::channel();
        (Self { wanted, deadline: deadline(limit), answer }, receiver)
    }

    /// Answers if enough members are present, the time is up or the node `ends`. Returns the waiter if it must wait on.
    pub(crate) fn answer_if_due(self, present: usize, ends: bool) -> Option<Self> {
        if self.answer.is_closed() {
            return None;
        }
        let Self { wanted, deadline, .. } = self;
        let answer = match present >= wanted {
            true => Ok(()),
            false if ends || Instant::now() >= deadline => Err(TooFewMembers { wanted, present }),
            false => return Some(self),
        };
        let _ = self.answer.send(answer);
        None
    }
}

fn deadline(limit: Duration) -> Instant {
    let far = Instant::now() + Duration::from_secs(365 * 86_400);
    Instant::now().checked_add(limit).unwrap_or(far)
}

/// A caller that waits for a cache to be ready.
pub(crate) struct Waiter {
    pub(crate) cache: String,
    pub(crate) deadline: Instant,
    answer: oneshot::Sender<Ready>,
}

impl Waiter {
    pub(crate) fn new(cache: &str, limit: Duration) -> (Self, oneshot::Receiver<Ready>) {
        let (answer, receiver) = oneshot::channel();
        (Self { cache: cache.to_owned(), deadline: deadline(limit), answer }, receiver)
    }

    /// Returns true if the caller has stopped waiting.
    pub(crate) fn is_gone(&self) -> bool {
        self.answer.is_closed()
    }

    pub(crate) fn answer(self, ready: Ready) {
        let _ = self.answer.send(ready);
    }
}
