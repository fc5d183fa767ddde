//! What is observed of each replica beyond its present state: when its floor rose and what it knew then, which members
//! it had, what it said of itself. The checkers judge a void by it.

use super::cluster::Cluster;
use super::observed::{Floor, Removal, Rise};
use super::opening::Opening;
use super::oracle::{FillStart, Oracle, Record};
use super::types::{SimKey, SimValue};
use crate::crdt::{Cause, Kind, Marker};
use crate::hlc::{HlcTime, Stamp, nanos};
use crate::message::Digest;
use crate::replica::Counters;

impl<K: SimKey, V: SimValue> Cluster<'_, K, V> {
    /// Takes note of what an event did to the floor, the members and the counters of a replica. Called before its
    /// changes are followed and again after it was drained.
    pub(super) fn note_history(&mut self, number: usize) {
        self.note_members(number);
        let opening = &self.openings[number];
        let (replica, history) = (&opening.engine.replica, &opening.history);
        let (now, before) = (replica.view().counters().clone(), &history.counted);
        let completed = now.sessions_completed > before.sessions_completed;
        let forced = now.forced_drops > before.forced_drops || now.retired_dropped > before.retired_dropped;
        let voided = now.voided > before.voided || now.reconcile_voided > before.reconcile_voided;
        let voided = voided || now.fills_contested > before.fills_contested;
        let source = history.frame_from.filter(|_| completed);
        let tainted = now.evictions_taken > before.evictions_taken;
        let reconciled = now.reconciles_in > before.reconciles_in;
        let doubted = now.in_doubt > before.in_doubt || now.reconcile_doubted > before.reconcile_doubted;
        let ended = completed || now.sessions_abandoned > before.sessions_abandoned;
        self.note_reached(&now, number);
        self.note_rise(number, Floor::Gc, source, forced);
        self.note_rise(number, Floor::Eviction, source.filter(|_| reconciled), forced);
        let history = &mut self.openings[number].history;
        history.took_from_evicter |= tainted;
        if source.is_some() {
            history.completed_from = source;
        }
        history.counted = now;
        (history.voided, history.doubted) = (history.voided || voided, history.doubted || doubted);
        let (voided, doubted) = (history.voided, history.doubted);
        if tainted {
            self.note_taken_doubts(number);
        }
        self.judge_what_is_gone(number, voided && forced, doubted && (forced || ended));
    }

    /// With the eviction floor of another, all that is held without a value below it came to be in doubt: also the bodies that an
    /// author keeps of writes that it has evicted, which it tells nobody any more.
    fn note_taken_doubts(&mut self, number: usize) {
        let floor = self.view(number).eviction_floor();
        for key in 0..self.keys.len() {
            let held = self.held(number, key).map(|held| self.view(number).marker_at(&held.meta));
            let doubted = held.filter(|held| held.kind == Kind::Tombstone(Cause::Evicted) && held.stamp <= floor);
            if let Some(record) = doubted.and_then(|held| self.record_mut(number, key, &held.stamp)) {
                record.fate.doubted.insert(number);
            }
        }
    }

    /// A tombstone may leave in the event that made it: by force, and one in doubt also when its session ends before its dot
    /// could be claimed. Then every key that is empty now may have had one.
    fn judge_what_is_gone(&mut self, number: usize, voided: bool, doubted: bool) {
        if !voided && !doubted {
            return;
        }
        let view = self.view(number);
        let (floor, eviction_floor) = (view.floor(), view.eviction_floor());
        let empty: Vec<_> = (0..self.keys.len()).filter(|&key| self.held(number, key).is_none()).collect();
        for key in empty {
            if voided {
                self.judge_void(number, key, floor, false);
            }
            if doubted {
                self.judge_doubt(number, key, eviction_floor, false);
            }
        }
    }

    fn note_reached(&mut self, now: &Counters, number: usize) {
        let before = &self.openings[number].history.counted;
        let together = now.sessions_abandoned > before.sessions_abandoned && now.adopted > before.adopted;
        if together {
            self.report.reach("a broken session was adopted");
        }
    }

    /// Takes note of the members a replica has now.
    fn note_members(&mut self, number: usize) {
        let (at, now) = (self.at, self.now_at(number));
        let Opening { engine, history, .. } = &mut self.openings[number];
        let view = engine.replica.view();
        history.company.note_members(at, view.clock().judging(now), view.members().collect());
    }

    /// A digest of a member came: it is to name all members that its sender had met.
    pub(super) fn note_names(&mut self, number: usize, from: usize, digest: &Digest) {
        let met = self.openings[from].history.said.get(&digest.clock).map(|(met, _)| met.clone());
        self.openings[number].history.company.named.extend(met.into_iter().flatten());
    }

    /// Takes note of a digest that a replica sends: what it says of itself.
    pub(super) fn note_said(&mut self, number: usize, digest: &Digest) {
        let opening = &mut self.openings[number];
        opening.history.watermark = opening.history.watermark.max(digest.watermark);
        opening.seen.join(&digest.vector);
        let met = opening.engine.replica.view().peers().map(|peer| peer.id).collect();
        // Its own entry moves with its clock: what it has written ends before.
        let mut seen = opening.engine.replica.view().vector().clone();
        seen.remove(&opening.id);
        seen.raise(opening.id, digest.quiet_since);
        opening.history.said.insert(digest.clock, (met, seen));
    }

    fn note_rise(&mut self, number: usize, which: Floor, source: Option<usize>, forced: bool) {
        let at = self.at;
        let opening = &mut self.openings[number];
        let replica = &opening.engine.replica;
        let floor = if which == Floor::Gc { replica.view().floor() } else { replica.view().eviction_floor() };
        let history = &mut opening.history;
        if history.rises[which as usize].last().is_some_and(|last| last.floor >= floor) || floor == Stamp::ZERO {
            return;
        }
        let removal = || Removal { seen: opening.seen.clone(), members: history.company.awaited(at), forced };
        let own = (source.is_none() || forced).then(removal);
        let line = format!("  r{number} {which:?} floor rises to {floor:?} from {source:?} forced {forced}");
        history.rises[which as usize].push(Rise { floor, at, source, own });
        self.trace(|| line);
        if source.is_some() {
            self.report.reach("a floor came with a session");
        }
    }

    /// Whether a void of this record by this opening is what the protocol asks for: the replica whose floor passed the
    /// record's stamp did not have the record then, and could not wait for it, because its author was not among its
    /// members (never met, or forgotten), or because it dropped registers by force.
    ///
    /// A replica that had the record then held it, or something newer, or had removed it for a reason that is a
    /// fate of the record itself. A member's watermark is used only once everything before it has been seen, so a
    /// floor that rises by stability does not pass what a member has written and this replica has not.
    fn is_due(&self, number: usize, which: Floor, record: &Record<K, V>) -> bool {
        let (mut number, mut until) = (number, u64::MAX);
        for _ in 0..self.openings.len() + 1 {
            let Some(rise) = self.openings[number].history.rise_over(which, record.stamp, until) else { return false };
            if let Some(Removal { seen, members, forced }) = &rise.own {
                let author = self.openings[record.author].id;
                let known = record.author == number || members.contains(&author);
                if !record.is_claimed_by(seen) && (*forced || !known) {
                    return true;
                }
            }
            let Some(source) = rise.source else { return false };
            (number, until) = (source, rise.at);
        }
        false
    }

    /// A void of this opening stands, or stood, for a key: all values up to its stamp are gone with it, everywhere.
    /// If it is not certain that there was one, it can excuse a miss, and is no fault.
    fn judge_void(&mut self, number: usize, key: usize, stamp: Stamp, certain: bool) {
        let oracle = self.oracle(number);
        // A void may stand for a delete that came too late as well, and may have come from another replica.
        let late_delete = oracle.of(key).filter(|record| record.item.is_none() && record.stamp <= stamp);
        let late_delete =
            late_delete.filter(|record| self.is_due_here(number, Floor::Gc, record)).map(|record| record.stamp);
        let (below, stands) = (late_delete.max(), oracle.due_void(key) >= stamp);
        let is_gone = |record: &&Record<K, V>| record.stamp <= stamp || (!certain && record.fill.is_some());
        let victims = oracle.of(key).filter(|record| record.item.is_some()).filter(is_gone);
        let drift = nanos(self.settings.config.max_drift);
        let evicted = self.openings[number].history.evicted_alone;
        // What a fill must lose against may be forgotten unless its replica was a member here all the time since it began. By its
        // clock, that is: one that is further behind than `max_drift` cannot say so.
        let history = &self.openings[number].history;
        let is_late = |record: &Record<K, V>| {
            let admitted = history.company.admitted.get(&self.openings[record.author].id);
            let is_early = |start: &FillStart, (since, clock): &(u64, HlcTime)| {
                *since > start.at || start.began.saturating_add(drift) < *clock
            };
            record.fill.is_some_and(|start| admitted.is_none_or(|admitted| is_early(&start, admitted)))
        };
        let is_due = |record: &Record<K, V>| {
            let contested = (record.stamp == stamp || !certain)
                && (oracle.is_contested(key, record, drift)
                    || Oracle::is_contested_by_evicted(record, evicted, drift)
                    || is_late(record));
            let covered = stands || below.is_some_and(|delete| record.stamp < delete);
            covered || contested || self.is_due_here(number, Floor::Gc, record)
        };
        let judged: Vec<_> = victims.map(|record| (record.stamp, is_due(record))).collect();
        if certain && (judged.is_empty() || below.is_some()) {
            self.oracle_mut(number).note_due_void(key, stamp); // It takes nothing, and stands.
        }
        for (victim, due) in judged {
            self.trace(|| format!("  r{number} voids key {key} of {victim:?}: due {due}"));
            let Some(record) = self.record_mut(number, key, &victim) else { continue };
            if due {
                record.fate.voided = true;
                if certain {
                    self.oracle_mut(number).note_due_void(key, stamp);
                }
                self.report.reach("a void was due");
            } else if certain {
                record.fate.lost_wrongly.insert(number);
            }
        }
    }

    /// By its own floor, or by that of the sender whose reconcile has just ended, whatever its own is.
    fn is_due_here(&self, number: usize, which: Floor, record: &Record<K, V>) -> bool {
        let sender = self.openings[number].history.completed_from;
        [Some(number), sender].into_iter().flatten().any(|judge| self.is_due(judge, which, record))
    }

    /// A value is a miss here because something newer of its key may have been evicted, here or by the sender of a
    /// reconcile: as if this replica had evicted it. It is due for the same reasons as a void. If another replica has
    /// evicted this very record, its tombstone may have come from there.
    fn judge_doubt(&mut self, number: usize, key: usize, stamp: Stamp, certain: bool) {
        let victims = self.oracle(number).of(key);
        let victims = victims.filter(|record| record.item.is_some() && !record.fate.evicted.contains(&number));
        let victims = victims.filter(|record| if certain { record.stamp == stamp } else { record.stamp <= stamp });
        let judged: Vec<_> =
            victims.map(|record| (record.stamp, self.is_due_here(number, Floor::Eviction, record))).collect();
        for (victim, due) in judged {
            self.trace(|| format!("  r{number} doubts key {key} of {victim:?}: due {due}"));
            let Some(record) = self.record_mut(number, key, &victim) else { continue };
            if due {
                record.fate.doubted.insert(number);
                self.report.reach("a doubt was due");
            } else if certain && record.fate.evicted.is_empty() {
                record.fate.lost_wrongly.insert(number);
            }
        }
    }

    /// Takes note of what a replica holds for a key after an event: aliases, ends of times to live, voids.
    pub(super) fn note_held(&mut self, number: usize, key: usize, marker: Option<Marker>) {
        let before = std::mem::replace(&mut self.openings[number].history.held[key], marker);
        let Some(marker) = marker.filter(|marker| before != Some(*marker)) else { return };
        let id = self.openings[number].id;
        if marker.kind == Kind::Tombstone(Cause::Void) {
            if marker.dot.actor == id && before.is_none_or(|before| before.dot != marker.dot) {
                self.judge_void(number, key, marker.stamp, true);
            }
            return;
        }
        if marker.kind == Kind::Tombstone(Cause::Evicted) {
            self.judge_doubt(number, key, marker.stamp, true);
        }
        let at = self.at;
        let Some(record) = self.record_mut(number, key, &marker.stamp) else { return };
        record.held_by.entry(number).or_insert(at);
        if record.dot != marker.dot && !record.adopted_as.contains(&marker.dot) {
            record.adopted_as.push(marker.dot);
        }
    }
}
