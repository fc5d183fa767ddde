//! The join of an entry from another replica with the register held here. See "Merging" in `docs/protocol.md`.

use super::changes::RemovalCause;
use super::contests::contester;
use super::placing::Placing;
use super::{Ledger, fill, quarantine};
use crate::arrival::Provenance;
use crate::crdt::register::{Side, join};
use crate::crdt::{Cause, Kind, Marker};
use crate::env::Env;
use crate::hlc::{HlcTime, Stamp};
use crate::item::{CoreKey, size_without_body, without_body};
use crate::members::Members;
use crate::message::bound::{is_of_fill, needs_bound};
use crate::message::{Entry, FillBound};
use crate::store::{SlotRef, Snapshot};

/// The result of merging an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// The entry is now held in this place. It may have been held there before.
    Placed(SlotRef),
    /// A `Void` tombstone of this replica was placed instead of the entry.
    Voided,
    /// The register held here is newer.
    Lost,
    /// The dot of the entry had been seen before, or another process issued it under this replica's own id.
    Seen,
    /// The entry is stamped at or below the epoch.
    Expunged,
    /// The entry comes from the future: it waits in quarantine, or will be offered again.
    Deferred,
}

/// A merge of entries that arrived by the same path.
pub(crate) struct Merge<'a, K, V> {
    pub(crate) ledger: &'a mut Ledger<K, V>,
    pub(crate) env: &'a mut Env,
    pub(crate) members: &'a Members,
    pub(crate) by: Provenance,
}

