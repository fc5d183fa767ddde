//! The report of a failed run, for a person to read and replay.

use std::fmt;

use super::report::Violation;
use super::scenario::Scenario;

/// A broken promise, or a type that cannot be replicated. `Display` and `Debug` both print the full report: the
/// violation, the script, and the command to replay it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Failure {
    /// The violation.
    pub violation: Violation,
    /// The smallest scenario found that fails in the same way. `None` if no schedule caused the failure, but unusable
    /// types, settings or seeds.
    pub scenario: Option<Scenario>,
    /// Steps of the script before it was shrunk.
    pub steps_before: usize,
    /// The events of the shrunk run, one line each. Empty unless a single seed was asked for.
    pub trace: Vec<String>,
    /// The command that replays the run.
    pub replay: String,
}

impl Failure {
    /// Returns a failure for types, settings or seeds with which no run is possible.
    pub(super) fn refused(what: String) -> Box<Self> {
        Box::new(Self {
            violation: Violation { at: 0, what },
            scenario: None,
            steps_before: 0,
            trace: Vec::new(),
            replay: String::new(),
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(scenario) = &self.scenario else {
            return f.write_str(&self.violation.what);
        };
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        let steps = scenario.script.len();
        writeln!(f, "a promise was broken {}", self.violation)?;
        match self.steps_before {
            before if before == steps => writeln!(f, "seed {}, {steps} steps:", scenario.seed)?,
            before => writeln!(f, "seed {}, shrunk from {before} steps to {steps}:", scenario.seed)?,
        }
        writeln!(f, "{scenario}")?;
        write!(f, "replay with a trace: {}", self.replay)
    }
}

/// Prints the same as `Display`, because a test that unwraps a [`Failure`] shows `Debug`.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}
