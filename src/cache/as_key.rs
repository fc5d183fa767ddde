//! The forms of a key that operations accept.

use std::hash::Hash;

use equivalent::Equivalent;

use crate::sync::Arc;

/// A key as an operation accepts it: the key, a borrowed form of it (`str` for `String`), or the `Arc<K>` in which
/// [`Iter`](super::Iter) and listeners have it.
///
/// Implemented for every type that is [`Equivalent`] to the key, and for `Arc<K>`. `By` tells these two apart: the
/// compiler finds it, and no caller names it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a form of the cache's key `{K}`",
    note = "pass a reference to the key, to a borrowed form of it, or to the `Arc` in which `iter` returns it"
)]
pub trait AsKey<K, By> {
    /// The form that is hashed and compared.
    type Form: Equivalent<K> + Hash + ?Sized;

    /// Returns the form that is hashed and compared.
    fn as_key(&self) -> &Self::Form;
}

/// Marks a key that is used in its own form. See [`AsKey`].
#[derive(Debug)]
pub enum Itself {}

/// Marks a key in an `Arc`. See [`AsKey`].
#[derive(Debug)]
pub enum InArc {}

impl<K, Q: Equivalent<K> + Hash + ?Sized> AsKey<K, Itself> for Q {
    type Form = Q;

    #[inline]
    fn as_key(&self) -> &Q {
        self
    }
}

impl<K: Hash + Eq> AsKey<K, InArc> for Arc<K> {
    type Form = K;

    #[inline]
    fn as_key(&self) -> &K {
        self
    }
}
