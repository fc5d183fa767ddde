//! A whole run as data: its settings, its script, and the seed for all choices that the script leaves open.

use std::fmt;

use super::action::Step;
use super::settings::Settings;

/// The complete input of a run. Two runs of one scenario are the same, event by event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Scenario {
    /// The seed for clocks, delays, losses and the random choices of the replicas.
    pub seed: u64,
    /// The settings of the cluster.
    pub settings: Settings,
    /// The actions, in order.
    pub script: Vec<Step>,
}

impl Scenario {
    /// Returns a scenario with this seed, these settings and this script.
    #[must_use]
    pub fn new(seed: u64, settings: Settings, script: Vec<Step>) -> Self {
        Self { seed, settings, script }
    }

    /// Returns the scenario of a seed: the swarm draws settings and script.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self::with_settings(seed, Settings::from_seed(seed))
    }

    /// Returns a scenario with these settings and the script that the seed draws for them.
    #[must_use]
    pub fn with_settings(seed: u64, settings: Settings) -> Self {
        let script = settings.script(seed);
        Self { seed, settings, script }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.settings)?;
        for step in &self.script {
            writeln!(f, "  {step}")?;
        }
        write!(f, "  then everything heals")
    }
}
