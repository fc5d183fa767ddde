//! The requests of a node's handles to its driver.

use std::time::Duration;

use tokio::sync::oneshot;

use super::ready::{MemberWaiter, Waiter};

/// A request to the driver.
pub(crate) enum Command {
    Ready(Waiter),
    Members(MemberWaiter),
    Forget {
        member: String,
        done: oneshot::Sender<bool>,
    },
    /// A panic of the driver. Test switch.
    #[cfg(any(test, feature = "sim"))]
    Panic,
    Shutdown {
        deadline: Duration,
        done: oneshot::Sender<()>,
    },
}
