//! The one door to locks and atomics, so that they can be exchanged for a model checker's.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, OnceLock, Weak};

pub(crate) use parking_lot::{Mutex, RwLock};

pub(crate) use event_listener::{Event, Listener as Listening};
