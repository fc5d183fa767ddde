//! One replica of one cache: a machine without IO, clock or randomness of its own.
//!
//! # How to drive it
//!
//! - **Getters** change nothing.
//! - **Commands** (`write`, `delete`, `invalidate_all`, `evict`, `begin_fill`, …) are what the user
//!   of the cache does.
//! - **`handle_*`** tell the machine what happened: a message came, a send ended, a member left,
//!   time passed.
//! - **`poll_*`** take out what it wants done.
//!
//! After any command or `handle_*` call, drain in this order:
//!
//! 1. [`Replica::poll_change`] until `None`: what readers see has already changed; this says how.
//! 2. [`Replica::poll_transmit`] until `None`: messages to encode and send. Large ones are cut one
//!    at a time, and a peer gets the next only after [`Replica::handle_sent`] for the one before. That is owed for each
//!    receiver of a message that is [`Transmit::bulk`], and for no other.
//! 3. [`Replica::poll_timeout`]: call [`Replica::handle_timeout`] at that monotonic time.
//!
//! These are all its effects. What it no longer needs of keys and values waits for [`Replica::take_garbage`], to be dropped
//! outside of any lock. The same calls with the same arguments give the
//! same effects, which is what lets the simulator replay a failure from a seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::crdt::VersionVector;
use crate::hlc::{Clock, HlcTime, Now, Stamp};
use crate::learnt::LearntBy;
use crate::replica_id::ReplicaId;
use crate::store::{SlotRef, Store};
use crate::sync::Arc;

mod audit;
mod bound;
pub mod bugs;
pub mod change;
mod collect;
pub mod config;
pub mod counters;
mod deferred;
mod digest;
mod epoch;
mod evicted;
mod expiry;
mod fill;
mod fill_bound;
mod incoming;
pub(crate) mod inspect;
#[cfg(test)]
mod laws;
mod local;
mod log;
mod merge;
pub mod message;
mod named;
mod origins;
mod outgoing;
mod peers;
mod place;
mod push;
mod reach;
mod relay;
mod renew;
mod retired;
#[cfg(test)]
mod schedules;
mod skew;
mod timers;
pub mod transmit;
mod validate;
pub mod wire;

pub use bound::FillBound;
pub use bugs::Bugs;
pub(crate) use change::Watch;
pub use change::{Change, Effect, RemovalCause, RemovalStats};
pub use config::{ConfigError, ReplicaConfig};
pub use counters::Counters;
pub use fill::FillTicket;
pub use local::Write;
pub use peers::PeerView;
pub use reach::Lag;
pub(crate) use renew::Remains;
pub use skew::Skew;
pub use transmit::Transmit;

use message::Message;

/// What a user type must be to serve as a key in the core.
pub trait CoreKey: Eq + Clone {}
impl<T: Eq + Clone> CoreKey for T {}

type Garbage<K, V> = smallvec::SmallVec<[crate::item::ItemRef<K, V>; 2]>;

/// The state of one replica. See the [module](self).
pub struct Replica<K, V> {
    id: ReplicaId,
    config: ReplicaConfig,
    bugs: Bugs,
    random: fastrand::Rng,
    clock: Clock,
    store: Arc<Store<K, V>>,
    origins: origins::Origins,
    logs: BTreeMap<ReplicaId, log::OriginLog>,
    /// What we have seen.
    vector: VersionVector,
    /// Origin -> highest dot time removed without a trace.
    dropped: VersionVector,
    /// The highest stamp of a tombstone removed without a trace.
    floor: Stamp,
    below_eviction: evicted::BelowEviction,
    /// The time of the last dot of our own.
    last_own: HlcTime,
    /// Own log entries up to here may be missing: no push may start below.
    push_barrier: HlcTime,
    /// Own log entries up to here may be missing although their key was written again by us: a push
    /// that starts below reaches all the way, or is none.
    compacted: HlcTime,
    /// Tombstones by stamp time, the oldest first.
    tombstones: BTreeSet<(HlcTime, SlotRef)>,
    by_cause: inspect::ByCause,
    expiry: expiry::ExpiryIndex,
    sweep: Option<crate::store::Position>,
    held: place::Held,
    retained: VecDeque<(HlcTime, SlotRef)>,
    retained_bytes: usize,
    /// Whether values were given up here that others may still hold.
    lossy: bool,
    /// So many times the cap of tombstones is not looked at, after that took long.
    cap_rests: usize,
    absent: peers::Absent,
    peers: BTreeMap<ReplicaId, peers::Peer>,
    incoming: Option<incoming::Incoming>,
    outgoing: BTreeMap<ReplicaId, outgoing::Outgoing>,
    /// Registers to be compared with a member that a person asked about.
    suspects: VecDeque<(ReplicaId, SlotRef)>,
    /// Registers whose dot our vector does not cover, placed outside of any claim.
    uncovered: Vec<SlotRef>,
    early: push::EarlyPushes<K, V>,
    relay: relay::Relay<K, V>,
    deferred: deferred::Quarantine<K, V>,
    /// Monotonic time of the start.
    opened: u64,
    /// How what is being merged came here.
    path: LearntBy,
    fills: fill::Fills,
    timers: timers::Timers,
    control: VecDeque<(ReplicaId, Message<K, V>)>,
    changes: change::Changes<K, V>,
    /// Items that were displaced: user types are dropped outside of locks.
    garbage: Garbage<K, V>,
    counters: Counters,
    caught_up: Option<CaughtUp>,
    twin: renew::Twin,
}

