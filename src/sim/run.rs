//! One run: a safety phase with faults, then a liveness phase in which the healed cluster has to agree within a bound.

use super::act;
use super::action::Step;
use super::advance;
use super::check::agreement;
use super::cluster::Cluster;
use super::direct;
use super::faults;
use super::membership;
use super::quiet::caught;
use super::report::{Report, Violation};
use super::scenario::Scenario;
use super::types::{SimKey, SimValue, Types, numbers};
use crate::crdt::Dot;
use crate::hlc::nanos;
use crate::item::panics_in_drop;

const SECOND: u64 = 1_000_000_000;
/// The number of time windows after agreement. No register may be sent in at least one of them.
const WINDOWS: u32 = 8;
/// The time until the first check that the cluster agrees. Each later check waits a quarter longer.
const FIRST_LOOK: u64 = 10_000_000;
/// The limit for agreement of a healed cluster, once all its clocks have passed every issued stamp.
const AGREE_WITHIN: u64 = 60 * SECOND;
/// The limit for the return to baseline, once the reasons that held back collection are gone.
const COLLECT_WITHIN: u64 = 90 * SECOND;

/// Runs the scenario of a seed, with numbers for keys and values.
#[must_use]
pub fn run_seed(seed: u64) -> Report {
    run_numbers(&Scenario::from_seed(seed), false)
}

/// Runs a scenario, with numbers for keys and values. It is compiled once, with the crate, while [`run_scenario`] is
/// compiled for each test.
#[must_use]
pub fn run_numbers(scenario: &Scenario, tracing: bool) -> Report {
    run_scenario(&numbers(), scenario, tracing)
}

/// Runs a scenario. With `tracing`, the report has a line for every event. A panic is a violation, and so are invalid
/// settings.
#[must_use]
pub fn run_scenario<K: SimKey, V: SimValue>(types: &Types<K, V>, scenario: &Scenario, tracing: bool) -> Report {
    let Scenario { seed, settings, script } = scenario;
    if let Err(what) = settings.validate() {
        let violation = Some(Violation { at: 0, what });
        return Report { violation, unfit: true, ..Report::default() };
    }
    let before = panics_in_drop::<K, V>();
    let mut cluster = match caught(|| Cluster::new(types, settings.clone(), *seed, tracing)) {
        Ok(cluster) => cluster,
        Err(panic) => return Report { violation: Some(panicked(0, &panic)), ..Report::default() },
    };
    let violation = match caught(|| run(&mut cluster, script)) {
        Ok(outcome) => outcome.err(),
        Err(panic) => Some(cluster.violation(format!("O5: panic: {panic}"))),
    };
    let mut report = take_report(&mut cluster);
    let at = report.simulated;
    let dropped = caught(|| drop(cluster)).map_err(|panic| panicked(at, &panic));
    // The cache contains such a panic, so nothing else shows it. A panic in another run on the same types counts too.
    let panics = panics_in_drop::<K, V>() - before;
    let in_drop =
        (panics > 0).then(|| Violation { at, what: format!("O5: {panics} key or value panicked in its Drop") });
    report.violation = violation.or(dropped.err()).or(in_drop);
    report
}

fn panicked(at: u64, panic: &str) -> Violation {
    Violation { at, what: format!("O5: panic: {panic}") }
}

fn run<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, script: &[Step]) -> Result<(), Violation> {
    for step in script {
        advance::to(cluster, cluster.at + u64::from(step.after) * 1_000)?;
        act::perform(cluster, step.action)?;
    }
    direct::absorb_all(cluster)?;
    heal(cluster)?;
    wait_for_agreement(cluster)?;
    wait_for_baseline(cluster)?;
    check_still_works(cluster)?;
    agreement::count_misses(cluster);
    Ok(())
}

/// Ends all faults and resumes paused processes.
fn heal<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>) -> Result<(), Violation> {
    cluster.trace(|| "HEAL".to_owned());
    cluster.course.healed = true;
    let stays = faults::link_that_stays(cluster);
    cluster.network.heal();
    if let Some((a, b)) = stays {
        cluster.network.break_link(a, b);
        cluster.report.fault("link broken to the end");
    }
    let skew = (cluster.settings.config.max_drift.as_nanos() as i64 / 4).min(SECOND as i64 / 4);
    for process in cluster.running() {
        let offset = cluster.dice.rng.i64(-skew..=skew);
        cluster.processes[process].clock.repair(offset);
    }
    for process in cluster.running() {
        faults::resume(cluster, process)?;
    }
    faults::restart_the_fast(cluster);
    // Messages in flight arrive before any check judges the cluster.
    advance::to(cluster, cluster.at + cluster.settings.tail.as_nanos() as u64)
}

