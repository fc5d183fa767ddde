//! The start of a node: its settings, its driver's thread, and the errors.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use uuid::Uuid;

use super::address::Addresses;
use super::clock::SystemClock;
use super::driver::Driver;
use super::mesh::{FailureTiming, Mesh, MeshConfig, MeshError};
use super::registry::{Identity, Registry};
use super::settings::NodeSettings;
use super::shortcut::Shortcut;
use super::{Alive, Node, clock};
use crate::report::EventKind;
use crate::sync::{AtomicI64, Ordering};

/// Maximum size of a stream message in bytes: the largest entry and its envelope.
const MAX_MESSAGE: usize = 16 << 20;
/// Maximum number of messages that wait for the driver.
const INBOX: usize = 16_384;
/// The time in which a node whose driver died says goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// The error of a node that did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is out of range, the address cannot be used, or the thread of the network could not be started.
    #[error("{what}")]
    Network {
        /// The failure and its fix.
        what: String,
        /// The error of the operating system, if there is one.
        source: Option<std::io::Error>,
    },
    /// The thread of the node could not be started.
    #[error("the node's thread could not be started: check the limits of processes and of memory")]
    Thread(#[source] std::io::Error),
}

impl From<MeshError> for StartError {
    fn from(error: MeshError) -> Self {
        let what = error.to_string();
        let source = match error {
            MeshError::Bind { source, .. } | MeshError::Thread(source) => Some(source),
            MeshError::Invalid(_) | MeshError::NoAdvertise(_) | MeshError::BadSeed(_) | MeshError::Membership(_) => {
                None
            }
        };
        Self::Network { what, source }
    }
}

/// The settings of a node to be started. Made by [`Node::builder`].
#[must_use = "a builder does nothing until `start` is called"]
#[derive(Clone, Debug)]
pub struct NodeBuilder {
    cluster: String,
    name: String,
    addresses: Addresses,
    seeds: Vec<String>,
    keys: Option<Keys>,
    timing: FailureTiming,
    clock_offset: Option<Arc<AtomicI64>>,
    first_replica_id: Option<Uuid>,
}

