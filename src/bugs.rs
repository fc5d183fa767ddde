//! Known mistakes that tests put back one at a time, to prove that the checkers detect them.

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Switches that put known mistakes back. All are off outside of tests that test the checkers.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Bugs {
            $($(#[$doc])* pub $name: bool,)*
        }

        impl Bugs {
            /// All switches off.
            pub const NONE: Self = Self { $($name: false,)* };
        }

        #[cfg(any(test, feature = "sim"))]
        impl Bugs {
            /// The names of all switches.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];

            /// Returns a set with only the named switch on, or `None` if there is no such switch.
            #[must_use]
            pub fn only(name: &str) -> Option<Self> {
                let mut bugs = Self::NONE;
                match name {
                    $(stringify!($name) => bugs.$name = true,)*
                    _ => return None,
                }
                Some(bugs)
            }
        }
    };
}

/// The mistakes that are put back in one replica or process. Only tests that test the checkers can put one back; other
/// builds store nothing here.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PutBack {
    #[cfg(any(test, feature = "sim"))]
    bugs: Bugs,
}

impl PutBack {
    /// Returns the mistakes that are put back.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn bugs(self) -> Bugs {
        self.bugs
    }

    /// Returns the mistakes that are put back: none.
    #[cfg(not(any(test, feature = "sim")))]
    pub(crate) const fn bugs(self) -> Bugs {
        Bugs::NONE
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn set(&mut self, bugs: Bugs) {
        self.bugs = bugs;
    }
}

