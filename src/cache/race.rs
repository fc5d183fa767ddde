//! A wait for the first of two events.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use super::host::Task;

/// Waits for `notice` or for the time limit. Returns true if `notice` came first.
pub(crate) async fn before(notice: impl Future, limit: &mut Task) -> bool {
    let mut notice = std::pin::pin!(notice);
    poll_fn(|cx| {
        if notice.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        Pin::new(&mut *limit).poll(cx).map(|()| false)
    })
    .await
}
