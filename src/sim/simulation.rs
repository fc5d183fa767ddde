//! Simulated clusters of a user's own cache, with its keys, values and settings.

use std::ops::Range;

use super::cluster::MAX_UP;
use super::codec::MAX_CACHES;
use super::failure::Failure;
use super::report::Report;
use super::run::run_scenario;
use super::scenario::Scenario;
use super::seeds::{Chosen, SEED, Seeds};
use super::settings::{MAX_KEYS, Settings, unfit_settings};
use super::shrink::shrink;
use super::soundness;
use super::types::{SimKey, SimValue, Types};
use crate::cache::CacheSettings;

type Adjust = Box<dyn Fn(&mut Settings) + Send + Sync>;

/// Simulated clusters of a user's own cache. Each seed is one cluster, with faults of its own. Every promise is checked
/// after every event, and once more when all faults have ended.
///
/// ```
/// use driftless::sim::Simulation;
/// use std::time::Duration;
///
/// let mut settings = driftless::CacheSettings::default(); // as they are in production
/// settings.max_capacity = Some(1_000);
/// settings.time_to_live = Some(Duration::from_secs(60));
///
/// let report = Simulation::new(|n| format!("user-{n}"), |n| vec![n; 3])
///     .settings(settings)
///     .weigher(|_, value| value.len() as u32)
///     .replicas(3)
///     .seeds(0..4)
///     .run()?;
/// assert!(report.faults["lost"] > 0, "the network misbehaved, and the cache did not");
/// # Ok::<(), Box<driftless::sim::Failure>>(())
/// ```
///
/// Environment variables can change the seeds. `DRIFTLESS_SEEDS=10000` runs that many seeds. `DRIFTLESS_SEED=17` runs
/// that one seed; if it fails, all events of its shrunk script are reported.
pub struct Simulation<K, V> {
    types: Types<K, V>,
    seeds: Seeds,
    given: Option<CacheSettings>,
    replicas: Option<u8>,
    caches: Option<u8>,
    keys: Option<u16>,
    actions: Option<u32>,
    adjust: Option<Adjust>,
}

impl<K, V> std::fmt::Debug for Simulation<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation").field("seeds", &self.seeds).finish_non_exhaustive()
    }
}

/// Runs 64 clusters of two to five nodes, with 250 writes, faults and other actions in each.
///
/// `key` makes the `n`-th key and `value` the value of the `n`-th write, from zero. Different numbers must make
/// different keys. For more options, see [`Simulation`].
///
/// ```
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
/// struct Sku(String);
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// struct Price { cents: u64, currency: String }
///
/// // In a test of yours:
/// driftless::sim::check(|n| Sku(format!("sku-{n}")), |n| Price { cents: n, currency: "EUR".into() });
/// ```
///
/// For a type that breaks convergence, the panic message names the type's mistake:
///
/// ```should_panic
/// # use serde::{Deserialize, Serialize};
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// struct Price { cents: u64, #[serde(skip)] rebate: u64 }
///
/// driftless::sim::check(|n| n, |n| Price { cents: n, rebate: 5 }); // the rebate never reaches another node
/// ```
///
/// # Panics
/// If a promise is broken, with a script that reproduces it, or if the types cannot be replicated.
#[track_caller]
pub fn check<K: SimKey, V: SimValue>(
    key: impl Fn(u64) -> K + Send + Sync + 'static,
    value: impl Fn(u64) -> V + Send + Sync + 'static,
) {
    if let Err(failure) = Simulation::new(key, value).run() {
        panic!("{failure}");
    }
}

impl<K: SimKey, V: SimValue> Simulation<K, V> {
    /// Returns a simulation of 64 seeds. `key` makes the `n`-th key, and `value` the value of the `n`-th write, from
    /// zero. Different numbers must make different keys; values may repeat.
    pub fn new(
        key: impl Fn(u64) -> K + Send + Sync + 'static,
        value: impl Fn(u64) -> V + Send + Sync + 'static,
    ) -> Self {
        Self {
            types: Types::new(key, value),
            seeds: Seeds::Range(0..64),
            given: None,
            replicas: None,
            caches: None,
            keys: None,
            actions: None,
            adjust: None,
        }
    }

