//! What is observed of each replica beyond its present state: when its floor rose and what it knew then, which members
//! it had, what it said of itself. The checkers judge a void by it.

use super::cluster::Cluster;
use super::observed::{Floor, Removal, Rise};
use super::opening::Opening;
use super::oracle::{Oracle, Record};
use super::types::{SimKey, SimValue};
use crate::crdt::{Cause, Kind, Marker};
use crate::hlc::{Stamp, nanos};
use crate::message::Digest;
use crate::replica::Counters;
use crate::replica_id::ReplicaId;

/// Takes note of what an event did to the floors, the members and the counters of a replica. Called before its changes are
/// followed and again after it was drained.
pub(super) fn note<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, number: usize) {
    note_members(cluster, number);
    let opening = &cluster.openings[number];
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
    note_reached(cluster, &now, number);
    note_rise(cluster, number, Floor::Gc, source, forced);
    note_rise(cluster, number, Floor::Eviction, source.filter(|_| reconciled), forced);
    let history = &mut cluster.openings[number].history;
    history.took_from_evicter |= tainted;
    if source.is_some() {
        history.completed_from = source;
    }
    history.counted = now;
    (history.voided, history.doubted) = (history.voided || voided, history.doubted || doubted);
    let (voided, doubted) = (history.voided, history.doubted);
    if tainted {
        note_taken_doubts(cluster, number);
    }
    judge_what_is_gone(cluster, number, voided && forced, doubted && (forced || ended));
}

/// Takes note of the doubts that came with the eviction floor of another replica. Every evicted tombstone at or below it is
/// in doubt now, and so are the bodies that an author keeps of own writes that it has evicted: it sends them to no replica
/// any more.
fn note_taken_doubts<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, number: usize) {
    let floor = cluster.view(number).eviction_floor();
    for key in 0..cluster.keys.len() {
        let held = cluster.held(number, key).map(|held| cluster.view(number).marker_at(&held.meta));
        let doubted = held.filter(|held| held.kind == Kind::Tombstone(Cause::Evicted) && held.stamp <= floor);
        if let Some(record) = doubted.and_then(|held| cluster.record_mut(number, key, &held.stamp)) {
            record.fate.doubted.insert(number);
        }
    }
}

/// Judges the keys that are empty now, as if each had had a tombstone. A tombstone may leave in the event that made it: by
/// force, and one in doubt also when its session ends before its dot could be claimed.
fn judge_what_is_gone<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    voided: bool,
    doubted: bool,
) {
    if !voided && !doubted {
        return;
    }
    let view = cluster.view(number);
    let (floor, eviction_floor) = (view.floor(), view.eviction_floor());
    let empty: Vec<_> = (0..cluster.keys.len()).filter(|&key| cluster.held(number, key).is_none()).collect();
    for key in empty {
        if voided {
            judge_void(cluster, number, key, floor, false);
        }
        if doubted {
            judge_doubt(cluster, number, key, eviction_floor, false);
        }
    }
}

/// Takes note of a rare branch that two counters show together.
fn note_reached<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, now: &Counters, number: usize) {
    let before = &cluster.openings[number].history.counted;
    let together = now.sessions_abandoned > before.sessions_abandoned && now.adopted > before.adopted;
    if together {
        cluster.report.reach("a broken session was adopted");
    }
}

/// Takes note of the members that a replica has now.
fn note_members<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, number: usize) {
    let (at, now) = (cluster.at, cluster.now_at(number));
    let Opening { engine, history, .. } = &mut cluster.openings[number];
    let view = engine.replica.view();
    history.company.note_members(at, view.clock().judging(now), view.members().collect());
}

/// Takes note of the members that a digest names: all that its sender had met.
pub(super) fn note_names<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    from: usize,
    digest: &Digest,
) {
    let met = cluster.openings[from].history.said.get(&digest.clock).map(|(met, _)| met.clone());
    for who in met.into_iter().flatten() {
        cluster.openings[number].history.company.named.entry(who).or_default().insert(from);
    }
}

/// Returns the replicas that a replica has to wait for although they have not spoken to it: a member of it has told it that it
/// met them, and has not forgotten them. A member that is down or stands still forgets nobody, and others need not wait for
/// its sake.
fn waited_for<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, number: usize) -> Vec<ReplicaId> {
    let company = &cluster.openings[number].history.company;
    let still = |who: &ReplicaId, namer: &usize| {
        let namer = &cluster.openings[*namer];
        namer.is_open
            && cluster.processes[namer.process].is_up()
            && company.members.contains_key(&namer.id)
            && namer.history.company.members.contains_key(who)
    };
    let named = company.named.iter().filter(|(who, namers)| namers.iter().any(|namer| still(who, namer)));
    named.map(|(who, _)| *who).filter(|who| !company.ever.contains(who)).collect()
}

