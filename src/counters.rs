//! Counts of events. Every loss and every repair has a number.
//!
//! One macro declares all counts of the crate, so that each is named once. A count that changes under a lock is a field of a plain
//! struct; one that many threads change is a [`Counter`].

use serde::{Deserialize, Serialize};

use crate::sync::{AtomicU64, Ordering};

/// A count that many threads change; relaxed, because nothing is ordered by it.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    #[inline]
    pub(crate) fn one(&self) {
        self.add(1);
    }

    /// Counts one. Returns the count before.
    #[inline]
    pub(crate) fn fetch_one(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts one. Returns the count if it is to be logged: the first is, and the next after each doubling.
    pub(crate) fn one_to_log(&self) -> Option<u64> {
        let before = self.fetch_one();
        (before == 0 || before.is_power_of_two()).then_some(before + 1)
    }

    /// Counts `n`.
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
/// A `Totals` may begin with `@now { .. }`: numbers of the present, which are no counts and zero where they are copied.
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
            /// Returns the name and count of each.
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
            /// Returns the name and count of each.
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
        /// Entries of others that changed something here.
        merged,
        /// Entries of others that lost against what was here.
        lost,
        /// Entries skipped because their dot had been seen.
        seen,
        /// Entries skipped because the epoch had passed them.
        skipped_by_epoch,
        /// One dot under two stamps: a replica id used twice. (Bodies are not compared here: an audit does that.)
        conflicts,
        /// Messages from a replica that has our own id, and what others say we have written and we have not.
        cloned_id,
        /// New ids taken, and everything given up with the old one, because another process went by it.
        renewed_id,
        /// Digests sent.
        digests_out,
        /// Digests received.
        digests_in,
        /// Pushes sent, per receiver.
        pushes_out,
        /// Pushes received and applied.
        pushes_in,
        /// Pushes passed on for others.
        pushes_relayed,
        /// Pushes that started above our vector.
        gaps,
        /// Gaps closed by a push that had been overtaken on the way.
        gaps_reordered,
        /// Sessions begun as sender.
        sessions_out,
        /// Sessions that we broke off as sender.
        sessions_out_aborted,
        /// Sessions begun as receiver.
        sessions_in,
        /// Sessions received to the end.
        sessions_completed,
        /// Sessions abandoned as receiver.
        sessions_abandoned,
        /// Sessions whose claim was not taken because something in them was deferred.
        sessions_unclaimed,
        /// Frames sent.
        frames_out,
        /// Frames received and merged.
        frames_in,
        /// Frames of finished, superseded or unwanted sessions.
        frames_ignored,
        /// Sessions begun as sender that list everything.
        reconciles_out,
        /// Reconciles received to the end.
        reconciles_in,
        /// Registers a reconcile removed here.
        reconcile_removed,
        /// Registers the end of a reconcile voided here.
        reconcile_voided,
        /// Registers that the end of a reconcile left alone: its sender had listed them under another dot, or only its evictions
        /// can explain why not, and these were all seen here before.
        reconcile_spared,
        /// Reconciles whose sender had evicted something that was not seen here: its eviction floor was taken over.
        evictions_taken,
        /// Entries replaced by a void on arrival.
        voided,
        /// Values kept as `Evicted` on arrival, because something newer of their key may have been evicted here.
        in_doubt,
        /// Registers of ours that a reconcile ended as `Evicted`: its sender may have evicted something newer.
        reconcile_doubted,
        /// Registers adopted.
        adopted,
        /// Registers and messages deferred because they came from the future.
        deferred,
        /// Deferred registers merged when their time came.
        deferred_released,
        /// Deferred registers not kept because the quarantine was full, or their origin was no member.
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
        /// Values evicted and removed, being stable.
        evicted_stable,
        /// Values evicted and replaced by an `Evicted` tombstone.
        evicted_unstable,
        /// Own writes whose value was lost by eviction before it was sent to every live member: more than
        /// `max_retained_bytes` of them waited, or it was dropped by force.
        evicted_unsent,
        /// Registers swept because of an epoch.
        swept_by_epoch,
        /// Epochs taken over or issued.
        epochs,
        /// Fills begun.
        fills,
        /// Fills that lost against a write, a delete, the floor or the epoch, or took longer than `fill_hold`.
        fills_lost,
        /// Fills voided because a write, a delete or an invalidation stamped below them may have come after their start.
        fills_contested,
        /// Fills that no longer hold the watermark.
        fills_expired,
        /// Members forgotten.
        forgotten,
        /// Digests asking for all retired origins.
        retired_mismatch,
        /// Retired origins dropped beyond the cap.
        retired_dropped,
        /// Claims held back because of an `Evicted` register of a live origin.
        claims_capped,
        /// Audit slices compared.
        audits,
        /// Keys on which an audit found two live values.
        audit_conflicts,
        /// Keys an audit found live elsewhere and missing here without a reason.
        audit_missing,
    }
}
