//! The store. A session is live if it is in `sessions`, has not expired, and has no revocation.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use driftless::{Cache, InsertError, Members, Node, Ready};
use tower_sessions_core::SessionStore;
use tower_sessions_core::session::{Id, Record};
use tower_sessions_core::session_store::{Error, Result};

use crate::builder::Builder;
use crate::saved::{Saved, remaining};

/// The number of ids that `create` tries. One id is drawn from 128 random bits, so a second try is never needed unless
/// the source of random bits is broken.
const TRIES: usize = 16;
/// The lifetime that a session of an unknown id is taken to have: a year. The number of these revocations is bounded.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(365 * 86_400);

/// The times that bound what a logout promises.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) longest_partition: Duration,
    pub(crate) logout_wait: Duration,
}

/// A session store for tower-sessions whose sessions are in the memory of every node. Cheap to clone.
///
/// The [crate's page](crate) states what a logout promises.
#[derive(Clone, Debug)]
pub struct DriftlessStore {
    sessions: Cache<String, Saved>,
    /// The ids of sessions that were deleted. No save writes here, so no save can undo a deletion.
    revoked: Cache<String, ()>,
    /// The deleted ids of which no session was here. Bounded, because a client can make them up.
    revoked_unknown: Cache<String, ()>,
    limits: Limits,
}

impl DriftlessStore {
    /// Opens a store with the default settings.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(node: &Node) -> std::result::Result<Self, crate::OpenStoreError> {
        Self::builder(node).open()
    }

    /// Returns a builder with the default settings.
    pub fn builder(node: &Node) -> Builder<'_> {
        Builder::new(node)
    }

    pub(crate) fn new(
        sessions: Cache<String, Saved>,
        revoked: Cache<String, ()>,
        revoked_unknown: Cache<String, ()>,
        limits: Limits,
    ) -> Self {
        Self { sessions, revoked, revoked_unknown, limits }
    }

    /// Waits until this node has the revocations and the sessions that some member had, or it is known that no member
    /// has them, or the time limit is reached. Returns the first result that is not ready, or that of the sessions.
    ///
    /// Call it before the node serves requests. Without the revocations, a node may serve a session that was logged
    /// out. Without the sessions, its users seem to be logged out.
    pub async fn ready(&self, timeout: Duration) -> Ready {
        let start = Instant::now();
        for revocations in [&self.revoked, &self.revoked_unknown] {
            let ready = revocations.ready(timeout.saturating_sub(start.elapsed())).await;
            if !ready.is_ready() {
                return ready;
            }
        }
        self.sessions.ready(timeout.saturating_sub(start.elapsed())).await
    }

    /// Returns the name of the cache of sessions, under which reports list it. Its keys are session ids, which are secrets.
    #[must_use]
    pub fn cache_name(&self) -> &str {
        self.sessions.name()
    }

    /// Returns the number of sessions here, those that have expired and are not yet swept included.
    #[must_use]
    pub fn session_count(&self) -> u64 {
        self.sessions.entry_count()
    }

    /// Returns the number of revocations here: of sessions that were here at their logout, and of unknown ids.
    #[must_use]
    pub fn revocation_count(&self) -> (u64, u64) {
        (self.revoked.entry_count(), self.revoked_unknown.entry_count())
    }

    fn is_revoked(&self, id: &str) -> bool {
        self.revoked.contains_key(id) || self.revoked_unknown.contains_key(id)
    }

    /// Removes what a save left of a session that was deleted before the save, so that it takes no memory.
    fn clean_up(&self, id: &str) {
        if self.sessions.contains_key(id) {
            self.sessions.invalidate(id);
        }
    }

    /// Writes the revocation of an id, and removes the session.
    async fn revoke(&self, id: &str) -> Result<()> {
        let held = self.sessions.entry(id).map(|entry| entry.value().lifetime);
        if held.is_none() && self.is_revoked(id) {
            return Ok(());
        }
        // A node that has not seen the revocation may save the session once more, with the same lifetime, until it is
        // reached again. The revocation must outlive that save.
        let lifetime = held.unwrap_or(UNKNOWN_LIFETIME).saturating_add(self.limits.longest_partition);
        let revocations = if held.is_some() { &self.revoked } else { &self.revoked_unknown };
        let written = revocations.insert_with_ttl(id.to_owned(), (), lifetime).map_err(refused)?;
        self.sessions.invalidate(id);
        if !self.limits.logout_wait.is_zero() {
            // A member that has not confirmed in time receives the revocation later: no reason to refuse the logout.
            drop(revocations.wait_replicated(written, Members::All, self.limits.logout_wait).await);
        }
        Ok(())
    }
}

fn refused(error: InsertError) -> Error {
    match error {
        InsertError::Unserializable(_) | InsertError::Unreadable { .. } => Error::Encode(error.to_string()),
        _ => Error::Backend(error.to_string()),
    }
}

#[async_trait]
impl SessionStore for DriftlessStore {
    /// Stores a new session. Draws another id if a session or revocation with the record's id is here.
    ///
    /// # Errors
    /// The session cannot be encoded or is larger than 1 MiB, or sixteen ids in a row were taken.
    async fn create(&self, record: &mut Record) -> Result<()> {
        // A session that has expired already is never loaded, so there is nothing to store.
        let Some(lifetime) = remaining(record.expiry_date) else { return Ok(()) };
        let saved = Saved::new(record, lifetime)?;
        for _ in 0..TRIES {
            let id = record.id.to_string();
            if !self.is_revoked(&id) {
                let written = self.sessions.insert_if_absent_local_with_ttl(id, saved.clone(), Some(lifetime));
                if written.map_err(refused)?.is_some() {
                    return Ok(());
                }
            }
            record.id = Id::default();
        }
        Err(Error::Backend(format!("{TRIES} session ids in a row were taken: the source of random bits is broken")))
    }

    /// Stores a session. If it was deleted, nothing is stored and this is no error: the save counts as made before the
    /// deletion. If the record has expired, the session is deleted.
    ///
    /// # Errors
    /// The session cannot be encoded, or is larger than 1 MiB. What was stored before stays.
    async fn save(&self, record: &Record) -> Result<()> {
        let id = record.id.to_string();
        if self.is_revoked(&id) {
            self.clean_up(&id);
            return Ok(());
        }
        let Some(lifetime) = remaining(record.expiry_date) else { return self.revoke(&id).await };
        let saved = Saved::new(record, lifetime)?;
        self.sessions.insert_with_ttl(id.clone(), saved, lifetime).map_err(refused)?;
        // A deletion between the check and the write is final as well: `load` refuses the session in any case.
        if self.is_revoked(&id) {
            self.clean_up(&id);
        }
        Ok(())
    }

    /// Returns a session, unless it has expired or its deletion has arrived here.
    ///
    /// # Errors
    /// The stored session cannot be read, for instance because a node of another release wrote it.
    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        let key = id.to_string();
        let Some(saved) = self.sessions.get(key.as_str()) else { return Ok(None) };
        // Read after the session: a revocation that was here before the session was read is found.
        if self.is_revoked(&key) {
            self.clean_up(&key);
            return Ok(None);
        }
        saved.record(*id)
    }

    /// Deletes a session on every node, for good. Waits for the nodes as [`Builder::logout_wait`] says.
    ///
    /// # Errors
    /// None that can be expected: the revocation has a fixed size.
    async fn delete(&self, id: &Id) -> Result<()> {
        self.revoke(&id.to_string()).await
    }
}
