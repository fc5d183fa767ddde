//! The memberlist instances of a mesh, one after another, over the same sockets, roster and keys.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use memberlist::{
    Memberlist, Options,
    error::Error,
    proto::{ChecksumAlgorithm, EncryptionAlgorithm, Label, MaybeResolvedAddress, SecretKey},
};
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, timeout},
};

use super::{
    config::{MeshConfig, MeshError, SendError},
    counters::Counters,
    delegate::{DelegateState, Kind, MeshDelegate},
    roster::{MeshEvent, Peer},
    seeds::{NotJoined, Seeds},
    timers,
    transport::{MeshTransport, TransportOptions, WireError},
    wire::Wire,
};
use crate::sync::{Mutex, RwLock};

pub(super) type List = Memberlist<MeshTransport, MeshDelegate>;
type ListError = Error<MeshTransport, MeshDelegate>;

/// The time after which memberlist reaps a dead member: longer than any uptime, because memberlist 0.8.5 corrupts its
/// table when it reaps.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// The time after which a dead member's name may come back at another address.
const RECLAIM: Duration = Duration::from_millis(1);
/// Maximum number of messages between memberlist's listener and its handler. The default of 1,024 loses bursts.
const HANDOFF: usize = 8192;
/// Maximum number of members contacted at one time, to join or to say goodbye.
const PARALLEL_JOINS: usize = 16;

/// Returns true if the instance or the connection had ended, so that a second attempt on a new one may succeed.
fn is_stale(error: &ListError) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    match error {
        Error::NotRunning => true,
        Error::Transport(WireError::Io(e)) => matches!(e.kind(), BrokenPipe | ConnectionAborted | ConnectionReset),
        _ => false,
    }
}

