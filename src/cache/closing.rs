//! Closes a cache with its last handle.

use super::port::{Host, Port};
use crate::sync::Arc;

/// What all clones of a handle have in common.
pub(super) struct Handles {
    host: Arc<dyn Host>,
    port: Arc<dyn Port>,
}

impl Handles {
    /// Makes those of a cache that its host has just opened: the host counts one more user of it.
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
