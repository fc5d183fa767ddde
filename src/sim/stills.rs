//! The stills of the simulated processes. It repeats what `node/driver/stills.rs` does: change both together.

use bytes::Bytes;

use super::agenda::Event;
use super::cluster::Cluster;
use super::codec::{self, MAX_DATAGRAM};
use super::outbound;
use super::process::Payload;
use super::report::Violation;
use super::settle;
use super::types::{SimKey, SimValue};
use crate::hlc::nanos;
use crate::message::Still;
use crate::replica::stills;
use crate::stills::{SharedCache, StillMessage};

/// Sends the stills of a process, and schedules the next ones.
pub(super) fn send<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, process: usize) -> Result<(), Violation> {
    if !cluster.processes[process].runs() {
        return Ok(());
    }
    cluster.schedule(nanos(cluster.settings.config.digest_interval), Event::Stills { process });
    if !cluster.processes[process].is_up() {
        return Ok(());
    }
    let here = &mut cluster.processes[process];
    let live = here.membership.live_ids();
    let receivers = here.stills.receivers(&live, stills::RECEIVERS_PER_INTERVAL);
    let mut shared = vec![Vec::new(); receivers.len()];
    for number in here.openings() {
        let cache = codec::name_of(cluster.openings[number].cache);
        let open_on = |other| cluster.processes[process].membership.open_on(other, cache);
        let open: Vec<_> = receivers.iter().map(|other| open_on(*other)).collect();
        let replicas: Vec<_> = open.iter().flatten().copied().collect();
        let mut stated = state(cluster, number, &replicas).into_iter();
        let from = cluster.openings[number].id;
        for (to, shared) in open.into_iter().zip(&mut shared) {
            let Some(to) = to else { continue };
            shared.push(SharedCache { cache: cache.into(), from, to, since: stated.next().flatten() });
        }
        settle::opening(cluster, number)?;
    }
    let wall = cluster.processes[process].now(cluster.at).wall;
    for (other, shared) in receivers.into_iter().zip(shared) {
        let Some(address) = codec::process_of(other).map(|other| cluster.processes[other].address) else { continue };
        for body in cluster.processes[process].stills.messages(other, wall, &shared, MAX_DATAGRAM) {
            let (size, body) = (body.len(), Bytes::from(body));
            outbound::carry(cluster, process, address, size, Payload::Stills { process, body });
        }
    }
    Ok(())
}

/// Returns the stills of an opening to these members, and records what they promise.
fn state<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    to: &[crate::ReplicaId],
) -> Vec<Option<u64>> {
    let (now, drift) = (cluster.now_at(number), nanos(cluster.settings.config.max_drift));
    let opening = &mut cluster.openings[number];
    let stated = stills::state(&mut opening.engine.replica, now, to);
    if stated.iter().any(Option::is_some) {
        let said = stills::time_of(now.wall).saturating_sub(drift);
        opening.history.watermark = opening.history.watermark.max(said);
    }
    stated
}

/// Takes the stills of a process, and its answers.
pub(super) fn arrive<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    to: usize,
    from: usize,
    body: &Bytes,
) -> Result<(), Violation> {
    let Some(message) = StillMessage::read(body) else {
        return Err(cluster.violation("wire: a message with stills does not decode".to_owned()));
    };
    let node = codec::incarnation(from);
    if !cluster.processes[to].membership.is_live(node) {
        return Ok(());
    }
    for still in cluster.processes[to].stills.accepted(node, &message) {
        let Some(number) = opening(cluster, to, &still.cache) else { continue };
        let now = cluster.now_at(number);
        stills::note_accepted(&mut cluster.openings[number].engine.replica, now, still.to, still.since);
        settle::opening(cluster, number)?;
    }
    let shared = heard(cluster, to, from);
    let mut believed = Vec::new();
    for (bucket, caches) in message.agreeing(&shared) {
        let mut all = true;
        for SharedCache { cache, from, since, .. } in caches {
            let (Some(number), Some(since)) = (opening(cluster, to, cache), *since) else { continue };
            let (now, still) = (cluster.now_at(number), Still { since, wall: message.wall });
            all &= stills::handle(&mut cluster.openings[number].engine.replica, now, *from, still);
            cluster.trace(|| format!("r{number} gets of {from}: {still:?}"));
            settle::opening(cluster, number)?;
        }
        if all {
            believed.push(bucket);
        }
    }
    if !believed.is_empty() {
        cluster.report.reach("stills were believed");
    }
    cluster.processes[to].stills.note_believed(node, &message, &believed);
    Ok(())
}

/// Returns the caches that are open on both processes, with the digests that stills may repeat at the receiver.
fn heard<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, to: usize, from: usize) -> Vec<SharedCache> {
    let mut shared = Vec::new();
    for number in cluster.processes[to].openings() {
        let cache = codec::name_of(cluster.openings[number].cache);
        let open = cluster.processes[to].membership.open_on(codec::incarnation(from), cache);
        let Some(replica) = open else { continue };
        let now = cluster.now_at(number);
        let opening = &mut cluster.openings[number];
        let since = stills::repeatable(&mut opening.engine.replica, now, replica);
        shared.push(SharedCache { cache: cache.into(), from: replica, to: opening.id, since });
    }
    shared
}

fn opening<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, process: usize, cache: &str) -> Option<usize> {
    cluster.processes[process].open[usize::from(codec::cache_of(cache)?)]
}
