//! The settings of a store.

use std::time::Duration;

use driftless::{Cache, Node, OpenError};

use crate::store::{DriftlessStore, Limits};

/// The most revocations of unknown ids by default. Each takes about 300 bytes on every node.
const UNKNOWN_IDS: u64 = 100_000;
/// The default of [`Builder::longest_partition`].
const LONGEST_PARTITION: Duration = Duration::from_secs(24 * 3_600);
/// The default of [`Builder::logout_wait`].
const LOGOUT_WAIT: Duration = Duration::from_millis(500);

/// The reason why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("the cache `{cache}` of the session store cannot be opened: {source}")]
#[non_exhaustive]
pub struct OpenStoreError {
    /// The name of the cache.
    pub cache: String,
    /// The reason.
    pub source: OpenError,
}

/// The settings of a [`DriftlessStore`]. All nodes should open the store with the same settings.
#[derive(Clone, Debug)]
#[must_use = "a store is opened by `open`"]
pub struct Builder<'a> {
    node: &'a Node,
    name: String,
    max_sessions: Option<u64>,
    max_unknown_ids: u64,
    limits: Limits,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(node: &'a Node) -> Self {
        Self {
            node,
            name: "sessions".into(),
            max_sessions: None,
            max_unknown_ids: UNKNOWN_IDS,
            limits: Limits { longest_partition: LONGEST_PARTITION, logout_wait: LOGOUT_WAIT },
        }
    }

    /// Sets the name of the cache. Default: `sessions`. The store also opens the caches `NAME-revoked` and
    /// `NAME-revoked-unknown`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the most sessions that this node holds. Default: unbounded. Beyond it, the sessions that were not used for
    /// longest are evicted on this node only: their users are logged out where this node serves them.
    pub fn max_sessions(mut self, sessions: u64) -> Self {
        self.max_sessions = Some(sessions);
        self
    }

    /// Sets the most revocations of session ids that were not here at their logout. Default: 100,000, about 30 MB on
    /// each node. Beyond it, the oldest are dropped. The bound is for requests to log out with made-up ids: without it
    /// they would fill the memory. Revocations of sessions that were here are not bounded.
    pub fn max_unknown_ids(mut self, ids: u64) -> Self {
        self.max_unknown_ids = ids;
        self
    }

    /// Sets the longest time for which a node may be cut off and still not bring back a session that was logged out
    /// meanwhile. Default: 24 hours. A revocation is kept for the lifetime of its session plus this time, so a longer
    /// time takes more memory: about 300 bytes on each node for each logout.
    pub fn longest_partition(mut self, time: Duration) -> Self {
        self.limits.longest_partition = time;
        self
    }

    /// Sets the most time for which a logout waits until every live node has it. Default: 500 ms; zero does not wait.
    /// Once the wait is over, the logout is reported as done in any case, and continues to spread. A longer wait delays
    /// logouts while a node is unreachable and not yet found dead.
    pub fn logout_wait(mut self, time: Duration) -> Self {
        self.limits.logout_wait = time;
        self
    }

    /// Opens the store. Wait for [`DriftlessStore::ready`] before the node serves requests.
    ///
    /// # Errors
    /// One of the three caches cannot be opened: the name is not valid, is open with other types, or the node was shut
    /// down.
    pub fn open(self) -> Result<DriftlessStore, OpenStoreError> {
        let revoked = opened(self.node, format!("{}-revoked", self.name), None)?;
        let revoked_unknown = opened(self.node, format!("{}-revoked-unknown", self.name), Some(self.max_unknown_ids))?;
        let sessions = opened(self.node, self.name, self.max_sessions)?;
        Ok(DriftlessStore::new(sessions, revoked, revoked_unknown, self.limits))
    }
}

fn opened<V: driftless::cache::CacheValue>(
    node: &Node,
    name: String,
    capacity: Option<u64>,
) -> Result<Cache<String, V>, OpenStoreError> {
    let builder = node.cache(&name);
    let builder = match capacity {
        Some(capacity) => builder.max_capacity(capacity),
        None => builder,
    };
    builder.open().map_err(|source| OpenStoreError { cache: name, source })
}
