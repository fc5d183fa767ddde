//! Execution of the actions of a script.

use std::collections::{BTreeMap, BTreeSet};

use super::action::Action;
use super::agenda::Event;
use super::check::{beliefs, fills};
use super::cluster::Cluster;
use super::direct;
use super::faults;
use super::opening::RunningFill;
use super::oracle::{EpochRecord, Fate, FillStart, Record};
use super::report::Violation;
use super::settle;
use super::soundness;
use super::trace::brief;
use super::types::{SimKey, SimValue};
use crate::crdt::Dot;
use crate::hlc::{HlcTime, Stamp, nanos};
use crate::item::{Body, Item, ItemRef, Key};
use crate::recency::Miss;
use crate::replica::Write;
use crate::wire::{MAX_DEPTH, encoded_len, key_len};

/// The longest time that a fill with a time to live takes, in milliseconds.
const FILL_FOR: u32 = 200;

/// Executes one step of a script.
pub(super) fn perform<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    action: Action,
) -> Result<(), Violation> {
    cluster.trace(|| format!("ACT {action:?}"));
    if !matches!(action, Action::Write(..)) && !cluster.settings.bugs.absorbed_late {
        direct::absorb_all(cluster)?;
    }
    match action {
        Action::Write(node, key, ttl) => write(cluster, node, key, ttl),
        Action::Delete(node, key) => delete(cluster, node, key),
        Action::Read(node, key) => read(cluster, node, key),
        Action::Audit(node, other) => audit(cluster, node, other),
        Action::InvalidateAll(node, cache) => invalidate_all(cluster, node, cache),
        Action::Fill(node, key, millis) => begin_fill(cluster, node, key, millis, 0),
        Action::FillFor(node, key, millis) => {
            begin_fill(cluster, node, key, FILL_FOR, u64::from(millis.max(1)) * 1_000_000)
        }
        Action::Evict(node, key) => evict(cluster, node, key),
        Action::CloseCache(node, cache) => faults::close_cache(cluster, node, cache),
        Action::OpenCache(node, cache) => faults::open_cache(cluster, node, cache),
        Action::Crash(node) => faults::crash(cluster, node),
        Action::Restart(node) => faults::restart(cluster, node),
        Action::Return => faults::come_back(cluster),
        Action::Join => faults::join(cluster),
        Action::Leave(node) => faults::leave(cluster, node),
        Action::Forget(node, who) => faults::forget(cluster, node, who),
        Action::Pause(node) => faults::pause(cluster, node),
        Action::Resume => faults::resume_one(cluster),
        Action::Wait => Ok(()),
        Action::StepClock(node, millis) => faults::step_clock(cluster, node, millis),
        Action::FreezeClock(node, on) => faults::freeze_clock(cluster, node, on),
        _ => {
            faults::change_network(cluster, action);
            Ok(())
        }
    }
}

/// Returns the opening on a process and the number of the key within its cache. Keys are counted through all caches.
/// Returns `None` if no process is up, if the process does not have the cache open, or if it cannot decode the key.
fn place<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, node: u8, key: u16) -> Option<(usize, usize)> {
    let cache = (key / cluster.settings.keys % u16::from(cluster.settings.caches)) as usize;
    let number = cluster.processes[cluster.chosen(node)?].open[cache]?;
    let key = usize::from(key % cluster.settings.keys);
    (!cluster.is_foreign_to(number, key)).then_some((number, key))
}

fn write<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    node: u8,
    key: u16,
    ttl: u32,
) -> Result<(), Violation> {
    let Some((number, key)) = place(cluster, node, key) else { return Ok(()) };
    write_by(cluster, number, key, ttl, cluster.settings.direct_writes)
}

/// Writes to an opening, through its replica. With a `ttl` of zero milliseconds, the time to live of the settings
/// applies.
pub(super) fn write_on<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    key: usize,
    ttl: u32,
) -> Result<(), Violation> {
    write_by(cluster, number, key, ttl, false)
}

/// Writes to an opening. If `directly` is true, writes beside the replica where that is possible.
fn write_by<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    key: usize,
    ttl: u32,
    directly: bool,
) -> Result<(), Violation> {
    let now = cluster.now_at(number);
    let ttl = if ttl == 0 { cluster.settings.time_to_live.map_or(0, nanos) } else { u64::from(ttl) * 1_000_000 };
    let expires = if ttl == 0 { 0 } else { now.wall.saturating_add(ttl) };
    if expires > 0 {
        cluster.report.fault("write with a time to live");
    }
    let write = new_write(cluster, key, expires)?;
    let item = Some(ItemRef::clone(&write.item));
    let id = cluster.openings[number].id;
    let written = if directly { direct::write(cluster, number, now, write) } else { Err(write) };
    match written {
        Ok(stamp) => {
            cluster.openings[number].mirror[key] = Some(stamp);
            record(cluster, number, key, (stamp, Dot::new(id, stamp.time)), item, expires, None)
        }
        Err(write) => {
            direct::absorb_all(cluster)?;
            let stamp = cluster.openings[number].engine.replica.write(now, write);
            record(cluster, number, key, (stamp, Dot::new(id, stamp.time)), item, expires, None)?;
            settle::opening(cluster, number)
        }
    }
}

