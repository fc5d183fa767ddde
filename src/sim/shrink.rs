//! Shrinking of a failing scenario to a short one that fails in the same way.

use super::action::{Action, Step};
use super::run::run_scenario;
use super::scenario::Scenario;
use super::settings::Settings;
use super::types::{SimKey, SimValue, Types};

/// The most runs that shrinking may take.
const BUDGET: u32 = 1_500;

/// Leaves out steps, faults and nodes, and makes numbers smaller, as long as the same checker fails. Takes at most
/// about 1,500 runs. Returns a scenario unchanged if it does not fail, or if its types or settings are invalid.
#[must_use]
pub fn shrink<K: SimKey, V: SimValue>(types: &Types<K, V>, scenario: Scenario) -> Scenario {
    let verdict = |scenario: &Scenario| {
        let report = run_scenario(types, scenario, false);
        report.violation.filter(|_| !report.unfit).map(|violation| violation.checker().to_owned())
    };
    let Some(wanted) = verdict(&scenario) else { return scenario };
    let mut left = BUDGET;
    let mut still = |scenario: &Scenario| {
        left = left.saturating_sub(1);
        left > 0 && verdict(scenario).as_ref() == Some(&wanted)
    };
    let mut scenario = leave_out_steps(scenario, &mut still);
    scenario = calm_down(scenario, &mut still);
    scenario = leave_out_steps(scenario, &mut still);
    make_smaller(scenario, &mut still)
}

fn leave_out_steps(mut scenario: Scenario, still: &mut impl FnMut(&Scenario) -> bool) -> Scenario {
    // Large chunks first: the budget of runs is limited, and most steps are irrelevant to a failure.
    let mut chunk = scenario.script.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < scenario.script.len() {
            let end = (at + chunk).min(scenario.script.len());
            match without(&scenario, at, end).into_iter().find(|shorter| still(shorter)) {
                Some(shorter) => scenario = shorter,
                None => at = end,
            }
        }
        chunk /= 2;
    }
    scenario
}

/// Returns the scenario without these steps, in up to two variants. The next step keeps either its delay or its time.
fn without(scenario: &Scenario, from: usize, to: usize) -> Vec<Scenario> {
    let waited = scenario.script[from..to].iter().fold(0u32, |sum, step| sum.saturating_add(step.after));
    let mut hasty = scenario.clone();
    hasty.script.drain(from..to);
    let mut patient = hasty.clone();
    match patient.script.get_mut(from) {
        Some(next) => {
            next.after = next.after.saturating_add(waited);
            vec![hasty, patient]
        }
        None => vec![hasty],
    }
}

fn calm_down(mut scenario: Scenario, still: &mut impl FnMut(&Scenario) -> bool) -> Scenario {
    for calmer in Settings::CALMER {
        let mut tried = scenario.clone();
        calmer(&mut tried.settings);
        if tried.settings.to_string() != scenario.settings.to_string() && still(&tried) {
            scenario = tried;
        }
    }
    while scenario.settings.replicas > 2 {
        let mut tried = scenario.clone();
        tried.settings.replicas -= 1;
        if !still(&tried) {
            break;
        }
        scenario = tried;
    }
    scenario
}

fn make_smaller(mut scenario: Scenario, still: &mut impl FnMut(&Scenario) -> bool) -> Scenario {
    for at in 0..scenario.script.len() {
        for number in 0..Action::NUMBERS {
            let Some(now) = scenario.script[at].action.number(number) else { break };
            // Ascending, so that the smallest number that still fails is kept.
            let smaller = (0..now.min(6)).map(|value| scenario.script[at].action.with_number(number, value));
            for action in smaller.collect::<Vec<_>>() {
                let mut tried = scenario.clone();
                tried.script[at].action = action;
                if still(&tried) {
                    scenario = tried;
                    break;
                }
            }
        }
        let after = scenario.script[at].after;
        for rounder in [0, 1_000, 10_000, 100_000, after / 1_000 * 1_000] {
            let mut tried = scenario.clone();
            tried.script[at] = Step { after: rounder, ..tried.script[at] };
            if rounder < after && still(&tried) {
                scenario = tried;
                break;
            }
        }
    }
    scenario
}
