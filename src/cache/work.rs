//! The filler of a fill, and the value that ends it.

use std::pin::Pin;

use super::fill_error::Failure;
use super::filled::Filled;
use crate::item::ItemRef;

/// A value that ends a fill.
pub(crate) enum Brought<K, V> {
    /// The filler's value.
    Filled(Filled<V>),
    /// Another node's value, which arrived by replication.
    Arrived(ItemRef<K, V>),
}

/// A filler, as a future.
pub(crate) type Work<K, V> = Pin<Box<dyn Future<Output = Result<Brought<K, V>, Failure>> + Send>>;
