//! The layer and its settings.

use std::sync::Arc;
use std::time::Duration;

use driftless::Cache;
use driftless::cache::{CacheKey, CacheValue};
use tower_layer::Layer;

use crate::cookie;
use crate::service::ReadYourWritesService;
use crate::watched::Watch;

/// The default of [`ReadYourWrites::wait`].
const WAIT: Duration = Duration::from_millis(250);
/// The default of [`ReadYourWrites::max_age`].
const MAX_AGE: Duration = Duration::from_secs(60);

/// A tower layer through which users read their own writes on any node. The [crate's page](crate) has an example.
#[derive(Clone)]
pub struct ReadYourWrites {
    pub(crate) watches: Vec<Watch>,
    pub(crate) wait: Duration,
    pub(crate) max_age: Duration,
    pub(crate) secure: bool,
}

impl std::fmt::Debug for ReadYourWrites {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cookies: Vec<_> = self.watches.iter().map(|watch| &watch.cookie).collect();
        let mut shown = f.debug_struct("ReadYourWrites");
        shown.field("cookies", &cookies).field("wait", &self.wait).field("max_age", &self.max_age);
        shown.field("secure", &self.secure).finish()
    }
}

impl Default for ReadYourWrites {
    fn default() -> Self {
        Self::new()
    }
}

impl ReadYourWrites {
    /// Makes a layer that watches no cache yet.
    #[must_use]
    pub fn new() -> Self {
        Self { watches: Vec::new(), wait: WAIT, max_age: MAX_AGE, secure: true }
    }

    /// Adds a cache. Its tokens travel in the cookie `driftless-NAME`, in which unusual characters of the name are
    /// replaced. The layer keeps the cache open.
    #[must_use]
    pub fn cache<K: CacheKey, V: CacheValue>(mut self, cache: &Cache<K, V>) -> Self {
        let cookie = cookie::name_for(cache.name()).into();
        self.watches.push(Watch { cookie, cache: Arc::new(cache.clone()) });
        self
    }

    /// Sets the most time for which a request waits, for all its tokens together. Default: 250 ms; zero does not wait.
    /// After that the request continues, and may read older values. A longer time delays requests while the link to a
    /// node is down, and lets a client that makes tokens up hold a request for longer.
    #[must_use]
    pub fn wait(mut self, time: Duration) -> Self {
        self.wait = time;
        self
    }

    /// Sets the time for which a token is kept after its write. Default: 60 seconds; at least one. It must be longer
    /// than a write takes to reach every node, with its repairs.
    #[must_use]
    pub fn max_age(mut self, time: Duration) -> Self {
        self.max_age = time;
        self
    }

    /// Sets if browsers send the cookies over HTTPS only. Default: true.
    #[must_use]
    pub fn secure(mut self, secure: bool) -> Self {
        self.secure = secure;
        self
    }
}

impl<S> Layer<S> for ReadYourWrites {
    type Service = ReadYourWritesService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ReadYourWritesService::new(inner, self.clone())
    }
}
