//! The path from the network to the replicas: the work of the node's driver, without sockets.

use bytes::Bytes;

use super::check::{clocks, members};
use super::cluster::Cluster;
use super::codec;
use super::foreign::read_as_foreign;
use super::history;
use super::membership;
use super::outbound;
use super::process::{Payload, State};
use super::report::Violation;
use super::settle;
use super::stills;
use super::trace::describe;
use super::types::{SimKey, SimValue};
use crate::hlc::Stamp;
use crate::membership::{Membership, NotOpen};
use crate::message::bound::needs_bound;
use crate::message::{Entry, FillNote, Message, bound_in};
use crate::replica_id::ReplicaId;
use crate::wire::{self, MessageKind, Peeked};

/// Handles a payload that arrives at a process.
pub(super) fn arrive<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    to: usize,
    payload: Payload,
) -> Result<(), Violation> {
    match cluster.processes[to].state {
        State::Gone => return Ok(()),
        State::Paused => {
            if cluster.settings.pause_drops {
                cluster.report.fault("dropped while paused");
            } else {
                cluster.processes[to].inbox.push(payload);
            }
            return Ok(());
        }
        State::Up => {}
    }
    match payload {
        Payload::Message(bytes) => dispatch(cluster, to, &bytes),
        Payload::NotOpen { process, cache, answer } => note_not_open(cluster, to, (process, answer), cache),
        Payload::Stills { process, body } => stills::arrive(cluster, to, process, &body),
    }
}

/// Finds the opening that a message is for and hands the message over. Drops a late message. Answers a digest of a
/// cache that is not open here.
fn dispatch<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    to: usize,
    bytes: &Bytes,
) -> Result<(), Violation> {
    let (envelope, kind) = match wire::peek(bytes) {
        Ok(Peeked::Message { envelope, kind }) => (envelope, kind),
        other => return Err(cluster.violation(format!("wire: an encoded message does not decode: {other:?}"))),
    };
    let (process, cache) = (codec::process_of(envelope.node), codec::cache_of(envelope.cache));
    let (Some(from), Some(cache)) = (process, cache) else {
        return Err(cluster.violation("wire: a message without a sender or a cache".to_owned()));
    };
    let (here, heeds) = (&cluster.processes[to].membership, cluster.settings.accept_departed);
    let late = if heeds { Membership::is_former } else { Membership::is_late };
    if late(here, envelope.node, envelope.cache, envelope.from) {
        cluster.report.fault("late message");
        return Ok(());
    }
    let Some(number) = cluster.processes[to].open[usize::from(cache)] else {
        cluster.report.fault("not open here");
        if kind == MessageKind::Digest {
            outbound::answer_not_open(cluster, to, (from, envelope.from), cache);
        }
        return Ok(());
    };
    if kind == MessageKind::Digest {
        note_digest(cluster, to, from, number, envelope.from)?;
    }
    hand_over(cluster, number, kind, bytes)
}

/// Hands a message to a replica and checks its effect.
fn hand_over<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    kind: MessageKind,
    bytes: &Bytes,
) -> Result<(), Violation> {
    let (from, message) = open_message(cluster, number, bytes)?;
    cluster.trace(|| format!("r{number} gets of {from}: {}", describe(&message)));
    let told = note_told(cluster, number, &message);
    let before = cluster.view(number).counters().clone();
    let now = cluster.now_at(number);
    let source = cluster.by_id.get(&from).copied();
    if let (Message::Digest(digest), Some(source)) = (&message, source) {
        history::note_names(cluster, number, source, digest);
    }
    if let Some(source) = source {
        clocks::check_early(cluster, number, source, &message)?;
    }
    if let Message::Frame(frame) = &message {
        let history = &mut cluster.openings[number].history;
        // A void or removal of this event is judged by the sender of the frame and by its floor.
        history.frame_from = source;
        history.floors.extend(source.zip(frame.last.as_ref()).map(|(source, last)| (source, last.floor)));
    }
    cluster.openings[number].engine.replica.handle_message(now, from, message);
    if cluster.view(number).counters().frames_ignored > before.frames_ignored {
        forget_told(cluster, number, told);
    }
    if kind == MessageKind::Digest {
        clocks::check_answer(cluster, number, from, &before)?;
    }
    let settled = settle::opening(cluster, number);
    let history = &mut cluster.openings[number].history;
    (history.frame_from, history.completed_from) = (None, None);
    settled
}

