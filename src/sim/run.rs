//! One run: a safety phase in which everything goes wrong, then a liveness phase in which the
//! healed cluster has to come to agree within a bound.

use super::action::Step;
use super::advance;
use super::check::agreement;
use super::cluster::Cluster;
use super::membership;
use super::quiet::caught;
use super::report::{Report, Violation};
use super::scenario::Scenario;
use super::types::{SimKey, SimValue, Types, numbers};
use crate::crdt::Dot;
use crate::hlc::nanos;

const SECOND: u64 = 1_000_000_000;
/// In one of so many stretches of time nothing more is to be told.
const WINDOWS: u32 = 8;
/// After this it is first looked whether the cluster agrees, then less and less often.
const FIRST_LOOK: u64 = 10_000_000;
/// A healed cluster agrees within this, once all its clocks have passed what was stamped.
const AGREE_WITHIN: u64 = 60 * SECOND;
/// And it is back to baseline within this, once what holds back collection is gone.
const COLLECT_WITHIN: u64 = 90 * SECOND;

/// The run that a seed stands for, of numbers.
#[must_use]
pub fn run_seed(seed: u64) -> Report {
    run_scenario(&numbers(), &Scenario::from_seed(seed), false)
}

/// The run of a scenario. With `tracing`, the report has a line for everything that happened. What panics is
/// a violation, and so are settings that cannot be.
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
    let violation = match caught(|| cluster.run(script)) {
        Ok(outcome) => outcome.err(),
        Err(panic) => Some(cluster.violation(format!("O5: panic: {panic}"))),
    };
    let mut report = cluster.take_report();
    let at = report.simulated;
    let dropped = caught(|| drop(cluster)).map_err(|panic| panicked(at, &panic));
    report.violation = violation.or(dropped.err());
    report
}

fn panicked(at: u64, panic: &str) -> Violation {
    Violation { at, what: format!("O5: panic: {panic}") }
}