    /// Sets the seeds. Each seed is one run, and always the same run with one release of driftless. Default 0 to 63. An
    /// empty range is an error of [`run`](Self::run).
    #[must_use]
    pub fn seeds(mut self, seeds: Range<u64>) -> Self {
        self.seeds = Seeds::Range(seeds);
        self
    }

    /// Sets a single seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seeds = Seeds::One(seed);
        self
    }

    /// Sets the number of nodes at the start, 2 to 7; more may join. By default the seed decides, 2 to 5.
    #[must_use]
    pub fn replicas(mut self, replicas: u8) -> Self {
        self.replicas = Some(replicas.clamp(2, MAX_UP as u8));
        self
    }

    /// Sets the number of caches that each node has open at the start, 1 to 4. By default the seed decides, mostly 1.
    #[must_use]
    pub fn caches(mut self, caches: u8) -> Self {
        self.caches = Some(caches.clamp(1, MAX_CACHES));
        self
    }

    /// Sets the number of different keys in each cache, 1 to 1,000. Few keys make many conflicts. By default the seed
    /// decides, 1 to 20.
    #[must_use]
    pub fn keys(mut self, keys: u16) -> Self {
        self.keys = Some(keys.clamp(1, MAX_KEYS));
        self
    }

    /// Sets the number of writes, faults and other actions in one run. Default 250.
    #[must_use]
    pub fn actions(mut self, actions: u32) -> Self {
        self.actions = Some(actions);
        self
    }

    /// Sets the settings of the cache, as they are in production. `replication`, `max_capacity` and `time_to_live`
    /// apply to the runs. The limits of keys and values are checked against your types. All other fields have no effect
    /// here. By default the seed decides, with short timers, so that every state occurs often. With long timers, as in
    /// production, a run takes longer and collects fewer tombstones.
    #[must_use]
    pub fn settings(mut self, settings: CacheSettings) -> Self {
        self.types.limits = settings.clone();
        self.given = Some(settings);
        self
    }

    /// Sets the weight of an entry against `max_capacity`, as in
    /// [`CacheBuilder::weigher`](crate::CacheBuilder::weigher).
    #[must_use]
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        self.types = self.types.weigher(weigher);
        self
    }

    /// Sets a function that changes the settings of each run last: the network, the clocks, the faults.
    #[must_use]
    pub fn adjust(mut self, adjust: impl Fn(&mut Settings) + Send + Sync + 'static) -> Self {
        self.adjust = Some(Box::new(adjust));
        self
    }

    /// Runs all seeds, up to the first that fails. Returns the sum of their reports.
    ///
    /// # Errors
    /// Returns a failure if a promise is broken. Also returns one, with the reason, if the types, the settings, the
    /// range of seeds or the environment variables are invalid.
    pub fn run(&self) -> Result<Report, Box<Failure>> {
        let Chosen { seeds, alone } = self.seeds.choose().map_err(Failure::refused)?;
        self.check_given()?;
        let mut total = Report::default();
        let mut looked_at = 0;
        for seed in seeds {
            let settings = self.settings_of(seed);
            self.check_types(&settings, &mut looked_at)?;
            let scenario = Scenario::with_settings(seed, settings);
            total.add(&self.run_one(&scenario, alone)?);
        }
        Ok(total)
    }

    /// Runs one scenario, from [`strategy`](super::strategy) for instance, with these types. The settings of this
    /// simulation override those of the scenario. The seeds of this simulation are ignored.
    ///
    /// # Errors
    /// As [`run`](Self::run). The script is not shrunk: the caller that made it can shrink it.
    pub fn run_scenario(&self, scenario: &Scenario) -> Result<Report, Box<Failure>> {
        self.check_given()?;
        let mut scenario = scenario.clone();
        self.override_settings(&mut scenario.settings);
        self.check_types(&scenario.settings, &mut 0)?;
        let report = run_scenario(&self.types, &scenario, false);
        let Some(violation) = report.violation.clone() else { return Ok(report) };
        if report.unfit {
            return Err(Failure::refused(violation.what));
        }
        Err(Box::new(Failure {
            violation,
            steps_before: scenario.script.len(),
            scenario: Some(scenario),
            trace: Vec::new(),
            replay: "run this scenario again".to_owned(),
        }))
    }

    fn run_one(&self, scenario: &Scenario, tracing: bool) -> Result<Report, Box<Failure>> {
        let report = run_scenario(&self.types, scenario, false);
        let Some(first) = report.violation.clone() else { return Ok(report) };
        if report.unfit {
            return Err(Failure::refused(first.what));
        }
        let shrunk = shrink(&self.types, scenario.clone());
        let again = run_scenario(&self.types, &shrunk, tracing);
        Err(Box::new(Failure {
            violation: again.violation.unwrap_or(first),
            scenario: Some(shrunk),
            steps_before: scenario.script.len(),
            trace: again.trace,
            replay: replay(std::thread::current().name(), scenario.seed),
        }))
    }

    fn settings_of(&self, seed: u64) -> Settings {
        let mut settings = Settings::from_seed(seed);
        self.override_settings(&mut settings);
        settings
    }

    fn override_settings(&self, settings: &mut Settings) {
        if let Some(given) = &self.given {
            settings.config = given.replication.clone();
            settings.max_capacity = given.max_capacity;
            settings.time_to_live = given.time_to_live;
        }
        settings.replicas = self.replicas.unwrap_or(settings.replicas);
        settings.caches = self.caches.unwrap_or(settings.caches);
        settings.keys = self.keys.unwrap_or(settings.keys);
        settings.actions = self.actions.unwrap_or(settings.actions);
        if let Some(adjust) = &self.adjust {
            adjust(settings);
        }
    }

    fn check_given(&self) -> Result<(), Box<Failure>> {
        let sound = self.given.as_ref().map_or(Ok(()), CacheSettings::validate);
        sound.map_err(|error| Failure::refused(unfit_settings(error)))
    }

    /// Checks the settings and types of one run. Keys that were checked for an earlier run are not checked again.
    fn check_types(&self, settings: &Settings, looked_at: &mut u64) -> Result<(), Box<Failure>> {
        settings.validate().map_err(Failure::refused)?;
        let keys = u64::from(settings.keys).max(soundness::SAMPLES);
        if *looked_at < keys {
            soundness::check(&self.types, keys).map_err(Failure::refused)?;
            *looked_at = keys;
        }
        Ok(())
    }
}

