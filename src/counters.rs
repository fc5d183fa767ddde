//! Counts of events. Every loss and every repair is counted.
//!
//! One macro declares all counts of the crate, so that each is named once. A count that changes under a lock is a field
//! of a plain struct. A count that many threads change is a [`Counter`].

use serde::{Deserialize, Serialize};

use crate::sync::{AtomicU64, Ordering};

/// A count that many threads change. It uses relaxed ordering, because no other memory access is ordered by it.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    #[inline]
    pub(crate) fn one(&self) {
        self.add(1);
    }

    /// Adds one. Returns the count before.
    #[inline]
    pub(crate) fn fetch_one(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds one. Returns the new count if it should be logged: the first, and the next one after each doubling.
    pub(crate) fn one_to_log(&self) -> Option<u64> {
        let before = self.fetch_one();
        (before == 0 || before.is_power_of_two()).then_some(before + 1)
    }

    /// Adds `n`.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Returns the count.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares counts by name.
///
/// | form | declares |
/// | --- | --- |
/// | `pub struct Totals { .. }` | a struct of numbers, with `each` and `add` |
/// | `shared struct Atomics { .. }` | a struct of [`Counter`]s, with `each` |
/// | `pub struct Totals of Atomics { .. }` | both; `Atomics::counters` returns a `Totals` |
///
/// A `Totals` may begin with `@now { .. }`: current values. They are not counts: `each` and `add` omit them, and
/// `Atomics::counters` returns zero for them.
macro_rules! counters {
    (
        $(#[$attr:meta])*
        pub struct $Totals:ident {
            $(@now { $($(#[$now_doc:meta])* $now:ident,)* })?
            $($(#[$doc:meta])* $name:ident,)*
        }
    ) => {
        $(#[$attr])*
        #[non_exhaustive]
        pub struct $Totals {
            $($($(#[$now_doc])* pub $now: u64,)*)?
            $($(#[$doc])* pub $name: u64,)*
        }

        impl $Totals {
            /// Returns the name and value of each count.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }

            /// Adds the counts of `other`.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
    ($(#[$attr:meta])* shared struct $Atomics:ident { $($(#[$doc:meta])* $name:ident,)* }) => {
        $(#[$attr])*
        #[derive(Debug, Default)]
        pub(crate) struct $Atomics { $($(#[$doc])* pub(crate) $name: $crate::counters::Counter,)* }

        impl $Atomics {
            /// Returns the name and value of each count.
            pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.get()),)*].into_iter()
            }
        }
    };
    (
        $(#[$attr:meta])*
        pub struct $Totals:ident of $Atomics:ident {
            $(@now { $($(#[$now_doc:meta])* $now:ident,)* })?
            $($(#[$doc:meta])* $name:ident,)*
        }
    ) => {
        $crate::counters::counters! {
            $(#[$attr])*
            pub struct $Totals {
                $(@now { $($(#[$now_doc])* $now,)* })?
                $($(#[$doc])* $name,)*
            }
        }

        #[derive(Debug, Default)]
        pub(crate) struct $Atomics { $($(#[$doc])* pub(crate) $name: $crate::counters::Counter,)* }

        impl $Atomics {
            /// Copies the counts.
            pub(crate) fn counters(&self) -> $Totals {
                $Totals { $($($now: 0,)*)? $($name: self.$name.get(),)* }
            }
        }
    };
}
pub(crate) use counters;

counters! {
    /// Counts since the replica was opened.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Counters {
        /// Own writes and deletes.
        writes,
        /// Entries of other replicas that changed a register here.
        merged,
        /// Entries of other replicas that lost against the register held here.
        lost,
        /// Entries skipped because their dot had been seen.
        seen,
        /// Entries skipped because they are stamped at or below the epoch.
        skipped_by_epoch,
        /// Pairs of stamps under one dot, which prove that two processes use one replica id. (Bodies are not compared
        /// here: an audit does that.)
        conflicts,
        /// Signs of a duplicate replica id. They are: messages under this replica's own id, reported writes under it
        /// that it has not made, digests that deny known writes of their sender, and requests to take a new id.
        duplicate_id,
        /// New ids taken because another process used the old one. The whole state under the old id was dropped each
        /// time.
        new_id,
        /// Digests sent.
        digests_out,
        /// Digests received.
        digests_in,
        /// Stills sent, per receiver. A still takes the place of a digest while the cache is idle.
        stills_out,
        /// Stills received and believed.
        stills_in,
        /// Pushes sent, per receiver.
        pushes_out,
        /// Pushes received and applied.
        pushes_in,
        /// Pushes relayed for other replicas.
        pushes_relayed,
        /// Pushes that started above the receiver's vector.
        gaps,
        /// Gaps closed by a push that had been overtaken in transit.
        gaps_reordered,
        /// Sessions begun as sender.
        sessions_out,
        /// Sessions aborted as sender.
        sessions_out_aborted,
        /// Sessions begun as receiver.
        sessions_in,
        /// Sessions received completely.
        sessions_completed,
        /// Sessions abandoned as receiver.
        sessions_abandoned,
        /// Sessions received but not claimed because an entry in them was deferred.
        sessions_unclaimed,
        /// Frames sent.
        frames_out,
        /// Frames received and merged.
        frames_in,
        /// Frames of finished, superseded or unwanted sessions.
        frames_ignored,
        /// Sessions begun as sender that list the whole state.
        reconciles_out,
        /// Reconciles received completely.
        reconciles_in,
        /// Registers removed here by a reconcile.
        reconcile_removed,
        /// Registers voided here by the end of a reconcile.
        reconcile_voided,
        /// Registers that the end of a reconcile spared, for one of two reasons. The sender listed the same stamp under
        /// another dot. Or only the sender's evictions explain the absence, and this replica had seen all evicted dots.
        reconcile_spared,
        /// Reconciles whose sender had evicted a dot that this replica had not seen, so that its eviction floor was
        /// taken over.
        evictions_taken,
        /// Entries replaced by a void on arrival.
        voided,
        /// Values kept as `Evicted` on arrival, because a newer value of their key may have been evicted here.
        in_doubt,
        /// Values held here that the end of a reconcile turned into `Evicted`: its sender may have evicted a newer one.
        reconcile_doubted,
        /// Orphans adopted.
        adopted,
        /// Registers and messages deferred because they came from the future.
        deferred,
        /// Deferred registers merged when they were due.
        deferred_released,
        /// Deferred registers not kept: the quarantine was full, their origin was no member, or they carried a bound.
        deferred_overflow,
        /// Deferred registers dropped because their origin was forgotten.
        deferred_purged,
        /// Times that this replica took the time of its members because its clock was behind.
        time_taken,
        /// Values turned into `Expired` tombstones.
        expired,
        /// Tombstones collected because they were stable.
        collected,
        /// Tombstones dropped by force.
        forced_drops,
        /// Values evicted and removed without a trace, because they were stable.
        evicted_stable,
        /// Values evicted and replaced by an `Evicted` tombstone.
        evicted_unstable,
        /// Own writes whose value was lost by eviction before every live member had reported it. More than
        /// `max_retained_bytes` waited, its tombstone was dropped by force, or the same write arrived twice without its
        /// body.
        evicted_unsent,
        /// Registers swept because of an epoch.
        swept_by_epoch,
        /// Epochs adopted or issued.
        epochs,
        /// Fills started.
        fills,
        /// Fills that lost against a write, a delete, the floor or the epoch, or took longer than `fill_hold`.
        fills_lost,
        /// Fills voided because a write, a delete or an invalidation stamped below them may have been issued after
        /// their start.
        fills_contested,
        /// Fills that ran longer than `fill_hold` and no longer hold back the watermark.
        fills_expired,
        /// Members forgotten.
        forgotten,
        /// Digests that asked for the full list of retired origins.
        retired_mismatch,
        /// Records of retired origins dropped above the cap.
        retired_dropped,
        /// Claims held back because of an `Evicted` register of a live origin.
        claims_capped,
        /// Audit slices compared.
        audits,
        /// Keys on which an audit found two live values.
        audit_conflicts,
        /// Keys that an audit found live on another replica and missing here without a reason.
        audit_missing,
    }
}
