//! Known mistakes, to be put back one at a time: the proof that the checkers can fail.

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Switches that put known mistakes back. All off outside of tests of the tests.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Bugs {
            $($(#[$doc])* pub $name: bool,)*
        }

        impl Bugs {
            /// All off.
            pub const NONE: Self = Self { $($name: false,)* };
        }

        #[cfg(any(test, feature = "sim"))]
        impl Bugs {
            /// The names of all switches.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];

            /// All off but the one named.
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

/// The mistakes that are put back in one machine. Only tests of the tests can put one back: without them nothing is kept here.
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
    /// Mistake 2: a reconcile removes as its frames come, and each removal raises the floor.
    floor_rises_with_removals,
    /// Mistake 3: the floor of a session is adopted before its entries are merged.
    early_floor,
    /// Mistake 4: a delta is computed from the digest at hand instead of the highest report.
    stale_digest,
    /// Mistake 5: a reconcile lists only the origins that were behind.
    partial_reconcile,
    /// Mistake 6: the end of a reconcile voids nothing.
    no_final_void,
    /// Mistake 7: a seen dot is merged again when its key holds nothing or a tombstone. By itself that is
    /// harmless by now: whatever removed the register raised the floor to its stamp at least, and what
    /// stands in its place is no older (see mistake 8). So this takes away the floor as well.
    reinsert_seen,
    /// Mistake 8: an unseen tombstone at or below the floor is merged as it is.
    tombstone_below_floor_merged,
    /// Mistake 9: an unseen tombstone at or below the floor is dropped silently.
    tombstone_below_floor_dropped,
    /// Mistake 10: the vector moves with every frame.
    claim_per_frame,
    /// Mistake 11: frames are accepted only in order.
    frames_in_order,
    /// Mistake 12: removals of a reconcile do not raise the dropped vector.
    reconcile_hides_removals,
    /// Mistake 13: a newcomer gets no reconcile.
    no_reconcile_for_newcomers,
    /// scenario 5: keys missing from a partial delta are read as deleted.
    absent_is_deleted,
    /// scenario 32: a push above a gap is applied.
    apply_over_gap,
    /// scenario 41: eviction of an unstable register leaves nothing.
    evict_without_tombstone,
    /// Tombstones are collected by age alone.
    collect_by_age,
    /// A fill is stamped with the time of its end.
    fill_stamped_late,
    /// A delete of a key never heard of does nothing.
    delete_unknown_is_noop,
    /// Stamps from the future are merged at once.
    no_deferral,
    /// Orphans are not adopted.
    no_adoption,
    /// A push claims a range although another replica overtook a write in it.
    push_over_overtaken,
    /// An epoch removes what is there and does not skip what arrives later.
    epoch_only_sweeps,
    /// The end of a reconcile compares dots only, and voids what its sender has listed under another dot.
    reconcile_compares_dots,
    /// A digest does not name members that are unreachable and not yet forgotten.
    unreachable_unnamed,
    /// A replica collects tombstones although a member has writes, which it lacks, of a replica that left before it came.
    gone_unwaited,
    /// A member that was forgotten because it was unreachable stays forgotten although other members reach it.
    reached_stay_forgotten,
    /// A digest that arrives late retracts names that its sender has given since.
    late_words_unname,
    /// A fill above a young register, floor or epoch beats unseen writes after its start.
    fill_bound_ignored,
    /// A fill loses its bound before every member has seen it, and is believed all the same.
    bounds_dropped_unseen,
    /// A delete that a replica collects while it has no members contests no fill of a replica that it meets later.
    collected_alone_forgotten,
    /// A write that came and was not merged stands for the older ones of its replica, as one that lost does.
    heard_stands_for_lost,
    /// A contested fill at or below a floor is left in doubt, and not voided.
    fills_left_in_doubt,
    /// A fill that has lost its bound is taken by a replica that was no member where it lost it.
    unbounded_believed,
    /// A push counts as heard to its end, with what its origin's own fills have replaced and with what came before it.
    left_out_taken_for_heard,
    /// A fill of a member that was forgotten is taken although what contests it may be forgotten as well.
    late_fills_uncontested,
    /// The same of a member only if it is one no longer: not if it came back meanwhile, or came with the fill.
    returned_fills_believed,
    /// The body of an evicted own write is released as soon as a push with it has been cut.
    released_when_cut,
    /// Evictions raise the one floor, below which an arriving value is voided for all replicas.
    eviction_voids,
    /// A reconcile spares what only evictions can explain, also where what was evicted had not been seen.
    evictions_spared_unseen,
    /// What the end of a reconcile doubts is passed on as evicted, by a receiver that knew all that its sender has evicted.
    doubts_listed,
    /// The end of a reconcile voids what was in doubt before, for all replicas.
    doubts_voided,
    /// What the end of a reconcile removes counts as deleted, also if its sender may have evicted it.
    removals_void,
    /// A receiver leaves out the dropped time of an origin if the session claims less of that origin.
    dropped_beyond_claim_left,
    /// A reconcile does not count the dots that it hides among those that its receiver has to have seen.
    hidden_untold,
    /// The quarantine keeps entries of members that were forgotten.
    quarantine_keeps_departed,
    /// An acknowledgement is taken whoever it was meant for.
    ack_for_any_receiver,
    /// Facts about other members are exchanged among four and more only.
    no_facts_among_three,
    /// Facts say nothing of retired origins.
    facts_without_retired,
    /// Of an audit of many suspects only the last slice is sent.
    last_audit_slice_only,
    /// A sender goes on sending what its receiver has deferred.
    deferral_storm,
    /// A newcomer is caught up as soon as it has heard a member.
    caught_up_at_once,
    /// A write counts as handed over as soon as a push with it has been cut.
    handed_over_when_cut,
    /// A newcomer takes the time of the first member that it hears.
    time_of_the_first,
    /// A process believes the replica of a cache that spoke last, also if its successor was heard before.
    former_believed,
    /// A process that opens a cache keeps the "not open" answers that its predecessor got.
    not_open_for_long,
    /// A member answers a greeting only if it has news, so a member that was away is met again only at its turn.
    greetings_unanswered,
    /// A process believes a "not open" answer to any replica, also if a later replica has spoken since.
    stale_answers_believed,
}
