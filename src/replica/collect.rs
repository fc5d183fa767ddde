//! The end of tombstones: causal stability (Baquero et al. 2017) and the hard cap.

use super::{CoreKey, RemovalCause, Replica};
use crate::crdt::{Dot, VersionVector};
use crate::hlc::{HlcTime, Now, Stamp, nanos};
use crate::store::{Meta, Snapshot};

/// Tombstones looked at in one go.
const BATCH: usize = 4_096;
/// Tombstones that a session has brought and not yet claimed cannot be dropped. Passing by so many of them is paid for with
/// one call that does not look: the cap is exceeded by so small a part of them, and a write costs the same as ever.
const PASSED_PER_REST: usize = 64;

/// What every member has seen and nobody can still precede.
#[derive(Clone, Debug, Default)]
pub struct StableCut {
    seen_by_all: VersionVector,
    /// No write that is still to come carries a stamp at or below this time.
    pub watermark: HlcTime,
    older_than: HlcTime,
}

impl StableCut {
    fn covers(&self, stamp: Stamp, dot: Dot) -> bool {
        stamp.time <= self.watermark && dot.counter <= self.older_than && self.seen_by_all.covers(&dot)
    }
}

impl<K: CoreKey, V> Replica<K, V> {
    /// What is stable by all that is known now.
    #[must_use]
    pub fn stable_cut(&self, now: Now) -> StableCut {
        if self.is_lonely() {
            return StableCut::default();
        }
        // Members times origins: each pair is looked at once, side by side.
        let mut seen_by_all: Vec<_> = self.vector.iter().collect();
        for peer in self.peers.values() {
            for (seen, (_, ours, theirs)) in seen_by_all.iter_mut().zip(self.vector.beside(&peer.reported)) {
                seen.1 = theirs.min(ours).min(seen.1);
            }
        }
        let theirs = self.peers.values().map(|peer| peer.watermark).min();
        let own = self.watermark_at(self.clock.last().max(now.wall));
        StableCut {
            seen_by_all: seen_by_all.into_iter().collect(),
            watermark: theirs.unwrap_or(own).min(own),
            older_than: self.clock.judging(now).saturating_sub(nanos(self.config.gc_grace)),
        }
    }

    /// Says whether there are others who have not been heard yet. As long as none has, nothing is removed
    /// without a trace: a floor of our own, from a time when we were alone, would void everything that they
    /// wrote before it and that we have not seen, on all of them.
    pub fn await_company(&mut self, awaits: bool) {
        self.absent.awaited = awaits;
    }

    fn is_lonely(&self) -> bool {
        self.absent.awaited && self.peers.is_empty()
    }

    /// Our low watermark at a clock of ours: every write we have not yet issued by then will carry a
    /// stamp above it.
    pub(super) fn watermark_at(&self, clock: HlcTime) -> HlcTime {
        let lag = clock.saturating_sub(nanos(self.config.max_drift));
        self.lowest_fill().map_or(lag, |fill| lag.min(fill.saturating_sub(1)))
    }

    /// Whether a register may go without a trace because it is evicted.
    pub(super) fn may_evict_without_trace(&self, now: Now, held: &Snapshot<K, V>) -> bool {
        let (stamp, dot) = (self.stamp_of(&held.meta), self.dot_of(&held.meta));
        if !self.vector.covers(&dot) || self.incoming.is_some() {
            return false;
        }
        if self.is_lonely() {
            return false;
        }
        if self.peers.is_empty() {
            // Nobody else writes; a fill that begins later is stamped above the floor.
            return self.lowest_fill().is_none_or(|fill| stamp.time < fill);
        }
        let cut = self.timers.cut();
        let _ = now;
        cut.covers(stamp, dot)
    }

    /// Collects tombstones that are stable. Returns whether there may be more.
    pub(super) fn collect(&mut self, now: Now) -> bool {
        // A member may have got from others what was kept to be sent to it.
        self.release_retained();
        let cut = self.stable_cut(now);
        let before = self.counters.collected;
        if self.incoming.is_none() {
            let due: Vec<_> = self.tombstones.iter().take(BATCH).copied().collect();
            for (stamp_time, slot) in due {
                if stamp_time > cut.watermark && !self.bugs.collect_by_age {
                    break;
                }
                let Some(held) = self.store.resolve(slot) else { continue };
                if self.is_collectable(&cut, &held) {
                    self.counters.collected += 1;
                    self.drop_register(&held, RemovalCause::Explicit);
                }
            }
        }
        self.prune_contests(now, cut.watermark);
        self.timers.set_cut(cut);
        self.compact_expiry();
        self.compact_retained();
        self.counters.collected - before >= BATCH as u64 / 2
    }

    /// Drops notes of bodies that were overwritten since: without it they pile up for as long as one member
    /// takes to be sent something.
    fn compact_retained(&mut self) {
        if self.retained.len() > 2 * self.tombstones.len() + 64 {
            let store = &self.store;
            let is_kept = |time, slot| store.meta(slot).is_some_and(|meta| meta.retained && meta.dot_time == time);
            self.retained.retain(|(time, slot)| is_kept(*time, *slot));
        }
    }

    fn is_collectable(&self, cut: &StableCut, held: &Snapshot<K, V>) -> bool {
        let (stamp, dot) = (self.stamp_of(&held.meta), self.dot_of(&held.meta));
        if held.meta.retained {
            return false;
        }
        if self.bugs.collect_by_age {
            return self.vector.covers(&dot) && dot.counter <= cut.older_than;
        }
        self.vector.covers(&dot) && cut.covers(stamp, dot)
    }

    /// Drops the oldest tombstones by force once there are more than the cap. Whoever missed them
    /// gets a reconcile.
    pub(super) fn enforce_tombstone_cap(&mut self) {
        let excess = self.tombstones.len().saturating_sub(self.config.max_tombstones);
        if excess == 0 {
            return;
        }
        if self.cap_rests > 0 && !self.uncovered.is_empty() {
            self.cap_rests -= 1;
            return;
        }
        let mut passed = 0;
        let droppable = self.tombstones.iter().filter_map(|(_, slot)| {
            passed += 1;
            let held = self.store.resolve(*slot)?;
            self.vector.covers(&self.dot_of(&held.meta)).then_some(held)
        });
        let oldest: Vec<_> = droppable.take(excess).collect();
        self.cap_rests = passed / PASSED_PER_REST;
        for held in oldest {
            if held.meta.retained {
                self.counters.evicted_unsent += 1;
            }
            self.counters.forced_drops += 1;
            self.lossy = true;
            // Not stable, so a fill may come that began without knowing of it.
            self.note_lost(&held, held.meta.stamp_time);
            self.drop_register(&held, RemovalCause::Size);
        }
    }

    /// Whether some live member has not yet reported an own write.
    pub(super) fn is_unsent(&self, meta: &Meta) -> bool {
        self.origins.id(meta.dot_origin) == self.id && meta.dot_time > self.held_by_all_live()
    }
}
