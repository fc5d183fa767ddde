//! Closes a cache when its last handle is dropped.

use super::host::Host;
use super::port::Port;
use crate::sync::Arc;

/// The part of a handle that all its clones share.
pub(super) struct Handles {
    host: Arc<dyn Host>,
    port: Arc<dyn Port>,
}

impl Handles {
    /// Makes the shared part of a handle that [`Host::open`] has just returned. The host counts it as one handle, which
    /// the drop of this part returns with [`Host::close`].
    pub(super) fn new(host: &Arc<dyn Host>, port: Arc<dyn Port>) -> Arc<Self> {
        Arc::new(Self { host: Arc::clone(host), port })
    }
}

impl Drop for Handles {
    /// Notifies the host, which keeps the cache for up to five seconds if no member has its latest writes.
    fn drop(&mut self) {
        self.host.close(&self.port);
    }
}