impl<K: SimKey, V: SimValue> Cluster<'_, K, V> {
    fn run(&mut self, script: &[Step]) -> Result<(), Violation> {
        for step in script {
            advance::to(self, self.at + u64::from(step.after) * 1_000)?;
            self.act(step.action)?;
        }
        self.heal()?;
        self.wait_for_agreement()?;
        self.wait_for_baseline()?;
        self.check_still_works()?;
        agreement::count_misses(self);
        Ok(())
    }

    /// No faults from here on. Those that are paused go on.
    fn heal(&mut self) -> Result<(), Violation> {
        self.trace(|| "HEAL".to_owned());
        self.course.healed = true;
        let stays = self.link_that_stays();
        self.network.heal();
        if let Some((a, b)) = stays {
            self.network.break_link(a, b);
            self.report.fault("link broken to the end");
        }
        let skew = (self.settings.config.max_drift.as_nanos() as i64 / 4).min(SECOND as i64 / 4);
        for process in self.running() {
            let offset = self.dice.rng.i64(-skew..=skew);
            self.processes[process].clock.repair(offset);
        }
        for process in self.running() {
            self.resume(process)?;
        }
        self.restart_the_fast();
        // What is under way arrives before anything is judged.
        advance::to(self, self.at + self.settings.tail.as_nanos() as u64)
    }

    /// How far the clocks of the cluster have run ahead of true time.
    fn ahead(&self) -> u64 {
        let open = self.openings.iter().filter(|opening| opening.is_open);
        let last = open.map(|opening| opening.engine.replica.view().clock().last());
        last.max().unwrap_or_default().saturating_sub(super::clock::EPOCH + self.at)
    }

    fn wait_for_agreement(&mut self) -> Result<(), Violation> {
        let began = self.at;
        self.trace(|| "WAIT FOR AGREEMENT".to_owned());
        let until = began + AGREE_WITHIN + self.ahead() + 20 * nanos(self.settings.suspect_after);
        let mut agreed = Ok(());
        let mut pause = FIRST_LOOK;
        while self.at < until {
            advance::to(self, self.at + pause)?;
            // A newcomer may have taken the time of a member that was started again only then.
            self.restart_the_fast();
            pause = (pause + pause / 4).min(SECOND);
            agreed = agreement::check(self);
            if agreed.is_err() {
                self.report.converged_in = 0;
                continue;
            }
            if self.report.converged_in == 0 {
                self.report.converged_in = self.at - began;
            }
            // What is stamped in the future may still have to come.
            if self.ahead() <= nanos(self.settings.config.max_drift) / 2 {
                break;
            }
        }
        agreed
    }

    /// They agreed before. What waited somewhere, for its time or for a session to end, may have been told since:
    /// then they agree again, and soon.
    fn still_agree(&mut self) -> Result<(), Violation> {
        if agreement::check(self).is_ok() {
            return Ok(());
        }
        self.trace(|| "AGREE ONCE MORE".to_owned());
        let converged_in = self.report.converged_in;
        let agreed = self.wait_for_agreement();
        self.report.converged_in += converged_in;
        agreed
    }

    fn wait_for_baseline(&mut self) -> Result<(), Violation> {
        self.trace(|| "WAIT FOR BASELINE".to_owned());
        // A word of the dead that is still under way would make them members again, for good where no other reaches.
        if self.at < self.course.stragglers_until {
            advance::to(self, self.course.stragglers_until + 1)?;
            self.still_agree()?;
        }
        self.forget_the_gone()?;
        self.until_baseline()?;
        self.check_quiet()
    }

    fn until_baseline(&mut self) -> Result<(), Violation> {
        let config = &self.settings.config;
        let until = self.at + COLLECT_WITHIN + nanos(config.gc_grace.max(config.fill_hold));
        let patiently = until + nanos(config.forget_after);
        let mut baseline = agreement::check_baseline(self);
        while baseline.is_err() && (self.at < until || (self.at < patiently && self.is_unretracted())) {
            advance::to(self, self.at + 2 * SECOND)?;
            self.still_agree()?;
            baseline = agreement::check_baseline(self);
        }
        baseline
    }

    /// A replica that was told of a member only by one behind a link that never works: who told it cannot take its word back, and
    /// others, which forgot the member or never met it, say nothing of it. It goes when `forget_after` is over, not sooner.
    fn is_unretracted(&mut self) -> bool {
        let open = |number: &usize| self.openings[*number].is_open;
        let is_cut_off = |number: usize, namer: &crate::replica_id::ReplicaId| {
            self.by_id.get(namer).is_some_and(|&namer| self.never_meet(number, namer))
        };
        let waits = |number: &usize| {
            self.replica(*number)
                .view()
                .unmet()
                .any(|(.., namers)| namers.keys().all(|namer| is_cut_off(*number, namer)))
        };
        let found = (0..self.openings.len()).filter(open).any(|number| waits(&number));
        if found {
            self.report.reach("waited for a word that nobody can take back");
        }
        found
    }

    /// The operator says that those which are gone will not return.
    fn forget_the_gone(&mut self) -> Result<(), Violation> {
        for process in self.running() {
            for other in 0..self.processes.len() {
                if !self.processes[other].runs() {
                    membership::learn_of_leave(self, process, other)?;
                }
            }
        }
        self.forget_the_cut_off()
    }

    /// A cache that was closed on a process which still runs says so to whoever asks. Over a link that never works nobody can, and no
    /// failure detector calls the process dead: the operator has to.
    fn forget_the_cut_off(&mut self) -> Result<(), Violation> {
        for number in (0..self.openings.len()).filter(|&number| self.openings[number].is_open).collect::<Vec<_>>() {
            let members: Vec<_> = self.view(number).members().map(|(id, _)| id).collect();
            let is_cut_off = |id: &crate::replica_id::ReplicaId| {
                let other = self.by_id.get(id).copied();
                other.is_some_and(|other| !self.openings[other].is_open && self.never_meet(number, other))
            };
            let gone: Vec<_> = members.into_iter().filter(is_cut_off).collect();
            for id in gone {
                self.report.fault("forgotten behind a broken link");
                membership::tell_left(self, number, id)?;
            }
        }
        Ok(())
    }

    /// Nothing is to be told any more, so no register is sent.
    fn check_quiet(&mut self) -> Result<(), Violation> {
        let window = 2 * SECOND + 10 * nanos(self.settings.config.digest_interval);
        let mut sent = 0;
        // A digest that a slow link delivers a minute late is answered like any other.
        if self.at < self.course.stragglers_until {
            advance::to(self, self.course.stragglers_until)?;
            self.still_agree()?;
        }
        // Retries and sessions that are still under way end first.
        for _ in 0..WINDOWS {
            let before = self.report.entries;
            advance::to(self, self.at + window)?;
            self.still_agree()?;
            sent = self.report.entries - before;
            if sent == 0 {
                break;
            }
        }
        // A value may have expired just now.
        self.until_baseline()?;
        // Records of retired origins are not dropped everywhere at once; whoever still has them tells.
        let dropped = |replica: &crate::replica::Replica<K, V>| replica.view().counters().retired_dropped > 0;
        let capped = self.openings.iter().any(|opening| dropped(&opening.engine.replica));
        if sent > 0 && !capped {
            return Err(self.violation(format!("quiet: {sent} registers sent in {} s of silence", window / SECOND)));
        }
        Ok(())
    }

    /// A fresh write on every replica reaches all.
    fn check_still_works(&mut self) -> Result<(), Violation> {
        self.trace(|| "LAST WRITES".to_owned());
        let open = (0..self.openings.len()).filter(|&number| self.openings[number].is_open);
        let writers: Vec<_> = open.collect();
        for &number in &writers {
            let key = number % self.keys.len();
            self.write_on(number, if self.is_foreign_to(number, key) { 0 } else { key }, 0)?;
        }
        let dots: Vec<_> = writers.iter().map(|&number| (number, self.last_dot(number))).collect();
        // Whoever has evicted a write leaves it to its writer, who picks one member for each digest: in so many
        // rounds each is picked, but for one run in millions.
        let rounds = 16 * (1 + writers.len() as u64);
        let until = self.at + 10 * SECOND + rounds * nanos(self.settings.config.digest_interval);
        loop {
            advance::to(self, self.at + SECOND / 4)?;
            let missing = dots.iter().find_map(|(writer, dot)| {
                let others = self.replicas_of(self.openings[*writer].cache);
                others.into_iter().find(|&other| !self.view(other).vector().covers(dot)).map(|other| (*writer, other))
            });
            match missing {
                None => return self.still_agree(),
                Some((writer, other)) if self.at >= until => {
                    let (writer, other) = (self.name(writer), self.name(other));
                    return Err(self.violation(format!("liveness: the last write of {writer} never came to {other}")));
                }
                Some(_) => {}
            }
        }
    }

    fn last_dot(&self, number: usize) -> Dot {
        let id = self.openings[number].id;
        Dot::new(id, self.view(number).vector().get(&id))
    }

    fn take_report(&mut self) -> Report {
        let mut report = std::mem::take(&mut self.report);
        report.simulated = self.at;
        for opening in &self.openings {
            report.states.add(opening.engine.replica.view().counters());
        }
        report
    }
}