/// Returns the instruction to run one seed again. The test harness names its threads after tests; other threads have
/// other names.
fn replay(thread: Option<&str>, seed: u64) -> String {
    match thread.filter(|name| is_a_test(name)) {
        Some(test) => format!(
            "{SEED}={seed} cargo test {test} -- --exact --nocapture, with the flags that it was run with (--features, \
             --test, --release)"
        ),
        None => format!("set {SEED}={seed} and run this test again"),
    }
}

/// Returns true if a thread name is a path, or a name of several words.
fn is_a_test(name: &str) -> bool {
    let is_name = |part: &str| {
        let first = part.starts_with(|c: char| c.is_alphabetic() || c == '_');
        first && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    name.split("::").all(is_name) && (name.contains("::") || name.contains('_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_a_test_is_one() {
        for test in ["our_types_converge", "sim::tests::types::one", "a::b"] {
            let command = format!("DRIFTLESS_SEED=7 cargo test {test} -- --exact --nocapture");
            assert!(replay(Some(test), 7).starts_with(&command), "{test}");
        }
        for other in [None, Some("main"), Some("tokio-runtime-worker"), Some("worker"), Some("a b_c"), Some("::")] {
            assert_eq!(replay(other, 7), "set DRIFTLESS_SEED=7 and run this test again");
        }
    }
}
