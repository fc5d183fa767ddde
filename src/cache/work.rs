//! A filler, and what it brings.

use std::pin::Pin;

use super::fill_error::Failure;
use super::filled::Filled;
use crate::item::ItemRef;

/// What a fill brings home.
pub(crate) enum Brought<K, V> {
    /// The filler's value.
    Filled(Filled<V>),
    /// Another node's value, which came by replication.
    Arrived(ItemRef<K, V>),
}

/// A filler.
pub(crate) type Work<K, V> = Pin<Box<dyn Future<Output = Result<Brought<K, V>, Failure>> + Send>>;
