//! What is observed of each replica beyond its present state: when its floor rose and what it knew then, which members
//! it had, what it said of itself. The checkers judge a void by it.

use std::collections::BTreeMap;

use super::cluster::Cluster;
use super::observed::{Floor, Removal, Rise};
use super::opening::Opening;
use super::oracle::{FillStart, Oracle, Record};
use super::types::{SimKey, SimValue};
use crate::crdt::{Cause, Kind, Marker};
use crate::hlc::{HlcTime, Stamp, nanos};
use crate::message::Digest;
use crate::replica::Counters;
use crate::replica_id::ReplicaId;

/// A member that has been one for this long is in the stable cut that an eviction goes by: a replica takes it anew every
/// second at the latest.
const CUT_AGE: u64 = 1_050_000_000;

impl<K: SimKey, V: SimValue> Cluster<'_, K, V> {
    /// An event begins.
    pub(super) fn begin_history(&mut self, number: usize) {
        let history = &mut self.openings[number].history;
        (history.voided, history.doubted) = (false, false);
    }

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
        let (floor, cache) = (self.view(number).eviction_floor(), usize::from(self.openings[number].cache));
        for key in 0..self.keys.len() {
            let held = self.held(number, key).map(|held| self.view(number).marker_at(&held.meta));
            let doubted = held.filter(|held| held.kind == Kind::Tombstone(Cause::Evicted) && held.stamp <= floor);
            if let Some(record) = doubted.and_then(|held| self.oracles[cache].get_mut(key, &held.stamp)) {
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
        let clock = engine.replica.view().clock().judging(now);
        let now: BTreeMap<_, _> = engine.replica.view().members().collect();
        history.company.members.retain(|id, _| now.contains_key(id));
        history.company.admitted.retain(|id, _| now.contains_key(id));
        history.company.live.retain(|id, _| now.get(id).is_some_and(|live| *live));
        for (id, live) in now {
            history.company.members.entry(id).or_insert(at);
            history.company.admitted.entry(id).or_insert((at, clock));
            history.company.ever.insert(id);
            if live {
                history.company.live.entry(id).or_insert(at);
            }
        }
    }

    /// A digest of a member came: it is to name all members that its sender had met.
    pub(super) fn note_names(&mut self, number: usize, from: usize, digest: &Digest) {
        let met = self.openings[from].history.said.get(&digest.clock).map(|(met, _)| met.clone());
        for who in met.into_iter().flatten() {
            self.openings[number].history.company.named.entry(who).or_default().insert(from);
        }
    }

    /// Whom a replica has to wait for though they have not spoken to it: a member of it has told it that it met them, and has not
    /// forgotten them. A member that is down or stands still forgets nobody, and others need not wait for its sake.
    fn waited_for(&self, number: usize) -> Vec<ReplicaId> {
        let company = &self.openings[number].history.company;
        let still = |who: &ReplicaId, namer: &usize| {
            let namer = &self.openings[*namer];
            namer.is_open
                && self.processes[namer.process].is_up()
                && company.members.contains_key(&namer.id)
                && namer.history.company.members.contains_key(who)
        };
        let named = company.named.iter().filter(|(who, namers)| namers.iter().any(|namer| still(who, namer)));
        named.map(|(who, _)| *who).filter(|who| !company.ever.contains(who)).collect()
    }

    /// A replica that stood still has a stable cut from before: as if it had met its members just now.
    pub(super) fn note_resumed(&mut self, number: usize) {
        let at = self.at;
        self.openings[number].history.company.members.values_mut().for_each(|since| *since = at);
    }

    fn note_rise(&mut self, number: usize, which: Floor, source: Option<usize>, forced: bool) {
        let (at, opening) = (self.at, &self.openings[number]);
        let view = opening.engine.replica.view();
        let floor = if which == Floor::Gc { view.floor() } else { view.eviction_floor() };
        let history = &opening.history;
        if history.rises[which as usize].last().is_some_and(|last| last.floor >= floor) || floor == Stamp::ZERO {
            return;
        }
        let is_old = |since: &u64| since + CUT_AGE <= at;
        let members = || history.company.members.iter().filter(|(_, since)| is_old(since)).map(|(id, _)| *id);
        let members = || members().chain(self.waited_for(number)).collect();
        let removal = || Removal { seen: opening.seen.clone(), members: members(), forced };
        let own = (source.is_none() || forced).then(removal);
        let line = format!("  r{number} {which:?} floor rises to {floor:?} from {source:?} forced {forced}");
        self.openings[number].history.rises[which as usize].push(Rise { floor, at, source, own });
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
        let cache = usize::from(self.openings[number].cache);
        let oracle = &self.oracles[cache];
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
            self.oracles[cache].note_due_void(key, stamp); // It takes nothing, and stands.
        }
        for (victim, due) in judged {
            self.trace(|| format!("  r{number} voids key {key} of {victim:?}: due {due}"));
            let Some(record) = self.oracles[cache].get_mut(key, &victim) else { continue };
            if due {
                record.fate.voided = true;
                if certain {
                    self.oracles[cache].note_due_void(key, stamp);
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
        let cache = usize::from(self.openings[number].cache);
        let victims = self.oracles[cache].of(key);
        let victims = victims.filter(|record| record.item.is_some() && !record.fate.evicted.contains(&number));
        let victims = victims.filter(|record| if certain { record.stamp == stamp } else { record.stamp <= stamp });
        let judged: Vec<_> =
            victims.map(|record| (record.stamp, self.is_due_here(number, Floor::Eviction, record))).collect();
        for (victim, due) in judged {
            self.trace(|| format!("  r{number} doubts key {key} of {victim:?}: due {due}"));
            let Some(record) = self.oracles[cache].get_mut(key, &victim) else { continue };
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
        let (id, cache) = (self.openings[number].id, usize::from(self.openings[number].cache));
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
        let Some(record) = self.oracles[cache].get_mut(key, &marker.stamp) else { return };
        record.held_by.entry(number).or_insert(at);
        if record.dot != marker.dot && !record.adopted_as.contains(&marker.dot) {
            record.adopted_as.push(marker.dot);
        }
    }
}
