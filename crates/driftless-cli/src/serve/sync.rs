//! Locks of this server.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex. No code that can panic runs under one, so a poisoned one is as good as any.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
