//! Membership, failure detection, datagrams and streams: everything that depends on memberlist.
//!
//! The mesh carries opaque bytes and knows nothing about caches. No type of memberlist leaves this module. The defects
//! of memberlist 0.8.5 are contained here: see `frame` and `stream` (hostile and slow connections), `roster` (events),
//! `watchdog` and `instance` (dead tasks, a member table that must not be reaped), `rejoin` (partitions).
//!
//! A mesh runs on its own thread. memberlist starts tasks that its callers can neither wait for nor stop. Ending their
//! runtime ends them all, once their `timers` have run out. The thread also keeps a busy application from delaying
//! pings, and pings from delaying the application.
//!
//! The path of a message of the mesh's user:
//!
//! - out: this file, `delegate` (appends the trailer), `instance`, memberlist, `transport`, `wire`;
//! - in: `wire`, `inbound`, the inbox in `delegate`, [`MeshEvents`].
//!
//! | file | content |
//! | --- | --- |
//! | this one | the handle, and the events for its consumer |
//! | `config` | settings and errors |
//! | `counters` | every fault and every byte, counted |
//! | `thread` | the thread: starts, restarts and ends all tasks |
//! | `instance` | the memberlist instances, one after another, and sending through them |
//! | `transport` | memberlist's transport, on the sockets of the mesh |
//! | `wire` | the sockets, and the keys |
//! | `inbound` | inbound datagrams and connections, screened and handed over |
//! | `frame` | checks of label, encryption and length before memberlist reads them |
//! | `stream` | one connection: its reader, its writer, its deadline |
//! | `idle` | dialled connections that are idle |
//! | `delegate` | memberlist's callbacks; the inbox of received messages; the trailer that tells their kinds apart |
//! | `roster` | the live members, and the events about them |
//! | `shares` | fair shares of the inbox and of the connections |
//! | `refusals` | log lines about refusals, at most one a minute |
//! | `incidents` | faults that other processes cause, with their source and time |
//! | `seeds` | the state of each configured seed |
//! | `keys` | changes of the keys in a running cluster |
//! | `listen` | the reasons why an address cannot be listened on |
//! | `rejoin` | the search for unreachable seeds and lost members |
//! | `watchdog` | detection of dead tasks of memberlist, and the rebuild |
//! | `runtime` | the runtime that memberlist runs on |
//! | `timers` | memberlist's timers, which can all be made to fire at once |
//! | `probe` | the screen of `frame`, for fuzzers |

use std::{
    net::SocketAddr,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

mod config;
mod counters;
mod delegate;
mod frame;
mod idle;
mod inbound;
mod incidents;
mod instance;
mod keys;
mod listen;
#[cfg(feature = "sim")]
pub mod probe;
mod refusals;
mod rejoin;
mod roster;
mod runtime;
mod seeds;
mod shares;
mod stream;
mod thread;
mod timers;
mod transport;
mod watchdog;
mod wire;

pub(crate) use config::port_of;
pub use config::{FailureTiming, KeyError, MAX_DATAGRAM, MeshConfig, MeshError, SendError};
pub use counters::MeshStats;
pub use incidents::{Culprit, Incident, IncidentKind};
#[cfg(feature = "inspect-http")]
pub(crate) use listen::reason as why_not_listening;
pub use roster::{MeshEvent, Peer};
pub use seeds::{Seed, SeedState};
#[cfg(any(test, feature = "sim"))]
pub use wire::Cut;

pub(crate) use delegate::Receiver;
use delegate::{Kind, Waiting};
use instance::Core;
use roster::Roster;
use thread::Stop;

/// A running member of a cluster. Dropping it stops everything without a goodbye; [`shutdown`](Self::shutdown) says
/// goodbye first.
pub struct Mesh {
    core: Arc<Core>,
    stop: watch::Sender<Stop>,
    done: watch::Receiver<bool>,
}

/// The events of one mesh, for one consumer.
pub struct MeshEvents {
    roster: Arc<Roster>,
    inbox: mpsc::Receiver<Waiting>,
    done: watch::Receiver<bool>,
}

/// A message that is ready to be sent by stream. All its receivers share one copy.
#[derive(Clone)]
pub(crate) struct StreamMessage(Bytes);

impl StreamMessage {
    /// Copies the bytes once, unless the buffer is unshared and has room for one more byte.
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self(Kind::Stream.seal(bytes))
    }
}

