//! Observations of each replica beyond its present state: the rises of its floors with its knowledge at that time, its
//! members, and its own statements. The checkers judge voids and doubts by them.

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

/// Records the effect of an event on the floors, members and counters of a replica. Runs before the changes of the
/// event are followed, and again after its messages are drained. Runs once more if an eviction for capacity drops a
/// tombstone by force.
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
    judge_what_is_gone(cluster, number, voided && forced, doubted && forced);
}

/// Records the doubts that come with the eviction floor of another replica. Every evicted tombstone at or below that
/// floor is now in doubt. So are the bodies of evicted own writes that their author keeps: it no longer sends them to
/// any replica.
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

/// Judges the keys that are empty now, as if each had had a tombstone. A tombstone may be removed in the event that
/// made it, by force.
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

/// Records a rare branch that shows only in two counters together.
fn note_reached<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, now: &Counters, number: usize) {
    let before = &cluster.openings[number].history.counted;
    let together = now.sessions_abandoned > before.sessions_abandoned && now.adopted > before.adopted;
    if together {
        cluster.report.reach("a broken session was adopted");
    }
}

/// Records the present members of a replica.
fn note_members<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, number: usize) {
    let (at, now) = (cluster.at, cluster.now_at(number));
    let Opening { engine, history, .. } = &mut cluster.openings[number];
    let view = engine.replica.view();
    history.membership.note_members(at, view.clock().judging(now), view.members().collect());
}

/// Records the members that a digest names: all that its sender had met.
pub(super) fn note_names<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    from: usize,
    digest: &Digest,
) {
    let met = cluster.openings[from].history.said.get(&digest.clock).map(|(met, _)| met.clone());
    for who in met.into_iter().flatten() {
        cluster.openings[number].history.membership.named.entry(who).or_default().insert(from);
    }
}

/// Returns the replicas that a replica has to wait for although it has received no digest from them. A member of it has
/// named them to it, and has not forgotten them. A member that is down or paused forgets no replica, and its peers need
/// not wait on its account.
///
/// A replica that lived at this replica's address before does not count. It has stopped or was closed, and holds back
/// nothing. This replica may not even learn of it: a digest does not name its receiver. So a digest that was sent to
/// the earlier replica and arrives here leaves out that name, or takes it back.
fn waited_for<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, number: usize) -> Vec<ReplicaId> {
    let known = &cluster.openings[number].history.membership;
    let still = |who: &ReplicaId, namer: &usize| {
        let namer = &cluster.openings[*namer];
        namer.is_open
            && cluster.processes[namer.process].is_up()
            && known.members.contains_key(&namer.id)
            && namer.history.membership.members.contains_key(who)
    };
    let named = known.named.iter().filter(|(who, namers)| namers.iter().any(|namer| still(who, namer)));
    let address = |opening: usize| cluster.processes[cluster.openings[opening].process].address;
    let was_here = |who: &ReplicaId| cluster.by_id.get(who).is_some_and(|other| address(*other) == address(number));
    named.map(|(who, _)| *who).filter(|who| !known.ever.contains(who) && !was_here(who)).collect()
}

/// Records the statements that a replica makes about itself in a digest that it sends.
pub(super) fn note_said<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, number: usize, digest: &Digest) {
    let opening = &mut cluster.openings[number];
    opening.history.watermark = opening.history.watermark.max(digest.watermark);
    opening.seen.join(&digest.vector);
    let met = opening.engine.replica.view().peers().map(|peer| peer.id).collect();
    // The own entry of the vector advances with the clock. The replica's writes end at `quiet_since`.
    let mut seen = opening.engine.replica.view().vector().clone();
    seen.remove(&opening.id);
    seen.raise(opening.id, digest.quiet_since);
    opening.history.said.insert(digest.clock, (met, seen));
}

/// Records a rise of a floor, and the replica's knowledge at that time. `source` is the opening whose session brought
/// the floor.
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
    let members = || history.membership.settled(at).chain(waited_for(cluster, number)).collect();
    let removal = || Removal { seen: opening.seen.clone(), members: members(), forced };
    let own = (source.is_none() || forced).then(removal);
    let line = format!("  r{number} {which:?} floor rises to {floor:?} from {source:?} forced {forced}");
    cluster.openings[number].history.rises[which as usize].push(Rise { floor, at, source, own });
    cluster.trace(|| line);
    if source.is_some() {
        cluster.report.reach("a session raised the floor");
    }
}

