//! Counts of messages and entries that were not as expected.

use crate::sync::{AtomicU64, Ordering};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct IntakeCounts {
    malformed: AtomicU64,
    undecodable_values: AtomicU64,
    undecodable_keys: AtomicU64,
    unencodable: AtomicU64,
}

impl IntakeCounts {
    /// Counts a message that was not understood. Returns the count if it is to be logged: after one, and after each doubling.
    pub(super) fn note_malformed(&self) -> Option<u64> {
        let before = self.malformed.fetch_add(1, Ordering::Relaxed);
        (before.is_power_of_two() || before == 0).then_some(before + 1)
    }

    /// Counts entries of one message whose keys or values do not decode here.
    pub(super) fn note_undecodable(&self, keys: u32, values: u32) {
        self.undecodable_values.fetch_add(u64::from(values), Ordering::Relaxed);
        self.undecodable_keys.fetch_add(u64::from(keys), Ordering::Relaxed);
    }

    /// Counts entries that were removed because they no longer serialise.
    pub(super) fn note_unencodable(&self, entries: u64) {
        self.unencodable.fetch_add(entries, Ordering::Relaxed);
    }

    /// Returns the counts by name.
    pub(super) fn each(&self) -> [(&'static str, u64); 4] {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("malformed", load(&self.malformed)),
            ("undecodable_values", load(&self.undecodable_values)),
            ("undecodable_keys", load(&self.undecodable_keys)),
            ("unencodable", load(&self.unencodable)),
        ]
    }
}
