//! driftless

#[cfg(feature = "node")]
#[doc(hidden)]
pub mod node;
