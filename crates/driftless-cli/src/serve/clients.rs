//! The connected clients: what other connections, and the change stream, may know of and do to a connection.

use super::{pushes::Pushes, reply::Protocol, sync::lock};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    fmt::Write,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};
use tokio::sync::Notify;

/// The parts of a connection that other connections list.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// The name set by `CLIENT SETNAME`.
    pub name: Bytes,
    /// The library and its version, set by `CLIENT SETINFO`.
    pub library: [Bytes; 2],
    /// The number of the selected database.
    pub database: usize,
    /// The version of the protocol.
    pub protocol: Protocol,
    /// The number of commands that wait for `EXEC`; `None` outside a transaction.
    pub queued: Option<usize>,
    /// True while the client receives invalidations as messages of a subscription.
    pub subscribed: bool,
    /// True while reads of this client are tracked.
    pub tracking: bool,
    /// True if `CLIENT NO-EVICT` was set. Kept for the list alone.
    pub no_evict: bool,
    /// True if reads of this client do not count as uses.
    pub no_touch: bool,
}

/// One connected client.
#[derive(Debug)]
pub struct Client {
    pub id: u64,
    pub address: SocketAddr,
    pub local: SocketAddr,
    pub connected: Instant,
    pub profile: Mutex<Profile>,
    /// The invalidations that wait for this client.
    pub pushes: Pushes,
    /// Wakes the connection: it was killed, or there are invalidations.
    pub signal: Notify,
    pub killed: AtomicBool,
    /// The number of the last command in the table of commands.
    pub last_command: AtomicUsize,
    /// Milliseconds from `connected` to the last command.
    pub last_active: AtomicU64,
    /// Bytes of requests and replies that are held for this client.
    pub buffered: AtomicUsize,
}

impl Client {
    pub fn new(id: u64, address: SocketAddr, local: SocketAddr) -> Self {
        Self {
            id,
            address,
            local,
            connected: Instant::now(),
            profile: Mutex::default(),
            pushes: Pushes::default(),
            signal: Notify::new(),
            killed: AtomicBool::new(false),
            last_command: AtomicUsize::new(usize::MAX),
            last_active: AtomicU64::new(0),
            buffered: AtomicUsize::new(0),
        }
    }

    /// Makes the connection close at its next turn.
    pub fn kill(&self) {
        self.killed.store(true, Relaxed);
        self.signal.notify_one();
    }

    pub fn is_killed(&self) -> bool {
        self.killed.load(Relaxed)
    }

    /// Notes a command. Called once for each batch of requests.
    pub fn note_command(&self, number: usize) {
        self.last_command.store(number, Relaxed);
        let millis = u64::try_from(self.connected.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_active.store(millis, Relaxed);
    }

    /// Returns the line about this client in `CLIENT LIST`.
    pub fn line(&self, command: &str) -> String {
        let Profile { name, library: [library, version], database, protocol, queued, subscribed, tracking, .. } =
            lock(&self.profile).clone();
        let age = self.connected.elapsed();
        let idle = age.as_secs().saturating_sub(self.last_active.load(Relaxed) / 1000);
        let flags = flags(&lock(&self.profile));
        let mut line = format!("id={} addr={} laddr={} fd=0", self.id, self.address, self.local);
        let _ = write!(
            line,
            " name={} age={} idle={idle} flags={flags} db={database} sub={} psub=0 ssub=0 multi={} watch=0",
            String::from_utf8_lossy(&name),
            age.as_secs(),
            u8::from(subscribed),
            queued.map_or(-1, |queued| i64::try_from(queued).unwrap_or(i64::MAX)),
        );
        let redirect =
            if tracking { self.pushes.redirect().map_or(0, |id| i64::try_from(id).unwrap_or(0)) } else { -1 };
        let buffered = self.buffered.load(Relaxed);
        let _ = write!(line, " qbuf=0 qbuf-free=0 tot-mem={buffered} cmd={command} user=default redir={redirect}");
        let protocol = if protocol == Protocol::Three { 3 } else { 2 };
        let (library, version) = (String::from_utf8_lossy(&library), String::from_utf8_lossy(&version));
        let _ = writeln!(line, " resp={protocol} lib-name={library} lib-ver={version}");
        line
    }
}

fn flags(profile: &Profile) -> String {
    let each = [
        (profile.subscribed, 'P'),
        (profile.queued.is_some(), 'x'),
        (profile.tracking, 't'),
        (profile.no_evict, 'e'),
        (profile.no_touch, 'T'),
    ];
    let flags: String = each.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| *flag).collect();
    if flags.is_empty() { "N".to_owned() } else { flags }
}

/// All connected clients, by id.
#[derive(Debug, Default)]
pub struct Clients(Mutex<BTreeMap<u64, Arc<Client>>>);

impl Clients {
    pub fn add(&self, client: &Arc<Client>) {
        lock(&self.0).insert(client.id, Arc::clone(client));
    }

    pub fn remove(&self, id: u64) {
        lock(&self.0).remove(&id);
    }

    pub fn get(&self, id: u64) -> Option<Arc<Client>> {
        lock(&self.0).get(&id).cloned()
    }

    /// Returns all clients, in the order in which they connected.
    pub fn all(&self) -> Vec<Arc<Client>> {
        lock(&self.0).values().cloned().collect()
    }

    /// Closes all connections at their next turn.
    pub fn wake_all(&self) {
        for client in self.all() {
            client.signal.notify_one();
        }
    }
}