/// What a replica holds in buffers beside the table, and the limits that are not configured.
#[cfg(any(test, feature = "sim"))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Burden {
    pub(crate) retained_bytes: usize,
    pub(crate) deferred_bytes: usize,
    pub(crate) max_deferred_bytes: usize,
    pub(crate) early: usize,
    pub(crate) max_early: usize,
}

/// When and from whom a replica first had everything a member had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaughtUp {
    /// The member.
    pub from: ReplicaId,
    /// Its clock when it said what it had.
    pub as_of: HlcTime,
}

impl<K: CoreKey, V> Replica<K, V> {
    /// A new replica. `id` was never used before; `seed` feeds its choices among peers.
    ///
    /// # Errors
    /// If a knob of `config` is out of range.
    pub fn new(id: ReplicaId, config: ReplicaConfig, seed: u64, now: Now) -> Result<Self, ConfigError> {
        let (random, timers) = Self::begin(&config, seed, now)?;
        Ok(Self {
            id,
            bugs: Bugs::default(),
            random,
            clock: Clock::new(now),
            store: Arc::new(Store::new()),
            origins: origins::Origins::default(),
            logs: BTreeMap::new(),
            vector: VersionVector::new(),
            dropped: VersionVector::new(),
            floor: Stamp::ZERO,
            below_eviction: evicted::BelowEviction::default(),
            last_own: 0,
            push_barrier: 0,
            compacted: 0,
            tombstones: BTreeSet::new(),
            by_cause: Default::default(),
            expiry: expiry::ExpiryIndex::default(),
            sweep: None,
            held: place::Held::default(),
            retained: VecDeque::new(),
            retained_bytes: 0,
            lossy: false,
            cap_rests: 0,
            absent: peers::Absent::default(),
            peers: BTreeMap::new(),
            incoming: None,
            outgoing: BTreeMap::new(),
            suspects: VecDeque::new(),
            uncovered: Vec::new(),
            early: push::EarlyPushes::default(),
            relay: relay::Relay::default(),
            deferred: deferred::Quarantine::default(),
            opened: now.mono,
            path: LearntBy::default(),
            fills: fill::Fills::default(),
            timers,
            control: VecDeque::new(),
            changes: change::Changes::default(),
            garbage: Garbage::new(),
            counters: Counters::default(),
            caught_up: None,
            twin: renew::Twin::default(),
            config,
        })
    }

    fn begin(config: &ReplicaConfig, seed: u64, now: Now) -> Result<(fastrand::Rng, timers::Timers), ConfigError> {
        config.validate()?;
        let mut random = fastrand::Rng::with_seed(seed);
        let timers = timers::Timers::new(config, now, &mut random);
        Ok((random, timers))
    }

    /// Who this is.
    #[must_use]
    pub fn id(&self) -> ReplicaId {
        self.id
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &ReplicaConfig {
        &self.config
    }

    /// The table that readers share.
    pub(crate) fn store(&self) -> &Arc<Store<K, V>> {
        &self.store
    }

    /// The stamp of a register in the table.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn stamp_at(&self, meta: &crate::store::Meta) -> Stamp {
        self.stamp_of(meta)
    }

