//! Drops displaced keys and values. They are user types, so their `Drop` is user code.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Drops values of user types. If the `Drop` of one panics, the rest are dropped all the same.
pub(crate) fn drop_quietly<T>(garbage: impl IntoIterator<Item = T>) {
    for item in garbage {
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(item)));
        if let Err(panic) = dropped {
            tracing::error!("a key or value panicked in its Drop");
            // The panic payload is user code as well. If its `Drop` panics too, the payload of that second panic is
            // leaked.
            let again = catch_unwind(AssertUnwindSafe(|| drop(panic)));
            again.unwrap_or_else(std::mem::forget);
        }
    }
}
