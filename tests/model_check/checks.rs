//! The properties of the model: those that must hold in every state, and the one that must be reached from every state.

use std::sync::Arc;

use driftless::crdt::{Cause, Kind};
use driftless::hlc::Stamp;
use stateright::Property;

use crate::machine::{Event, Input, Machine, Packet, REPLICAS, View};
use crate::world::{Cluster, World};

/// The most rounds in which a healed network must bring all replicas to agreement.
const ROUNDS: usize = 40;
/// The most messages of one round.
const MESSAGES: usize = 2_000;

pub const BEHAVES: &str = "no replica serves what is older than what it applied, or breaks a rule of its own";
pub const CLAIMS: &str = "what a vector covers is held, or something newer, or was properly removed";
pub const AGREE: &str = "replicas that have seen everything serve the same";
pub const HEALS: &str = "all lost, then a network that works: every replica serves the newest, and nothing else";

pub fn properties() -> Vec<Property<Cluster>> {
    vec![
        Property::always(BEHAVES, |_, world: &World| world.locals.iter().all(|local| local.view.fault.is_none())),
        Property::always(CLAIMS, |_, world: &World| broken_claim(&views(world)).is_none()),
        Property::always(AGREE, |_, world: &World| disagreement(&views(world)).is_none()),
        Property::always(HEALS, |cluster: &Cluster, world| heal(cluster, world).is_none()),
    ]
}

/// Returns readable descriptions of the properties that a state breaks.
pub fn complaints(cluster: &Cluster, world: &World) -> Vec<String> {
    let views = views(world);
    let faults = views.iter().filter_map(|view| view.fault.clone());
    let all = faults.chain(broken_claim(&views)).chain(disagreement(&views)).chain(heal(cluster, world));
    all.map(|what| crate::machine::readable(&what)).collect()
}

fn views(world: &World) -> Vec<&View> {
    world.locals.iter().map(|local| &local.view).collect()
}

fn events<'a>(views: &'a [&View]) -> impl Iterator<Item = &'a Event> {
    views.iter().flat_map(|view| &view.events)
}

fn newest<'a>(views: &'a [&View], key: u8, seen: impl Fn(&Event) -> bool) -> Option<&'a Event> {
    events(views).filter(|event| event.key == key && seen(event)).max_by_key(|event| event.rank())
}

/// Checks the promise behind a version vector, for each replica. Every covered event is held, or something newer is
/// held, or the event was properly removed.
fn broken_claim(views: &[&View]) -> Option<String> {
    for view in views.iter().filter(|view| !view.receiving) {
        for (key, held) in (0..).zip(&view.keys) {
            let covered = |event: &Event| view.vector.covers(&event.marker.dot);
            let Some(event) = newest(views, key, covered) else { continue };
            let there = held.as_ref().is_some_and(|held| crate::machine::rank(&held.marker) >= event.rank());
            let removed = view.dropped.covers(&event.marker.dot)
                || event.marker.stamp <= view.floor
                || event.marker.stamp.time <= view.epoch;
            if !there && !removed {
                return Some(format!("claims {event:?}, holds {held:?}"));
            }
        }
    }
    None
}

/// Checks O1, as far as it can be judged in one state: replicas that have seen all events serve the same.
fn disagreement(views: &[&View]) -> Option<String> {
    let seen_all = |view: &&&View| !view.receiving && events(views).all(|event| view.vector.covers(&event.marker.dot));
    let informed: Vec<_> = views.iter().filter(seen_all).collect();
    for (index, one) in informed.iter().enumerate() {
        for other in &informed[index + 1..] {
            let pairs = one.keys.iter().zip(&other.keys);
            for (a, b) in pairs.filter_map(|(a, b)| Some((a.as_ref()?, b.as_ref()?))) {
                if a.served && b.served && (a.marker.stamp != b.marker.stamp || a.value != b.value) {
                    return Some(format!("{a:?} and {b:?} of one key, each having seen everything"));
                }
            }
        }
    }
    None
}

/// Loses all messages in flight, lets the cluster run, and checks its final state. The result is kept, because it
/// depends on the histories alone.
fn heal(cluster: &Cluster, world: &World) -> Option<String> {
    if !cluster.scope.heals_at(world) {
        return None;
    }
    let names = std::array::from_fn(|who| world.locals[who].name);
    if let Some(known) = cluster.healed.lock().unwrap().get(&names) {
        return known.clone();
    }
    let mut machines: Vec<_> = world.locals.iter().map(|local| local.replay(&cluster.rules)).collect();
    let found = bring_together(&mut machines);
    cluster.healed.lock().unwrap().insert(names, found.clone());
    found
}

