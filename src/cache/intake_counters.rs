//! What came in that was not as expected, counted.

use crate::counters::counters;

counters! {
    /// Messages and entries that were not as expected.
    shared struct IntakeCounters {
        malformed,
        undecodable_values,
        undecodable_keys,
        unencodable,
    }
}
