//! The state of one connection, and the state that all connections share.

use super::{
    clients::{Client, Clients, Profile},
    reply::Protocol,
    request::{Limits, MAX_ARGUMENTS},
    settings::Settings,
    sync::lock,
    tracking::Tracker,
};
use bytes::Bytes;
use driftless::{Cache, Node, Stamp, Written};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// A cache, under the number that clients give to `SELECT`.
pub struct Database {
    pub cache: Cache<Bytes, Bytes>,
    pub tracker: Arc<Tracker>,
}

/// The state that all connections share.
pub struct Shared {
    pub node: Node,
    /// The databases by number. There is at least one.
    pub databases: Vec<Database>,
    pub cluster: String,
    pub redis: SocketAddr,
    pub settings: Settings,
    /// One permit per free connection.
    pub places: Arc<Semaphore>,
    pub clients: Arc<Clients>,
    pub started: Instant,
    pub stats: Stats,
    /// True once the process ends: connections finish their requests and close.
    pub is_stopping: AtomicBool,
    /// The offset of this node's clock in nanoseconds, in a drill only.
    pub drill: Option<Arc<AtomicI64>>,
}

impl Shared {
    /// Returns the state of a server that listens on `redis`. Clients find `caches` by their number; the first is
    /// selected at the start.
    ///
    /// # Panics
    /// If there is no cache.
    pub fn new(
        node: Node,
        caches: Vec<Cache<Bytes, Bytes>>,
        cluster: String,
        redis: SocketAddr,
        settings: Settings,
    ) -> Self {
        assert!(!caches.is_empty(), "a server needs at least one cache");
        let clients = Arc::<Clients>::default();
        let database = |cache| Database { cache, tracker: Tracker::new(Arc::clone(&clients), settings.tracking_keys) };
        Self {
            node,
            databases: caches.into_iter().map(database).collect(),
            cluster,
            redis,
            places: Arc::new(Semaphore::new(settings.max_clients.min(Semaphore::MAX_PERMITS))),
            settings,
            clients,
            started: Instant::now(),
            stats: Stats::default(),
            is_stopping: AtomicBool::new(false),
            drill: None,
        }
    }

    /// Returns the cache that a new connection uses.
    pub fn cache(&self) -> &Cache<Bytes, Bytes> {
        &self.databases[0].cache
    }
}

/// Counters for `INFO`.
#[derive(Default)]
pub struct Stats {
    pub connections: Counter,
    pub rejected: Counter,
    pub malformed: Counter,
    pub commands: Counter,
    pub errors: Counter,
    pub input: Counter,
    pub output: Counter,
    /// Clients that were disconnected because they did not read their replies.
    pub slow_clients: Counter,
    /// Clients that wait in `WAIT`.
    pub waiting: AtomicI64,
    /// Bytes of requests and replies that are held for all clients.
    pub buffered: AtomicI64,
}

/// A counter, which never decreases.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds a number and returns the new value.
    pub fn add(&self, number: u64) -> u64 {
        self.0.fetch_add(number, Relaxed) + number
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The commands that wait for `EXEC`.
#[derive(Default)]
pub struct Transaction {
    pub commands: Vec<Vec<Bytes>>,
    pub bytes: usize,
    /// True if a command was refused, so that nothing will be run.
    pub is_aborted: bool,
}

/// The mode of `CLIENT TRACKING`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every read is tracked.
    Reads,
    /// A read is tracked if `CLIENT CACHING YES` precedes it.
    OptIn,
    /// A read is tracked unless `CLIENT CACHING NO` precedes it.
    OptOut,
    /// Every key that starts with one of the prefixes is tracked.
    Broadcast,
}

/// The tracking of one client.
#[derive(Debug)]
pub struct Tracking {
    pub mode: Mode,
    /// True if the client is not told of its own writes.
    pub no_loop: bool,
    pub prefixes: Vec<Bytes>,
    /// The last `CLIENT CACHING`. Holds for the next command, or for the next transaction.
    pub caching: bool,
}

impl Tracking {
    /// Returns true if the keys that the next command reads are to be remembered.
    pub fn remembers(&self) -> bool {
        match self.mode {
            Mode::Reads => true,
            Mode::OptIn => self.caching,
            Mode::OptOut => !self.caching,
            Mode::Broadcast => false,
        }
    }
}

