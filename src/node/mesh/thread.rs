//! The thread of a mesh: it starts all tasks, restarts those that die, and ends them all.

use std::{
    io,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, oneshot, watch},
    time::sleep,
};

use super::{
    config::{MeshConfig, MeshError},
    counters::Counters,
    delegate::{Canary, DelegateState, Inbox, Waiting},
    frame::Policy,
    inbound,
    incidents::{Culprit, IncidentKind, Incidents},
    instance::Core,
    refusals::Refusals,
    rejoin,
    roster::Roster,
    shares::{Amount, Shares},
    watchdog,
    wire::Wire,
};

/// The time to wait for name lookups at the end. They run on threads that cannot be interrupted.
const LINGER: Duration = Duration::from_millis(100);
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// Maximum size of the messages that wait for the consumer, in bytes (or four frames, if that is more).
const INBOX_BYTES: usize = 64 << 20;

/// The request of the owner to the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    No,
    Leave(Duration),
    Now,
    /// A panic of the thread, as by a bug. Test switch.
    #[cfg(any(test, feature = "sim"))]
    Panic,
    /// Nothing runs for this time, as on a machine without a free processor. Then the thread goes on. Test switch.
    #[cfg(any(test, feature = "sim"))]
    Starve(Duration),
}

impl Stop {
    pub(super) fn is_running(self) -> bool {
        #[cfg(any(test, feature = "sim"))]
        if matches!(self, Self::Starve(_)) {
            return true;
        }
        matches!(self, Self::No)
    }
}

type Ready = oneshot::Sender<Result<Arc<Core>, MeshError>>;

pub(super) fn spawn(
    config: MeshConfig,
    inbox: mpsc::Sender<Waiting>,
    stop: watch::Receiver<Stop>,
    ready: Ready,
    finished: watch::Sender<bool>,
) -> Result<(), MeshError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(MeshError::Thread)?;
    let body = move || {
        live(&runtime, config, inbox, stop, ready);
        runtime.shutdown_timeout(LINGER);
        finished.send_replace(true);
    };
    spawn_named(body).map_err(MeshError::Thread)
}

fn spawn_named(body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("driftless-mesh".into()).spawn(body).map(drop)
}

fn live(
    runtime: &Runtime,
    config: MeshConfig,
    inbox: mpsc::Sender<Waiting>,
    stop: watch::Receiver<Stop>,
    ready: Ready,
) {
    let core = match runtime.block_on(start(config, inbox)) {
        Ok(core) => core,
        Err(e) => return drop(ready.send(Err(e))),
    };
    let _inside = tracing::info_span!(parent: None, "driftless.node", node = %core.name).entered();
    let _end = End(core.clone());
    runtime.block_on(async {
        // If the start was cancelled, no owner is left to stop this mesh later.
        let awaited = ready.send(Ok(core.clone())).is_ok();
        let ended = async { if awaited { run(&core, stop).await } else { None } };
        // After a panic, too, the instance is ended in order before the panic goes on.
        let ended = AssertUnwindSafe(ended).catch_unwind().await;
        core.end(*ended.as_ref().unwrap_or(&None)).await;
        ended.unwrap_or_else(|panic| resume_unwind(panic))
    });
}

async fn start(config: MeshConfig, sender: mpsc::Sender<Waiting>) -> Result<Arc<Core>, MeshError> {
    let counters = Arc::new(Counters::default());
    let policy = Policy {
        label: config.cluster.as_str().into(),
        encrypted: !config.keys.is_empty(),
        max_frame: config.max_frame,
    };
    let incidents = Arc::new(Incidents::new(&config.failure));
    let wire = Wire::bind(&config, policy, counters.clone(), incidents.clone())?;
    let name =
        if config.name.is_empty() { config.advertise.unwrap_or(wire.local).to_string() } else { config.name.clone() };
    let delegate_state = DelegateState {
        roster: Arc::new(Roster::new(name.into(), counters.clone())),
        inbox: inbox(&config, sender, incidents),
        receiver: OnceLock::new(),
        canary: Canary::default(),
        counters,
        incarnation: config.incarnation,
        max_members: config.max_members,
    };
    let core = Arc::new(Core::new(config, wire, delegate_state));
    core.start().await?;
    Ok(core)
}

fn inbox(config: &MeshConfig, sender: mpsc::Sender<Waiting>, incidents: Arc<Incidents>) -> Inbox {
    let limit = Amount { count: config.inbox, bytes: INBOX_BYTES.max(config.max_frame * 4) };
    Inbox { sender, shares: Shares::new(limit), refusals: Refusals::default(), incidents }
}

/// Obeys the test switches. Returns the request that remains.
#[cfg(any(test, feature = "sim"))]
async fn suffer(order: Stop, stop: &mut watch::Receiver<Stop>) -> Stop {
    match order {
        Stop::Starve(time) => {
            thread::sleep(time);
            stop.wait_for(|s| !s.is_running()).await.map_or(Stop::Now, |order| *order)
        }
        Stop::Panic => panic!("a test asked for it"),
        order => order,
    }
}

/// Runs until the owner stops the mesh or is gone. Returns the time for a goodbye, if the owner asked for one.
async fn run(core: &Arc<Core>, mut stop: watch::Receiver<Stop>) -> Option<Duration> {
    supervise(core, "datagrams", |core| inbound::pump_datagrams(core.wire.clone(), core.delegate_state.clone()));
    supervise(core, "streams", |core| inbound::accept_streams(core.wire.clone(), core.delegate_state.clone()));
    supervise(core, "rejoin", rejoin::rejoin);
    supervise(core, "watchdog", watchdog::watch);
    // An error means that the owner is gone.
    let order = stop.wait_for(|s| *s != Stop::No).await.map_or(Stop::Now, |order| *order);
    #[cfg(any(test, feature = "sim"))]
    let order = suffer(order, &mut stop).await;
    // A quarter of the deadline is left for ending the instance and its tasks.
    if let Stop::Leave(deadline) = order { Some(deadline.mul_f64(0.75)) } else { None }
}

/// Starts a task that must never end. If it ends, that is counted and logged, and the task is restarted.
fn supervise<F>(core: &Arc<Core>, name: &'static str, task: impl Fn(Arc<Core>) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let core = core.clone();
    tokio::spawn(async move {
        loop {
            let running = tokio::spawn(task(core.clone()));
            core.tasks.lock().insert(name, running.abort_handle());
            let ended = running.await;
            core.counters.task_restarts.one();
            core.wire.incidents.note(IncidentKind::TaskDied, Culprit::Task(name));
            tracing::error!(task = name, error = ?ended.err(), "a mesh task died and is restarted");
            sleep(RESTART_PAUSE).await;
        }
    });
}

/// A guard that acts at the end of the thread, also after a panic: from then on sends fail and the port is free.
struct End(Arc<Core>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.take_live();
        self.0.wire.close();
        // A task handle holds the runtime. Without this, each owner of the core would hold the runtime's descriptors.
        self.0.tasks.lock().clear();
    }
}