/// Prepares a write in the same way as the cache.
fn new_write<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    key: usize,
    expires: u64,
) -> Result<Write<K, V>, Violation> {
    if let Err(what) = soundness::check_value(cluster.types, cluster.issued.writes) {
        cluster.report.unfit = true;
        return Err(Violation { at: cluster.at, what });
    }
    let (hash, key) = &cluster.keys[key];
    let value = cluster.types.value(cluster.issued.writes);
    let size = size(cluster, key, Some(&value))?;
    let weight = cluster.types.weigh(key, &value);
    if weight > 1 && cluster.settings.max_capacity.is_some() {
        cluster.report.fault("weights beyond one");
    }
    let item = ItemRef::new(Item { key: Key::Known(key.clone()), body: Body::Known(value) });
    cluster.issued.writes += 1;
    Ok(Write { hash: *hash, item, expires, size, weight })
}

fn new_delete<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, key: usize) -> Result<Write<K, V>, Violation> {
    let (hash, key) = &cluster.keys[key];
    let size = size(cluster, key, None)?;
    let item = ItemRef::new(Item { key: Key::Known(key.clone()), body: Body::ABSENT });
    Ok(Write { hash: *hash, item, expires: 0, size, weight: 0 })
}

/// Returns the encoded size of a key and its value.
fn size<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, key: &K, value: Option<&V>) -> Result<u32, Violation> {
    let refused = |error: crate::wire::EncodeError| {
        let (key, value) = (brief(key), value.map(brief));
        cluster.violation(format!("types: {key} = {value:?} cannot be encoded: {error}"))
    };
    let key = key_len(key).map_err(refused)?;
    let value = value.map_or(Ok(0), |value| encoded_len(value, MAX_DEPTH)).map_err(refused)?;
    Ok(u32::try_from(key + value).unwrap_or(u32::MAX))
}

/// Adds a write, delete or fill to the oracle. Fails if its stamp is at or below a watermark that the replica has sent,
/// or if the same stamp was issued twice.
fn record<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    key: usize,
    (stamp, dot): (Stamp, Dot),
    item: Option<ItemRef<K, V>>,
    expires: u64,
    fill: Option<FillStart>,
) -> Result<(), Violation> {
    let kind = if item.is_some() { "written" } else { "deleted" };
    cluster.trace(|| format!("  r{number} key {key} {kind} stamp {stamp:?} dot {dot:?}"));
    beliefs::check_watermark(cluster, number, stamp, &dot)?;
    let record = Record {
        stamp,
        dot,
        item,
        expires,
        at: cluster.at,
        wall: cluster.now_at(number).wall,
        unmet_clock: unmet_clock(cluster, number),
        author: number,
        fill,
        adopted_as: Vec::new(),
        received_by: BTreeMap::new(),
        deferred_by: BTreeSet::new(),
        bare_to: BTreeSet::new(),
        held_by: BTreeMap::new(),
        fate: Fate::default(),
    };
    if cluster.oracle_mut(number).record(key, record) {
        return Err(
            cluster.violation(format!("stamps: {stamp:?} was issued twice for {}", brief(&cluster.keys[key].1)))
        );
    }
    Ok(())
}

/// Returns the furthest clock among the replicas that do not have this replica as a member yet.
fn unmet_clock<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, number: usize) -> HlcTime {
    let (id, cache) = (cluster.openings[number].id, cluster.openings[number].cache);
    let strangers = cluster.replicas_of(cache).into_iter().filter(|other| *other != number);
    let strangers = strangers.filter(|other| !cluster.openings[*other].history.membership.admitted.contains_key(&id));
    strangers.map(|other| cluster.view(other).clock().judging(cluster.now_at(other))).max().unwrap_or_default()
}

fn delete<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, node: u8, key: u16) -> Result<(), Violation> {
    let Some((number, key)) = place(cluster, node, key) else { return Ok(()) };
    let now = cluster.now_at(number);
    let delete = new_delete(cluster, key)?;
    let opening = &mut cluster.openings[number];
    let before = opening.engine.replica.view().vector().get(&opening.id);
    let (stamp, _) = opening.engine.replica.delete(now, delete);
    // A delete of a key that holds nothing still counts: this replica must not serve an older value afterwards.
    let stamp = if stamp.time == 0 { Stamp::new(before.max(now.wall), opening.id) } else { stamp };
    let dot = Dot::new(opening.id, stamp.time.min(opening.engine.replica.view().vector().get(&opening.id)));
    opening.newest[key] = Some((stamp, true));
    record(cluster, number, key, (stamp, dot), None, 0, None)?;
    settle::opening(cluster, number)
}

