//! Drops keys and values of user types. Their `Drop` is user code, which may panic.

use std::any::type_name;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sync::Mutex;

/// The number of panics in `Drop` in this process, by the name of the dropped type.
static PANICS: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// Drops values of user types. If the `Drop` of one panics, the rest are dropped all the same, and the panic is counted.
#[inline]
pub(crate) fn drop_quietly<T>(garbage: impl IntoIterator<Item = T>) {
    for item in garbage {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(item))) {
            note::<T>();
            // The panic payload is user code as well. If its `Drop` panics too, the payload of that second panic is
            // leaked.
            let again = catch_unwind(AssertUnwindSafe(|| drop(panic)));
            again.unwrap_or_else(std::mem::forget);
        }
    }
}

/// Returns the number of panics in the `Drop` of values of type `T` that [`drop_quietly`] has contained in this
/// process.
pub(crate) fn drop_panics<T>() -> u64 {
    PANICS.lock().get(type_name::<T>()).copied().unwrap_or(0)
}

/// Counts a panic, and logs the first, second, fourth and so on of its type.
#[cold]
fn note<T>() {
    let name = type_name::<T>();
    let count = {
        let mut panics = PANICS.lock();
        let count = panics.entry(name).or_default();
        *count += 1;
        *count
    };
    if count.is_power_of_two() {
        tracing::error!(type_name = name, count, "a key or value panicked in its Drop");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Vicious;

    impl Drop for Vicious {
        fn drop(&mut self) {
            std::panic::panic_any(Payload);
        }
    }

    struct Payload;

    impl Drop for Payload {
        fn drop(&mut self) {
            panic!("the payload panics too");
        }
    }

    #[test]
    fn each_panic_is_contained_and_counted_by_type() {
        struct Harmless;
        drop_quietly([Harmless]);
        drop_quietly([Vicious, Vicious, Vicious]);
        assert_eq!((drop_panics::<Vicious>(), drop_panics::<Harmless>()), (3, 0));
    }
}
