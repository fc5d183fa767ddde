//! Tests of users' types: sound types converge, and for unsound types the error names the mistake.

use std::collections::BTreeMap;

use super::*;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
enum Key {
    User(u64),
    Page { path: String, language: Option<String> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Session {
    name: String,
    roles: Vec<Role>,
    extra: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Role {
    Admin,
    Guest { until: u64 },
}

fn key(n: u64) -> Key {
    match n % 2 {
        0 => Key::User(n),
        _ => Key::Page { path: format!("/{n}"), language: n.is_multiple_of(3).then(|| "en".to_owned()) },
    }
}

fn session(n: u64) -> Session {
    let roles = vec![Role::Admin, Role::Guest { until: n }];
    Session { name: format!("user {n}"), roles, extra: BTreeMap::from([("load".to_owned(), n as f64 / 3.0)]) }
}

#[test]
fn rich_types_converge_with_settings_of_their_own() {
    let time_to_live = Some(Duration::from_secs(30));
    let settings = CacheSettings { max_capacity: Some(40), time_to_live, ..CacheSettings::default() };
    let simulation =
        Simulation::new(key, session).settings(settings).weigher(|_, session| session.roles.len() as u32 * 5);
    let report = simulation.replicas(4).caches(2).keys(6).seeds(0..6).run().unwrap();
    assert!(report.states.evicted_stable + report.states.evicted_unstable > 0, "beyond the capacity");
    assert!(report.states.expired > 0 && report.faults["several caches"] == 6);
}

#[test]
fn a_capacity_makes_completeness_no_promise_and_nothing_else() {
    let settings = CacheSettings { max_capacity: Some(0), ..CacheSettings::default() };
    let report = Simulation::new(key, session).settings(settings).seeds(0..2).run().unwrap();
    assert!(report.states.writes > 0);
}

/// Returns the error message for types that cannot be replicated.
#[track_caller]
fn complaint<K: SimKey, V: SimValue>(simulation: Simulation<K, V>) -> String {
    let failure = simulation.run().expect_err("these types cannot work");
    assert!(failure.scenario.is_none(), "found before any cluster ran: {failure}");
    failure.to_string()
}

macro_rules! told {
    ($complaint:expr, $($words:literal),+) => {{
        let complaint = $complaint;
        $(assert!(complaint.contains($words), "{complaint}");)+
    }};
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Skips {
    cents: u64,
    #[serde(skip)]
    rebate: u64,
}

#[derive(Clone, Debug, Eq, Serialize, Deserialize)]
struct Name(String);

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl std::hash::Hash for Name {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_ascii_lowercase().hash(state);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Narrow {
    id: u64,
    #[serde(skip)]
    shard: u64,
}

/// A key whose `Eq` looks at its first part only, and whose `Hash` looks at its second part only.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Hashed(u64, #[serde(skip)] u64);

impl PartialEq for Hashed {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Hashed {}

impl std::hash::Hash for Hashed {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.1.hash(state);
    }
}

#[derive(Clone, Debug, PartialEq)]
struct OneWay(u64);

impl Serialize for OneWay {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_string())
    }
}

impl<'de> Deserialize<'de> for OneWay {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(OneWay)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Fussy(u64);

#[test]
fn values_that_change_on_their_way_are_named() {
    told!(complaint(Simulation::new(key, |n| Skips { cents: n, rebate: 5 })), "value 0", "decodes as", "serde(skip)");
    told!(complaint(Simulation::new(key, OneWay)), "value 0", "cannot be read back");
    told!(complaint(Simulation::new(key, |_| f64::NAN)), "value 0, NaN, is not equal to itself");
    let heavy = Simulation::new(key, |n| "v".repeat(2_000_000 + n as usize));
    told!(complaint(heavy), "max_value_bytes is 1048576");
    let fickle = std::sync::atomic::AtomicU32::new(0);
    let weigher = move |_: &Key, _: &Fussy| fickle.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    told!(complaint(Simulation::new(key, Fussy).weigher(weigher)), "weighs differently");
}

#[test]
fn keys_that_are_not_one_key_everywhere_are_named() {
    let name = |n: u64| Name(if n.is_multiple_of(2) { format!("k{}", n / 2) } else { format!("K{}", n / 2) });
    told!(complaint(Simulation::new(name, session)), "key 0", "key 1", "equal, but have different encodings");
    told!(complaint(Simulation::new(|n| Narrow { id: n, shard: 3 }, session)), "key 0", "decodes as", "inverse");
    told!(complaint(Simulation::new(|n| Hashed(n, n + 1), session)), "different hashes", "Hash must agree with Eq");
    told!(complaint(Simulation::new(|n| n / 2, session)), "key 0 (0) and key 1 (0) are equal");
    told!(complaint(Simulation::new(|n| "k".repeat(n as usize * 1_000), session)), "max_key_bytes is 4096");
    told!(
        complaint(Simulation::new(|_| -> u64 { panic!("no keys today") }, session)),
        "your key generator panicked for key 0: no keys today"
    );
}

#[test]
fn invalid_settings_are_refused_with_a_reason() {
    let settings = CacheSettings { time_to_live: Some(Duration::ZERO), ..CacheSettings::default() };
    told!(
        complaint(Simulation::new(key, session).settings(settings)),
        "these settings are not valid",
        "time_to_live is 0s, and must be more than zero: leave it out if entries do not expire"
    );
    type Change = fn(&mut Settings);
    let cases: [(Change, &str); 8] = [
        (|it| it.keys = 0, "keys is 0, and must be between 1 and 1,000"),
        (|it| it.caches = 0, "caches is 0, and must be between 1 and 4"),
        (|it| it.caches = 5, "caches is 5, and must be between 1 and 4"),
        (|it| it.replicas = 0, "replicas is 0, and must be between 1 and 255"),
        (|it| it.loss = 255, "loss is 255, and must be between 0 and 100"),
        (|it| it.time_to_live = Some(Duration::ZERO), "time_to_live is 0ns, and must be more than zero"),
        (|it| it.suspect_after = Duration::ZERO, "suspect_after is 0ns, and must be between 1 ms and 1 h"),
        (|it| it.config.max_frame_bytes = 0, "config.max_frame_bytes is 0, and must be between 1 KiB and 8 MiB"),
    ];
    for (change, must_be) in cases {
        let told = complaint(Simulation::new(key, session).adjust(change));
        assert!(told.starts_with("these settings are not valid: ") && told.contains(must_be), "{told}");
        let mut settings = Settings::default();
        change(&mut settings);
        assert!(settings.validate().unwrap_err().contains(must_be));
        let scenario = Scenario::with_settings(1, settings);
        let told = Simulation::new(key, session).run_scenario(&scenario).unwrap_err();
        assert!(told.scenario.is_none() && told.to_string().contains(must_be), "{told}");
        let violation = run_scenario(&numbers(), &scenario, false).violation.expect("settings that are not valid");
        assert!(violation.what.contains(must_be), "{violation}");
        assert_eq!(shrink(&numbers(), scenario.clone()).script.len(), scenario.script.len());
    }
    for seed in 0..1_000 {
        assert_eq!((Settings::from_seed(seed).validate(), Settings::harsh(seed).validate()), (Ok(()), Ok(())));
    }
}

/// Checks that all keys of a run are checked, including those after the first sample.
#[test]
fn every_key_is_looked_at() {
    let types = || Simulation::new(|n| n % 300, session);
    told!(complaint(types().keys(301)), "key 0 (0) and key 300 (0) are equal");
    told!(complaint(types().adjust(|settings| settings.keys = 301)), "key 0 (0) and key 300 (0) are equal");
    let heavy = Simulation::new(|n| n, session).weigher(|n, _| if *n == 7 { panic!("boom") } else { 1 });
    told!(complaint(heavy), "your weigher panicked for key 7: boom");
}

/// The mistakes that value 70 shows, which comes after the first sample.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Late {
    FailsToRead,
    PanicsInRead,
    PanicsInClone,
    ClonesAnother,
    PanicsInDrop,
}

#[derive(Debug, PartialEq)]
struct Odd<const AS: u8>(u64);

const LATE: [Late; 5] =
    [Late::FailsToRead, Late::PanicsInRead, Late::PanicsInClone, Late::ClonesAnother, Late::PanicsInDrop];

impl<const AS: u8> Odd<AS> {
    fn is(&self, late: Late) -> bool {
        self.0 == 70 && LATE[AS as usize] == late
    }
}

impl<const AS: u8> Clone for Odd<AS> {
    fn clone(&self) -> Self {
        assert!(!self.is(Late::PanicsInClone), "no copies");
        Self(self.0 + u64::from(self.is(Late::ClonesAnother)))
    }
}

impl<const AS: u8> Drop for Odd<AS> {
    fn drop(&mut self) {
        assert!(!self.is(Late::PanicsInDrop), "will not go");
    }
}

impl<const AS: u8> Serialize for Odd<AS> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, const AS: u8> Deserialize<'de> for Odd<AS> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let it = Self(u64::deserialize(deserializer)?);
        assert!(!it.is(Late::PanicsInRead), "unreadable");
        if it.is(Late::FailsToRead) { Err(serde::de::Error::custom("not this one")) } else { Ok(it) }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Lacks {
    a: u64,
    #[serde(skip_serializing_if = "is_seventy")]
    b: u64,
}

fn is_seventy(n: &u64) -> bool {
    *n == 70
}

fn late<V: SimValue>(value: impl Fn(u64) -> V + Send + Sync + 'static) -> String {
    complaint(Simulation::new(|n| n, value))
}

#[test]
fn values_beyond_the_first_are_looked_at_as_they_come() {
    let start = "these types cannot be replicated: value 70";
    told!(late(|n| "x".repeat(if n >= 70 { 2_000_000 } else { 1 })), "these types", "value 70 takes 2000005 bytes");
    told!(late(|n| if n >= 70 { f32::NAN } else { 1.0 }), "value 70, NaN, is not equal to itself");
    told!(late(|n| Lacks { a: n, b: n }), "value 70, Lacks", "missing field `b`", "serde(flatten)");
    told!(late(Odd::<0>), "value 70, Odd(70), cannot be read back on another node", "not this one");
    told!(late(Odd::<1>), "value 70, Odd(70), cannot be read back", "Deserialize panicked: unreadable");
    told!(late(Odd::<2>), "the Clone of your values panicked for value 70: no copies");
    told!(late(Odd::<3>), "value 70, Odd(70), is not equal to its own clone, Odd(71)");
    told!(late(Odd::<4>), "the Drop of your values panicked for value 70: will not go");
    told!(late(|n| if n == 130 { panic!("boom") } else { n }), "your value generator panicked for value 130: boom");
    let weigher = |_: &u64, n: &u64| if *n == 130 { panic!("boom") } else { 1 };
    told!(complaint(Simulation::new(|n| n, |n| n).weigher(weigher)), "your weigher panicked for value 130: boom");
    // A run of types that were not checked before reports the mistake as well.
    let types = Types::new(|n| n, |n| if n == 70 { f64::NAN } else { 0.0 });
    let violation = run_scenario(&types, &Scenario::from_seed(1), false).violation.expect("a NaN");
    assert!(violation.what.starts_with(start) && violation.at > 0, "{violation}");
}

#[test]
fn what_is_dumped_is_cut() {
    let told = late(|n| if n == 70 { vec![f64::NAN; 100_000] } else { Vec::new() });
    assert!(told.contains("NaN, NaN") && told.contains('…') && told.len() < 600, "{told}");
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Measure(f64);

impl PartialEq for Measure {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Measure {}

impl std::hash::Hash for Measure {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

#[test]
fn a_nan_in_a_key_is_named_as_one_in_a_value_is() {
    let key = |n| Measure(if n == 9 { f64::NAN } else { n as f64 });
    told!(complaint(Simulation::new(key, session)), "key 9, Measure(NaN), is not equal to itself (a NaN is not)");
}

/// Checks that a range without seeds is refused, because a test that runs nothing would pass. Also checks that the
/// largest seed runs.
#[test]
#[allow(clippy::reversed_empty_ranges)]
fn a_range_without_seeds_is_refused_and_the_last_seed_runs() {
    if std::env::var_os("DRIFTLESS_SEEDS").is_some() {
        return; // it overrides the ranges of the code
    }
    for range in [5..5, 10..5] {
        told!(complaint(Simulation::new(key, session).seeds(range)), "is empty and runs nothing");
    }
    let report = Simulation::new(key, session).seed(u64::MAX).run().unwrap();
    assert!(report.events > 0 && report.simulated > 0);
}

/// A value whose destructor panics once the value has been in a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Clings(u64);

thread_local! {
    static LAST: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

impl Drop for Clings {
    fn drop(&mut self) {
        if self.0 == 3 && LAST.get() > 70 {
            LAST.set(0);
            panic!("will not go");
        }
    }
}

#[test]
fn a_destructor_that_panics_is_a_violation_of_its_seed() {
    let value = |n| {
        LAST.set(n);
        Clings(n)
    };
    let types = Types::new(key, value);
    let settings = Settings { keys: 20, ..Settings::default() };
    // One write of each number. The oracle keeps the value with the panicking destructor up to the end.
    let script = (0..100).map(|n| Step::after_millis(1, Action::Write(0, n, 0))).collect();
    let report = run_scenario(&types, &Scenario::new(1, settings, script), false);
    let violation = report.violation.expect("a panic");
    assert!(violation.what.starts_with("O5: 1 key or value panicked in its Drop") && violation.at > 0, "{violation}");
}

/// Checks that a failing run prints the broken promise, its script and the command that replays it.
#[test]
fn a_failure_describes_the_run() {
    let broken = |settings: &mut Settings| settings.bugs = Bugs::only("apply_over_gap").unwrap();
    let failure = Simulation::new(key, session).adjust(broken).run().expect_err("a mistake was put back");
    let (story, steps) = (failure.to_string(), failure.scenario.as_ref().map(|scenario| scenario.script.len()));
    println!("{story}");
    assert!(steps.is_some_and(|steps| steps > 0 && steps < failure.steps_before), "{story}");
    let seed = failure.scenario.as_ref().map(|scenario| scenario.seed).unwrap();
    let replay = format!(
        "DRIFTLESS_SEED={seed} cargo test sim::tests::types::a_failure_describes_the_run -- --exact --nocapture"
    );
    assert!(story.contains(&replay), "{story}");
    assert!(story.contains("a promise was broken") && story.contains("Write("), "{story}");
    assert_eq!(format!("{failure:?}").trim_start(), story, "what unwrap shows is readable");
    // The same scenario fails in the same way when it is run again.
    let again = Simulation::new(key, session).run_scenario(failure.scenario.as_ref().unwrap()).unwrap_err();
    assert_eq!(again.violation, failure.violation);
    assert!(!again.to_string().contains("shrunk from"), "nothing was shrunk: {again}");
}