/// Takes note of a digest that a replica sends: what it says of itself.
pub(super) fn note_said<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, number: usize, digest: &Digest) {
    let opening = &mut cluster.openings[number];
    opening.history.watermark = opening.history.watermark.max(digest.watermark);
    opening.seen.join(&digest.vector);
    let met = opening.engine.replica.view().peers().map(|peer| peer.id).collect();
    // Its own entry moves with its clock: what it has written ends before.
    let mut seen = opening.engine.replica.view().vector().clone();
    seen.remove(&opening.id);
    seen.raise(opening.id, digest.quiet_since);
    opening.history.said.insert(digest.clock, (met, seen));
}

/// Takes note of a rise of a floor, and of what the replica knew then. `source` is the opening whose session brought it.
fn note_rise<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    which: Floor,
    source: Option<usize>,
    forced: bool,
) {
    let (at, opening) = (cluster.at, &cluster.openings[number]);
    let view = opening.engine.replica.view();
    let floor = if which == Floor::Gc { view.floor() } else { view.eviction_floor() };
    let history = &opening.history;
    if history.rises[which as usize].last().is_some_and(|last| last.floor >= floor) || floor == Stamp::ZERO {
        return;
    }
    let members = || history.company.settled(at).chain(waited_for(cluster, number)).collect();
    let removal = || Removal { seen: opening.seen.clone(), members: members(), forced };
    let own = (source.is_none() || forced).then(removal);
    let line = format!("  r{number} {which:?} floor rises to {floor:?} from {source:?} forced {forced}");
    cluster.openings[number].history.rises[which as usize].push(Rise { floor, at, source, own });
    cluster.trace(|| line);
    if source.is_some() {
        cluster.report.reach("a floor came with a session");
    }
}

/// Returns whether the protocol asks this opening to void the record: the replica whose floor passed the record's stamp did
/// not have the record then, and could not wait for it. Either its author was not among that replica's members (never met,
/// or forgotten), or the replica dropped registers by force.
///
/// A replica that had the record then held it, or something newer, or had removed it for a reason that is a
/// fate of the record itself. A member's watermark is used only once everything before it has been seen, so a
/// floor that rises by stability does not pass what a member has written and this replica has not.
fn is_due<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    number: usize,
    which: Floor,
    record: &Record<K, V>,
) -> bool {
    let (mut number, mut until) = (number, u64::MAX);
    for _ in 0..cluster.openings.len() + 1 {
        let Some(rise) = cluster.openings[number].history.rise_over(which, record.stamp, until) else { return false };
        if let Some(Removal { seen, members, forced }) = &rise.own {
            let author = cluster.openings[record.author].id;
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

/// Judges a void of this opening for a key: all values up to its stamp are gone with it, on every replica. A void that is not
/// certain can excuse a miss, and is no fault.
fn judge_void<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    key: usize,
    stamp: Stamp,
    certain: bool,
) {
    let oracle = cluster.oracle(number);
    // A void may stand for a delete that came too late as well, and may have come from another replica.
    let late_delete = oracle.of(key).filter(|record| record.item.is_none() && record.stamp <= stamp);
    let late_delete =
        late_delete.filter(|record| is_due_here(cluster, number, Floor::Gc, record)).map(|record| record.stamp);
    let (below, stands) = (late_delete.max(), oracle.due_void(key) >= stamp);
    let is_gone = |record: &&Record<K, V>| record.stamp <= stamp || (!certain && record.fill.is_some());
    let victims = oracle.of(key).filter(|record| record.item.is_some()).filter(is_gone);
    let is_due = |record: &Record<K, V>| {
        let covered = stands || below.is_some_and(|delete| record.stamp < delete);
        let may_be_contested = record.stamp == stamp || !certain;
        covered
            || (may_be_contested && is_contested(cluster, number, key, record))
            || is_due_here(cluster, number, Floor::Gc, record)
    };
    let judged: Vec<_> = victims.map(|record| (record.stamp, is_due(record))).collect();
    if certain && (judged.is_empty() || below.is_some()) {
        cluster.oracle_mut(number).note_due_void(key, stamp); // It takes nothing, and stands.
    }
    for (victim, due) in judged {
        cluster.trace(|| format!("  r{number} voids key {key} of {victim:?}: due {due}"));
        let Some(record) = cluster.record_mut(number, key, &victim) else { continue };
        if due {
            record.fate.voided = true;
            if certain {
                cluster.oracle_mut(number).note_due_void(key, stamp);
            }
            cluster.report.reach("a void was due");
        } else if certain {
            record.fate.lost_wrongly.insert(number);
        }
    }
}

/// Returns whether a fill may be voided for what it must lose against: what it has not seen, what this opening has evicted
/// while it was alone, or what may be forgotten here.
fn is_contested<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    number: usize,
    key: usize,
    fill: &Record<K, V>,
) -> bool {
    let drift = nanos(cluster.settings.config.max_drift);
    let evicted = cluster.openings[number].history.evicted_alone;
    cluster.oracle(number).is_contested(key, fill, drift)
        || Oracle::is_contested_by_evicted(fill, evicted, drift)
        || is_late(cluster, number, fill)
        || is_contested_bare(cluster, number, key, fill)
}

/// Returns whether a fill that came here without its bound may be voided: the members of its sender had forgotten the bound, and
/// did not count this replica.
fn is_contested_bare<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    number: usize,
    key: usize,
    fill: &Record<K, V>,
) -> bool {
    let (drift, view) = (nanos(cluster.settings.config.max_drift), cluster.view(number));
    let floors = [view.floor().time, view.eviction_floor().time];
    fill.bare_to.contains(&number) && cluster.oracle(number).is_contested_bare(key, fill.stamp, floors, drift)
}

