//! **A replicated in-process cache whose replicas cannot drift apart.**
//!
//! Your application embeds it. Every node of the cluster holds the data, a read is a local memory read, and writes,
//! deletes and expiries reach every node by gossip and converge: after any partition, in any order, with any clock
//! within bounds, and also when a node comes back that everybody had given up on.
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
//!           └───────────── memberlist: who is there, UDP and TCP ───────┘
//! ```
//!
//! # What is promised
//!
//! 1. **Convergence**: live values of one key are the same everywhere, the last write by hybrid clock.
//! 2. **No stale survivor**: nothing deleted, expired or overwritten ever comes back.
//! 3. **A miss is always safe, a disagreement never is**: in doubt an entry is lost, and counted.
//! 4. **Complete**, while nothing is evicted, dropped by force or forgotten.
//! 5. **Bounded** memory, whatever peers do.
//! 6. **Local reads** that wait for nobody.
//!
//! [`docs::guarantees`] has the edges of each.
//!
//! # What it is not
//!
//! Not a database (nothing is on disk), not linearizable (two concurrent writes leave one winner), not sharded (every node
//! holds everything it has room for), and not a queue.
//!
//! # Example
//!
//! Two nodes in one process; usually each is in its own.
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
//! assert!(there.ready(Duration::from_secs(10)).await.is_ready()); // optional: what a miss means from now on
//! # while here.members() == 0 { tokio::time::sleep(Duration::from_millis(5)).await }
//!
//! let written = here.insert("apple".into(), 120)?;
//! assert_eq!(here.get("apple"), Some(120)); // at once
//! here.wait_replicated(written, Members::All, Duration::from_secs(10)).await?; // optional: until others have it
//! assert_eq!(there.get("apple"), Some(120)); // a local read
//!
//! // A miss is filled once, however many ask, and never over something newer.
//! let pear = there.get_with("pear".into(), || async { 95 }).await;
//! assert_eq!(pear, 95);
//! there.remove("apple"); // on every node, also where it has not arrived yet
//! # one.shutdown().await;
//! # two.shutdown().await;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "node"))]
//! # fn main() {}
//! ```
//!
//! # Where is what
//!
//! A folder is a floor, and imports point down; `tests/architecture.rs` checks it.
//!
//! | floor | modules | what |
//! | --- | --- | --- |
//! | people | [`inspect`], [`sim`] | how to look into a running node: questions to others, differences, the debug server; whole clusters in one thread, from a seed |
//! | edges | [`node`] | tokio and memberlist: the only sockets, spawns and clock reads but the debug server's |
//! | the cache people use | [`cache`] | handles, builder, eviction, fills, change stream |
//! | what people look at | [`report`] | plain data with names and readable times, and warnings |
//! | who is where | `membership` | which process has which cache open, whose words count, whom to greet: driven by the node and by the simulator |
//! | the machine | `replica` | takes commands, messages and time, and hands them on: no IO, no clock, no randomness of its own |
//! | conversations | `protocol` | what replicas say to each other, one file for each kind: digests, pushes, sessions, audits |
//! | what is held | `ledger` | registers and their indexes, floors, tombstones, fills, what merges and what is collected |
//! | what is believed of others | `members` | who is there, what they have seen, the stable cut; it knows nothing of keys and values |
//! | words | `message`, `wire`, `config`, `counters`, `bugs`, `env`, `outbox` | messages and their bytes, settings, counts, the surroundings of a call, and small messages that wait to be sent |
//! | structures | `crdt`, `store`, `recency`, `item` | registers, dots and vectors with their laws; the table readers share; order of use |
//! | ground | [`hlc`], [`replica_id`], `sync`, `durations`, `learnt` | names and time, as arguments; the one door to locks |
//!
//! For a change of what wins: `crdt/register.rs`, `ledger/merge.rs`. Of what is sent after a write: `protocol/push.rs`. Of what one that was away is told:
//! `membership.rs` (who is greeted), `protocol/digests.rs` (who answers), `protocol/session_out.rs` (with what), `ledger/reconciled.rs` (what it
//! loses). Of when a tombstone goes: `ledger/collect.rs`, `replica/due.rs`, and `ledger.rs` for the cap. Of when a member is forgotten: `members.rs`, `replica/due.rs`. Of
//! what a replica shows of itself: `replica/view.rs`. Of what is evicted: `recency.rs`, `cache/engine.rs`. Which test goes red for each:
//! [questions](docs::questions#where-things-are). Each failure scenario has a number, and the tests that cover it name it: `grep -rnoE 'scenario [0-9]+' src tests`.
//!
//! # Features
//!
//! | feature | default | what |
//! | --- | --- | --- |
//! | `node` | yes | [`Node`]: tokio and memberlist. Without it there are only the types and the simulator |
//! | `metrics` | | numbers for the `metrics` facade, once a second |
//! | `inspect-http` | | JSON, Prometheus text and a page about a running node; off until it is started |
//! | `sim` | | whole clusters in one thread, from a seed |
//!
//! # Public dependencies
//!
//! Signatures name types of `serde`, `uuid` and `equivalent` (all at 1; with the feature `sim` also `proptest`), and nothing else of
//! other crates: memberlist, tokio, axum, crdts and ciborium may change their major version without a change of ours. What is
//! `#[doc(hidden)]` is no part of the interface.
//!
//! # To read on
//!
//! [Questions and short answers](docs::questions), [guarantees](docs::guarantees), [protocol](docs::protocol), [limits](docs::limits),
//! [operations](docs::operations), [testing](docs::testing), [scaling](docs::scaling),
//! [performance](docs::performance), [design decisions](docs::design), [glossary](docs::glossary); coming from
//! [moka](docs::migrating_from_moka) or [bcache](docs::migrating_from_bcache).

