//! The thread a mesh lives on: it starts everything, restarts what dies, and ends it all.

use std::{io, sync::Arc, thread, time::Duration};

use bytes::Bytes;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, oneshot, watch},
    time::sleep,
};

use super::{
    config::{MeshConfig, MeshError},
    counters::Counters,
    delegate::{Canary, Ears, Inbox},
    frame::Policy,
    inbound,
    instance::Core,
    rejoin,
    roster::Roster,
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
}

type Ready = oneshot::Sender<Result<Arc<Core>, MeshError>>;

pub(super) fn spawn(
    config: MeshConfig,
    inbox: mpsc::Sender<(Bytes, bool)>,
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
    inbox: mpsc::Sender<(Bytes, bool)>,
    stop: watch::Receiver<Stop>,
    ready: Ready,
) {
    runtime.block_on(async {
        match start(config, inbox).await {
            Err(e) => drop(ready.send(Err(e))),
            Ok(core) => {
                // A start that was cancelled has nobody to stop it later.
                let _end = End(core.clone());
                if ready.send(Ok(core.clone())).is_ok() {
                    run(&core, stop).await;
                }
            }
        }
    });
}

async fn start(config: MeshConfig, sender: mpsc::Sender<(Bytes, bool)>) -> Result<Arc<Core>, MeshError> {
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
        inbox: Inbox { sender, bytes: Default::default(), max_bytes: INBOX_BYTES.max(config.max_frame * 4) },
        canary: Canary::default(),
        counters,
        incarnation: config.incarnation,
        max_members: config.max_members,
    };
    let core = Arc::new(Core::new(config, wire, ears));
    core.start().await?;
    Ok(core)
}

/// Until the owner stops us or is gone.
async fn run(core: &Arc<Core>, mut stop: watch::Receiver<Stop>) {
    supervise(core, "datagrams", |core| inbound::pump_datagrams(core.wire.clone(), core.ears.clone()));
    supervise(core, "streams", |core| inbound::accept_streams(core.wire.clone()));
    supervise(core, "rejoin", rejoin::rejoin);
    supervise(core, "watchdog", watchdog::watch);
    // An error means that the owner is gone.
    let order = stop.wait_for(|s| *s != Stop::No).await.map_or(Stop::Now, |order| *order);
    if let Stop::Leave(deadline) = order {
        core.leave(deadline.mul_f64(0.75)).await;
    }
}

/// Starts a task that must never end; if it does, that is counted, logged and repaired.
fn supervise<F>(core: &Arc<Core>, name: &'static str, task: impl Fn(Arc<Core>) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let core = core.clone();
    tokio::spawn(async move {
        loop {
            let ended = tokio::spawn(task(core.clone())).await;
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
    }
}
