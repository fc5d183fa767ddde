//! Invalidate all: one replicated epoch per cache, joined by maximum.
//!
//! A register stamped at or below the epoch counts as absent the moment the epoch is known, and is
//! swept in the background; one that arrives later is skipped. The sweep raises neither floor nor
//! dropped vector: whoever is told of the claim is told of the epoch in the same message.

use super::{CoreKey, Effect, RemovalCause, Replica};
use crate::hlc::{HlcTime, Now, nanos};
use crate::store::{Position, Snapshot};

/// Registers looked at in one go.
const BATCH: usize = 512;

impl<K: CoreKey, V> Replica<K, V> {
    /// Invalidates everything stamped up to now, everywhere, including what has not arrived yet.
    pub fn invalidate_all(&mut self, now: Now) -> HlcTime {
        let epoch = self.issue_dot(now).counter;
        self.adopt_epoch(now, epoch);
        epoch
    }

    /// Takes over an epoch. The caller has checked that it does not come from the future.
    pub(super) fn adopt_epoch(&mut self, now: Now, epoch: HlcTime) {
        let held = self.store.epoch();
        if epoch == held {
            return;
        }
        self.fills.contests.note_epoch(epoch, held.saturating_sub(nanos(self.config.max_drift)));
        if epoch < held {
            // A fill that began before this one was issued may be stamped above the greater one.
            self.contest_fills_by_epoch(now, epoch);
            return;
        }
        self.counters.epochs += 1;
        self.clock.observe(epoch);
        self.store.raise_epoch(epoch);
        self.sweep = Some(Position::default());
        self.contest_fills_by_epoch(now, epoch);
    }

    /// Sweeps a page. Returns whether there is more.
    pub(super) fn sweep_page(&mut self) -> bool {
        let Some(from) = self.sweep else { return false };
        let (page, next) = self.store.page(from, BATCH);
        let epoch = self.store.epoch();
        for held in page.into_iter().filter(|held| held.meta.stamp_time <= epoch) {
            self.sweep_register(&held);
        }
        self.sweep = next;
        if next.is_none() {
            self.store.note_swept();
        }
        next.is_some()
    }

    /// Removes a register that an epoch has made absent.
    pub(super) fn sweep_register(&mut self, held: &Snapshot<K, V>) {
        self.counters.swept_by_epoch += 1;
        self.note_lost(held, self.store.epoch());
        self.erase(held, RemovalCause::Invalidated);
    }

    /// A value that an epoch made absent is reported once, when its register goes or is replaced.
    pub(super) fn note_invalidated(&mut self, held: &Snapshot<K, V>) {
        if !held.meta.kind.is_live() || self.is_readable(&held.meta) {
            return;
        }
        let marker = self.marker_of(&held.meta);
        let effect = Effect::Removed(RemovalCause::Invalidated);
        self.note_change(held.slot, 0, effect, (Some(&held.item), None), marker);
    }
}