impl<K: CoreKey, V> Merge<'_, K, V> {
    /// Merges one entry. The caller has called `set_aside` for this entry, so that the last reference to its key or
    /// value is not dropped here.
    pub(crate) fn entry(&mut self, entry: Entry<K, V>, bound: Option<&FillBound>) -> Merged {
        let contester = contester(&entry);
        let epoch = self.ledger.epoch();
        if entry.stamp().time <= epoch && !self.env.bugs().epoch_only_sweeps {
            self.env.counters.skipped_by_epoch += 1;
            self.ledger.registers.contests.note_skipped(&entry, epoch);
            fill::contest(self.ledger, self.env, contester);
            return Merged::Expunged;
        }
        let held = self.ledger.find(entry.hash, &entry.item.key);
        if self.ledger.vector.covers(&entry.dot()) && !self.reinserts(held.as_ref()) {
            self.env.counters.seen += 1;
            // The claim that covers the dot may come from a replica on which this write had lost. The write can be
            // unknown here, and must still contest fills.
            let winner = held.as_ref().map_or_else(|| self.ledger.highest_floor().time, |held| held.meta.stamp_time);
            let write = self.winning_write(held.as_ref());
            self.ledger.registers.contests.note_beaten(&entry, winner, write);
            fill::contest(self.ledger, self.env, contester);
            return Merged::Seen;
        }
        if entry.dot().actor == self.env.id {
            // This replica has not issued that dot. If it merged the entry, its own pushes would claim the dot to other
            // members and never bring the entry.
            self.ledger.note_duplicate_id(self.env, entry.dot().counter);
            return Merged::Seen;
        }
        // A merged stamp from the future would beat all writes of right clocks until its time comes.
        if self.env.is_from_the_future(&entry) {
            quarantine::defer(self.ledger, self.env, self.members, entry, bound.is_some());
            return Merged::Deferred;
        }
        self.env.clock.observe(entry.stamp().time.max(entry.dot().counter));
        let entry = expired_on_arrival(self.env.now.wall, entry);
        let merged = match bound {
            Some(bound) => self.bounded(held, entry, bound),
            None if needs_bound(entry.stamp()) && entry.kind().ranks_live() => self.without_bound(held, entry),
            None => self.plain(held, entry),
        };
        fill::contest(self.ledger, self.env, contester);
        merged
    }

    fn plain(&mut self, held: Option<Snapshot<K, V>>, entry: Entry<K, V>) -> Merged {
        match held {
            None => self.merge_into_nothing(entry),
            Some(held) => self.merge_into_held(&held, entry),
        }
    }

    /// Merges a fill that carries a bound.
    fn bounded(&mut self, held: Option<Snapshot<K, V>>, entry: Entry<K, V>, bound: &FillBound) -> Merged {
        let (hash, fill) = (entry.hash, entry.stamp());
        let registers = &self.ledger.registers;
        let found = held.as_ref().map(|held| registers.stamp_of(&held.meta));
        // If a register is held, its stamp decides. If none is held, the fill counts as winning here.
        // `merge_into_nothing` then compares it with the floors, if it is not contested.
        let wins = found.is_none_or(|found| found <= fill) && !self.is_left_in_doubt(held.as_ref(), fill);
        let write = held.as_ref().and_then(|held| registers.contesting_stamp(held));
        let contests = &registers.contests;
        let contested = || {
            contests.is_contested(hash, write, fill, bound)
                || contests.is_contested_by_evicted(fill, bound)
                || (found != Some(fill) && self.is_late(fill, bound))
        };
        if wins && entry.kind().ranks_live() && !self.env.bugs().fill_bound_ignored && contested() {
            return self.void_fill(held.as_ref(), &entry);
        }
        let merged = self.plain(held, entry);
        let registers = &mut self.ledger.registers;
        if let Merged::Placed(slot) = merged
            && registers.table().meta(slot).is_some_and(|meta| registers.stamp_of(&meta) == fill)
        {
            registers.contests.note_bound(hash, fill, slot, bound);
        }
        merged
    }

    /// Merges a fill that needs a bound and came without it. The sender dropped the bound only after every member that
    /// it knew had seen the fill. So the sender did not count this replica as a member, or the fill arrives a second
    /// time.
    fn without_bound(&mut self, held: Option<Snapshot<K, V>>, entry: Entry<K, V>) -> Merged {
        let (hash, fill) = (entry.hash, entry.stamp());
        let registers = &self.ledger.registers;
        let found = held.as_ref().map(|held| registers.stamp_of(&held.meta));
        let (floor, eviction_floor) = (self.ledger.floor, self.ledger.eviction_floor());
        let wins = found.is_none_or(|found| found < fill) && !self.is_left_in_doubt(held.as_ref(), fill);
        // A void placed at a floor has the stamp of a register that may belong to another key. That stamp proves
        // nothing about writes of this key by its replica. So the void counts as a floor, and not as a write.
        let write = held.as_ref().and_then(|held| registers.contesting_stamp(held));
        let void = found.filter(|found| write.is_none() && !is_of_fill(*found)).map_or(0, |void| void.time);
        let floors = [floor.time, eviction_floor.time, self.ledger.epoch(), void];
        let bugs = self.env.bugs();
        let contested = || registers.contests.may_contest(hash, fill, write, floors);
        let believed = bugs.unbounded_believed || bugs.bounds_dropped_unseen;
        if wins && !believed && contested() {
            return self.void_fill(held.as_ref(), &entry);
        }
        self.plain(held, entry)
    }

    /// Voids a contested fill for all replicas, even at or below the eviction floor. If it were left in doubt, it would
    /// be a miss on this replica only, and other replicas would keep it. Perhaps only this replica knows the contesting
    /// write.
    fn void_fill(&mut self, held: Option<&Snapshot<K, V>>, fill: &Entry<K, V>) -> Merged {
        self.env.counters.fills_contested += 1;
        // Once the void is held, its stamp decides and not the gc floor. A void below the floor would let in a write
        // stamped between the two, which a collected tombstone may have removed.
        let stamp = if held.is_none() { fill.stamp().max(self.ledger.floor) } else { fill.stamp() };
        self.place_void(held, fill, stamp);
        Merged::Voided
    }

    /// Returns true if a contested fill is left in doubt: a known mistake, put back.
    fn is_left_in_doubt(&self, held: Option<&Snapshot<K, V>>, fill: Stamp) -> bool {
        self.env.bugs().fills_left_in_doubt && held.is_none() && fill <= self.ledger.highest_floor()
    }

    /// Returns true if a fill is so late that stamps which contest it may have been forgotten here already. If the
    /// filling replica is a member, only stamps forgotten before it became one can be missing. Since then its watermark
    /// has kept the stamps that may contest its fills. If it is no member, all stamps forgotten so far can be missing.
    fn is_late(&self, fill: Stamp, bound: &FillBound) -> bool {
        let (id, bugs) = (&self.env.id, self.env.bugs());
        let is_member = self.members.contains(&fill.replica);
        let believed =
            fill.replica == *id || bugs.late_fills_uncontested || (is_member && bugs.returned_fills_believed);
        !believed && bound.after < self.members.contests_kept_from(&fill.replica)
    }

    /// Returns the stamp of the held register that has beaten an entry, if it is a write or fill. Returns `None` for a
    /// void or a floor: its stamp may be that of a register of another key.
    fn winning_write(&self, held: Option<&Snapshot<K, V>>) -> Option<Stamp> {
        let registers = &self.ledger.registers;
        if self.env.bugs().void_stands_for_write {
            let held = held.map(|held| registers.stamp_of(&held.meta));
            return held.or(Some(self.ledger.highest_floor()));
        }
        held.and_then(|held| registers.contesting_stamp(held))
    }

    fn reinserts(&self, held: Option<&Snapshot<K, V>>) -> bool {
        self.env.bugs().reinsert_seen && held.is_none_or(|held| !held.meta.kind.is_live())
    }

    fn merge_into_nothing(&mut self, entry: Entry<K, V>) -> Merged {
        let reinserted = self.env.bugs().reinsert_seen && self.ledger.vector.covers(&entry.dot());
        let floor = self.ledger.floor;
        // At or below the eviction floor, the entry may be a value that was evicted here. It must then not be voided
        // for other replicas, even if it is also at or below the gc floor and may have been deleted.
        if entry.stamp() > floor || entry.stamp() <= self.ledger.eviction_floor() || reinserted {
            self.env.counters.merged += 1;
            return Merged::Placed(self.place_joined(None, entry));
        }
        // From here on the entry is voided, because a tombstone that this replica collected may be newer.
        if !entry.kind().is_live() {
            if self.env.bugs().tombstone_below_floor_merged {
                self.env.counters.merged += 1;
                return Merged::Placed(self.place_joined(None, entry));
            }
            if self.env.bugs().tombstone_below_floor_dropped {
                return Merged::Lost;
            }
        }
        self.env.counters.voided += 1;
        self.ledger.registers.contests.note_skipped(&entry, floor.time);
        let stamp = if self.env.bugs().void_keeps_stamp { entry.stamp() } else { floor };
        self.place_void(None, &entry, stamp);
        Merged::Voided
    }

    fn place_void(&mut self, held: Option<&Snapshot<K, V>>, entry: &Entry<K, V>, stamp: Stamp) {
        let dot = self.ledger.issue_dot(self.env);
        let item = without_body(&entry.item);
        let marker = Marker { stamp, kind: Kind::Tombstone(Cause::Void), dot };
        let arrival = self.env.arrival(self.by);
        let placing = Placing {
            hash: entry.hash,
            marker,
            expires: 0,
            size: size_without_body(entry.size),
            weight: 0,
            arrival,
            item,
        };
        let void_counts_as_write = self.env.bugs().void_stands_for_write;
        self.ledger.registers.place_with(held, placing, RemovalCause::Void, void_counts_as_write);
    }

    fn merge_into_held(&mut self, held: &Snapshot<K, V>, entry: Entry<K, V>) -> Merged {
        let expired = self.ledger.registers.expired_before(self.env, held);
        let held = expired.as_ref().unwrap_or(held);
        let mut ours = self.ledger.registers.marker_of(&held.meta);
        if held.meta.retained && !self.env.bugs().retained_body_discarded {
            // Readers miss a retained register, but `entry_at` sends it as the value that it was. It must also join as
            // a value, or the join could prefer a copy without a body.
            ours.kind = Kind::Live;
        }
        let joined = join(ours, entry.marker);
        // One dot with two stamps proves that two processes use one replica id.
        if ours.dot == entry.marker.dot && ours.stamp != entry.marker.stamp {
            self.env.counters.conflicts += 1;
        }
        let (floor, eviction_floor) = (self.ledger.floor, self.ledger.eviction_floor());
        let in_doubt = self.ledger.is_in_doubt(held);
        if joined.changed && in_doubt && entry.stamp() <= floor && entry.stamp() > eviction_floor {
            // A register in doubt counts as no register: a tombstone that was collected may be newer than this entry.
            // The void contests no fill, so the entry must be remembered.
            self.env.counters.voided += 1;
            if !self.env.bugs().void_stands_for_write {
                self.ledger.registers.contests.note_skipped(&entry, floor.time);
            }
            self.place_void(Some(held), &entry, floor);
            return Merged::Voided;
        }
        if !joined.changed {
            self.env.counters.lost += 1;
            let write = self.winning_write(Some(held));
            self.ledger.registers.contests.note_beaten(&entry, ours.stamp.time, write);
            // An equal dot is the same event again. The result is `Placed`, as for a new register: the caller must note
            // that no claim covers this register.
            return if ours.dot == entry.marker.dot { Merged::Placed(held.slot) } else { Merged::Lost };
        }
        self.env.counters.merged += 1;
        Merged::Placed(match joined.body {
            Side::Offered => self.place_joined(Some(held), Entry { marker: joined.marker, ..entry }),
            Side::Held => self.keep_body(held, joined.marker),
        })
    }

    /// Keeps the body of a held register. The entry is the same write under a greater dot, which a replica gave it so
    /// that it spreads again. The register takes that dot.
    fn keep_body(&mut self, held: &Snapshot<K, V>, marker: Marker) -> SlotRef {
        if held.meta.retained {
            let marker = Marker { kind: Kind::Tombstone(Cause::Evicted), ..marker };
            // The same write arrived without its body, under a greater dot. Members that have seen that dot would skip
            // the body under the old one, so the body gets a still greater dot. This is done at most once per body, or
            // two replicas could raise the dots without end. If the dot time differs from the stamp time, the body may
            // have got a new dot before. It is then dropped, and a tombstone remains.
            if held.meta.dot_time != held.meta.stamp_time {
                self.env.counters.evicted_unsent += 1;
                return self.ledger.registers.place(
                    Some(held),
                    Placing::without_body(held, marker),
                    RemovalCause::Size,
                );
            }
            let marker = Marker { dot: self.ledger.issue_dot(self.env), ..marker };
            return self.ledger.registers.place_retained(held, marker);
        }
        self.ledger.registers.place(Some(held), Placing::same_body(held, marker), removal_cause(marker.kind))
    }

    /// Places an entry that has won. A value that may be older than one evicted here is kept as an `Evicted` tombstone.
    fn place_joined(&mut self, held: Option<&Snapshot<K, V>>, mut entry: Entry<K, V>) -> SlotRef {
        if entry.kind().is_live() && self.ledger.registers.may_be_older_than_evicted(held, entry.stamp()) {
            self.env.counters.in_doubt += 1;
            entry = bodiless(entry, Cause::Evicted);
        }
        let why = removal_cause(entry.kind());
        let Entry { hash, item, marker, expires, size, weight } = entry;
        let placing = Placing { hash, marker, expires, size, weight, arrival: self.env.arrival(self.by), item };
        let void_counts_as_write = self.env.bugs().void_stands_for_write;
        self.ledger.registers.place_with(held, placing, why, void_counts_as_write)
    }
}

/// Turns a value whose time to live is over into an `Expired` tombstone, so that no reader ever sees it.
fn expired_on_arrival<K: Clone, V>(wall: HlcTime, entry: Entry<K, V>) -> Entry<K, V> {
    if !entry.kind().is_live() || entry.expires == 0 || entry.expires > wall {
        return entry;
    }
    bodiless(entry, Cause::Expired)
}

/// Returns the entry as a tombstone.
fn bodiless<K: Clone, V>(entry: Entry<K, V>, cause: Cause) -> Entry<K, V> {
    let marker = Marker { kind: Kind::Tombstone(cause), ..entry.marker };
    Entry { marker, ..entry.without_body() }
}

fn removal_cause(kind: Kind) -> RemovalCause {
    match kind {
        Kind::Live => RemovalCause::Replaced,
        Kind::Tombstone(Cause::Deleted) => RemovalCause::Explicit,
        Kind::Tombstone(Cause::Expired) => RemovalCause::Expired,
        Kind::Tombstone(Cause::Evicted) => RemovalCause::Size,
        Kind::Tombstone(Cause::Void) => RemovalCause::Void,
    }
}