#[derive(Clone, Default)]
struct Keys(Vec<[u8; 32]>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl Default for NodeBuilder {
    fn default() -> Self {
        Self {
            cluster: "driftless".into(),
            name: String::new(),
            addresses: Addresses::default(),
            seeds: Vec::new(),
            keys: None,
            timing: FailureTiming::lan(),
            clock_offset: None,
            first_replica_id: None,
        }
    }
}

impl NodeBuilder {
    /// Sets the name of the cluster, 1 to 64 bytes. Nodes of other clusters are refused. Default `driftless`.
    pub fn cluster(mut self, cluster: impl Into<String>) -> Self {
        self.cluster = cluster.into();
        self
    }

    /// Sets a name for this member that stays the same over restarts, at most 255 bytes. Default: the advertised
    /// address.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the address to listen on, TCP and UDP. Port 0 takes a free port. Default `127.0.0.1:0`. For a host name use
    /// [`bind_host`](Self::bind_host).
    pub fn bind(self, addr: SocketAddr) -> Self {
        self.bind_host(addr.to_string())
    }

    /// Sets the address to listen on as `host:port`, such as `localhost:7946`. The name is resolved once, at the start;
    /// of several addresses the first IPv4 address is used.
    pub fn bind_host(mut self, host_and_port: impl Into<String>) -> Self {
        self.addresses.bind = host_and_port.into();
        self
    }

    /// Sets the address at which other nodes reach this one. Default: the bound address. Required if the bound address
    /// is unspecified, as `0.0.0.0` is. For a host name use [`advertise_host`](Self::advertise_host).
    pub fn advertise(self, addr: SocketAddr) -> Self {
        self.advertise_host(addr.to_string())
    }

    /// Sets the address at which other nodes reach this one as `host:port`. The name is resolved once, at the start, to
    /// its first address of the family of the bound address: other nodes are sent that address, not the name.
    pub fn advertise_host(mut self, host_and_port: impl Into<String>) -> Self {
        self.addresses.advertise = Some(host_and_port.into());
        self
    }

    /// Sets the nodes to join, as `host:port`, always with a port. Names are resolved again at every attempt, and
    /// attempts never end. Without seeds, or with itself as the only seed, the node is a cluster of one until another
    /// node has it as a seed. The node recognises itself by its bound and its advertised address. A seed is the node
    /// itself if it resolves to these addresses only.
    pub fn seeds<S: Into<String>>(mut self, seeds: impl IntoIterator<Item = S>) -> Self {
        self.seeds = seeds.into_iter().map(Into::into).collect();
        self
    }

    /// Encrypts everything with AES-256-GCM under this key, and refuses unencrypted traffic.
    pub fn encryption_key(mut self, key: [u8; 32]) -> Self {
        self.keys = Some(Keys(vec![key]));
        self
    }

    /// Encrypts as [`encryption_key`](Self::encryption_key) does, with a keyring: the first key encrypts, all keys
    /// decrypt.
    pub fn encryption_keys(mut self, keys: impl IntoIterator<Item = [u8; 32]>) -> Self {
        self.keys = Some(Keys(keys.into_iter().collect()));
        self
    }

    /// Sets everything at once, as from a configuration file. Of earlier settings only keys stay.
    pub fn settings(self, settings: NodeSettings) -> Self {
        let NodeSettings { cluster, name, bind, advertise, seeds } = settings;
        let addresses = Addresses { bind: bind.into(), advertise: advertise.map(Into::into) };
        Self { addresses, ..self.cluster(cluster).name(name).seeds(seeds) }
    }

    /// Detects failures within about a second, for tests on one machine.
    #[doc(hidden)]
    pub fn local_timing(mut self) -> Self {
        self.timing = FailureTiming::local();
        self
    }

    /// Shifts the wall clock by this many nanoseconds, which may change at any time. For drills.
    #[doc(hidden)]
    pub fn clock_offset(mut self, offset: Arc<AtomicI64>) -> Self {
        self.clock_offset = Some(offset);
        self
    }

    /// Sets the id of the first replica that is opened here. For drills: a cloned machine has the id of its original.
    #[doc(hidden)]
    pub fn first_replica_id(mut self, id: Uuid) -> Self {
        self.first_replica_id = Some(id);
        self
    }

    /// Starts the node. Seeds need not be reachable.
    ///
    /// # Errors
    /// A setting is out of range, an address or seed is not `host:port`, the name of an address does not resolve, or an
    /// unspecified address is bound and none is advertised. The address cannot be bound, or no thread or file descriptor
    /// is left to run on.
    pub async fn start(self) -> Result<Node, StartError> {
        if self.keys.as_ref().is_some_and(|keys| keys.0.is_empty()) {
            let what = "`encryption_keys` received no key: pass at least one, or leave out the call for a cluster \
                without encryption"
                .into();
            return Err(StartError::Network { what, source: None });
        }
        let (incarnation, _) = clock::entropy();
        let identity = Identity { cluster: self.cluster.clone(), encrypted: self.keys.is_some() };
        let registry = Arc::new(Registry::new(incarnation, identity, SystemClock::new(self.clock_offset)));
        registry.set_first_id(self.first_replica_id);
        registry.phase.awaits_seeds.store(!self.seeds.is_empty(), Ordering::Release);
        let seeds = self.seeds.clone();
        let unusable = |(what, source)| StartError::Network { what, source };
        let (bind, advertise) = self.addresses.resolve().await.map_err(unusable)?;
        let config = MeshConfig {
            name: self.name,
            advertise,
            seeds: self.seeds,
            keys: self.keys.unwrap_or_default().0,
            incarnation,
            max_frame: MAX_MESSAGE,
            inbox: INBOX,
            failure: self.timing,
            ..MeshConfig::new(self.cluster, bind)
        };
        let (mesh, events) = Mesh::start(config).await?;
        let mesh = Arc::new(mesh);
        registry.note(EventKind::NodeStarted, mesh.name(), format!("this node was started at {}", mesh.advertised()));
        let (commands, inbox) = mpsc::unbounded_channel();
        let shortcut = Shortcut::new(Arc::clone(&mesh), Arc::clone(&registry));
        let driver =
            Driver::new((Arc::clone(&mesh), events), Arc::clone(&registry), Arc::clone(&shortcut), inbox, seeds);
        spawn(driver, Arc::clone(&registry), Arc::clone(&mesh)).await?;
        let owner = Arc::new(super::Owner(Arc::clone(&registry)));
        Ok(Node { registry, alive: Arc::new(Alive { mesh, shortcut, commands, spare: Arc::default() }), _owner: owner })
    }

    /// Starts as [`start`](Self::start) does, for applications without a runtime: it blocks the thread.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_blocking(self) -> Result<Node, StartError> {
        crate::sync::block_on(self.start())
    }
}

/// Starts the driver on its own thread, with its own runtime.
///
/// A panic of the driver would be a bug of this crate. The node then sends nothing any more, so it must not stay a
/// member: it leaves the cluster, refuses new caches and logs an error.
async fn spawn(driver: Driver, registry: Arc<Registry>, mesh: Arc<Mesh>) -> Result<(), StartError> {
    let (started, result) = oneshot::channel();
    let span = tracing::info_span!(parent: None, "driftless.node", node = mesh.name());
    let name = mesh.name().to_owned();
    let run = move || {
        let _inside = span.entered();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => {
                let _ = started.send(Ok(()));
                let ran = catch_unwind(AssertUnwindSafe(|| runtime.block_on(driver.run())));
                registry.phase.died.fetch_or(ran.is_err(), Ordering::AcqRel);
                registry.phase.down.store(true, Ordering::Release);
                if ran.is_err() {
                    tracing::error!(
                        "the driver of this node panicked: the node is down, its caches are local from now on"
                    );
                    // Without a goodbye, other nodes would wait for a member that answers pings and nothing else.
                    runtime.block_on(mesh.shutdown(GOODBYE));
                }
                registry.stop();
                registry.close_lingering(u64::MAX);
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        }
    };
    std::thread::Builder::new().name(format!("driftless {name}")).spawn(run).map_err(StartError::Thread)?;
    result.await.unwrap_or(Ok(())).map_err(StartError::Thread)
}
