//! One run: a safety phase in which everything goes wrong, then a liveness phase in which the
//! healed cluster has to come to agree within a bound.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::action::Step;
use super::cluster::Cluster;
use super::report::{Report, Violation};
use super::settings::Settings;
use super::workload::{Numbers, Workload};

const SECOND: u64 = 1_000_000_000;
/// A healed cluster agrees within this, once all its clocks have passed what was stamped.
const AGREE_WITHIN: u64 = 60 * SECOND;
/// And it is back to baseline within this, once what holds back collection is gone.
const COLLECT_WITHIN: u64 = 90 * SECOND;

/// The run that a seed stands for.
#[must_use]
pub fn run_seed(seed: u64) -> Report {
    run(Numbers, Settings::from_seed(seed), seed, false)
}

/// A run with these settings; the script is the seed's.
#[must_use]
pub fn run<W: Workload>(workload: W, settings: Settings, seed: u64, tracing: bool) -> Report {
    let script = settings.script(seed);
    run_script(workload, settings, seed, &script, tracing)
}

/// A run of this script.
#[must_use]
pub fn run_script<W: Workload>(workload: W, settings: Settings, seed: u64, script: &[Step], tracing: bool) -> Report {
    let mut cluster = Cluster::new(workload, settings, seed, tracing);
    let outcome = catch_unwind(AssertUnwindSafe(|| cluster.run(script)));
    let violation = match outcome {
        Ok(outcome) => outcome.err(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(cluster.violation(format!("O5: panic: {}", text.unwrap_or_default())))
        }
    };
    cluster.into_report(violation)
}

impl<W: Workload> Cluster<W> {
    fn run(&mut self, script: &[Step]) -> Result<(), Violation> {
        for step in script {
            self.advance_to(self.at + u64::from(step.after) * 1_000)?;
            self.act(step.action)?;
        }
        self.heal()?;
        self.wait_for_agreement()?;
        self.wait_for_baseline()?;
        self.check_still_works()
    }

    /// No faults from here on.
    fn heal(&mut self) -> Result<(), Violation> {
        self.trace(|| "HEAL".to_owned());
        self.healed = true;
        self.network.heal();
        let skew = (self.settings.config.max_drift.as_nanos() as i64 / 4).min(SECOND as i64 / 4);
        for number in self.running() {
            let offset = self.rng.i64(-skew..=skew);
            self.nodes[number].clock.repair(offset);
        }
        for number in self.running() {
            if !self.nodes[number].is_up() {
                self.resume(number)?;
            }
            self.settle(number)?;
        }
        // What is under way arrives before anything is judged.
        self.advance_to(self.at + self.settings.tail.as_nanos() as u64)
    }

    /// How far the clocks of the cluster have run ahead of true time.
    fn ahead(&self) -> u64 {
        let last = self.running().into_iter().map(|number| self.nodes[number].replica.clock().last());
        last.max().unwrap_or_default().saturating_sub(super::clock::EPOCH + self.at)
    }

    fn wait_for_agreement(&mut self) -> Result<(), Violation> {
        let began = self.at;
        let until = began + AGREE_WITHIN + self.ahead() + 20 * self.settings.suspect_after.as_nanos() as u64;
        let mut agreed = Ok(());
        while self.at < until {
            self.advance_to(self.at + SECOND)?;
            agreed = self.check_agreement();
            if agreed.is_ok() {
                self.report.converged_in = self.at - began;
                return Ok(());
            }
        }
        agreed
    }

    fn wait_for_baseline(&mut self) -> Result<(), Violation> {
        self.trace(|| "WAIT FOR BASELINE".to_owned());
        self.forget_the_gone()?;
        let config = &self.settings.config;
        let hold = config.gc_grace.max(config.fill_hold).as_nanos() as u64;
        let until = self.at + COLLECT_WITHIN + hold;
        let mut baseline = Ok(());
        while self.at < until {
            self.advance_to(self.at + 5 * SECOND)?;
            self.check_agreement()?;
            baseline = self.check_baseline();
            if baseline.is_ok() && self.at > until - COLLECT_WITHIN {
                return self.check_quiet();
            }
        }
        baseline
    }

    /// The operator says that those which are gone will not return.
    fn forget_the_gone(&mut self) -> Result<(), Violation> {
        for node in self.running() {
            for other in 0..self.nodes.len() {
                if !self.nodes[other].runs() {
                    self.learn_of_leave(node, other)?;
                }
            }
        }
        Ok(())
    }

    /// Nothing is to be told any more, so no register is sent.
    fn check_quiet(&mut self) -> Result<(), Violation> {
        let before = self.report.entries;
        self.advance_to(self.at + 20 * SECOND)?;
        self.check_agreement()?;
        if self.check_baseline().is_err() {
            // A value may have expired just now, by a clock that was ahead when it was written.
            let grace = self.settings.config.gc_grace.as_nanos() as u64;
            self.advance_to(self.at + 10 * SECOND + grace)?;
            self.check_baseline()?;
        }
        let sent = self.report.entries - before;
        // Records of retired origins are not dropped everywhere at once; whoever still has them tells.
        let capped = self.nodes.iter().any(|node| node.replica.counters().retired_dropped > 0);
        if sent > 0 && !capped {
            return Err(self.violation(format!("quiet: {sent} registers sent in 20 s of silence")));
        }
        Ok(())
    }

    /// A fresh write on every node reaches all.
    fn check_still_works(&mut self) -> Result<(), Violation> {
        self.trace(|| "LAST WRITES".to_owned());
        for number in self.running() {
            let key = self.workload.key(number as u16 % self.settings.keys);
            self.write_on(number, key, 0)?;
        }
        self.advance_to(self.at + 10 * SECOND)?;
        self.check_agreement()
    }

    fn into_report(self, violation: Option<Violation>) -> Report {
        let mut report = self.report;
        report.simulated = self.at;
        for node in &self.nodes {
            report.states.add(node.replica.counters());
        }
        report.violation = violation;
        report
    }
}
