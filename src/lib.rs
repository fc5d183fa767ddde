//! **A replicated in-process cache whose replicas cannot drift apart.**
//!
//! Your application embeds it. Every node of the cluster holds the data, and a read is a local memory read. Writes,
//! deletes and deadlines of values reach every node by gossip and converge: after any partition, in any order, and with
//! any clock error within bounds. This also holds when a node returns that the cluster had already forgotten.
//!
//! ```text
//!    node a                        node b                        node c
//!  ┌──────────────────┐          ┌──────────────────┐          ┌──────────────────┐
//!  │ your application │          │ your application │          │ your application │
//!  │    │ get: local  │          │                  │          │                  │
//!  │  ┌─▼────────────┐│  push    │  ┌──────────────┐│          │  ┌──────────────┐│
//!  │  │ cache        ├┼──────────┼─►│ cache        ││  digest  │  │ cache        ││
//!  │  │ key→register ││ (fresh   │  │ key→register │◄──────────┼─►│ key→register ││
//!  │  └──────────────┘│  writes) │  └──────────────┘│ (repair) │  └──────────────┘│
//!  └────────┬─────────┘          └────────┬─────────┘          └────────┬─────────┘
//!           └───── memberlist: membership and failure detection, UDP and TCP ─────┘
//! ```
//!
//! # Promises
//!
//! 1. **Convergence**: live values of one key are the same on every node: the last write by hybrid clock.
//! 2. **No stale survivor**: a deleted, expired or overwritten value never returns.
//! 3. **A miss is always safe, a disagreement never is**: if a replica cannot decide, it drops the entry and counts it.
//! 4. **Complete**, while nothing is evicted, dropped by force or forgotten.
//! 5. **Bounded** memory, whatever peers send.
//! 6. **Local reads** that never wait for another node.
//!
//! [`docs::guarantees`] states the limits of each promise.
//!
//! # Non-goals
//!
//! It is not a database: nothing is on disk. It is not linearizable: of two concurrent writes, one wins. It is not
//! sharded: every node holds everything that fits its capacity. It is not a queue.
//!
//! # Example
//!
//! This example runs two nodes in one process. Usually each node is a process of its own.
//!
//! ```
//! # #[cfg(feature = "node")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use driftless::{Cache, Members, Node};
//! use std::time::Duration;
//!
//! let one = Node::builder().cluster("shop").name("one").start().await?;
//! let two = Node::builder().cluster("shop").name("two").seeds([one.local_addr().to_string()]).start().await?;
//! let here: Cache<String, u64> = one.cache("prices").max_capacity(100_000).open()?;
//! let there: Cache<String, u64> = two.cache("prices").max_capacity(100_000).open()?;
//! assert!(there.ready(Duration::from_secs(10)).await.is_ready()); // optional: waits for the state of a member
//! # while here.members() == 0 { tokio::time::sleep(Duration::from_millis(5)).await }
//!
//! let written = here.insert("apple".into(), 120)?;
//! assert_eq!(here.get("apple"), Some(120)); // at once
//! here.wait_replicated(written, Members::All, Duration::from_secs(10)).await?; // optional: until others have it
//! assert_eq!(there.get("apple"), Some(120)); // a local read
//!
//! // A miss runs one fill, however many callers ask, and a fill never replaces something newer.
//! let pear = there.get_with("pear".into(), || async { 95 }).await;
//! assert_eq!(pear, 95);
//! there.remove("apple"); // deletes it on every node, also where the write has not arrived yet
//! # one.shutdown().await;
//! # two.shutdown().await;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "node"))]
//! # fn main() {}
//! ```
//!
//! # Map of the modules
//!
//! A folder is a layer, and imports point down. `tests/architecture.rs` checks that.
//!
//! | layer | modules | content |
//! | --- | --- | --- |
//! | operators | [`inspect`], [`sim`](docs::testing), `probe` | inspection of a running node: questions to other nodes, differences, the debug server; the simulator, which runs whole clusters in one thread from a seed; access to registers for the model checker |
//! | edges | [`node`] | tokio and memberlist: all sockets, spawned tasks and clock reads; only the debug server has a socket and tasks of its own |
//! | public cache | [`cache`] | handles, builder, eviction, fills, change stream |
//! | reports | [`report`] | plain data with names and readable times, and warnings |
//! | open caches per process | `membership` | which process has which cache open, which messages are accepted, which processes are greeted; driven by the node and by the simulator |
//! | state machine | `replica` | takes commands, messages and time, and passes them to the layers below: no IO, no clock, no randomness of its own |
//! | protocol | `protocol` | the messages between replicas, one file for each kind: digests, pushes, sessions, audits |
//! | own state | `ledger` | registers and their indexes, floors, tombstones, fills, merging and collection |
//! | state of other members | `members` | members, what each has reported, the stable cut; nothing about keys and values |
//! | messages and settings | `message`, `wire`, `config`, `counters`, `bugs`, `env`, `outbox` | messages and their bytes, settings, counters, the environment of a call, and the queue of small outgoing messages |
//! | data structures | `crdt`, `store`, `recency`, `item` | registers, dots and vectors with their laws; the table that readers share; the order of use |
//! | base | [`hlc`], [`replica_id`], `sync`, `durations`, `arrival`, `garbage` | hybrid clocks, which take the time as an argument; replica ids; durations in settings; provenance of registers; the drop of user types. All other modules get their locks from `sync` |
//!
//! | to change | see |
//! | --- | --- |
//! | the order of writes | `crdt/register.rs`, `ledger/merge.rs` |
//! | what is sent after a write | `protocol/push.rs` |
//! | the repair of a returning member | `membership.rs` (which process is greeted), `protocol/digests.rs` (what a received digest changes, whether one is returned), `protocol/session_out.rs` (whether and with what the member is served), `ledger/reconciled.rs` (what the returning member loses) |
//! | when a tombstone is collected | `ledger/collect.rs`, `replica/due.rs`, and `ledger.rs` for the cap |
//! | when a member is forgotten | `members.rs`, `replica/due.rs` |
//! | the state that a replica exposes | `replica/view.rs` |
//! | what is evicted, and what an eviction leaves behind | `recency.rs`, `cache/engine.rs`; `ledger/evict.rs` |
//!
//! | the path of a write | `cache/write`, `cache/writer`, `ledger/local.rs`, `ledger/registers.rs`; `cache/tick.rs`, and from there `node/shortcut.rs` or `node/driver.rs`; `cache/port/outgoing.rs`, `protocol/push.rs`, `wire/encode.rs`, `node/mesh` |
//! | the path of a received message | `node/mesh`, `node/shortcut.rs` or `node/driver.rs`, `cache/port/incoming.rs`, `wire/decode.rs`, `protocol.rs`, `ledger/merge.rs`, `ledger/registers.rs` |
//!
//! For most rows, `CONTRIBUTING.md` lists the tests that fail first. Each failure scenario has a number, and the tests
//! that cover the scenario name its number: `grep -rnoiE 'scenario [0-9]+' src tests`.
//!
//! # Features
//!
//! | feature | default | content |
//! | --- | --- | --- |
//! | `node` | yes | [`Node`]: tokio and memberlist. Without this feature there are only the types and the simulator |
//! | `metrics` | | metrics for the `metrics` facade, once a second |
//! | `inspect-http` | | JSON, Prometheus text and a page about a running node; off until it is started |
//! | `sim` | | the simulator: whole clusters in one thread, from a seed |
//!
//! # Public dependencies
//!
//! Signatures name types of `serde`, `uuid` and `equivalent` (all at 1), and with the feature `sim` also of `proptest`.
//! They name no type of any other crate: memberlist, tokio, axum, crdts and ciborium may change their major version
//! without a change of this crate's. Items that are `#[doc(hidden)]` are not part of the interface.
//!
//! # Further reading
//!
//! [Questions and short answers](docs::questions), [recipes](docs::recipes), [guarantees](docs::guarantees),
//! [protocol](docs::protocol), [limits](docs::limits), [the program](docs::sidecar) for other languages,
//! [operations](docs::operations), [testing](docs::testing), [scaling](docs::scaling),
//! [performance](docs::performance), [design decisions](docs::design), [glossary](docs::glossary); coming from
//! [moka](docs::migrating_from_moka), [bcache](docs::migrating_from_bcache), [Redis](docs::migrating_from_redis),
//! [cached](docs::migrating_from_cached), [reconcile](docs::migrating_from_reconcile),
//! [Hazelcast](docs::migrating_from_hazelcast) or [others](docs::coming_from_other_caches).

