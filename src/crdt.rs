//! The join-semilattices of the protocol: their values can be joined in any order, any grouping and any number of
//! times.

pub mod register;
pub mod vector;

pub use register::{Cause, Kind, Marker, Register};
pub use vector::{Dot, VersionVector};