fn bring_together(machines: &mut [Machine<'_>]) -> Option<String> {
    settle_sends(machines);
    for machine in machines.iter_mut() {
        machine.apply(&Input::SetRight, &mut Vec::new());
        machine.apply(&Input::FinishFill, &mut Vec::new());
    }
    for _ in 0..ROUNDS {
        let mut flying = Vec::new();
        machines.iter_mut().for_each(|machine| machine.apply(&Input::Tick, &mut flying));
        let mut at = 0;
        while let Some(packet) = flying.get(at).cloned() {
            let target = packet.arrives_at();
            machines[usize::from(target)].apply(&Input::Arrive(Arc::new(packet)), &mut flying);
            at += 1;
            if at > MESSAGES {
                return Some("a round without end".to_owned());
            }
        }
        let views: Vec<_> = machines.iter().map(Machine::view).collect();
        let views: Vec<_> = views.iter().collect();
        if is_quiet(&views) {
            return misled(&views);
        }
    }
    let views: Vec<_> = machines.iter().map(Machine::view).collect();
    Some(format!("not together after {ROUNDS} rounds: {views:#?}"))
}

/// Confirms every send to its sender, even if the sender still waits for the confirmation. All the messages are lost.
fn settle_sends(machines: &mut [Machine<'_>]) {
    for who in 0..REPLICAS {
        let machine = &mut machines[usize::from(who)];
        let others = (0..REPLICAS).filter(|to| *to != who);
        let mut left: Vec<_> = others.map(|to| Packet { from: who, to, bytes: None }).collect();
        while let Some(packet) = left.pop() {
            let mut lost = Vec::new();
            machine.apply(&Input::Arrive(Arc::new(packet)), &mut lost);
            left.extend(lost.into_iter().filter(|packet| packet.bytes.is_none()));
        }
    }
}

fn is_quiet(views: &[&View]) -> bool {
    views.iter().all(|view| {
        let informed = events(views).all(|event| view.vector.covers(&event.marker.dot));
        informed && !view.receiving && !view.deferring && view.epoch == views[0].epoch
    })
}

/// Returns the description of a fill that is served although it should have lost. A fill must lose to a write stamped
/// below it, if the filler had not seen the write at the start of the fill, and it may have been issued after that.
fn stale_fill(views: &[&View]) -> Option<String> {
    let stored = views.iter().flat_map(|view| &view.stored);
    for fill in stored {
        // Fills, voids and adopted registers have a dot that differs from their stamp; plain writes and deletes do not.
        let plain = |event: &&Event| event.marker.dot.counter == event.marker.stamp.time;
        let late = |event: &&Event| {
            let stamp = event.marker.stamp;
            event.key == fill.key
                && stamp.time > fill.since
                && stamp < fill.stamp
                && !fill.seen.covers(&event.marker.dot)
        };
        let Some(late) = events(views).filter(plain).find(late) else { continue };
        let held = views.iter().filter_map(|view| view.keys[usize::from(fill.key)].as_ref());
        if held.into_iter().any(|held| held.served && held.marker.stamp == fill.stamp) {
            return Some(format!("serves the fill {fill:?} although {late:?} may have come after its start"));
        }
    }
    None
}

/// Returns the description of a needless void: nothing was ever deleted, so no replica can have missed a delete.
fn needless_void(views: &[&View]) -> Option<String> {
    let deleted = |event: &Event| event.marker.kind == Kind::Tombstone(Cause::Deleted);
    let never = !events(views).any(deleted) && views.iter().all(|view| view.epoch == 0);
    let voided: u64 = views.iter().map(|view| view.voided).sum();
    (never && voided > 0).then(|| format!("voided {voided} registers although nothing was deleted"))
}

/// Checks O3 and completeness in a quiet cluster.
fn misled(views: &[&View]) -> Option<String> {
    if let Some(fault) = views.iter().find_map(|view| view.fault.clone()) {
        return Some(fault);
    }
    if let Some(what) = stale_fill(views).or_else(|| needless_void(views)) {
        return Some(what);
    }
    let epoch = views[0].epoch;
    let lossless = views.iter().all(|view| !view.gave_up);
    for key in (0..).take(views[0].keys.len()) {
        let best = newest(views, key, |_| true);
        let wanted = best.filter(|best| best.marker.kind.ranks_live() && best.marker.stamp.time > epoch);
        let wanted = wanted.map(|best| best.marker.stamp);
        for view in views {
            let served = view.keys[usize::from(key)].as_ref().filter(|held| held.served);
            let served: Option<Stamp> = served.map(|held| held.marker.stamp);
            if served.is_some() && served != wanted {
                return Some(format!("serves key {key} of {served:?} when the newest is {best:?}"));
            }
            if lossless && served != wanted {
                return Some(format!("lacks key {key} of {best:?}, although no replica evicted or dropped anything"));
            }
        }
    }
    broken_claim(views).or_else(|| disagreement(views))
}
