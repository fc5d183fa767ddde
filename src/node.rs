//! The only sockets, spawns and clock reads.

#[doc(hidden)]
pub mod mesh;
