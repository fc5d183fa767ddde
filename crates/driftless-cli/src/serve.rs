//! The server for clients that speak the Redis protocol.
//!
//! The interface is that of Redis, but every process holds a copy of the cache. The differences are:
//!
//! - **Every node answers from its own memory and accepts writes.** No command waits for the network. A write is
//!   visible on this node at once, and on other nodes soon after.
//! - **The last writer wins, by stamp.** If two nodes set one key concurrently, all nodes agree on one value. So there
//!   is no command that reads, changes and writes back (`INCR`, `APPEND`, `EXPIRE`): it would silently lose a
//!   concurrent write of another node.
//! - **`SET .. NX`, `XX`, `GET`, `KEEPTTL` and `SETNX` check this node only.** Two nodes may both succeed. They are not
//!   a lock.
//! - **`KEYS`, `SCAN`, `DBSIZE`, `EXISTS` and `TTL` report what this node holds now.** `SCAN` returns everything in one
//!   page.
//! - **`DEL` counts the keys that this node held, but deletes on all nodes**, also keys that have not arrived here yet.
//! - **`FLUSHALL` is one replicated timestamp**: every entry written before it disappears from all nodes.
//! - **`MSET` is not atomic**, and `SELECT` accepts database 0 only. Nothing is saved to disk.
//! - There is **no password**: bind `--redis` to an address that only trusted clients can reach. `--key` encrypts
//!   traffic between nodes, not traffic with clients.
//!
//! Commands: PING ECHO GET SET (EX PX EXAT PXAT NX XX GET KEEPTTL) SETEX PSETEX SETNX GETDEL STRLEN MGET MSET DEL
//! UNLINK EXISTS TOUCH TTL PTTL TYPE DBSIZE KEYS SCAN FLUSHALL FLUSHDB INFO HELLO (2) SELECT CLIENT CONFIG COMMAND
//! RESET QUIT. They can also be typed by hand: `nc 127.0.0.1 6301`.
//!
//! Limits: a request has at most 8 MiB and 131,072 arguments, and there are at most `--max-clients` connections.
//! Requests of clients can occupy at most 8 MiB times `--max-clients`, in addition to the cache. On a malformed request
//! the server replies with an error and closes the connection.

pub mod commands;
pub mod glob;
pub mod info;
pub mod request;
pub mod server;
pub mod session;