// Without a node nobody opens a cache: what serves an open one has no caller.
#![cfg_attr(not(feature = "node"), allow(dead_code))]

mod bugs;
pub mod cache;
mod config;
mod counters;
#[doc(hidden)]
pub mod crdt;
mod durations;
mod env;
pub mod hlc;
#[cfg(feature = "node")]
pub mod inspect;
#[doc(hidden)]
pub mod item;
mod learnt;
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
mod store;
mod sync;
#[cfg(test)]
mod testing;
#[doc(hidden)]
pub mod wire;

pub use cache::{
    BulkError, Cache, CacheBuilder, CacheSettings, CacheStats, ChangeEvent, ChangeKind, EntryInfo, Eviction, FillError,
    Filled, InsertError, Members, NotReplicated, OpenError, Policy, Ready, Replicated, Subscription, SubscriptionError,
    Written,
};
pub use hlc::Stamp;
#[cfg(feature = "node")]
pub use node::{
    KeyError, Member, Node, NodeBuilder, NodeSettings, StartError, TooFewMembers, Traffic, Unsent, UnsentCache,
};
pub use replica::{ConfigError, Counters, RemovalCause, ReplicaConfig};
pub use replica_id::ReplicaId;

/// The pages: what is promised, how it works, and how to run it.
pub mod docs {
    /// What one wants to know, with short answers.
    pub mod questions {
        #![doc = include_str!("docs/questions.md")]
    }
    /// What is promised, and where each promise ends.
    pub mod guarantees {
        #![doc = include_str!("docs/guarantees.md")]
    }
    /// How replicas agree.
    pub mod protocol {
        #![doc = include_str!("docs/protocol.md")]
    }
    /// Every number.
    pub mod limits {
        #![doc = include_str!("docs/limits.md")]
    }
    /// Running it.
    pub mod operations {
        #![doc = include_str!("docs/operations.md")]
    }
    /// Testing that your own types and settings converge, and replaying a seed.
    pub mod testing {
        #![doc = include_str!("docs/testing.md")]
    }
    /// Coming from moka.
    pub mod migrating_from_moka {
        #![doc = include_str!("docs/migrating-from-moka.md")]
    }
    /// Coming from bcache.
    pub mod migrating_from_bcache {
        #![doc = include_str!("docs/migrating-from-bcache.md")]
    }
    /// What a cluster costs as it grows.
    pub mod scaling {
        #![doc = include_str!("docs/scaling.md")]
    }
    /// What it costs, measured beside others.
    pub mod performance {
        #![doc = include_str!("docs/performance.md")]
    }
    /// Decisions, and what was not done instead.
    pub mod design {
        #![doc = include_str!("docs/design.md")]
    }
    /// The words.
    pub mod glossary {
        #![doc = include_str!("docs/glossary.md")]
    }
}

/// The example of the README compiles.
#[cfg(all(doctest, feature = "node"))]
#[doc = include_str!("../README.md")]
struct Readme;