    /// Stamp, kind and dot of a register in the table.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn marker_at(&self, meta: &crate::store::Meta) -> crate::crdt::Marker {
        self.marker_of(meta)
    }

    /// The members, and whether each is live.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn members(&self) -> impl Iterator<Item = (ReplicaId, bool)> + '_ {
        self.peers.iter().map(|(id, peer)| (*id, peer.is_live()))
    }

    /// What is held in buffers beside the table, for a checker of bounds.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn burden(&self) -> Burden {
        let (early, max_early) = self.early.burden();
        let (deferred_bytes, max_deferred_bytes) = self.deferred.burden();
        Burden { retained_bytes: self.retained_bytes, deferred_bytes, max_deferred_bytes, early, max_early }
    }

    /// What has been seen, by origin.
    #[must_use]
    pub fn vector(&self) -> &VersionVector {
        &self.vector
    }

    /// Origin -> highest dot time removed without a trace.
    #[must_use]
    pub fn dropped(&self) -> &VersionVector {
        &self.dropped
    }

    /// The highest stamp of a tombstone that was removed without a trace.
    #[must_use]
    pub fn floor(&self) -> Stamp {
        self.floor
    }

    /// Whatever is stamped at or below this is gone.
    #[must_use]
    pub fn epoch(&self) -> HlcTime {
        self.store.epoch()
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Monotonic time of the start, in nanoseconds.
    pub(crate) fn opened(&self) -> u64 {
        self.opened
    }

    /// Counts of what happened.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Number of live values, expired but not yet swept ones included.
    #[must_use]
    pub fn live_len(&self) -> u64 {
        self.held.live
    }

    /// Sum of the weights of live values.
    #[must_use]
    pub fn live_weight(&self) -> u64 {
        self.held.weight
    }

    /// Number of tombstones of any cause.
    #[must_use]
    pub fn tombstone_len(&self) -> usize {
        self.tombstones.len()
    }

    /// Entries of all per-origin logs, stale ones included.
    #[must_use]
    pub fn log_len(&self) -> usize {
        self.logs.values().map(log::OriginLog::len).sum()
    }

    /// Replica ids that registers refer to.
    #[must_use]
    pub fn origin_len(&self) -> usize {
        self.origins.len()
    }

    /// Whether values were given up here that others may still hold.
    #[must_use]
    pub fn is_lossy(&self) -> bool {
        self.lossy
    }

    /// The first member whose whole state this replica has had, if any yet.
    #[must_use]
    pub fn caught_up(&self) -> Option<CaughtUp> {
        self.caught_up
    }

    /// Replicas whose clock was found too far ahead, and the time they claimed.
    pub fn offenders(&self) -> impl Iterator<Item = (ReplicaId, HlcTime)> + '_ {
        self.deferred.offenders.iter().map(|(id, time)| (*id, *time))
    }

    /// Whether a session is coming in.
    #[must_use]
    pub fn is_receiving(&self) -> bool {
        self.incoming.is_some()
    }

    /// Puts known bugs back, to prove that the checkers catch them.
    #[doc(hidden)]
    pub fn set_bugs(&mut self, bugs: Bugs) {
        self.bugs = bugs;
    }

    /// Says who wants to know of changes from now on.
    pub(crate) fn set_watch(&mut self, watch: change::Watch) {
        self.changes.watch = watch;
    }

    /// Values that are no longer here, by cause.
    pub(crate) fn removals(&self) -> RemovalStats {
        self.changes.removals
    }

    /// Takes out the next change of what readers see.
    pub fn poll_change(&mut self) -> Option<Change<K, V>> {
        self.changes.next()
    }

    /// Takes out the items that were displaced, for the caller to drop once its lock is gone.
    pub(crate) fn take_garbage(&mut self) -> Garbage<K, V> {
        std::mem::take(&mut self.garbage)
    }

    /// Whatever becomes of these entries, what they hold of users' types is not dropped here.
    fn set_aside<'a>(&mut self, entries: impl Iterator<Item = &'a message::Entry<K, V>>)
    where
        K: 'a,
        V: 'a,
    {
        self.garbage.extend(entries.map(|entry| crate::item::ItemRef::clone(&entry.item)));
    }

    fn issue_dot(&mut self, now: Now) -> crate::crdt::Dot {
        // Above floor and epoch, which are stamps that were seen, whatever our wall clock says.
        self.clock.observe(self.highest_floor().time.max(self.store.epoch()));
        let time = self.clock.tick(now);
        self.last_own = time;
        self.vector.raise(self.id, time);
        crate::crdt::Dot::new(self.id, time)
    }
}
