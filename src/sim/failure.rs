//! A run that failed, told so that a person can replay and read it.

use std::fmt;

use super::report::Violation;
use super::scenario::Scenario;

/// A promise that was not kept, or a type that cannot be replicated. `Display` and `Debug` both print the
/// whole story: what, the script, and how to replay it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Failure {
    /// What went wrong.
    pub violation: Violation,
    /// The smallest scenario found that fails the same way; nothing if no schedule is at fault, but types,
    /// settings or seeds that cannot be.
    pub scenario: Option<Scenario>,
    /// Steps of the script before it was shrunk.
    pub steps_before: usize,
    /// What happened in the shrunk run, one line each; only if a seed was asked for.
    pub trace: Vec<String>,
    /// The command that replays it.
    pub replay: String,
}

impl Failure {
    /// What nothing can be run with.
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

/// As `Display`: this is what a test shows that unwraps a [`Failure`].
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}