impl Mesh {
    /// Binds, starts and begins to look for the seeds, which need not be reachable yet.
    ///
    /// # Errors
    ///
    /// The configuration is invalid or the address cannot be bound. Then nothing is left running.
    pub async fn start(config: MeshConfig) -> Result<(Mesh, MeshEvents), MeshError> {
        config.validate()?;
        let (sender, inbox) = mpsc::channel(config.inbox);
        let (stop, stopped) = watch::channel(Stop::No);
        let (finished, done) = watch::channel(false);
        let (ready, started) = oneshot::channel();
        // Held to the end of this function: if the start fails or is cancelled, dropping it stops the thread.
        let guard = thread::spawn(config, sender, stopped, ready, finished).map(|()| stop)?;
        let core = match started.await {
            Ok(result) => result?,
            Err(_) => return Err(MeshError::Membership("the mesh thread died while starting".into())),
        };
        let events = MeshEvents { roster: core.delegate_state.roster.clone(), inbox, done: done.clone() };
        Ok((Mesh { core, stop: guard, done }, events))
    }

    /// Returns the bound address, TCP and UDP.
    pub fn local_addr(&self) -> SocketAddr {
        self.core.wire.local
    }

    /// Returns the address at which other members reach this one.
    pub fn advertised(&self) -> SocketAddr {
        self.core.advertise
    }

    /// Returns this member's name.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Returns the other live members, in no particular order.
    pub fn members(&self) -> Vec<Peer> {
        self.core.delegate_state.roster.members()
    }

    /// Returns true if every seed is this member itself, by its advertised or bound address. Returns false without
    /// seeds, and until the seeds have been resolved for the first time.
    pub fn seeds_are_own(&self) -> bool {
        self.core.seeds_are_own.load(Ordering::Acquire)
    }

    /// Hands at most [`MAX_DATAGRAM`] bytes to the kernel. `Ok` says neither that they arrive nor in which order.
    pub async fn send_datagram(&self, to: &Peer, bytes: Bytes) -> Result<(), SendError> {
        check_len(bytes.len(), MAX_DATAGRAM)?;
        self.core.send_datagram(to.addr, Kind::Datagram.seal(bytes)).await
    }

    /// Hands at most [`MAX_DATAGRAM`] bytes to the kernel for each receiver, in this order, without waiting. Any thread
    /// may call this. Returns the number of receivers up to the first whose datagram the kernel does not take now.
    pub(crate) fn send_now(&self, to: &[SocketAddr], bytes: Bytes) -> usize {
        if bytes.len() > MAX_DATAGRAM { 0 } else { self.core.send_now(to, Kind::Datagram.seal(bytes)) }
    }

    /// Offers each datagram to `receiver` on the mesh's thread, before it is queued for the consumer of the events. Only
    /// the first call has an effect.
    pub(crate) fn offer_to(&self, receiver: Weak<dyn Receiver>) {
        let _ = self.core.delegate_state.receiver.set(receiver);
    }

    /// Writes one message to a connection to `to`. `Ok` means that the kernel took all of it, not that it was read.
    ///
    /// Copies the bytes once, unless the buffer is unshared and has room for one more byte.
    pub async fn send_stream(&self, to: &Peer, bytes: Bytes, deadline: Duration) -> Result<(), SendError> {
        self.send_sealed(to, StreamMessage::new(bytes), deadline).await
    }

    /// Writes one message as [`send_stream`](Self::send_stream) does.
    pub(crate) async fn send_sealed(
        &self,
        to: &Peer,
        message: StreamMessage,
        deadline: Duration,
    ) -> Result<(), SendError> {
        check_len(message.0.len() - 1, self.core.config.max_frame)?;
        self.core.send_stream(to.addr, message.0, deadline).await
    }

    /// Returns the states of the configured seeds, in their order.
    pub fn seeds(&self) -> Vec<Seed> {
        self.core.seeds.list()
    }

    /// Returns the faults that other processes caused, at most 64.
    pub fn incidents(&self) -> Vec<Incident> {
        self.core.wire.incidents.list()
    }

    /// Returns the totals since the start.
    pub fn counters(&self) -> MeshStats {
        self.core.counters.counters()
    }

