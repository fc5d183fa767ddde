//! One run: a safety phase in which everything goes wrong, then a liveness phase in which the
//! healed cluster has to come to agree within a bound.

use super::act;
use super::action::Step;
use super::advance;
use super::check::agreement;
use super::cluster::Cluster;
use super::faults;
use super::membership;
use super::quiet::caught;
use super::report::{Report, Violation};
use super::scenario::Scenario;
use super::types::{SimKey, SimValue, Types, numbers};
use crate::crdt::Dot;
use crate::hlc::nanos;

const SECOND: u64 = 1_000_000_000;
/// Stretches of time, in one of which no register may be sent.
const WINDOWS: u32 = 8;
/// Time until the first check that the cluster agrees; each later check waits a quarter longer.
const FIRST_LOOK: u64 = 10_000_000;
/// A healed cluster agrees within this, once all its clocks have passed what was stamped.
const AGREE_WITHIN: u64 = 60 * SECOND;
/// And it is back to baseline within this, once what holds back collection is gone.
const COLLECT_WITHIN: u64 = 90 * SECOND;

/// Runs what a seed stands for, with numbers for keys and values.
#[must_use]
pub fn run_seed(seed: u64) -> Report {
    run_numbers(&Scenario::from_seed(seed), false)
}

/// Runs a scenario, with numbers for keys and values. Compiled once, with the crate: [`run_scenario`] is compiled for each test.
#[must_use]
pub fn run_numbers(scenario: &Scenario, tracing: bool) -> Report {
    run_scenario(&numbers(), scenario, tracing)
}

/// Runs a scenario. With `tracing`, the report has a line for everything that happened. A panic is a violation, and so are
/// settings that cannot be.
#[must_use]
pub fn run_scenario<K: SimKey, V: SimValue>(types: &Types<K, V>, scenario: &Scenario, tracing: bool) -> Report {
    let Scenario { seed, settings, script } = scenario;
    if let Err(what) = settings.validate() {
        let violation = Some(Violation { at: 0, what });
        return Report { violation, unfit: true, ..Report::default() };
    }
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
    report.violation = violation.or(dropped.err());
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
    heal(cluster)?;
    wait_for_agreement(cluster)?;
    wait_for_baseline(cluster)?;
    check_still_works(cluster)?;
    agreement::count_misses(cluster);
    Ok(())
}

/// Ends all faults. Paused processes go on.
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
    // What is under way arrives before anything is judged.
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
        // A newcomer may have taken the time of a member that was started again only then.
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
        // What is stamped in the future may still have to come.
        if ahead(cluster) <= nanos(cluster.settings.config.max_drift) / 2 {
            break;
        }
    }
    agreed
}

/// Checks that the replicas agree, as they did before. Something that waited for its time or for a session to end may have
/// been sent since: then they must agree again, and soon.
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
    // A late message of a process that is gone would make its replica a member again: for good where no other message
    // arrives.
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
        // When such a word counts no longer, collection takes as long as ever.
        if cluster.at < patiently && is_unretracted(cluster) {
            until = cluster.at + settles;
        }
        baseline = agreement::check_baseline(cluster);
    }
    baseline
}

/// Returns whether a replica goes by the word of one that is cut off from it by now, for good, and so cannot take it back: that
/// there is a member, of which the others, which forgot it or never met it, say nothing; or that it has writes of a replica that is
/// gone, whose record it has dropped since (`max_retired`). The word counts until `forget_after` is over, not less.
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
        view.peers().filter(|peer| is_cut_off(*number, &peer.id)).any(|peer| {
            peer.reported.beside(view.vector()).any(|(origin, theirs, ours)| theirs > ours && gone(&origin))
        })
    };
    let found = (0..cluster.openings.len()).filter(open).any(|number| waits(&number) || lacks(&number));
    if found {
        cluster.report.reach("waited for a word that nobody can take back");
    }
    found
}

/// Makes every process forget those that are gone, as an operator would.
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

/// Makes replicas forget those that were closed behind a link that never works. The process of such a replica still runs and
/// answers that the cache is closed, but no question reaches it, and no failure detector calls it dead: the operator has to.
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
    // A digest that a slow link delivers a minute late is answered like any other.
    if cluster.at < cluster.course.stragglers_until {
        advance::to(cluster, cluster.course.stragglers_until)?;
        still_agree(cluster)?;
    }
    // Retries and sessions that are still under way end first.
    for _ in 0..WINDOWS {
        let before = cluster.report.entries;
        advance::to(cluster, cluster.at + window)?;
        still_agree(cluster)?;
        sent = cluster.report.entries - before;
        if sent == 0 {
            break;
        }
    }
    // A value may have expired just now.
    until_baseline(cluster)?;
    // Replicas drop the records of retired origins at different times, and those that still have them send them.
    let dropped = |replica: &crate::replica::Replica<K, V>| replica.view().counters().retired_dropped > 0;
    let capped = cluster.openings.iter().any(|opening| dropped(&opening.engine.replica));
    if sent > 0 && !capped {
        return Err(cluster.violation(format!("quiet: {sent} registers sent in {} s of silence", window / SECOND)));
    }
    Ok(())
}

/// Checks that a fresh write on every replica reaches all.
fn check_still_works<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>) -> Result<(), Violation> {
    cluster.trace(|| "LAST WRITES".to_owned());
    let open = (0..cluster.openings.len()).filter(|&number| cluster.openings[number].is_open);
    let writers: Vec<_> = open.collect();
    for &number in &writers {
        let key = number % cluster.keys.len();
        act::write_on(cluster, number, if cluster.is_foreign_to(number, key) { 0 } else { key }, 0)?;
    }
    let dots: Vec<_> = writers.iter().map(|&number| (number, last_dot(cluster, number))).collect();
    // A replica that has evicted a write leaves it to its writer, which picks one member for each digest: in so many rounds
    // each is picked, but for one run in millions.
    let rounds = 16 * (1 + writers.len() as u64);
    let until = cluster.at + 10 * SECOND + rounds * nanos(cluster.settings.config.digest_interval);
    loop {
        advance::to(cluster, cluster.at + SECOND / 4)?;
        let missing = dots.iter().find_map(|(writer, dot)| {
            let others = cluster.replicas_of(cluster.openings[*writer].cache);
            others.into_iter().find(|&other| !cluster.view(other).vector().covers(dot)).map(|other| (*writer, other))
        });
        match missing {
            None => return still_agree(cluster),
            Some((writer, other)) if cluster.at >= until => {
                let (writer, other) = (cluster.name(writer), cluster.name(other));
                return Err(cluster.violation(format!("liveness: the last write of {writer} never came to {other}")));
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
