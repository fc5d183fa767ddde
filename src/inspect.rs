//! Inspection of a running node, for operators and for authors of tests.
//!
//! ```no_run
//! # async fn example(node: driftless::Node) -> Result<(), Box<dyn std::error::Error>> {
//! use driftless::inspect::Inspector;
//! let inspector = Inspector::new(&node);
//! for warning in inspector.node().warnings {
//!     println!("{} ({}): {}", warning.name, warning.about, warning.text);
//! }
//! let explained = inspector.explain("prices", "apple", std::time::Duration::from_secs(1)).await?;
//! println!("{}", explained.verdict);
//! # Ok(())
//! # }
//! ```
//!
//! Inspection does not change what is cached, what is collected, or what counts as used. Numbers are copied under the
//! replica's lock, which takes microseconds. Keys are walked in pages without the lock. Values are never sent to
//! another node, and are shown only by a request that asks for them.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::port::Port;
use crate::node::inquiry;
use crate::node::mesh::Peer;
use crate::node::questions::{Ask, Reply};
use crate::node::{Alive, Node, Registry, report};
use crate::report::{
    AuditReport, CachePast, CacheReport, DiffPage, Explanation, HotKeys, Mark, Marks, NodePast, NodeReport, Staleness,
    State, TombstoneLine, readable, show,
};

mod audit;
mod diff;
mod explain;
#[cfg(feature = "inspect-http")]
pub mod http;

/// The time limit for an answer: of another node to a comparison, or of a cache about its readiness.
const PATIENCE: Duration = Duration::from_secs(3);
/// The maximum number of keys that [`Inspector::recent_keys`] and one page of [`Inspector::keys`] list.
const MAX_RECENT: usize = 1_000;
/// The maximum number of keys that one page of [`Inspector::keys_with_prefix`] examines.
const MAX_EXAMINED: usize = 16_384;
/// The maximum number of tombstones that [`Inspector::oldest_tombstones`] lists.
const MAX_TOMBSTONES: usize = 100;

/// A handle for the inspection of a node. It is cheap to clone. It keeps the node running, as a [`Node`] handle does.
#[derive(Clone)]
pub struct Inspector {
    registry: Arc<Registry>,
    alive: Arc<Alive>,
}

/// The reason why an [`Inspector`] cannot answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// No cache of this name is open on this node.
    #[error("no cache `{0}` is open on this node")]
    NoSuchCache(String),
    /// The text does not stand for a key of the cache's type.
    #[error(
        "`{0}` is not a key of this cache: write a string, a number, or `cbor:` and the encoding in hexadecimal \
         digits"
    )]
    NotAKey(String),
    /// No live member has this name.
    #[error("no live member has the name `{0}`")]
    NoSuchMember(String),
    /// The member did not answer in time, or does not have the cache open.
    #[error("`{0}` did not answer in time, or does not have the cache open")]
    NoAnswer(String),
    /// The cursor was not returned by the method it was passed to.
    #[error("the cursor is not valid: start again without one")]
    BadCursor,
}

/// The reports of all nodes of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClusterReport {
    /// The reports, this node's first.
    pub nodes: Vec<NodeReport>,
    /// The live members that did not answer in time.
    pub silent: Vec<String>,
}

/// A page of the keys that one node holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeysPage {
    /// The keys.
    pub keys: Vec<KeyLine>,
    /// The cursor of the next page. Absent on the last page.
    pub next: Option<String>,
    /// The number of keys examined for this page: more than `keys` if a prefix was asked for.
    #[serde(default)]
    pub examined: u64,
}

/// A key, without its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeyLine {
    /// The key.
    pub key: String,
    /// The state of the key: a value, or the reason why there is none.
    pub state: State,
    /// The time of its stamp.
    pub stamp: String,
    /// The time at which the value expires.
    #[serde(default)]
    pub expires: Option<String>,
    /// The encoded size of key and value in bytes.
    pub size: u32,
}

