//! Closes a cache with its last handle.

use super::host::Host;
use super::port::Port;
use crate::sync::Arc;

/// The part of a handle that all its clones share.
pub(super) struct Handles {
    host: Arc<dyn Host>,
    port: Arc<dyn Port>,
}

impl Handles {
    /// Makes the part for a cache that its host has just opened. The host is owed one [`close`](Host::close) for it.
    pub(super) fn new(host: &Arc<dyn Host>, port: Arc<dyn Port>) -> Arc<Self> {
        Arc::new(Self { host: Arc::clone(host), port })
    }
}

impl Drop for Handles {
    /// Tells the host, which keeps the cache for a while if no member has what was written just before.
    fn drop(&mut self) {
        self.host.close(&self.port);
    }
}