/// Returns the innermost cause of an error: the outer ones name what was done, which is known.
fn cause_of(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The state that the tasks and the handle share.
pub(super) struct Core {
    pub(super) config: MeshConfig,
    pub(super) name: Arc<str>,
    pub(super) advertise: SocketAddr,
    pub(super) wire: Arc<Wire>,
    pub(super) delegate_state: Arc<DelegateState>,
    pub(super) counters: Arc<Counters>,
    /// The instance that is in use; `None` before the start and after the end.
    live: RwLock<Option<List>>,
    /// The request for a rebuild.
    pub(super) rebuild_asked: Notify,
    /// The states of the configured seeds.
    pub(super) seeds: Seeds,
    /// True if there are seeds and each of them is this member itself.
    pub(super) seeds_are_own: AtomicBool,
    /// The supervised tasks, by name.
    pub(super) tasks: Mutex<BTreeMap<&'static str, AbortHandle>>,
}

impl Core {
    pub(super) fn new(config: MeshConfig, wire: Wire, delegate_state: DelegateState) -> Self {
        let advertise = config.advertise.unwrap_or(wire.local);
        let name = if config.name.is_empty() { advertise.to_string() } else { config.name.clone() };
        Self {
            name: name.into(),
            advertise,
            counters: delegate_state.counters.clone(),
            wire: Arc::new(wire),
            delegate_state: Arc::new(delegate_state),
            live: RwLock::new(None),
            rebuild_asked: Notify::new(),
            seeds: Seeds::new(&config.seeds),
            seeds_are_own: AtomicBool::new(false),
            tasks: Mutex::default(),
            config,
        }
    }

    pub(super) fn live(&self) -> Option<List> {
        self.live.read().clone()
    }

    /// Takes the live instance away. No message leaves from now on.
    pub(super) fn take_live(&self) -> Option<List> {
        self.live.write().take()
    }

    /// Starts the first instance.
    pub(super) async fn start(&self) -> Result<(), MeshError> {
        let list = self.launch().await.map_err(|e| MeshError::Membership(e.to_string()))?;
        *self.live.write() = Some(list);
        Ok(())
    }

    async fn launch(&self) -> Result<List, ListError> {
        let generation = self.delegate_state.roster.next_generation();
        let delegate = MeshDelegate { delegate_state: self.delegate_state.clone(), generation };
        let transport =
            TransportOptions { wire: self.wire.clone(), name: self.name.clone(), advertise: self.advertise };
        let result = List::with_delegate(delegate, transport, self.options()).await;
        if result.is_err() {
            self.delegate_state.roster.previous_generation();
        }
        result
    }

    /// Replaces the instance. Sockets and connections stay, so nothing that waits in them is lost.
    pub(super) async fn rebuild(&self, reason: &'static str) {
        let fresh = match self.launch().await {
            Ok(list) => list,
            Err(e) => {
                self.counters.rebuild_failures.one();
                tracing::error!(reason, error = %e, "membership could not be rebuilt; the watchdog will try again");
                return;
            }
        };
        // The new instance replaces the old one before that ends, so that every send finds an instance.
        let old = self.live.write().as_mut().map(|live| std::mem::replace(live, fresh.clone()));
        let Some(old) = old else {
            // The mesh has ended meanwhile.
            drop(fresh.shutdown().await);
            return;
        };
        self.counters.rebuilds.one();
        tracing::warn!(reason, "membership rebuilt in place");
        drop(timeout(Duration::from_secs(1), old.shutdown()).await);
        self.delegate_state.roster.notice(MeshEvent::Rebuilt { reason });
        self.join_all(self.delegate_state.roster.members().iter().map(|p| p.addr).collect()).await;
    }

    /// Exchanges member tables with each address. Returns the number of addresses that answered.
    pub(super) async fn join_all(&self, addrs: Vec<SocketAddr>) -> usize {
        let joined = self.join_each(addrs).await;
        joined.iter().filter(|(_, joined)| joined.is_ok()).count()
    }

    /// Exchanges member tables with each address. Returns the result for each address.
    pub(super) async fn join_each(&self, addrs: Vec<SocketAddr>) -> Vec<(SocketAddr, Result<(), NotJoined>)> {
        let joins = stream::iter(addrs).map(|addr| async move { (addr, self.join(addr).await) });
        joins.buffer_unordered(PARALLEL_JOINS).collect().await
    }

    async fn join(&self, addr: SocketAddr) -> Result<(), NotJoined> {
        let list = self.live().ok_or_else(|| NotJoined::Failed("this member is stopping".into()))?;
        self.counters.join_attempts.one();
        self.wire.take_refused_by(addr);
        let limit = self.config.failure.connect_timeout + self.config.failure.stream_timeout;
        let error = match timeout(limit, list.join(MaybeResolvedAddress::resolved(addr))).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => cause_of(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        self.counters.join_failures.one();
        tracing::debug!(%addr, error, "join failed");
        Err(self.wire.take_refused_by(addr).map_or(NotJoined::Failed(error), NotJoined::Refused))
    }

    fn options(&self) -> Options {
        let timing = &self.config.failure;
        let label = Label::try_from(self.config.cluster.as_str()).unwrap_or_default();
        let options = Options::lan()
            .with_label(label)
            .with_timeout(timing.stream_timeout)
            .with_probe_interval(timing.probe_interval)
            .with_probe_timeout(timing.probe_timeout)
            .with_suspicion_mult(timing.suspicion_mult)
            .with_suspicion_max_timeout_mult(timing.suspicion_max_mult)
            .with_gossip_interval(timing.gossip_interval)
            .with_push_pull_interval(timing.push_pull_interval)
            .with_gossip_to_the_dead_time(NEVER)
            .with_dead_node_reclaim_time(RECLAIM)
            .with_handoff_queue_depth(HANDOFF);
        self.with_keys(options)
    }

    /// Adds the keys to the options. A key alone encrypts nothing in memberlist 0.8.5: the algorithm and both
    /// directions must be set as well.
    fn with_keys(&self, options: Options) -> Options {
        let keys = self.wire.keys.lock();
        let Some((primary, others)) = keys.split_first() else {
            return options.with_checksum_algo(ChecksumAlgorithm::Crc32);
        };
        options
            .with_primary_key(SecretKey::Aes256(*primary))
            .with_secret_keys(others.iter().map(|k| SecretKey::Aes256(*k)).collect::<Vec<_>>().into())
            .with_encryption_algo(EncryptionAlgorithm::NoPadding)
            .with_gossip_verify_incoming(true)
            .with_gossip_verify_outgoing(true)
    }

    pub(super) async fn send_datagram(&self, to: SocketAddr, bytes: Bytes) -> Result<(), SendError> {
        if self.send_now(&[to], bytes.clone()) == 1 {
            return Ok(());
        }
        // The kernel's buffer is full, or the send failed: memberlist waits, or returns the error.
        let list = self.live().ok_or(SendError::Stopped)?;
        match list.send(&to, bytes.clone()).await {
            // A rebuild replaced this instance in the meantime.
            Err(Error::NotRunning) => {
                let list = self.live().ok_or(SendError::Stopped)?;
                self.sent(list.send(&to, bytes).await)
            }
            result => self.sent(result),
        }
    }

    /// Hands one message to the kernel for each receiver, in this order, without waiting. Any thread may call this. Stops
    /// at the first receiver whose datagram the kernel does not take, and returns the number of those before it.
    pub(super) fn send_now(&self, to: &[SocketAddr], bytes: Bytes) -> usize {
        // While this member says goodbye, no message leaves.
        if self.live.read().is_none() {
            return 0;
        }
        let Some(datagram) = self.wire.encode(bytes) else { return 0 };
        to.iter().take_while(|to| self.wire.try_send_to(**to, datagram.as_slice()).is_ok()).count()
    }

    pub(super) async fn send_stream(&self, to: SocketAddr, bytes: Bytes, deadline: Duration) -> Result<(), SendError> {
        let sent = timeout(deadline, async {
            let list = self.live().ok_or(SendError::Stopped)?;
            match list.send_reliable(&to, bytes.clone()).await {
                // A rebuild replaced this instance, or the peer closed the idle connection: send once more on a new
                // connection. The message may then arrive twice, which the protocol tolerates.
                Err(e) if is_stale(&e) => {
                    self.wire.forget(to);
                    let list = self.live().ok_or(SendError::Stopped)?;
                    self.sent(list.send_reliable(&to, bytes).await)
                }
                result => self.sent(result),
            }
        });
        sent.await.unwrap_or_else(|_| {
            self.counters.send_failures.one();
            Err(SendError::Deadline)
        })
    }

    fn sent(&self, result: Result<(), ListError>) -> Result<(), SendError> {
        result.map_err(|e| {
            self.counters.send_failures.one();
            SendError::Unreachable(e.to_string())
        })
    }

    /// Ends the last instance, after a goodbye if there is a deadline for it. Afterwards nothing holds the instance.
    pub(super) async fn end(&self, goodbye: Option<Duration>) {
        let Some(list) = self.take_live() else { return };
        if let Some(deadline) = goodbye {
            self.leave(&list, deadline).await;
        }
        drop(timeout(Duration::from_millis(100), list.shutdown()).await);
        // `run_out` fires all timers early, and suspicions then end in false verdicts. The next generation hides these
        // from this node, and closed sockets hide them from other members. memberlist logs them ("marking … as failed")
        // all the same.
        self.delegate_state.roster.next_generation();
        self.wire.close();
        if timeout(Duration::from_millis(100), timers::run_out()).await.is_err() {
            tracing::debug!("membership ended with timers running");
        }
    }

    /// Says goodbye to all members, then leaves the member table, all within the deadline.
    async fn leave(&self, list: &List, deadline: Duration) {
        let end = Instant::now() + deadline;
        let goodbyes = self.goodbyes(list, self.delegate_state.roster.members());
        if timeout(deadline / 2, goodbyes).await.is_err() {
            tracing::debug!("not every member received the goodbye; the rest will detect the departure");
        }
        let remaining = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        // The timeout inside `leave` begins only when it holds the member table, which a hanging task may hold.
        match timeout(remaining, list.leave(remaining)).await {
            Ok(Ok(_)) => {}
            failed => {
                tracing::debug!(error = ?failed.map(|r| r.err().map(|e| e.to_string())), "leaving was not confirmed")
            }
        }
    }

    async fn goodbyes(&self, list: &List, members: Vec<Peer>) {
        let word = Kind::Goodbye.seal(Bytes::copy_from_slice(self.config.incarnation.as_bytes()));
        let say = |to: SocketAddr| {
            let word = word.clone();
            async move {
                // By datagram and by stream, because either may be lost. Receiving both does no harm.
                drop(list.send(&to, word.clone()).await);
                drop(list.send_reliable(&to, word).await);
            }
        };
        stream::iter(members).for_each_concurrent(PARALLEL_JOINS, |peer| say(peer.addr)).await;
    }
}
