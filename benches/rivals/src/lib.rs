//! The code that the three benchmarks share: contestants, access patterns, tables, and nodes in processes of their own.
//! The tests and the CI of the library never build this package.

pub mod args;
pub mod child;
pub mod contestants;
pub mod fleet;
pub mod member;
pub mod pattern;
pub mod redis;
pub mod rounds;
pub mod table;
pub mod usage;