/// Returns whether what a fill must lose against may be forgotten: its replica was not a member here all the time since the
/// fill began. A start that is stamped more than `max_drift` before this replica's clock at the admission cannot prove that.
fn is_late<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, number: usize, fill: &Record<K, V>) -> bool {
    let Some(start) = fill.fill else { return false };
    let drift = nanos(cluster.settings.config.max_drift);
    let admitted = cluster.openings[number].history.company.admitted.get(&cluster.openings[fill.author].id);
    admitted.is_none_or(|(since, clock)| *since > start.at || start.began.saturating_add(drift) < *clock)
}

/// Returns whether a void or doubt is due by the floor of this opening, or by that of the sender whose reconcile has just
/// ended, whatever its own floor is.
fn is_due_here<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    number: usize,
    which: Floor,
    record: &Record<K, V>,
) -> bool {
    let sender = cluster.openings[number].history.completed_from;
    [Some(number), sender].into_iter().flatten().any(|judge| is_due(cluster, judge, which, record))
}

/// Judges a doubt: a value is a miss here because something newer of its key may have been evicted, here or by the sender of
/// a reconcile, as if this replica had evicted it. A doubt is due for the same reasons as a void. If another replica has
/// evicted this very record, its tombstone may have come from there.
fn judge_doubt<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    key: usize,
    stamp: Stamp,
    certain: bool,
) {
    let victims = cluster.oracle(number).of(key);
    let victims = victims.filter(|record| record.item.is_some() && !record.fate.evicted.contains(&number));
    let victims = victims.filter(|record| if certain { record.stamp == stamp } else { record.stamp <= stamp });
    let judged: Vec<_> =
        victims.map(|record| (record.stamp, is_due_here(cluster, number, Floor::Eviction, record))).collect();
    for (victim, due) in judged {
        cluster.trace(|| format!("  r{number} doubts key {key} of {victim:?}: due {due}"));
        let Some(record) = cluster.record_mut(number, key, &victim) else { continue };
        if due {
            record.fate.doubted.insert(number);
            cluster.report.reach("a doubt was due");
        } else if certain && record.fate.evicted.is_empty() {
            record.fate.lost_wrongly.insert(number);
        }
    }
}

/// Takes note of what a replica holds for a key after an event: aliases, ends of times to live, voids.
pub(super) fn note_held<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    key: usize,
    marker: Option<Marker>,
) {
    let before = std::mem::replace(&mut cluster.openings[number].history.held[key], marker);
    let Some(marker) = marker.filter(|marker| before != Some(*marker)) else { return };
    let id = cluster.openings[number].id;
    if marker.kind == Kind::Tombstone(Cause::Void) {
        if marker.dot.actor == id && before.is_none_or(|before| before.dot != marker.dot) {
            judge_void(cluster, number, key, marker.stamp, true);
        }
        return;
    }
    if marker.kind == Kind::Tombstone(Cause::Evicted) {
        judge_doubt(cluster, number, key, marker.stamp, true);
    }
    let at = cluster.at;
    let Some(record) = cluster.record_mut(number, key, &marker.stamp) else { return };
    record.held_by.entry(number).or_insert(at);
    if record.dot != marker.dot && !record.adopted_as.contains(&marker.dot) {
        record.adopted_as.push(marker.dot);
    }
}