/// Returns true if the protocol requires this opening to void the record. The replica whose floor passed the record's
/// stamp did not have the record then, and could not wait for it. Either its author was not among that replica's
/// members (never met, or forgotten), or the replica dropped registers by force.
///
/// A replica that had the record then held it, held something newer, or had removed it for a reason that is a fate of
/// the record itself. A member's watermark is used only once everything before it has been seen. So a floor that rises
/// by stability does not pass a write of a member that this replica has not seen.
fn is_due<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    number: usize,
    which: Floor,
    record: &Record<K, V>,
) -> bool {
    // Follow a floor that came with a session back to the replica that raised it itself. Of each sender only the rises
    // up to the receiver's rise count.
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

/// Judges a void that this opening made for a key. All values up to its stamp are gone with it, on every replica. A
/// void is `certain` if its tombstone was seen, and not only inferred from an empty place. A void that is not certain
/// can excuse a miss, and is never a fault.
fn judge_void<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    key: usize,
    stamp: Stamp,
    certain: bool,
) {
    let oracle = cluster.oracle(number);
    // A void may also stand for a delete that arrived too late (`late_delete`). Or it repeats a due void that is at
    // least as high (`stands`), possibly of another replica.
    let late_delete = oracle.of(key).filter(|record| record.item.is_none() && record.stamp <= stamp);
    let late_delete =
        late_delete.filter(|record| is_due_here(cluster, number, Floor::Gc, record)).map(|record| record.stamp);
    let (below, stands) = (late_delete.max(), oracle.due_void(key) >= stamp);
    let is_gone = |record: &&Record<K, V>| record.stamp <= stamp || (!certain && record.fill.is_some());
    let victims = oracle.of(key).filter(|record| record.item.is_some()).filter(is_gone);
    let is_due = |record: &Record<K, V>| {
        let covered = stands || below.is_some_and(|delete| record.stamp < delete);
        // A contested fill is replaced by a void of its own stamp. A void takes lower records only because of a floor,
        // a late delete, or a due void that stands already.
        let may_be_contested = record.stamp == stamp || !certain;
        covered
            || (may_be_contested && is_contested(cluster, number, key, record))
            || is_due_here(cluster, number, Floor::Gc, record)
    };
    let judged: Vec<_> = victims.map(|record| (record.stamp, is_due(record))).collect();
    if certain && (judged.is_empty() || below.is_some()) {
        // No value falls to this void, but it holds for later writes.
        cluster.oracle_mut(number).note_due_void(key, stamp);
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

/// Returns true if a fill may be voided because of a contesting stamp, for one of three reasons. The filler had not
/// seen the contesting write. Or this opening evicted a value while it was alone. Or the contesting stamp may be
/// forgotten here. A fill that came without its bound is judged separately.
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

/// Returns true if a fill that arrived here without its bound may be voided. Its sender had dropped the bound, and did
/// not count this replica as a member.
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

/// Returns true if stamps that contest a fill may be forgotten here: its author was not a member of this replica
/// without interruption since the fill began. A start that is stamped more than `max_drift` before this replica's clock
/// at the admission does not prove that membership.
fn is_late<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, number: usize, fill: &Record<K, V>) -> bool {
    let Some(start) = fill.fill else { return false };
    let drift = nanos(cluster.settings.config.max_drift);
    let admitted = cluster.openings[number].history.membership.admitted.get(&cluster.openings[fill.author].id);
    admitted.is_none_or(|(since, clock)| *since > start.at || start.began.saturating_add(drift) < *clock)
}

/// Returns true if a void or doubt is due by the floor of this opening. It is also due by the floor of the sender whose
/// session has just ended, whatever the floor of this opening is.
fn is_due_here<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    number: usize,
    which: Floor,
    record: &Record<K, V>,
) -> bool {
    let sender = cluster.openings[number].history.completed_from;
    [Some(number), sender].into_iter().flatten().any(|judge| is_due(cluster, judge, which, record))
}

/// Judges a doubt. A value is a miss here because something newer of its key may have been evicted, by this replica or
/// by the sender of a reconcile. A doubt is due for the same reasons as a void. If another replica has evicted this
/// very record, its tombstone may have come from there.
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

/// Records the register that a replica holds for a key after an event: new dots, expiries and voids.
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
