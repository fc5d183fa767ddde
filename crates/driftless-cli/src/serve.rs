//! The server for clients that speak the Redis protocol, in its versions 2 and 3.
//!
//! The interface is that of Redis, but every process holds a copy of the cache. The differences are:
//!
//! - **Every node answers from its own memory and accepts writes.** Only `WAIT` waits for the network. A write is
//!   visible on this node at once, and on other nodes soon after.
//! - **The last writer wins, by stamp.** If two nodes set one key concurrently, all nodes agree on one value. So
//!   commands that read, change and write back (`INCR`, `APPEND`) are refused with the reason: they would silently lose
//!   a concurrent write of another node.
//! - **`SET .. NX`, `XX`, `GET`, `KEEPTTL`, `SETNX`, `MSETNX`, `GETSET`, `EXPIRE`, `PERSIST` and `GETEX` look at this
//!   node only.** Two nodes may both succeed with `NX`: it is no lock. A new deadline is a write of the value.
//! - **`KEYS`, `SCAN`, `RANDOMKEY`, `DBSIZE`, `EXISTS` and `TTL` report what this node holds now.**
//! - **`DEL` counts the keys that this node held, but deletes on all nodes**, also keys that have not arrived here yet.
//! - **`FLUSHALL` is one replicated timestamp** for each database: every entry written before it disappears from all
//!   nodes.
//! - **`MULTI` and `EXEC` are an ordered batch on this node**, and no isolation. `WATCH` is refused.
//! - **`CLIENT TRACKING` reports changes by any node**, expiry, eviction and `FLUSHALL`.
//! - Nothing is saved to disk.
//!
//! `src/docs/sidecar.md` of the library lists every command. They can also be typed by hand: `nc 127.0.0.1 6301`.
//!
//! Limits are those of [`settings::Settings`]; a request has at most 131,072 arguments. On a malformed request the
//! server replies with an error and closes the connection.

pub mod clients;
pub mod commands;
pub mod connection;
pub mod glob;
pub mod info;
pub mod pushes;
pub mod reply;
pub mod request;
pub mod server;
pub mod session;
pub mod settings;
pub mod sync;
pub mod tracking;
