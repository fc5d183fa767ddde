//! A cache without its key and value types.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use driftless::cache::{CacheKey, CacheValue};
use driftless::{Cache, NotSeen, Token, Written};

type Wait<'a> = Pin<Box<dyn Future<Output = Result<(), NotSeen>> + Send + 'a>>;

/// The calls of the layer to a cache.
pub(crate) trait Watched: Send + Sync {
    /// Returns the newest change of this node.
    fn last_written(&self) -> Option<Written>;
    /// Waits until this node has merged a write.
    fn wait_seen<'a>(&'a self, token: &'a Token, timeout: Duration) -> Wait<'a>;
}

impl<K: CacheKey, V: CacheValue> Watched for Cache<K, V> {
    fn last_written(&self) -> Option<Written> {
        Cache::last_written(self)
    }

    fn wait_seen<'a>(&'a self, token: &'a Token, timeout: Duration) -> Wait<'a> {
        Box::pin(Cache::wait_seen(self, token, timeout))
    }
}

/// A cache, and the name of the cookie that carries its tokens.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) cookie: Arc<str>,
    pub(crate) cache: Arc<dyn Watched>,
}