impl KeysPage {
    fn of(marks: &Marks, next: Option<u64>, examined: u64) -> Self {
        let line = |mark: &Mark| KeyLine {
            key: show(&mark.key),
            state: marks.state(Some(mark)),
            stamp: readable(mark.stamp.time),
            expires: (mark.expires != 0).then(|| readable(mark.expires)),
            size: mark.size,
        };
        let keys = marks.marks.iter().flatten().map(line).collect();
        Self { keys, next: next.map(|next| next.to_string()), examined }
    }
}

impl Inspector {
    /// Creates an inspector for a node.
    #[must_use]
    pub fn new(node: &Node) -> Self {
        let (registry, alive) = node.parts();
        Self { registry, alive }
    }

    /// Returns a report on the node and its caches.
    #[must_use]
    pub fn node(&self) -> NodeReport {
        report::report(&self.registry, &self.alive.mesh, self.alive.is_driven())
    }

    /// Returns a report on the node without its caches. It is cheap enough for a health check.
    #[must_use]
    pub fn summary(&self) -> NodeReport {
        report::report_without_caches(&self.registry, &self.alive.mesh, self.alive.is_driven())
    }

    /// Returns a report on one cache.
    ///
    /// # Errors
    /// The cache is not open on this node.
    pub fn cache(&self, name: &str) -> Result<CacheReport, InspectError> {
        Ok(self.port(name)?.report())
    }

