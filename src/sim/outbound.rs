//! The path from the replicas to the network: the work of the node's driver, without sockets.

use bytes::Bytes;

use super::agenda::Event;
use super::cluster::Cluster;
use super::codec::{self, MAX_DATAGRAM};
use super::history;
use super::network::Passage;
use super::process::Payload;
use super::report::Violation;
use super::trace::describe;
use super::types::{SimKey, SimValue};
use crate::membership::NotOpen;
use crate::message::Message;
use crate::replica::Transmit;
use crate::replica_id::ReplicaId;

/// The size in bytes of an answer that is not a message of a replica.
const SIGNAL_BYTES: usize = 24;

fn encode<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    number: usize,
    message: &Message<K, V>,
) -> Result<Bytes, Violation> {
    let opening = &cluster.openings[number];
    codec::encode(opening.cache, opening.id, opening.process, message)
        .map_err(|error| cluster.violation(format!("types: {} cannot encode a message: {error}", cluster.name(number))))
}

/// Encodes a message once and sends it to each of its receivers.
pub(super) fn send<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    transmit: Transmit<K, V>,
) -> Result<(), Violation> {
    let Transmit { to, message, bulk } = transmit;
    let bytes = encode(cluster, number, &message)?;
    cluster.trace(|| format!("r{number} sends {to:?} {} bytes: {}", bytes.len(), describe(&message)));
    let entries = codec::entries_in(&message);
    if let Message::Digest(digest) = &message {
        // A digest is a statement of its sender even if the network loses it.
        history::note_said(cluster, number, digest);
    }
    if let Message::Audit(audit) = &message
        && !audit.reply
    {
        cluster.openings[number].history.sent.audited += audit.entries.len() * to.len();
    }
    for id in to {
        let home = home(cluster, number, &id);
        let mut left = 0;
        let mut ok = false;
        if let Some(address) = home {
            cluster.report.entries += entries;
            let from = cluster.openings[number].process;
            let fate = carry(cluster, from, address, bytes.len(), Payload::Message(bytes.clone()));
            // A sender does not notice the loss of a datagram, and seldom notices that it has no receiver. It notices a
            // connection that cannot be made.
            ok = fate.is_some() || (bytes.len() <= MAX_DATAGRAM && cluster.dice.rng.bool());
            if ok && may_be_lost(cluster, bytes.len()) {
                cluster.report.fault("sent and reported as failed");
                ok = false;
            }
            left = fate.filter(|_| bytes.len() > MAX_DATAGRAM).unwrap_or_default();
        }
        if bulk {
            let after = left + cluster.network.sending();
            cluster.schedule(after, Event::Sent { opening: number, to: id, ok });
        }
    }
    Ok(())
}

/// Decides whether a connection breaks after all its data has arrived. (Not the doubt of a register.)
fn may_be_lost<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, size: usize) -> bool {
    !cluster.course.healed && size > MAX_DATAGRAM && cluster.dice.doubts.u8(0..16) == 0
}

/// Returns the address of the process on which a member lives, as far as this replica's process knows.
fn home<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, number: usize, id: &ReplicaId) -> Option<usize> {
    let opening = &cluster.openings[number];
    let here = &cluster.processes[opening.process].membership;
    let cache = codec::name_of(opening.cache);
    if let Some(other) = here.home(cache, *id) {
        return Some(cluster.processes[*other].address);
    }
    let other = cluster.openings[*cluster.by_id.get(id)?].process;
    let heeded = cluster.settings.accept_departed && !here.is_former(codec::incarnation(other), cache, *id);
    heeded.then(|| cluster.processes[other].address)
}

/// Hands bytes to the network. Returns the nanoseconds until they have left, or `None` if the link or the receiver does
/// not work.
pub(super) fn carry<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    from: usize,
    address: usize,
    size: usize,
    payload: Payload,
) -> Option<u64> {
    cluster.report.messages += 1;
    cluster.report.bytes += size as u64;
    #[cfg(test)]
    if let Some(copies) = &mut cluster.course.copies {
        copies.push((address, payload.clone()));
    }
    let here = cluster.processes[from].address;
    if cluster.network.is_cut(here, address) || !cluster.processes[cluster.holders[address]].runs() {
        cluster.report.fault("refused");
        return None;
    }
    let sent = cluster.network.send(cluster.at, here, address, size);
    if sent.waited {
        cluster.report.fault("queued for bandwidth");
    }
    if sent.slow {
        cluster.report.fault("slow message");
    }
    match sent.fate {
        Passage::Arrives => {}
        Passage::Twice(after) => {
            cluster.report.fault("duplicated");
            cluster.course.note_straggler(cluster.at + after);
            cluster.schedule(after, Event::Deliver { address, payload: payload.clone() });
        }
        Passage::Overflows => {
            cluster.report.fault("queue overflowed");
            return Some(sent.queued);
        }
        Passage::Lost => {
            cluster.report.fault("lost");
            return Some(sent.queued);
        }
    }
    cluster.course.note_straggler(cluster.at + sent.after);
    cluster.schedule(sent.after, Event::Deliver { address, payload });
    Some(sent.queued)
}

/// Answers a digest: its cache is not open on this process.
pub(super) fn answer_not_open<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    process: usize,
    (to, asked): (usize, ReplicaId),
    cache: u8,
) {
    let address = cluster.processes[to].address;
    let last = cluster.last_id(process, cache).unwrap_or(ReplicaId::from_bytes([0; 16]));
    let answer = NotOpen { asked, last };
    carry(cluster, process, address, SIGNAL_BYTES, Payload::NotOpen { process, cache, answer });
}

/// Sends a digest of each cache that is open on a process to another process.
pub(super) fn greet<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    process: usize,
    other: usize,
) -> Result<(), Violation> {
    let open = cluster.processes[process].openings();
    open.into_iter().try_for_each(|number| greet_of(cluster, number, other))
}

/// Sends a digest of one cache to another process.
fn greet_of<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    other: usize,
) -> Result<(), Violation> {
    let now = cluster.now_at(number);
    let digest = cluster.openings[number].engine.replica.greeting(now);
    history::note_said(cluster, number, &digest);
    let bytes = encode(cluster, number, &Message::Digest(digest))?;
    let (from, address) = (cluster.openings[number].process, cluster.processes[other].address);
    carry(cluster, from, address, bytes.len(), Payload::Message(bytes));
    Ok(())
}

/// Greets each process that may have a cache open without this process knowing. Also greets each process whose replica
/// is unknown or dead to the replica here: the greeting sent when that process was found up may have been lost.
pub(super) fn greet_the_unknown<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    process: usize,
) -> Result<(), Violation> {
    let open = cluster.processes[process].openings();
    for number in open {
        let members = cluster.view(number).live_members();
        let cache = codec::name_of(cluster.openings[number].cache);
        let strangers = cluster.processes[process].membership.to_greet(cache, &members, cluster.at);
        strangers.into_iter().try_for_each(|other| greet_of(cluster, number, other))?;
    }
    Ok(())
}
