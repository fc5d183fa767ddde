//! Tests of one cache, and of a few caches that exchange messages when the test says so.

mod drops;
mod duplicate_ids;
mod eviction;
mod expiry;
mod filling;
mod hostile;
mod leases;
mod listening;
mod opaque;
mod others;
mod seen;
mod stream;
mod unencodable;
mod unreadable;
mod walking;