/// Returns how far the clocks of the cluster have run ahead of true time, in nanoseconds.
fn ahead<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>) -> u64 {
    let open = cluster.openings.iter().filter(|opening| opening.is_open);
    let last = open.map(|opening| opening.engine.replica.view().clock().last());
    last.max().unwrap_or_default().saturating_sub(super::clock::EPOCH + cluster.at)
}

fn wait_for_agreement<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>) -> Result<(), Violation> {
    let began = cluster.at;
    cluster.trace(|| "WAIT FOR AGREEMENT".to_owned());
    let until = began + AGREE_WITHIN + ahead(cluster) + 20 * nanos(cluster.settings.suspect_after);
    let mut agreed = Ok(());
    let mut pause = FIRST_LOOK;
    while cluster.at < until {
        advance::to(cluster, cluster.at + pause)?;
        // A newcomer may have taken the time of a fast member in the meantime, before that member was restarted.
        faults::restart_the_fast(cluster);
        pause = (pause + pause / 4).min(SECOND);
        agreed = agreement::check(cluster);
        if agreed.is_err() {
            cluster.report.converged_in = 0;
            continue;
        }
        if cluster.report.converged_in == 0 {
            cluster.report.converged_in = cluster.at - began;
        }
        // Registers that are stamped in the future may still arrive.
        if ahead(cluster) <= nanos(cluster.settings.config.max_drift) / 2 {
            break;
        }
    }
    agreed
}

/// Checks that the replicas still agree. A register that waited for its time, or for a session to end, may have been
/// sent since. Then the replicas must agree again within the same limit.
fn still_agree<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>) -> Result<(), Violation> {
    if agreement::check(cluster).is_ok() {
        return Ok(());
    }
    cluster.trace(|| "AGREE ONCE MORE".to_owned());
    let converged_in = cluster.report.converged_in;
    let agreed = wait_for_agreement(cluster);
    cluster.report.converged_in += converged_in;
    agreed
}

fn wait_for_baseline<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>) -> Result<(), Violation> {
    cluster.trace(|| "WAIT FOR BASELINE".to_owned());
    // A late message of a gone process makes its replica a member again, and no further message ends that. So all late
    // messages arrive before the gone processes are forgotten.
    if cluster.at < cluster.course.stragglers_until {
        advance::to(cluster, cluster.course.stragglers_until + 1)?;
        still_agree(cluster)?;
    }
    forget_the_gone(cluster)?;
    until_baseline(cluster)?;
    check_quiet(cluster)
}

fn until_baseline<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>) -> Result<(), Violation> {
    let config = &cluster.settings.config;
    let settles = COLLECT_WITHIN + nanos(config.gc_grace.max(config.fill_hold));
    let (mut until, patiently) = (cluster.at + settles, cluster.at + settles + nanos(config.forget_after));
    let mut baseline = agreement::check_baseline(cluster);
    while baseline.is_err() && cluster.at < until {
        advance::to(cluster, cluster.at + 2 * SECOND)?;
        still_agree(cluster)?;
        // Collection can start only when the unretracted statement no longer counts: from then on it has its full time.
        if cluster.at < patiently && is_unretracted(cluster) {
            until = cluster.at + settles;
        }
        baseline = agreement::check_baseline(cluster);
    }
    baseline
}

/// Returns true if a replica relies on a statement of a peer that is cut off from it for good, so the peer cannot
/// retract it. The statement counts until `forget_after` has passed. There are two kinds:
///
/// - An unmet member exists. All peers that name it are cut off, and the remaining members have forgotten it or never
///   met it.
/// - The peer has reported writes of a replica that is gone, and may have dropped the record of that replica since
///   (`max_retired`).
fn is_unretracted<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>) -> bool {
    let open = |number: &usize| cluster.openings[*number].is_open;
    let is_cut_off = |number: usize, namer: &crate::replica_id::ReplicaId| {
        cluster.by_id.get(namer).is_some_and(|&namer| cluster.never_meet(number, namer))
    };
    let waits = |number: &usize| {
        cluster
            .replica(*number)
            .view()
            .unmet()
            .any(|(.., namers)| namers.keys().all(|namer| is_cut_off(*number, namer)))
    };
    let lacks = |number: &usize| {
        let view = cluster.replica(*number).view();
        let gone = |id: &crate::replica_id::ReplicaId| view.members().all(|(member, _)| member != *id);
        view.peers()
            .filter(|peer| is_cut_off(*number, &peer.id))
            .any(|peer| peer.reported.zip(view.vector()).any(|(origin, theirs, ours)| theirs > ours && gone(&origin)))
    };
    let found = (0..cluster.openings.len()).filter(open).any(|number| waits(&number) || lacks(&number));
    if found {
        cluster.report.reach("waited for a claim that cannot be withdrawn");
    }
    found
}

