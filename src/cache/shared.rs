//! The state that all handles of a cache share with the node on which the cache is open.
//!
//! Each part that changes has one owner, a struct whose methods alone change that part:
//!
//! - [`Writer`]: the registers and their order of use
//! - [`CacheServices`]: the replica id
//! - [`Connection`]: the reports of the node
//! - [`Counts`]: the counts
//! - [`Samples`]: the choice of entries that are read back
//! - [`Differing`]: the settings of other nodes, and of later openings on this node, that differ from this cache's
//! - [`WarningLog`]: the beginnings of the present warnings, and the warnings that have ended
//!
//! All other parts stay as they were when the cache was opened.

use super::connection::Connection;
use super::counters::Counts;
use super::differing::Differing;
use super::readable::Samples;
use super::reader::Reader;
use super::services::CacheServices;
use super::settings::CacheSettings;
use super::writer::Writer;
use super::{ExpireAfter, Weigher};
use crate::report::WarningLog;
use crate::sync::{Arc, Event, Mutex};
use crate::wire;

/// The shared state of a cache.
pub(super) struct Shared<K, V> {
    pub(super) name: Arc<str>,
    pub(super) settings: CacheSettings,
    pub(super) weigher: Option<Weigher<K, V>>,
    pub(super) expire_after: Option<ExpireAfter<K, V>>,
    pub(super) wire_limits: wire::Limits,
    pub(super) services: CacheServices,
    pub(super) reader: Reader<K, V>,
    pub(super) writer: Writer<K, V>,
    pub(super) connection: Connection,
    pub(super) counts: Counts,
    pub(super) samples: Samples,
    pub(super) differing: Differing,
    pub(super) warnings: Mutex<WarningLog>,
    /// Notified when members may have made progress, or the set of members may have changed.
    pub(super) progress: Event,
}