/// Reads a key, which counts as a use.
fn read<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, node: u8, key: u16) -> Result<(), Violation> {
    let Some((number, key)) = place(cluster, node, key) else { return Ok(()) };
    match cluster.served(number, key) {
        Some((_, held)) => cluster.openings[number].reads.hit(held.slot.id),
        None => cluster.openings[number].reads.miss(Miss::Absent),
    }
    settle::opening(cluster, number)
}

/// Sends everything that one node holds of the first cache to another node as an audit. Fails if the node sends less
/// than it announced.
fn audit<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, node: u8, other: u8) -> Result<(), Violation> {
    let open = |node: u8| cluster.chosen(node).and_then(|process| cluster.processes[process].open[0]);
    let Some((number, with)) = open(node).zip(open(other)) else { return Ok(()) };
    let with = cluster.openings[with].id;
    if !cluster.view(number).live_members().contains(&with) {
        return Ok(());
    }
    let held = (0..cluster.keys.len()).filter_map(|key| cluster.held(number, key));
    let slots: Vec<_> = held.map(|held| held.slot).collect();
    let due = cluster.openings[number].engine.replica.audit_registers(with, &slots);
    if due > 0 {
        cluster.report.fault("audit of suspects");
    }
    let before = cluster.openings[number].history.sent.audited;
    settle::opening(cluster, number)?;
    let sent = cluster.openings[number].history.sent.audited - before;
    if sent < due {
        let name = cluster.name(number);
        return Err(cluster.violation(format!("audit: {name} had {due} registers to compare, and sent {sent}")));
    }
    Ok(())
}

fn invalidate_all<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    node: u8,
    cache: u8,
) -> Result<(), Violation> {
    let open = cluster.chosen(node).and_then(|process| cluster.processes[process].open[cluster.cache(cache)]);
    let Some(number) = open else { return Ok(()) };
    cluster.report.fault("invalidate all");
    let now = cluster.now_at(number);
    let epoch = cluster.openings[number].engine.replica.invalidate_all(now);
    cluster.trace(|| format!("  epoch {epoch}"));
    let (at, wall, unmet_clock) = (cluster.at, now.wall, unmet_clock(cluster, number));
    cluster.oracle_mut(number).epochs.push(EpochRecord { author: number, time: epoch, at, wall, unmet_clock });
    settle::opening(cluster, number)
}

fn begin_fill<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    node: u8,
    key: u16,
    millis: u32,
    ttl: u64,
) -> Result<(), Violation> {
    let Some((number, key)) = place(cluster, node, key) else { return Ok(()) };
    if ttl > 0 {
        cluster.report.fault("fill with a time to live");
    }
    let now = cluster.now_at(number);
    let (hash, name) = &cluster.keys[key];
    let opening = &mut cluster.openings[number];
    let replica = &mut opening.engine.replica;
    let ticket = replica.begin_fill(now, *hash, &Key::Known(name.clone()));
    let began = replica.view().clock().last();
    cluster.issued.next_fill += 1;
    let fill = cluster.issued.next_fill;
    let start = FillStart { at: cluster.at, began };
    opening.fills.insert(fill, RunningFill { key, ticket, start, ttl });
    let after = cluster.dice.rng.u64(0..=u64::from(millis) * 1_000_000);
    cluster.schedule(after, Event::FillDone { opening: number, fill });
    settle::opening(cluster, number)
}

/// Stores the value of a fill, unless the fill has lost to another write meanwhile.
pub(super) fn store_fill<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    fill: u64,
) -> Result<(), Violation> {
    let Some(running) = cluster.openings[number].fills.remove(&fill) else { return Ok(()) };
    let now = cluster.now_at(number);
    let expires = if running.ttl == 0 { 0 } else { now.wall.saturating_add(running.ttl) };
    let write = new_write(cluster, running.key, expires)?;
    let item = Some(ItemRef::clone(&write.item));
    let opening = &mut cluster.openings[number];
    if let Some(stamp) = opening.engine.replica.finish_fill(now, &running.ticket, write) {
        let dot = Dot::new(opening.id, opening.engine.replica.view().vector().get(&opening.id));
        fills::check(cluster, number, running.key, &running.start, stamp)?;
        record(cluster, number, running.key, (stamp, dot), item, expires, Some(running.start))?;
    }
    settle::opening(cluster, number)
}

fn evict<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, node: u8, key: u16) -> Result<(), Violation> {
    let Some((number, key)) = place(cluster, node, key) else { return Ok(()) };
    let now = cluster.now_at(number);
    if let Some(held) = cluster.held(number, key) {
        cluster.openings[number].engine.replica.evict(now, held.slot);
    }
    settle::opening(cluster, number)
}
