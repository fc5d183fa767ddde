//! Runtimes for fillers of callers that have none, and for timers. Each has a thread of its own, started when first needed: what
//! users run there delays no cluster traffic. Timers have theirs apart from fillers, so that a filler that blocks its thread holds
//! up no time limit.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use crate::cache::host::{Executor, Task, TaskRuntime};
use crate::sync::{AtomicUsize, Ordering};

/// Threads of single fillers at one time, at most.
const MOST_ALONE: usize = 16;

type Started = OnceLock<Option<(Handle, oneshot::Sender<()>)>>;

/// See the module. Dropping it ends the threads and what runs there.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    fills: Started,
    timers: Started,
    /// Threads of single fillers.
    alone: Arc<AtomicUsize>,
}

/// A place among the threads of single fillers, until it is dropped.
struct Alone(Arc<AtomicUsize>);

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Spare {
    /// The runtime of fillers; `None` if its thread could not be started.
    pub(crate) fn fills(&self) -> Option<&Handle> {
        handle(&self.fills, "driftless fills")
    }

    /// The runtime of timers, in which no filler runs; `None` if its thread could not be started.
    pub(crate) fn timers(&self) -> Option<&Handle> {
        handle(&self.timers, "driftless timers")
    }

    /// A timer that works in any runtime, while this is there.
    pub(crate) fn sleep(&self, duration: Duration) -> Option<Sleep> {
        let _enter = self.timers()?.enter();
        Some(sleep(duration))
    }

    /// Runs a task in a runtime of its own, which ends with it; in that of fillers while there are many such. `false` if its
    /// thread could not be started.
    pub(crate) fn run_alone(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        let others = self.alone.fetch_add(1, Ordering::AcqRel);
        let place = Alone(Arc::clone(&self.alone));
        if others >= MOST_ALONE {
            return self.fills().map(|runtime| runtime.spawn(task)).is_some();
        }
        let Some((runtime, alive)) = start("driftless fill") else { return false };
        runtime.spawn(async move {
            task.await;
            drop((alive, place));
        });
        true
    }
}

/// Runs the fillers and time limits of caches: in the runtime of their caller, or in a spare one.
pub(crate) struct Runtimes(pub(crate) Arc<Spare>);

impl Executor for Runtimes {
    fn spawn(&self, runtime: TaskRuntime, task: Task) -> bool {
        let runtime = match runtime {
            TaskRuntime::Caller => Handle::try_current().ok().or_else(|| self.0.fills().cloned()),
            TaskRuntime::Timers => self.0.timers().cloned(),
            TaskRuntime::Own => return self.0.run_alone(task),
        };
        runtime.map(|runtime| runtime.spawn(task)).is_some()
    }

    fn is_sole_driver(&self) -> bool {
        Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::CurrentThread)
    }

    fn sleep(&self, duration: Duration) -> Task {
        let spare = Arc::clone(&self.0);
        Box::pin(async move {
            // The timer needs its runtime until it is done. Without one the time is up at once.
            if let Some(sleep) = spare.sleep(duration) {
                sleep.await;
            }
        })
    }
}

fn handle<'a>(started: &'a Started, name: &str) -> Option<&'a Handle> {
    started.get_or_init(|| start(name)).as_ref().map(|(handle, _)| handle)
}

fn start(name: &str) -> Option<(Handle, oneshot::Sender<()>)> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.inspect_err(|error| tracing::error!(%error, "no runtime for fillers")).ok()?;
    let handle = runtime.handle().clone();
    let (alive, gone) = oneshot::channel();
    let run = move || {
        let _ = runtime.block_on(gone);
    };
    let thread = std::thread::Builder::new().name(name.into()).spawn(run);
    thread.inspect_err(|error| tracing::error!(%error, "no thread for fillers")).ok()?;
    Some((handle, alive))
}
