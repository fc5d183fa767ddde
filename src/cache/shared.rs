//! The state that all handles of a cache share with the node that it is open on.
//!
//! Each part that changes has one owner, a struct whose methods alone change it: the registers and their order of use the
//! [`Writer`], the id [`Surroundings`], what the node has reported the [`Connection`], the numbers [`Counts`], the choice of
//! entries that are read back [`Samples`]. All else stays as it was when the cache was opened.

use super::Weigher;
use super::connection::Connection;
use super::counters::Counts;
use super::readable::Samples;
use super::reader::Reader;
use super::settings::CacheSettings;
use super::surroundings::Surroundings;
use super::writer::Writer;
use crate::sync::{Arc, Event};
use crate::wire;

/// See the module.
pub(super) struct Shared<K, V> {
    pub(super) name: Arc<str>,
    pub(super) settings: CacheSettings,
    pub(super) weigher: Option<Weigher<K, V>>,
    pub(super) wire_limits: wire::Limits,
    pub(super) around: Surroundings,
    pub(super) reader: Reader<K, V>,
    pub(super) writer: Writer<K, V>,
    pub(super) connection: Connection,
    pub(super) counts: Counts,
    pub(super) samples: Samples,
    /// Notified when members may have got further.
    pub(super) progress: Event,
}