    /// Returns true if every open cache has caught up with a member, or has no member to catch up with. Asks for each
    /// cache what [`Cache::ready`](crate::Cache::ready) would return now. Returns false if the node does not answer.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn is_ready(&self) -> bool {
        for port in self.registry.ports() {
            let asked = self.alive.ask_ready(port.name());
            match tokio::time::timeout(PATIENCE, asked).await {
                Ok(Some(ready)) if ready.is_ready() => {}
                _ => return false,
            }
        }
        true
    }

    /// Collects the reports of all nodes, and names the nodes that do not answer within `patience`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn cluster(&self, patience: Duration) -> ClusterReport {
        self.collect(self.node(), Ask::Report, patience).await
    }

    /// Collects the reports of all nodes as [`cluster`](Self::cluster) does, without version vectors. With many members
    /// these are most of a report.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn cluster_in_brief(&self, patience: Duration) -> ClusterReport {
        self.collect(report::brief(self.node()), Ask::Brief, patience).await
    }

    async fn collect(&self, here: NodeReport, question: Ask, patience: Duration) -> ClusterReport {
        let peers = self.peers();
        let mut answers = self.ask(&peers, question, patience).await;
        let mut cluster = ClusterReport { nodes: vec![here], silent: Vec::new() };
        for peer in peers {
            match answers.remove(&peer.incarnation) {
                Some(Reply::Report(report)) => cluster.nodes.push(*report),
                _ => cluster.silent.push(peer.name.to_string()),
            }
        }
        cluster
    }

    /// Returns bounds on the age of the data that is read on this node: for each member, and overall.
    ///
    /// # Errors
    /// The cache is not open on this node.
    pub fn staleness(&self, cache: &str) -> Result<Staleness, InspectError> {
        Ok(self.cache(cache)?.staleness())
    }

    /// Returns keys of a cache with a capacity, the most recently used first, at most a thousand.
    ///
    /// # Errors
    /// The cache is not open on this node.
    pub fn recent_keys(&self, cache: &str, limit: usize) -> Result<Vec<String>, InspectError> {
        Ok(self.port(cache)?.recent_keys(limit.min(MAX_RECENT)))
    }

    /// Explains a key: the register of every live node, their agreement, and the members that are not known to have the
    /// newest write. Nodes that do not answer within `patience` are named.
    ///
    /// # Errors
    /// The cache is not open on this node, or the text does not stand for a key of its type.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn explain(&self, cache: &str, key: &str, patience: Duration) -> Result<Explanation, InspectError> {
        explain::explain(self, cache, key, patience).await
    }

    /// Returns the value of a key on this node as text, for display. It does not count as a use.
    ///
    /// # Errors
    /// The cache is not open on this node, or the text does not stand for a key of its type.
    pub fn value(&self, cache: &str, key: &str) -> Result<Option<String>, InspectError> {
        let (port, key) = self.key(cache, key)?;
        Ok(port.value_text(&key))
    }

    /// Compares this node with the member of this name. Returns a page of the keys on which they differ, and the cursor
    /// of the next page. A page ends once `limit` keys were examined or 1,000 differences were found. The step of the
    /// walk that reaches one of these limits is completed.
    ///
    /// # Errors
    /// The cache is not open on this node, the member does not exist or does not answer, or the cursor was not returned
    /// by this method.
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn diff(
        &self,
        cache: &str,
        member: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<DiffPage, InspectError> {
        diff::diff(self, cache, member, cursor, limit).await
    }

    /// Returns a page of the keys held on this node, and the cursor of the next page. The keys are in no particular
    /// order. Tombstones are listed too. Values are not.
    ///
    /// # Errors
    /// The cache is not open on this node, or the cursor was not returned by this method.
    pub fn keys(&self, cache: &str, cursor: Option<&str>, limit: usize) -> Result<KeysPage, InspectError> {
        let cursor = cursor.filter(|cursor| !cursor.is_empty());
        let from = cursor.map_or(Ok(0), str::parse).map_err(|_| InspectError::BadCursor)?;
        let (marks, next) = self.port(cache)?.marks_page(from, limit.clamp(1, MAX_RECENT));
        let examined = marks.marks.len() as u64;
        Ok(KeysPage::of(&marks, next, examined))
    }

    /// Returns a page of the keys held on this node whose text begins with `prefix`, as [`keys`](Self::keys) does. A page
    /// ends after `limit` keys, or once 16,384 keys were examined, so it may be empty and yet have a cursor.
    ///
    /// # Errors
    /// The cache is not open on this node, or the cursor was not returned by this method.
    pub fn keys_with_prefix(
        &self,
        cache: &str,
        prefix: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<KeysPage, InspectError> {
        let cursor = cursor.filter(|cursor| !cursor.is_empty());
        let from = cursor.map_or(Ok(0), str::parse).map_err(|_| InspectError::BadCursor)?;
        let port = self.port(cache)?;
        let (marks, next, examined) = port.marks_with_prefix(prefix, from, limit.clamp(1, MAX_RECENT), MAX_EXAMINED);
        Ok(KeysPage::of(&marks, next, examined))
    }

    /// Returns the samples that a node has kept of its last 15 minutes, and its events. With `member`, asks the member
    /// of this name. Returns samples later than the wall time `after_ms`, in milliseconds since 1970, and events from
    /// the number `from_event` on; 0 for all.
    ///
    /// # Errors
    /// The member does not exist, or does not answer: its release may be older.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn past(&self, member: Option<&str>, after_ms: u64, from_event: u64) -> Result<NodePast, InspectError> {
        match self.ask_member(member, Ask::NodePast { after_ms, from_event }).await? {
            Reply::NodePast(past) => Ok(past),
            _ => Err(self.no_answer(member)),
        }
    }

    /// Returns the samples that a node has kept of a cache in its last 15 minutes, as [`past`](Self::past) does.
    ///
    /// # Errors
    /// The cache is not open on this node. Or the member does not exist, does not have the cache open, or does not
    /// answer: its release may be older.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn cache_past(
        &self,
        cache: &str,
        member: Option<&str>,
        after_ms: u64,
    ) -> Result<CachePast, InspectError> {
        self.port(cache)?;
        match self.ask_member(member, Ask::CachePast { cache: cache.to_owned(), after_ms }).await? {
            Reply::CachePast(past) => Ok(past),
            _ => Err(self.no_answer(member)),
        }
    }

    /// Returns the keys of a cache that were read most lately on this node, or on the member of this name, at most 64.
    /// They come from a sample of the reads: a key with more than 1/64 of them is always listed.
    ///
    /// # Errors
    /// As [`cache_past`](Self::cache_past).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn hot_keys(&self, cache: &str, member: Option<&str>, limit: usize) -> Result<HotKeys, InspectError> {
        self.port(cache)?;
        match self.ask_member(member, Ask::HotKeys { cache: cache.to_owned(), limit }).await? {
            Reply::HotKeys(keys) => Ok(keys),
            _ => Err(self.no_answer(member)),
        }
    }

    /// Returns the oldest tombstones of a cache on this node, at most a hundred, and the reasons why each cannot be
    /// collected yet.
    ///
    /// # Errors
    /// The cache is not open on this node.
    pub fn oldest_tombstones(&self, cache: &str, limit: usize) -> Result<Vec<TombstoneLine>, InspectError> {
        Ok(self.port(cache)?.oldest_tombstones(limit.min(MAX_TOMBSTONES)))
    }

    /// Compares the whole key space with every live member.
    ///
    /// Differences without a reason are passed to the audit of the protocol, which compares both registers at one
    /// instant. The audit counts a conflict, and repairs it by giving the winner a new dot. An audit over HTTP passes
    /// nothing on: it is [`compare_all`](Self::compare_all).
    ///
    /// # Errors
    /// The cache is not open on this node.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn audit_now(&self, cache: &str) -> Result<AuditReport, InspectError> {
        audit::audit(self, cache, audit::Mend::Yes).await
    }

    /// Compares as [`audit_now`](Self::audit_now) does, but passes nothing to the protocol.
    ///
    /// # Errors
    /// The cache is not open on this node.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn compare_all(&self, cache: &str) -> Result<AuditReport, InspectError> {
        audit::audit(self, cache, audit::Mend::No).await
    }

    fn port(&self, cache: &str) -> Result<Arc<dyn Port>, InspectError> {
        let held = self.registry.port(cache).ok_or_else(|| InspectError::NoSuchCache(cache.to_owned()))?;
        Ok(Arc::clone(&held))
    }

    /// Returns a cache, and the encoding of the key that `text` stands for.
    fn key(&self, cache: &str, text: &str) -> Result<(Arc<dyn Port>, Vec<u8>), InspectError> {
        let port = self.port(cache)?;
        let bytes = port.key_of(text).ok_or_else(|| InspectError::NotAKey(text.to_owned()))?;
        Ok((port, bytes))
    }

    /// Returns the live members except this node, sorted by name.
    fn peers(&self) -> Vec<Peer> {
        let mut peers = self.alive.mesh.members();
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        peers
    }

    fn peer(&self, name: &str) -> Result<Peer, InspectError> {
        let peers = self.peers();
        let found = peers.into_iter().find(|peer| *peer.name == *name || peer.addr.to_string() == name);
        found.ok_or_else(|| InspectError::NoSuchMember(name.to_owned()))
    }

    async fn ask(
        &self,
        peers: &[Peer],
        question: Ask,
        patience: Duration,
    ) -> std::collections::HashMap<uuid::Uuid, Reply> {
        inquiry::ask(&self.registry, &self.alive.mesh, peers, question, patience).await
    }

    /// Asks the member of this name, or this node itself if there is no name or it is this node's.
    async fn ask_member(&self, member: Option<&str>, question: Ask) -> Result<Reply, InspectError> {
        match member.filter(|name| *name != self.alive.mesh.name()) {
            Some(name) => self.ask_one(&self.peer(name)?, question).await,
            None => Ok(inquiry::answer(&self.registry, &self.alive.mesh, question)),
        }
    }

    fn no_answer(&self, member: Option<&str>) -> InspectError {
        InspectError::NoAnswer(member.unwrap_or_else(|| self.alive.mesh.name()).to_owned())
    }

    async fn ask_one(&self, peer: &Peer, question: Ask) -> Result<Reply, InspectError> {
        let mut answers = self.ask(std::slice::from_ref(peer), question, PATIENCE).await;
        let answer = answers.remove(&peer.incarnation);
        answer
            .filter(|reply| !matches!(reply, Reply::NotOpen))
            .ok_or_else(|| InspectError::NoAnswer(peer.name.to_string()))
    }
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspector").field("node", &self.alive.mesh.name()).finish_non_exhaustive()
    }
}
