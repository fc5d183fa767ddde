//! Checks that entries written here can be read elsewhere: some are decoded again before they are written.
//!
//! Without this check, only the readers of other nodes would notice a type that encodes and does not decode, by misses
//! that never end.

use std::any::type_name;
use std::hash::Hash;

use equivalent::Equivalent;
use serde::Serialize;

use super::insert_error::InsertError;
use super::{CacheKey, CacheValue};
use crate::counters::Counter;
use crate::item::drop_key;
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::wire;

/// The number of first entries of a replica that are all read back.
const FIRST: u64 = 64;
/// The interval at which later entries are read back. It is a prime: if writes repeat with some period, each position
/// of that period is read back sooner or later.
const STRIDE: u64 = 1_021;

/// The selection of entries that are read back. It is not random: the same writes are checked in each run.
///
/// Aligned, so that counting writes does not invalidate the cache lines of data next to it, which readers use.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Samples {
    written: AtomicU64,
    /// One bit for each class of encoded sizes of which an entry was read back. An entry of a new class is read back:
    /// its size shows that `Serialize` left a field out, or wrote a wider one.
    key_sizes: AtomicU64,
    value_sizes: AtomicU64,
    /// True once an entry could not be read back: from then on every entry is checked.
    suspect: AtomicBool,
    refused: Counter,
}

impl Samples {
    /// Counts an entry. Returns true if the entry has to be read back.
    pub(super) fn is_due(&self, key_size: usize, value_size: usize) -> bool {
        // Not one atomic step: threads that count at the same time may use the same number. The only effect is that
        // more entries are read back.
        let number = self.written.load(Ordering::Relaxed);
        self.written.store(number.wrapping_add(1), Ordering::Relaxed);
        number < FIRST
            || number.is_multiple_of(STRIDE)
            || is_new(&self.key_sizes, key_size)
            || is_new(&self.value_sizes, value_size)
            || self.suspect.load(Ordering::Relaxed)
    }

    /// Decodes an entry again. Runs user code, so it must not be called under a lock.
    #[cold]
    pub(super) fn check<K: CacheKey, V: CacheValue>(
        &self,
        cache: &str,
        (key, key_size): (&K, usize),
        (value, value_size): (&V, usize),
    ) -> Result<(), InsertError> {
        self.note(key_size, value_size);
        let unreadable = |part, type_name| {
            move |reason| InsertError::Unreadable { cache: cache.to_owned(), part, type_name, reason }
        };
        let checked = wire::reread_key(key).map_err(unreadable("key", type_name::<K>()));
        let checked = checked.and_then(|()| wire::reread_value(value).map_err(unreadable("value", type_name::<V>())));
        checked.inspect_err(|error| {
            self.suspect.store(true, Ordering::Relaxed);
            if let Some(count) = self.count() {
                tracing::warn!(count, %error, "an entry was refused: other nodes could not read it");
            }
        })
    }

    /// Encodes a borrowed key and decodes the owned key from that. Returns `None` if this fails, or yields a different
    /// key.
    pub(super) fn own_key<K: CacheKey, Q>(&self, cache: &str, key: &Q) -> Option<K>
    where
        Q: Equivalent<K> + Hash + Serialize + ?Sized,
    {
        let bytes = wire::encode_key(key).map_err(|error| error.to_string());
        let owned = bytes.and_then(|bytes| wire::read_key::<K>(&bytes));
        let same = |owned: K| {
            if key.equivalent(&owned) {
                return Ok(owned);
            }
            drop_key(owned);
            Err("it decodes as a different key".to_owned())
        };
        let owned = owned.and_then(same).inspect_err(|reason| {
            if let Some(count) = self.count() {
                let key_type = type_name::<K>();
                tracing::error!(
                    %cache, key_type, reason, count,
                    "a delete was refused: the encoding of its key does not decode as the cache's key type"
                );
            }
        });
        owned.ok()
    }

    /// Returns the number of refused entries.
    pub(super) fn refused(&self) -> u64 {
        self.refused.get()
    }

    fn note(&self, key_size: usize, value_size: usize) {
        self.key_sizes.fetch_or(class_of(key_size), Ordering::Relaxed);
        self.value_sizes.fetch_or(class_of(value_size), Ordering::Relaxed);
    }

    /// Counts a refusal. Returns the count if it is to be logged: the first, second, fourth and so on.
    fn count(&self) -> Option<u64> {
        let count = self.refused.fetch_one() + 1;
        count.is_power_of_two().then_some(count)
    }
}

fn is_new(seen: &AtomicU64, size: usize) -> bool {
    seen.load(Ordering::Relaxed) & class_of(size) == 0
}

/// Returns the bit of a size class: one for each size below 32, then one for each power of two.
fn class_of(size: usize) -> u64 {
    let class = if size < 32 { size as u32 } else { 27 + size.ilog2() };
    1 << class.min(63)
}
