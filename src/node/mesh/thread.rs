//! The thread a mesh lives on: it starts everything, restarts what dies, and ends it all.

use std::{
    io,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
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
    delegate::{Canary, Ears, Inbox, Waiting},
    frame::Policy,
    inbound,
    instance::Core,
    refusals::Refusals,
    rejoin,
    roster::Roster,
    shares::{Amount, Shares},
    watchdog,
    wire::Wire,
};

/// Name lookups run on threads that cannot be interrupted; do not wait for them longer than this.
const LINGER: Duration = Duration::from_millis(100);
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// Large messages waiting for the consumer hold at most this many bytes (or four frames).
const INBOX_BYTES: usize = 64 << 20;

/// What the owner asks of the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    No,
    Leave(Duration),
    Now,
    /// Test switch: the thread panics, as by a bug.
    #[cfg(any(test, feature = "sim"))]
    Panic,
    /// Test switch: nothing runs for so long, as on a machine without a processor to spare. Then it goes on.
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
        // A start that was cancelled has nobody to stop it later.
        let awaited = ready.send(Ok(core.clone())).is_ok();
        let ended = async { if awaited { run(&core, stop).await } else { None } };
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
    let wire = Wire::bind(&config, policy, counters.clone())?;
    let name =
        if config.name.is_empty() { config.advertise.unwrap_or(wire.local).to_string() } else { config.name.clone() };
    let ears = Ears {
        roster: Arc::new(Roster::new(name.into(), counters.clone())),
        inbox: inbox(&config, sender),
        canary: Canary::default(),
        counters,
        incarnation: config.incarnation,
        max_members: config.max_members,
    };
    let core = Arc::new(Core::new(config, wire, ears));
    core.start().await?;
    Ok(core)
}

fn inbox(config: &MeshConfig, sender: mpsc::Sender<Waiting>) -> Inbox {
    let limit = Amount { count: config.inbox, bytes: INBOX_BYTES.max(config.max_frame * 4) };
    Inbox { sender, shares: Shares::new(limit), refusals: Refusals::default() }
}

/// Test switches.
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

/// Until the owner stops us or is gone. Gives the time for a goodbye, if there shall be one.
async fn run(core: &Arc<Core>, mut stop: watch::Receiver<Stop>) -> Option<Duration> {
    supervise(core, "datagrams", |core| inbound::pump_datagrams(core.wire.clone(), core.ears.clone()));
    supervise(core, "streams", |core| inbound::accept_streams(core.wire.clone(), core.ears.clone()));
    supervise(core, "rejoin", rejoin::rejoin);
    supervise(core, "watchdog", watchdog::watch);
    // An error means that the owner is gone.
    let order = stop.wait_for(|s| *s != Stop::No).await.map_or(Stop::Now, |order| *order);
    #[cfg(any(test, feature = "sim"))]
    let order = suffer(order, &mut stop).await;
    if let Stop::Leave(deadline) = order { Some(deadline.mul_f64(0.75)) } else { None }
}

/// Starts a task that must never end; if it does, that is counted, logged and repaired.
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
            tracing::error!(task = name, error = ?ended.err(), "a mesh task died and is restarted");
            sleep(RESTART_PAUSE).await;
        }
    });
}

/// However the thread ends, by a panic too, sends fail from then on and the port is free.
struct End(Arc<Core>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.take_live();
        self.0.wire.close();
        // A handle to a task holds the runtime, and whoever holds the core would hold its descriptors.
        self.0.tasks.lock().clear();
    }
}
