//! Drops what was displaced: user types, whose `Drop` is user code.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Drops user types. One whose `Drop` panics takes nothing down with it.
pub(crate) fn drop_quietly<T>(garbage: impl IntoIterator<Item = T>) {
    for item in garbage {
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(item)));
        if let Err(panic) = dropped {
            tracing::error!("a key or value panicked in its Drop");
            // What it panicked with is user code as well. If that panics too, what that panicked with is left alone.
            let again = catch_unwind(AssertUnwindSafe(|| drop(panic)));
            again.unwrap_or_else(std::mem::forget);
        }
    }
}