/// Decodes a message with the types of an opening.
fn open_message<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    bytes: &Bytes,
) -> Result<(ReplicaId, Message<K, V>), Violation> {
    let refused = |error| {
        cluster.violation(format!("types: {} cannot decode a message that it received: {error}", cluster.name(number)))
    };
    let (from, mut message) = codec::decode(cluster.types, bytes).map_err(refused)?;
    if cluster.has_other_types(number) {
        let is_foreign = |hash| cluster.names.number(hash).is_some_and(|key| cluster.names.foreign(key).is_some());
        let unread = read_as_foreign(&mut message, bytes, is_foreign).map_err(refused)?;
        if unread > 0 {
            cluster.report.fault("keys or values of another release");
        }
    }
    Ok((from, message))
}

/// Records that a replica has received the registers that a message lists, even if it does not keep them. Returns those
/// that are new to it.
fn note_told<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    message: &Message<K, V>,
) -> Vec<(usize, Stamp)> {
    if matches!(message, Message::Audit(_)) {
        return Vec::new(); // Audits compare only registers that both sides have seen already.
    }
    let (at, mut new) = (cluster.at, Vec::new());
    for (hash, fill) in bare_fills(message) {
        let record = cluster.names.number(hash).and_then(|key| cluster.record_mut(number, key, &fill));
        if record.is_some_and(|record| record.bare_to.insert(number)) {
            cluster.report.reach("a fill arrived without its bound");
        }
    }
    let (now, drift) = (cluster.now_at(number), cluster.settings.config.max_drift);
    for entry in message.entries() {
        let Some(key) = cluster.names.number(entry.hash) else { continue };
        let time = entry.stamp().time.max(entry.dot().counter);
        let is_deferred = cluster.view(number).clock().is_ahead(now, time, drift);
        let Some(record) = cluster.record_mut(number, key, &entry.stamp()) else { continue };
        if is_deferred {
            record.deferred_by.insert(number);
        }
        if let std::collections::btree_map::Entry::Vacant(first) = record.received_by.entry(number) {
            first.insert(at);
            new.push((key, entry.stamp()));
        }
    }
    new
}

/// Returns the fills of a message that need a bound (they are stamped just above a recent stamp) and come without it.
fn bare_fills<K, V>(message: &Message<K, V>) -> Vec<(u64, Stamp)> {
    let in_one = |entries: &[Entry<K, V>], fills: &[FillNote]| {
        let bare = entries.iter().filter(|entry| needs_bound(entry.stamp()) && entry.kind().ranks_live());
        let bare = bare.filter(|entry| bound_in(fills, entry.dot().counter).is_none());
        bare.map(|entry| (entry.hash, entry.stamp())).collect::<Vec<_>>()
    };
    match message {
        Message::Push(push) => in_one(&push.entries, &push.fills),
        Message::Frame(frame) => {
            frame.intervals.iter().flat_map(|interval| in_one(&interval.entries, &interval.fills)).collect()
        }
        Message::Digest(_) | Message::Ack(_) | Message::Audit(_) => Vec::new(),
    }
}

/// Undoes the notes of `note_told` for a frame that the replica ignored: it has read nothing of the frame.
fn forget_told<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, number: usize, told: Vec<(usize, Stamp)>) {
    for (key, stamp) in told {
        if let Some(record) = cluster.record_mut(number, key, &stamp) {
            record.received_by.remove(&number);
        }
    }
}

/// Records that a digest of a replica has arrived from its process. The replica may replace an earlier one of the same
/// cache on that process, which was closed.
fn note_digest<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    to: usize,
    from: usize,
    number: usize,
    id: ReplicaId,
) -> Result<(), Violation> {
    let (cache, name) =
        (codec::name_of(cluster.openings[number].cache), cluster.processes[from].address.to_string().into());
    members::note_digest(cluster, number, from, id);
    let here = &mut cluster.processes[to].membership;
    if cluster.settings.accept_departed {
        here.note_sender(codec::incarnation(from), &name, from);
    }
    match here.heard(codec::incarnation(from), cache, id) {
        Some(before) => {
            cluster.report.fault("replaced its predecessor");
            membership::tell_left(cluster, number, before)
        }
        None => Ok(()),
    }
}

/// Records the answer that a cache is not open on a process.
fn note_not_open<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    to: usize,
    (process, answer): (usize, NotOpen),
    cache: u8,
) -> Result<(), Violation> {
    let (at, number) = (cluster.at, cluster.processes[to].open[usize::from(cache)]);
    let ours = number.map(|number| cluster.openings[number].id);
    let here = &mut cluster.processes[to].membership;
    let gone = here.not_open(codec::incarnation(process), codec::name_of(cache), (answer, ours), at);
    match (gone, number) {
        (Some(id), Some(number)) => membership::tell_left(cluster, number, id),
        _ => Ok(()),
    }
}