// On docs.rs each item has a label with the feature that it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
// Without the feature `node` no cache can be opened, so the code that serves an open cache has no caller.
#![cfg_attr(not(feature = "node"), allow(dead_code))]
// The pages link to items of the node.
#![cfg_attr(not(feature = "node"), allow(rustdoc::broken_intra_doc_links))]

mod arrival;
mod bugs;
pub mod cache;
mod config;
mod counters;
#[doc(hidden)]
pub mod crdt;
mod durations;
mod env;
mod garbage;
mod histogram;
pub mod hlc;
#[cfg(feature = "node")]
pub mod inspect;
#[doc(hidden)]
pub mod item;
mod ledger;
mod members;
mod membership;
#[doc(hidden)]
pub mod message;
#[cfg(feature = "node")]
pub mod node;
mod outbox;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod probe;
mod protocol;
mod recency;
#[doc(hidden)]
pub mod replica;
pub mod replica_id;
pub mod report;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod stills;
mod store;
mod sync;
#[cfg(test)]
mod testing;
#[doc(hidden)]
pub mod wire;

pub use cache::{
    BulkError, Cache, CacheBuilder, CacheSettings, CacheStats, ChangeEvent, ChangeKind, EntryInfo, Eviction, FillError,
    FillLease, Filled, ForeignError, InsertError, Members, NotReplicated, NotSeen, OpenError, Page, Pages,
    ParseTokenError, Policy, Ready, Replicated, Subscription, SubscriptionError, Token, Written,
};
pub use hlc::Stamp;
#[cfg(feature = "node")]
pub use node::{
    HostPort, HostPortError, KeyError, Member, Node, NodeBuilder, NodeSettings, StartError, TooFewMembers, Traffic,
    Unsent, UnsentCache,
};
pub use replica::{ConfigError, Counters, RemovalCause, ReplicaConfig};
pub use replica_id::ReplicaId;

