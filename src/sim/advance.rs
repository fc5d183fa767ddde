//! The passage of simulated time: events and timers, in their order.

use super::act;
use super::agenda::Event;
use super::cluster::Cluster;
use super::direct;
use super::inbound;
use super::membership;
use super::process::State;
use super::report::Violation;
use super::settle;
use super::stills;
use super::types::{SimKey, SimValue};
use crate::replica_id::ReplicaId;

/// The most wake-ups of one replica at one instant.
const MAX_SPINS: u32 = 10_000;

/// Advances the time to `until` and handles all events and timers that are due by then.
pub(super) fn to<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, until: u64) -> Result<(), Violation> {
    loop {
        // A direct write stays to be absorbed as long as nothing else happens.
        if !cluster.settings.bugs.absorbed_late && direct::is_waiting(cluster) && is_due(cluster, until) {
            direct::absorb_all(cluster)?;
        }
        let event = cluster.agenda.next_at();
        let is_up = |number: &usize| cluster.state_of(*number) == State::Up;
        let up = (0..cluster.openings.len()).filter(is_up);
        let timer = up.map(|number| (cluster.openings[number].wake, number)).min();
        match (event, timer) {
            // An event goes before a timer of the same instant, so the order depends on the seed alone.
            (Some(at), timer) if at <= until && timer.is_none_or(|(wake, _)| at <= wake) => {
                cluster.at = cluster.at.max(at);
                if let Some(event) = cluster.agenda.pop() {
                    handle(cluster, event)?;
                }
            }
            (_, Some((wake, number))) if wake <= until => {
                cluster.at = cluster.at.max(wake);
                wake_up(cluster, number)?;
            }
            _ if cluster.settings.bugs.absorbed_late && direct::is_waiting(cluster) => direct::absorb_all(cluster)?,
            _ => {
                cluster.at = cluster.at.max(until);
                return Ok(());
            }
        }
    }
}

/// Returns true if an event or a timer is due by `until`.
fn is_due<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, until: u64) -> bool {
    let wakes = |number: usize| cluster.state_of(number) == State::Up && cluster.openings[number].wake <= until;
    cluster.agenda.next_at().is_some_and(|at| at <= until) || (0..cluster.openings.len()).any(wakes)
}

fn wake_up<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, number: usize) -> Result<(), Violation> {
    let (at, now) = (cluster.at, cluster.now_at(number));
    let opening = &mut cluster.openings[number];
    opening.spins = if opening.last_timeout == at { opening.spins + 1 } else { 0 };
    opening.last_timeout = at;
    if opening.spins > MAX_SPINS {
        return Err(cluster
            .violation(format!("bounded: {} requests an immediate wake-up again and again", cluster.name(number))));
    }
    cluster.expect_peers(number);
    cluster.openings[number].engine.replica.handle_timeout(now);
    settle::opening(cluster, number)
}

fn handle<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, event: Event) -> Result<(), Violation> {
    match event {
        Event::Deliver { address, payload } => inbound::arrive(cluster, cluster.holders[address], payload),
        Event::Sent { opening, to, ok } => sent(cluster, opening, to, ok),
        Event::FillDone { opening, fill } => finish_fill(cluster, opening, fill),
        Event::Left { process, who } => membership::learn_of_leave(cluster, process, who),
        Event::Detector => membership::detect(cluster),
        Event::Stills { process } => stills::send(cluster, process),
    }
}

fn sent<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    to: ReplicaId,
    ok: bool,
) -> Result<(), Violation> {
    match cluster.state_of(number) {
        State::Gone => return Ok(()),
        State::Paused => {
            // A paused process handles nothing: try again in 50 ms.
            cluster.schedule(50_000_000, Event::Sent { opening: number, to, ok });
            return Ok(());
        }
        State::Up => {}
    }
    let now = cluster.now_at(number);
    cluster.openings[number].engine.replica.handle_sent(now, to, ok);
    settle::opening(cluster, number)
}

fn finish_fill<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    fill: u64,
) -> Result<(), Violation> {
    match cluster.state_of(number) {
        State::Gone => Ok(()),
        State::Paused => {
            cluster.schedule(50_000_000, Event::FillDone { opening: number, fill });
            Ok(())
        }
        State::Up => act::store_fill(cluster, number, fill),
    }
}