/// The setting of `CLIENT REPLY`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Silence {
    #[default]
    Off,
    /// No replies until `CLIENT REPLY ON`.
    On,
    /// No reply to this command.
    This,
    /// No reply to the next command.
    Next,
}

/// A `WAIT` that has to be answered before the next request runs.
pub struct Wait {
    pub members: usize,
    pub timeout: Duration,
}

/// One connection.
pub struct Session<'a> {
    pub shared: &'a Shared,
    pub client: Arc<Client>,
    /// The number of the selected database.
    pub database: usize,
    pub protocol: Protocol,
    /// True if no password is needed, or it was sent.
    pub is_authenticated: bool,
    /// True once the connection has to be closed after the reply.
    pub closing: bool,
    pub transaction: Option<Transaction>,
    pub tracking: Option<Tracking>,
    /// True while the client is subscribed to the channel of invalidations.
    pub is_subscribed: bool,
    pub silence: Silence,
    /// True if reads do not count as uses.
    pub no_touch: bool,
    pub waiting: Option<Wait>,
    /// The member to forget before the next request.
    pub forgetting: Option<String>,
    /// The values that the present command wrote; noted for clients with `NOLOOP` only.
    pub written: Vec<(Bytes, Stamp)>,
}

impl<'a> Session<'a> {
    pub fn new(shared: &'a Shared, client: Arc<Client>) -> Self {
        Self {
            shared,
            client,
            database: 0,
            protocol: Protocol::default(),
            is_authenticated: shared.settings.password.is_none(),
            closing: false,
            transaction: None,
            tracking: None,
            is_subscribed: false,
            silence: Silence::Off,
            no_touch: false,
            waiting: None,
            forgetting: None,
            written: Vec::new(),
        }
    }

    /// Returns true if the next request may run: no command before it still waits for its reply.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_none() && self.forgetting.is_none()
    }

    /// Returns the selected cache.
    #[inline]
    pub fn cache(&self) -> &'a Cache<Bytes, Bytes> {
        &self.shared.databases[self.database].cache
    }

    /// Returns the tracker of the selected cache.
    pub fn tracker(&self) -> &'a Arc<Tracker> {
        &self.shared.databases[self.database].tracker
    }

    /// Reads a value. Counts as a use, unless the client asked for `NO-TOUCH`. The value shares the memory of the cache.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<Bytes> {
        if self.no_touch {
            return self.cache().entry(key).map(driftless::EntryInfo::into_value);
        }
        self.cache().get(key)
    }

    /// Notes a write of the present command.
    #[inline]
    pub fn note(&mut self, key: &Bytes, written: Written) {
        if self.tracking.as_ref().is_some_and(|tracking| tracking.no_loop) {
            self.written.push((key.clone(), written.stamp));
        }
    }

    /// Returns the limits of the next request.
    pub fn limits(&self) -> Limits {
        if self.is_authenticated {
            Limits { bytes: self.shared.settings.max_request_bytes, arguments: MAX_ARGUMENTS }
        } else {
            Limits::STRANGER
        }
    }

    /// Changes what other connections see of this one.
    pub fn profile(&self, change: impl FnOnce(&mut Profile)) {
        change(&mut lock(&self.client.profile));
    }

    /// Stops `CLIENT TRACKING`.
    pub fn stop_tracking(&mut self) {
        if self.tracking.take().is_some() {
            self.shared.databases.iter().for_each(|database| database.tracker.remove(self.client.id));
            self.client.pushes.set_redirect(None);
            if !self.is_subscribed {
                self.client.pushes.clear();
            }
            self.profile(|profile| profile.tracking = false);
        }
    }

    /// Returns the connection to the state in which it was opened.
    pub fn reset(&mut self) {
        self.stop_tracking();
        self.client.pushes.clear();
        *self = Session::new(self.shared, Arc::clone(&self.client));
        self.profile(|profile| *profile = Profile { name: Bytes::new(), ..Profile::default() });
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if self.tracking.is_some() {
            self.shared.databases.iter().for_each(|database| database.tracker.remove(self.client.id));
        }
    }
}
