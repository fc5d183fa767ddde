//! The one door to locks and atomics, so that they can be exchanged for a model checker's.

#[cfg(feature = "node")]
pub(crate) use std::sync::atomic::AtomicI64;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, OnceLock, Weak};

pub(crate) use parking_lot::{Mutex, RwLock};

pub(crate) use event_listener::{Event, Listener as Listening};