bugs! {
    /// Mistake 1: a void carries the stamp of the write it replaces.
    void_keeps_stamp,
    /// Mistake 2: a reconcile removes registers as its frames arrive, and each removal raises the floor.
    floor_rises_with_removals,
    /// Mistake 3: a receiver adopts the floor of a session before it has merged the entries.
    early_floor,
    /// Mistake 4: a delta is computed from the latest digest instead of the highest reported vector.
    stale_digest,
    /// Mistake 5: a reconcile lists only the origins that were behind.
    partial_reconcile,
    /// Mistake 6: the end of a reconcile voids nothing.
    no_final_void,
    /// Mistake 7: an entry with a seen dot is merged again if its key holds nothing or a tombstone. This alone is
    /// harmless: the removal of the register raised the floor to its stamp at least, and a tombstone in its place is no
    /// older (see mistake 8). So this switch also ignores the floor.
    reinsert_seen,
    /// Mistake 8: an unseen tombstone at or below the floor is merged unchanged.
    tombstone_below_floor_merged,
    /// Mistake 9: an unseen tombstone at or below the floor is dropped without a void.
    tombstone_below_floor_dropped,
    /// Mistake 10: the vector moves with every frame.
    claim_per_frame,
    /// Mistake 11: frames are accepted only in order.
    frames_in_order,
    /// Mistake 12: removals of a reconcile do not raise the dropped vector.
    reconcile_hides_removals,
    /// Mistake 13: a newcomer gets no reconcile.
    no_reconcile_for_newcomers,
    /// Scenario 5: a receiver treats keys missing from a partial delta as deleted.
    absent_is_deleted,
    /// Scenario 32: a push above a gap is applied.
    apply_over_gap,
    /// Scenario 41: eviction of an unstable register leaves no tombstone.
    evict_without_tombstone,
    /// Tombstones are collected by age alone.
    collect_by_age,
    /// A fill is stamped with the time of its end.
    fill_stamped_late,
    /// A delete of a key that this replica has never seen does nothing.
    delete_unknown_is_noop,
    /// Stamps from the future are merged at once.
    no_deferral,
    /// Orphans are not adopted.
    no_adoption,
    /// Orphans in doubt are removed without a trace, and not adopted.
    doubtful_orphans_erased,
    /// A push claims a range although another replica overtook a write in it.
    push_over_overtaken,
    /// An epoch removes the registers held, and does not skip entries that arrive later.
    epoch_only_sweeps,
    /// The end of a reconcile compares dots only, and voids registers that its sender has listed under another dot.
    reconcile_compares_dots,
    /// A digest does not name members that are unreachable and not yet forgotten.
    unreachable_unnamed,
    /// A replica collects tombstones while a member is owing: the member has reported writes of a replica that left
    /// before this one came, and this one lacks them.
    gone_unwaited,
    /// A member that was forgotten because it was unreachable stays forgotten although other members reach it.
    reached_stay_forgotten,
    /// A digest that arrives late retracts names that its sender has added since.
    late_words_unname,
    /// A fill above a recent register, floor or epoch beats unseen writes that were issued after its start.
    fill_bound_ignored,
    /// A fill loses its bound before every member has seen it, and a fill without its bound is accepted.
    bounds_dropped_unseen,
    /// A delete that a replica collects while it has no members contests no fill of a replica that it meets later.
    collected_alone_forgotten,
    /// A write that arrived and was not merged is remembered in place of the older writes of its replica. Only a write
    /// that lost may be.
    heard_stands_for_lost,
    /// A void or a floor is taken for a write of the replica in its stamp. So a write that it overruled is forgotten,
    /// and contests no fill.
    void_stands_for_write,
    /// A contested fill at or below a floor is left in doubt and not voided.
    fills_left_in_doubt,
    /// A fill that has lost its bound is accepted by a replica that was no member where the bound was dropped.
    unbounded_believed,
    /// A push is assumed to account for every write up to its end, including writes that its origin's own fills
    /// replaced, and writes before its start.
    left_out_taken_for_heard,
    /// A fill of a forgotten member is accepted, although writes that contest it may be forgotten too.
    late_fills_uncontested,
    /// A late fill is accepted if its replica is a member now, although it may have returned meanwhile, or become a
    /// member together with the fill.
    returned_fills_believed,
    /// The body of an evicted own write is released as soon as a push with it was cut.
    released_when_cut,
    /// An evicted copy of the same write under a greater dot takes the place of a retained body.
    retained_body_discarded,
    /// Evictions raise the gc floor, below which an arriving value is voided for all replicas.
    eviction_voids,
    /// A reconcile spares registers that only evictions can explain, even if the receiver had not seen the evicted
    /// dots.
    evictions_spared_unseen,
    /// A receiver that knew all evictions of the sender lists, in its own reconciles, registers that the end of the
    /// sender's reconcile turned into `Evicted`.
    doubts_listed,
    /// The end of a reconcile voids registers that were in doubt before, for all replicas.
    doubts_voided,
    /// Registers that the end of a reconcile removes count as deleted, even if its sender may have evicted them.
    removals_void,
    /// A receiver ignores the dropped time of an origin if the session claims less of that origin.
    dropped_beyond_claim_left,
    /// The evicted vector of a reconcile omits the dots in doubt that the sender does not list. So a receiver that has
    /// not seen them counts as one that knew what was evicted.
    hidden_untold,
    /// The quarantine keeps entries of members that were forgotten.
    quarantine_keeps_departed,
    /// An acknowledgement is accepted by a replica for which it was not meant.
    ack_for_any_receiver,
    /// Facts about other members are exchanged only in clusters of four or more.
    no_facts_among_three,
    /// Facts do not report on retired origins.
    facts_without_retired,
    /// An audit of many suspected keys sends only the last slice.
    last_audit_slice_only,
    /// A sender keeps sending entries that its receiver has deferred.
    deferral_storm,
    /// A newcomer counts as caught up as soon as a member has sent it a message.
    caught_up_at_once,
    /// A write counts as handed over as soon as a push with it was cut.
    handed_over_when_cut,
    /// A newcomer takes the time of the first member that sends it a digest.
    time_of_the_first,
    /// A process believes the replica of a cache that sent the last message, even if its successor had sent one before.
    former_believed,
    /// A process that opens a cache keeps the "not open" answers that the cache's former replica received.
    not_open_for_long,
    /// A member answers a greeting only if it has news, so a returning member is met again only at its turn.
    greetings_unanswered,
    /// A process believes a "not open" answer to any replica, even if a later replica has sent a message since.
    stale_answers_believed,
    /// A replica repeats its last digest by a still although it has written since.
    still_after_write,
    /// A still leaves the clock of its sender as it is, so that the sender may write at the time of the still.
    still_leaves_clock,
    /// A receiver believes a still although it has not received the digest that the still repeats.
    still_over_lost_digest,
    /// A receiver believes a still of a member although it lacks a write of which the repeated digest reports.
    still_while_behind,
    /// A replica that has absorbed direct writes does not move its clock above them.
    direct_unobserved,
    /// A direct write may be stamped below a floor or an epoch that the replica has taken over meanwhile.
    direct_below_floor,
    /// Notes of direct writes are absorbed only after the next digest was made.
    absorbed_late,
    /// The order of use does not learn of direct writes, so that their values are never evicted.
    absorbed_unused,
}
