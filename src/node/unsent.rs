//! Writes that a node could not hand over before it ended.

use std::collections::BTreeMap;
use std::fmt;

/// Caches remembered by name.
const MAX_CACHES: usize = 1_024;

/// What a node could not hand over: writes and deletes that no other member is known to have. They are lost with the process.
/// Returned by [`Node::shutdown`](crate::Node::shutdown).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsent {
    /// The caches concerned, by name; those that were closed earlier in vain included. At most 1,024.
    pub caches: Vec<UnsentCache>,
}

/// One cache of [`Unsent`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnsentCache {
    /// Its name.
    pub cache: String,
    /// How many of its writes and deletes no other member is known to have, those that were overwritten since left out. At
    /// least 1: an [`invalidate_all`](crate::Cache::invalidate_all) that no member has heard of counts as one if there is
    /// nothing else.
    pub writes: u64,
}

impl Unsent {
    /// Whether everything was handed over.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.caches.is_empty()
    }
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("everything was handed over");
        }
        for (number, UnsentCache { cache, writes }) in self.caches.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{writes} writes of {cache}")?;
        }
        f.write_str(" were not handed over")
    }
}

/// Counts what could not be handed over, by cache.
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
        assert_eq!(ledger.report().to_string(), "everything was handed over");
        ledger.add("prices", 2);
        ledger.add("orders", 1);
        ledger.add("prices", 3);
        assert_eq!(ledger.report().to_string(), "1 writes of orders, 5 writes of prices were not handed over");
        (0..5_000).for_each(|n| ledger.add(&n.to_string(), 1));
        assert_eq!(ledger.report().caches.len(), MAX_CACHES);
    }
}
