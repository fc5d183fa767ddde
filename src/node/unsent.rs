//! Writes that a node could not hand over before it ended.

use std::collections::BTreeMap;
use std::fmt;

/// Maximum number of caches remembered by name.
const MAX_CACHES: usize = 1_024;

/// The writes and deletes that a node could not hand over: no other member is known to have them. They are lost with
/// the process. Returned by [`Node::shutdown`](crate::Node::shutdown).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsent {
    /// The caches concerned, sorted by name. Caches that were closed earlier with unsent writes are included. At most
    /// 1,024.
    pub caches: Vec<UnsentCache>,
}

/// One cache of [`Unsent`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnsentCache {
    /// Its name.
    pub cache: String,
    /// The number of its writes and deletes that no other member is known to have. Those that were overwritten since do
    /// not count. At least 1: an [`invalidate_all`](crate::Cache::invalidate_all) that no member has received counts as
    /// 1 if there is nothing else.
    pub writes: u64,
}

impl Unsent {
    /// Returns true if everything was handed over.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.caches.is_empty()
    }
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("all writes were handed over");
        }
        for (number, UnsentCache { cache, writes }) in self.caches.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{writes} writes of {cache}")?;
        }
        f.write_str(" were not handed over")
    }
}

/// The number of writes that could not be handed over, by cache.
#[derive(Debug, Default)]
pub(crate) struct Ledger(BTreeMap<String, u64>);

impl Ledger {
    pub(crate) fn add(&mut self, cache: &str, writes: u64) {
        if self.0.len() < MAX_CACHES || self.0.contains_key(cache) {
            *self.0.entry(cache.to_owned()).or_default() += writes;
        }
    }

    pub(crate) fn report(&self) -> Unsent {
        let caches = self.0.iter().map(|(cache, writes)| UnsentCache { cache: cache.clone(), writes: *writes });
        Unsent { caches: caches.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_adds_up_is_bounded_and_reads_as_text() {
        let mut ledger = Ledger::default();
        assert!(ledger.report().is_empty());
        assert_eq!(ledger.report().to_string(), "all writes were handed over");
        ledger.add("prices", 2);
        ledger.add("orders", 1);
        ledger.add("prices", 3);
        assert_eq!(ledger.report().to_string(), "1 writes of orders, 5 writes of prices were not handed over");
        (0..5_000).for_each(|n| ledger.add(&n.to_string(), 1));
        assert_eq!(ledger.report().caches.len(), MAX_CACHES);
    }
}
