//! Runtimes for timers, and for fillers whose callers have no runtime. Each has its own thread, started on first use,
//! so that user code delays no cluster traffic. Timers and fillers have separate runtimes, so that a filler that blocks
//! its thread delays no time limit.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use crate::cache::host::{Executor, Task, TaskRuntime};
use crate::sync::{AtomicUsize, Ordering};

/// Maximum number of threads that run a single filler at one time.
const MOST_ALONE: usize = 16;

type Started = OnceLock<Option<(Handle, oneshot::Sender<()>)>>;

/// The spare runtimes of a node. Dropping it ends their threads and the tasks there.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    fills: Started,
    timers: Started,
    /// The number of threads that run a single filler.
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
    /// Returns the runtime of fillers, or `None` if its thread could not be started.
    pub(crate) fn fills(&self) -> Option<&Handle> {
        handle(&self.fills, "driftless fills")
    }

    /// Returns the runtime of timers, in which no filler runs, or `None` if its thread could not be started.
    pub(crate) fn timers(&self) -> Option<&Handle> {
        handle(&self.timers, "driftless timers")
    }

    /// Returns a timer that works in any runtime while this value exists, or `None` without a runtime of timers.
    pub(crate) fn sleep(&self, duration: Duration) -> Option<Sleep> {
        let _enter = self.timers()?.enter();
        Some(sleep(duration))
    }

    /// Runs a task in its own runtime, which ends with the task. If [`MOST_ALONE`] such runtimes exist, runs the task
    /// in the shared runtime of fillers. Returns `false` if the thread could not be started.
    pub(crate) fn run_alone(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        // Counted before the check, so that concurrent callers cannot exceed the limit together.
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

/// The executor of the fillers and time limits of caches: in their caller's runtime, or in a spare one.
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
            // The timer needs its runtime until it ends. Without a runtime it ends at once.
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