/// The pages: the promises, the protocol, and operation.
pub mod docs {
    /// Short answers to frequent questions.
    pub mod questions {
        #![doc = include_str!("docs/questions.md")]
    }
    /// Patterns for common uses, each with a program.
    pub mod recipes {
        #![doc = include_str!("docs/recipes.md")]
    }
    /// The promises, and the limits of each.
    pub mod guarantees {
        #![doc = include_str!("docs/guarantees.md")]
    }
    /// The protocol by which replicas converge.
    pub mod protocol {
        #![doc = include_str!("docs/protocol.md")]
    }
    /// A design that is not built yet: writes that cannot undo what their author has not seen.
    pub mod based_writes {
        #![doc = include_str!("docs/based-writes.md")]
    }
    /// All limits and their defaults.
    pub mod limits {
        #![doc = include_str!("docs/limits.md")]
    }
    /// The program `driftless`: a node for clients in any language.
    pub mod sidecar {
        #![doc = include_str!("docs/sidecar.md")]
    }
    /// Operation in production.
    pub mod operations {
        #![doc = include_str!("docs/operations.md")]
    }
    /// Tests that your own types and settings converge, and the replay of a seed.
    pub mod testing {
        #![doc = include_str!("docs/testing.md")]
    }
    /// Migration from moka.
    pub mod migrating_from_moka {
        #![doc = include_str!("docs/migrating-from-moka.md")]
    }
    /// Migration from bcache.
    pub mod migrating_from_bcache {
        #![doc = include_str!("docs/migrating-from-bcache.md")]
    }
    /// Differences from ten other caches and replicated maps.
    pub mod coming_from_other_caches {
        #![doc = include_str!("docs/coming-from-other-caches.md")]
    }
    /// Migration from Redis as a cache.
    pub mod migrating_from_redis {
        #![doc = include_str!("docs/migrating-from-redis.md")]
    }
    /// Migration from cached.
    pub mod migrating_from_cached {
        #![doc = include_str!("docs/migrating-from-cached.md")]
    }
    /// Migration from reconcile.
    pub mod migrating_from_reconcile {
        #![doc = include_str!("docs/migrating-from-reconcile.md")]
    }
    /// Migration from a ReplicatedMap of Hazelcast.
    pub mod migrating_from_hazelcast {
        #![doc = include_str!("docs/migrating-from-hazelcast.md")]
    }
    /// The costs of a cluster as it grows.
    pub mod scaling {
        #![doc = include_str!("docs/scaling.md")]
    }
    /// Measured costs, compared with other caches.
    pub mod performance {
        #![doc = include_str!("docs/performance.md")]
    }
    /// Design decisions, and the alternatives that were rejected.
    pub mod design {
        #![doc = include_str!("docs/design.md")]
    }
    /// Definitions of terms.
    pub mod glossary {
        #![doc = include_str!("docs/glossary.md")]
    }
}

/// The README, so that a doctest compiles its example.
#[cfg(all(doctest, feature = "node"))]
#[doc = include_str!("../README.md")]
struct Readme;
