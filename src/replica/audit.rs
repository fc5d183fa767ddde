//! The safety net: replicas compare registers whose dots both have seen.
//!
//! A slice is a run of one origin's log, found by the same index that deltas use; so an audit costs
//! what the slice costs and never a scan. Keys travel, values do not.

use super::message::{Audit, Entry, Message};
use super::{CoreKey, Replica, Transmit};
use crate::crdt::{Cause, Kind, Marker};
use crate::hlc::Now;
use crate::item::without_body;
use crate::replica_id::ReplicaId;
use crate::store::SlotRef;

impl<K: CoreKey, V> Replica<K, V> {
    /// Compares a random slice with a random live member.
    pub(super) fn audit_random_slice(&mut self, now: Now) {
        let live: Vec<_> = self.live_peers().collect();
        let Some(to) = self.random.choice(live) else { return };
        let origins: Vec<_> = self.logs.keys().copied().collect();
        let Some(origin) = self.random.choice(origins) else { return };
        let entries_of_origin = self.logs.get(&origin).map_or(0, super::log::OriginLog::len);
        let first = self.random.usize(0..entries_of_origin.max(1));
        let _ = now;
        let entries = self.audit_slice(origin, first);
        if !entries.is_empty() {
            let vector = self.vector.clone();
            self.queue(to, Message::Audit(Audit { vector, entries, reply: false }));
        }
    }

    /// Live registers of one origin from an entry of its log on, without bodies.
    fn audit_slice(&mut self, origin: ReplicaId, first: usize) -> Vec<Entry<K, V>> {
        let Some(mut log) = self.logs.remove(&origin) else { return Vec::new() };
        let places: Vec<_> = log.starting_at(first).take(self.config.audit_slice).collect();
        self.logs.insert(origin, log);
        let entries = places.into_iter().filter_map(|(time, slot)| {
            let (entry, held) = self.entry_at(crate::crdt::Dot::new(origin, time), slot)?;
            let covered = self.vector.covers(&entry.dot());
            (held.meta.kind.is_live() && covered).then(|| self.without_body(entry))
        });
        entries.collect()
    }

    /// Compares these registers with a member's: an audit of what somebody suspects. Returns how many were sent.
    pub(crate) fn audit_registers(&mut self, with: ReplicaId, slots: &[SlotRef]) -> usize {
        let suspects: Vec<_> = slots.iter().copied().filter(|slot| self.suspect_at(*slot).is_some()).collect();
        if self.bugs.last_audit_slice_only {
            self.suspects.clear();
            let last = suspects.len().saturating_sub(1) / self.config.audit_slice * self.config.audit_slice;
            self.suspects.extend(suspects[last..].iter().map(|slot| (with, *slot)));
        } else {
            self.suspects.extend(suspects.iter().map(|slot| (with, *slot)));
        }
        suspects.len()
    }

    /// The next slice of suspects, to the member that is to compare them. They are looked up when they leave: a queue of
    /// entries would hold on to keys for as long as the member is slow.
    pub(super) fn poll_suspects(&mut self) -> Option<Transmit<K, V>> {
        while let Some((with, _)) = self.suspects.front().copied() {
            let mut entries = Vec::new();
            while entries.len() < self.config.audit_slice
                && let Some((_, slot)) = self.suspects.front().copied().filter(|(other, _)| *other == with)
            {
                self.suspects.pop_front();
                entries.extend(self.suspect_at(slot));
            }
            if !entries.is_empty() && self.is_live_peer(&with) {
                let audit = Audit { vector: self.vector.clone(), entries, reply: false };
                return Some(Transmit { to: vec![with], message: Message::Audit(audit), bulk: false });
            }
        }
        None
    }

    fn suspect_at(&self, slot: SlotRef) -> Option<Entry<K, V>> {
        let held = self.store.meta(slot).filter(|meta| meta.kind.is_live())?;
        let (entry, _) = self.entry_at(self.dot_of(&held), slot)?;
        self.vector.covers(&entry.dot()).then(|| self.without_body(entry))
    }

    fn without_body(&self, entry: Entry<K, V>) -> Entry<K, V> {
        let item = without_body(&entry.item);
        Entry { item, size: entry.size.min(64), weight: 0, ..entry }
    }

    pub(super) fn handle_audit(&mut self, now: Now, from: ReplicaId, audit: Audit<K, V>) {
        self.counters.audits += 1;
        let mut answer = Vec::new();
        for theirs in audit.entries {
            if theirs.stamp().time <= self.store.epoch() || !self.vector.covers(&theirs.dot()) {
                continue;
            }
            match self.find(theirs.hash, &theirs.item.key) {
                Some(held) => {
                    let ours = self.marker_of(&held.meta);
                    let both_seen = audit.vector.covers(&ours.dot);
                    if held.meta.kind.is_live() && both_seen && ours.stamp != theirs.stamp() {
                        self.note_conflict(now, &held, ours, &theirs.marker);
                        if !audit.reply
                            && let Some((entry, _)) = self.entry_at(ours.dot, held.slot)
                        {
                            answer.push(self.without_body(entry));
                        }
                    }
                }
                None if !self.lossy && self.may_be_missing(now, &theirs) => {
                    self.counters.audit_missing += 1;
                    tracing::warn!(replica = %self.id, peer = %from, marker = ?theirs.marker, "audit: a value live elsewhere is missing here");
                }
                None => {}
            }
        }
        if !answer.is_empty() {
            let vector = self.vector.clone();
            self.queue(from, Message::Audit(Audit { vector, entries: answer, reply: true }));
        }
    }

    /// An entry that is not about to expire and is not just being collected.
    fn may_be_missing(&self, now: Now, theirs: &Entry<K, V>) -> bool {
        let expired = theirs.expires != 0 && theirs.expires <= now.wall;
        !expired && theirs.stamp() > self.highest_floor()
    }

    /// Two live values for one key, both seen by both: must not happen. Whoever holds the winner
    /// gives it a new dot, because plain merging would skip it.
    fn note_conflict(&mut self, now: Now, held: &crate::store::Snapshot<K, V>, ours: Marker, theirs: &Marker) {
        self.counters.audit_conflicts += 1;
        tracing::error!(replica = %self.id, ?ours, ?theirs, "audit: two live values for one key");
        debug_assert!(ours.kind == Kind::Live || ours.kind == Kind::Tombstone(Cause::Evicted));
        if ours > *theirs {
            self.reissue(now, held);
        }
    }
}