    /// Says goodbye, leaves, stops every task and releases the port, all within about the deadline.
    ///
    /// Any number of callers may wait at once. The goodbye has the deadline of the first caller.
    pub async fn shutdown(&self, deadline: Duration) {
        self.stop.send_if_modified(|stop| {
            let first = stop.is_running();
            if first {
                *stop = Stop::Leave(deadline);
            }
            first
        });
        let mut done = self.done.clone();
        // The thread keeps the deadline. This timeout only guards against a thread that is stuck.
        if timeout(deadline + Duration::from_secs(1), done.wait_for(|d| *d)).await.is_err() {
            tracing::error!("the mesh thread did not stop in time");
        }
    }

    /// Accepts another key from now on. Adding a known key changes nothing.
    pub fn add_key(&self, key: [u8; 32]) -> Result<(), KeyError> {
        keys::add(&self.core, key)
    }

    /// Encrypts with a key added before.
    pub fn use_key(&self, key: [u8; 32]) -> Result<(), KeyError> {
        keys::prefer(&self.core, key)
    }

    /// Refuses a key from now on. Removing an unknown key changes nothing.
    pub fn remove_key(&self, key: [u8; 32]) -> Result<(), KeyError> {
        keys::remove(&self.core, key)
    }

    /// Drops datagrams to and from these addresses and lets dials to them hang, or in one direction only; `None` heals.
    /// Test switch.
    #[cfg(any(test, feature = "sim"))]
    #[doc(hidden)]
    pub fn sever(&self, cut: impl Into<Cut>) {
        self.core.wire.set_cut(cut.into());
    }

    /// Ends every task of memberlist without an event, as its own panics do. Test switch.
    #[cfg(any(test, feature = "sim"))]
    #[doc(hidden)]
    pub async fn wound(&self) {
        if let Some(list) = self.core.live() {
            drop(list.shutdown().await);
        }
    }

    /// Ends a background task, as a panic would, or with `thread` the thread that all tasks run on. Returns the names
    /// of all tasks. Test switch.
    #[cfg(any(test, feature = "sim"))]
    #[doc(hidden)]
    pub fn kill_task(&self, name: &str) -> Vec<&'static str> {
        if name == "thread" {
            self.stop.send_replace(Stop::Panic);
        }
        let tasks = self.core.tasks.lock();
        if let Some(task) = tasks.get(name) {
            task.abort();
        }
        tasks.keys().copied().collect()
    }

    /// Stops this member for a time, as on a machine without a free processor. Works once. Test switch.
    #[cfg(any(test, feature = "sim"))]
    #[doc(hidden)]
    pub fn starve(&self, time: Duration) {
        self.stop.send_replace(Stop::Starve(time));
    }

    /// Rebuilds membership as the watchdog would. Test switch.
    #[cfg(any(test, feature = "sim"))]
    #[doc(hidden)]
    pub fn rebuild(&self) {
        self.core.rebuild_asked.notify_one();
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.stop.send_if_modified(|stop| {
            let running = stop.is_running();
            if running {
                *stop = Stop::Now;
            }
            running
        });
    }
}

fn check_len(len: usize, max: usize) -> Result<(), SendError> {
    if len > max { Err(SendError::TooLarge { len, max }) } else { Ok(()) }
}

impl MeshEvents {
    /// Returns the next event, or `None` after the mesh has stopped and everything was read. Cancel safe.
    pub async fn recv(&mut self) -> Option<MeshEvent> {
        loop {
            if let Some(event) = self.roster.next_event() {
                return Some(event);
            }
            // A thread that died has dropped the sender without setting the flag.
            if *self.done.borrow() || self.done.has_changed().is_err() {
                return self.inbox.try_recv().ok().map(message);
            }
            let roster = self.roster.clone();
            tokio::select! {
                biased;
                // Membership changes come before messages: they are few, and a flood of messages must not delay them.
                () = roster.changed.notified() => {}
                Some(waiting) = self.inbox.recv() => return Some(message(waiting)),
                _ = self.done.changed() => {}
            }
        }
    }

    /// Returns the next event if one is waiting.
    pub fn try_recv(&mut self) -> Option<MeshEvent> {
        self.roster.next_event().or_else(|| self.inbox.try_recv().ok().map(message))
    }
}

/// Turns a queued message into an event and frees its place in the queue.
fn message(waiting: Waiting) -> MeshEvent {
    drop(waiting.place);
    MeshEvent::Message { bytes: waiting.bytes, reliable: waiting.reliable }
}
