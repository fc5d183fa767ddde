//! A whole run as data: settings, a script, and the seed of whatever the script leaves open.

use std::fmt;

use super::action::Step;
use super::settings::Settings;

/// Everything that decides a run. Two runs of one scenario are the same, event by event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Scenario {
    /// Feeds clocks, delays, losses and the choices of the replicas.
    pub seed: u64,
    /// What the cluster is made of.
    pub settings: Settings,
    /// What happens in it.
    pub script: Vec<Step>,
}

impl Scenario {
    /// A scenario.
    #[must_use]
    pub fn new(seed: u64, settings: Settings, script: Vec<Step>) -> Self {
        Self { seed, settings, script }
    }

    /// The scenario that a seed stands for: the swarm picks settings and script.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self::with_settings(seed, Settings::from_seed(seed))
    }

    /// The seed's script for these settings.
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
