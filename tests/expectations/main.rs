//! The expectations that users of other caches have. One module for each library, one test for each behaviour or small
//! group of behaviours, in our own words and code.
//!
//! A test's name states the expectation. Where driftless differs on purpose, the test asserts the behaviour of
//! driftless. A comment `// Differs: page, "Heading", "text"` then names the documentation of that difference: a page
//! in `src/docs`, a heading on it, and a text below that heading. The module `pages` checks that each exists, and that
//! a test cites each row of `src/docs/coming-from-other-caches.md`.

#[path = "../common/addresses.rs"]
mod addresses;
#[path = "../common/mod.rs"]
mod common;

mod bcache;
mod cached;
mod caffeine;
mod chitchat;
mod foyer;
mod golang_lru;
mod groupcache;
mod hazelcast;
mod moka;
mod nebulex;
mod pages;
mod quick_cache;
mod reconcile;
mod support;
