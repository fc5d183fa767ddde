//! A runtime for fillers of callers that have none, and for timers. It has a thread of its own, started
//! when first needed: what users run there delays no cluster traffic.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

/// See the module. Dropping it ends the thread and what runs there.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    started: OnceLock<Option<(Handle, oneshot::Sender<()>)>>,
}

impl Spare {
    /// The runtime; `None` if its thread could not be started.
    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.started.get_or_init(start).as_ref().map(|(handle, _)| handle)
    }

    /// A timer that works in any runtime, while this is there.
    pub(crate) fn sleep(&self, duration: Duration) -> Option<Sleep> {
        let _enter = self.handle()?.enter();
        Some(sleep(duration))
    }
}

fn start() -> Option<(Handle, oneshot::Sender<()>)> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.inspect_err(|error| tracing::error!(%error, "no runtime for fillers")).ok()?;
    let handle = runtime.handle().clone();
    let (alive, gone) = oneshot::channel();
    let run = move || {
        let _ = runtime.block_on(gone);
    };
    let thread = std::thread::Builder::new().name("driftless fills".into()).spawn(run);
    thread.inspect_err(|error| tracing::error!(%error, "no thread for fillers")).ok()?;
    Some((handle, alive))
}