/// Makes every process forget the processes that are gone, as an operator does.
fn forget_the_gone<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>) -> Result<(), Violation> {
    for process in cluster.running() {
        for other in 0..cluster.processes.len() {
            if !cluster.processes[other].runs() {
                membership::learn_of_leave(cluster, process, other)?;
            }
        }
    }
    forget_the_cut_off(cluster)
}

/// Makes replicas forget those replicas that were closed behind a link that never works. The process of such a replica
/// still runs and would answer "not open". But no digest reaches it, and no failure detector declares it dead, so the
/// operator has to act.
fn forget_the_cut_off<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>) -> Result<(), Violation> {
    for number in (0..cluster.openings.len()).filter(|&number| cluster.openings[number].is_open).collect::<Vec<_>>() {
        let members: Vec<_> = cluster.view(number).members().map(|(id, _)| id).collect();
        let is_cut_off = |id: &crate::replica_id::ReplicaId| {
            let other = cluster.by_id.get(id).copied();
            other.is_some_and(|other| !cluster.openings[other].is_open && cluster.never_meet(number, other))
        };
        let gone: Vec<_> = members.into_iter().filter(is_cut_off).collect();
        for id in gone {
            cluster.report.fault("forgotten behind a broken link");
            membership::tell_left(cluster, number, id)?;
        }
    }
    Ok(())
}

/// Checks that the healed cluster falls silent: nothing is left to send, so no register is sent.
fn check_quiet<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>) -> Result<(), Violation> {
    let window = 2 * SECOND + 10 * nanos(cluster.settings.config.digest_interval);
    let mut sent = 0;
    // A slow link may deliver a digest a minute late, and the digest is answered like any other. So all late messages
    // arrive first.
    if cluster.at < cluster.course.stragglers_until {
        advance::to(cluster, cluster.course.stragglers_until)?;
        still_agree(cluster)?;
    }
    // Retries and running sessions end first.
    for _ in 0..WINDOWS {
        let before = cluster.report.entries;
        advance::to(cluster, cluster.at + window)?;
        still_agree(cluster)?;
        sent = cluster.report.entries - before;
        if sent == 0 {
            break;
        }
    }
    // A value may have expired in the last window.
    until_baseline(cluster)?;
    // Replicas drop the records of retired origins at different times. Those that still have a record send it.
    let dropped = |replica: &crate::replica::Replica<K, V>| replica.view().counters().retired_dropped > 0;
    let capped = cluster.openings.iter().any(|opening| dropped(&opening.engine.replica));
    if sent > 0 && !capped {
        return Err(cluster.violation(format!("quiet: {sent} registers sent in {} s of silence", window / SECOND)));
    }
    Ok(())
}

/// Checks that a new write on every replica reaches all replicas of its cache.
fn check_still_works<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>) -> Result<(), Violation> {
    cluster.trace(|| "LAST WRITES".to_owned());
    let open = (0..cluster.openings.len()).filter(|&number| cluster.openings[number].is_open);
    let writers: Vec<_> = open.collect();
    for &number in &writers {
        let key = number % cluster.keys.len();
        act::write_on(cluster, number, if cluster.is_foreign_to(number, key) { 0 } else { key }, 0)?;
    }
    let dots: Vec<_> = writers.iter().map(|&number| (number, last_dot(cluster, number))).collect();
    // A replica that has evicted a write leaves its delivery to the writer, which picks one member for each digest. In
    // this many rounds each member is picked, except in one of millions of runs.
    let rounds = 16 * (1 + writers.len() as u64);
    let until = cluster.at + 10 * SECOND + rounds * nanos(cluster.settings.config.digest_interval);
    loop {
        advance::to(cluster, cluster.at + SECOND / 4)?;
        let missing = dots.iter().find_map(|(writer, dot)| {
            let others = cluster.replicas_of(cluster.openings[*writer].cache);
            others.into_iter().find(|&other| !cluster.view(other).vector().covers(dot)).map(|other| (*writer, other))
        });
        match missing {
            // The last writes themselves must leave the replicas in agreement.
            None => return still_agree(cluster),
            Some((writer, other)) if cluster.at >= until => {
                let (writer, other) = (cluster.name(writer), cluster.name(other));
                return Err(cluster.violation(format!("liveness: the last write of {writer} never arrived on {other}")));
            }
            Some(_) => {}
        }
    }
}

fn last_dot<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, number: usize) -> Dot {
    let id = cluster.openings[number].id;
    Dot::new(id, cluster.view(number).vector().get(&id))
}

fn take_report<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>) -> Report {
    let mut report = std::mem::take(&mut cluster.report);
    report.simulated = cluster.at;
    for opening in &cluster.openings {
        report.states.add(opening.engine.replica.view().counters());
    }
    report
}
