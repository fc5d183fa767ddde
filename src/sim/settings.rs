//! The settings of a run.

use std::time::Duration;

use fastrand::Rng;

use super::action::Step;
use super::codec::MAX_CACHES;
use super::plots::Plot;
use super::swarm::{self, StepSource, millis, pick};
use super::weights::Kind;
pub use super::weights::Weights;
use crate::recency::Eviction;
use crate::replica::{Bugs, ReplicaConfig};

const DAY: Duration = Duration::from_secs(86_400);

/// The most keys of one cache: each key is checked after every event.
pub(super) const MAX_KEYS: u16 = 1_000;

/// The settings of one run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The number of nodes at the start, at least 1.
    pub replicas: u8,
    /// The number of caches that every node opens at the start, 1 to 4.
    pub caches: u8,
    /// The number of different keys in each cache, 1 to 1,000.
    pub keys: u16,
    /// The number of actions in the safety phase.
    pub actions: u32,
    /// The settings of every replica.
    pub config: ReplicaConfig,
    /// The weight that a replica may hold. Above it the replica evicts its least recently used values.
    pub max_capacity: Option<u64>,
    /// The time to live of values that are written without a time to live. More than zero; `None` is unlimited.
    pub time_to_live: Option<Duration>,
    /// The time for which a node must be unreachable before its peers declare it dead. 1 ms to 1 h.
    pub suspect_after: Duration,
    /// The largest offset of a wall clock at the start. At most 1 h.
    pub skew: Duration,
    /// The largest drift of a wall clock, in parts per million. At most 1,000,000.
    pub drift_ppm: u32,
    /// The largest error of wrong clocks at the start. About every third node has one. At most 30 days.
    pub wrong_clocks: Duration,
    /// The largest latency of a message. At most 1 h.
    pub latency: Duration,
    /// The reciprocal of the share of messages whose latency is up to `tail`; zero is none.
    pub tail_one_in: u32,
    /// The largest latency of the messages chosen by `tail_one_in`. At most 1 h.
    pub tail: Duration,
    /// The percentage of messages that are lost, 0 to 100.
    pub loss: u8,
    /// The percentage of messages that arrive twice, 0 to 100.
    pub duplicate: u8,
    /// The bandwidth of each link in bytes per second. Further messages wait, and are dropped if the wait would exceed
    /// five seconds.
    pub bandwidth: Option<u32>,
    /// The longest time that the sending of a message with registers takes; the next one waits. At most 1 h.
    pub sending: Duration,
    /// True if messages to a paused node are lost instead of waiting.
    pub pause_drops: bool,
    /// True if replicas also exchange messages with peers that their process considers dead. No real node does this.
    pub accept_departed: bool,
    /// True if one of the links that a script breaks stays broken when all other faults end. Both of its ends reach a
    /// third node.
    pub stays_broken: bool,
    /// True if every second process has the types of another release. It cannot decode some of the keys and values, and
    /// keeps and relays them unchanged.
    pub other_types: bool,
    /// True if processes send stills, as nodes do. False by default: without them a run has more digests, and so more
    /// of what a mistake in these would break.
    pub stills: bool,
    /// True if nodes write beside their replicas where they can, as the threads of an application do.
    pub direct_writes: bool,
    /// The plot with which the script begins.
    pub plot: Option<Plot>,
    /// The known mistakes that are switched on.
    pub bugs: Bugs,
    /// The relative frequency of each kind of action.
    pub weights: Weights,
    /// The largest time between two actions. At most 1 h.
    pub gap: Duration,
}

impl Default for Settings {
    /// Returns three replicas of one cache with three keys, short timers, exact clocks, and a network without faults.
    /// Strategies and shrinking start from these.
    fn default() -> Self {
        Self {
            replicas: 3,
            caches: 1,
            keys: 3,
            actions: 250,
            config: ReplicaConfig {
                max_drift: millis(200),
                digest_interval: millis(100),
                gc_grace: millis(300),
                forget_after: millis(5_000),
                audit_interval: millis(1_000),
                fill_hold: millis(1_000),
                ..ReplicaConfig::default()
            },
            max_capacity: None,
            time_to_live: None,
            suspect_after: millis(1_000),
            skew: Duration::ZERO,
            drift_ppm: 0,
            wrong_clocks: Duration::ZERO,
            latency: millis(1),
            tail_one_in: 0,
            tail: Duration::ZERO,
            loss: 0,
            duplicate: 0,
            bandwidth: None,
            sending: Duration::ZERO,
            pause_drops: false,
            accept_departed: false,
            stays_broken: false,
            other_types: false,
            stills: false,
            direct_writes: false,
            plot: None,
            bugs: Bugs::default(),
            weights: Weights::calm(),
            gap: millis(50),
        }
    }
}

impl std::fmt::Display for Settings {
    /// Prints the cluster and the faults of its network and clocks. Omits each setting that is not a fault.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { replicas, caches, keys, .. } = self;
        write!(f, "{replicas} nodes, {caches} cache(s) of {keys} key(s), latency up to {:?}", self.latency)?;
        let rarely = |said: bool, text: String| if said { format!(", {text}") } else { String::new() };
        let told = [
            rarely(self.loss > 0, format!("{} % lost", self.loss)),
            rarely(self.duplicate > 0, format!("{} % twice", self.duplicate)),
            rarely(self.tail_one_in > 0, format!("1 in {} up to {:?} late", self.tail_one_in, self.tail)),
            rarely(self.bandwidth.is_some(), format!("{} bytes/s", self.bandwidth.unwrap_or_default())),
            rarely(!self.sending.is_zero(), format!("sending takes up to {:?}", self.sending)),
            rarely(!self.skew.is_zero(), format!("clocks up to {:?} apart", self.skew)),
            rarely(self.drift_ppm > 0, format!("drifting {} ppm", self.drift_ppm)),
            rarely(!self.wrong_clocks.is_zero(), format!("some wrong by up to {:?}", self.wrong_clocks)),
            rarely(self.max_capacity.is_some(), format!("capacity {}", self.max_capacity.unwrap_or_default())),
            rarely(self.time_to_live.is_some(), format!("time to live {:?}", self.time_to_live.unwrap_or_default())),
            rarely(self.pause_drops, "pauses drop messages".into()),
            rarely(self.accept_departed, "messages of departed processes are accepted".into()),
            rarely(self.stays_broken, "a broken link stays broken".into()),
            rarely(self.other_types, "every second node of another release".into()),
            rarely(self.stills, "with stills".into()),
            rarely(self.direct_writes, "writes beside the replica".into()),
            self.plot.map_or_else(String::new, |plot| format!(", {plot:?}")),
        ];
        f.write_str(&told.concat())?;
        let ReplicaConfig { max_drift, gc_grace, forget_after, max_tombstones, max_frame_bytes, .. } = &self.config;
        write!(
            f,
            "\n  drift {max_drift:?}, digest {:?}, grace {gc_grace:?}, forget after {forget_after:?}, suspect after \
             {:?}, {max_tombstones} tombstones, frames of {max_frame_bytes} bytes, broadcast up to {}",
            self.config.digest_interval, self.suspect_after, self.config.broadcast_up_to
        )
    }
}

impl Settings {
    /// Returns the settings of a seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self::special(seed, true)
    }

    /// Returns the settings that a seed had before plots existed.
    #[must_use]
    pub fn without_plots(seed: u64) -> Self {
        Self::special(seed, false)
    }

    fn special(seed: u64, plots: bool) -> Self {
        let mut settings = Self::common(&mut Rng::with_seed(seed));
        settings.make_special(&mut Rng::with_seed(seed ^ 0x005E_C1A1), plots);
        settings.stills = Rng::with_seed(seed ^ 0x0057_1115).bool();
        // A plot has an exact course, so it writes through the replica.
        settings.direct_writes = settings.plot.is_none() && !seed.is_multiple_of(4);
        settings
    }

    /// Turns a few seeds into long runs, or runs with a rare setting.
    fn make_special(&mut self, rng: &mut Rng, plots: bool) {
        match rng.u8(0..64) {
            0 => {
                // Sessions of many frames.
                (self.keys, self.caches, self.replicas) = (150, 1, self.replicas.min(3));
                self.config.max_frame_bytes = 1_024;
                self.weights.set(Kind::Write, 400);
                self.gap = self.gap.min(millis(50));
            }
            1 => {
                // More nodes than receive pushes directly.
                (self.replicas, self.caches, self.actions) = (18, 1, 60);
                self.config.broadcast_up_to = 16;
                self.keys = self.keys.min(3);
            }
            2..6 => self.wrong_clocks = pick(rng, &[millis(2_000), millis(60_000), DAY, 3 * DAY]),
            6..14 => {
                self.weights.set(Kind::BreakLink, 6);
                self.replicas = self.replicas.max(3);
                self.stays_broken = rng.bool();
            }
            14..18 => self.weights.set(Kind::Far, 3),
            18..22 => self.other_types = true,
            30..34 => {
                self.weights.set(Kind::Audit, 10);
                self.config.audit_slice = 2;
            }
            22..30 if plots => *self = Self::for_plot(Plot::any(rng), self.weights.clone()),
            _ => {}
        }
    }

    /// Draws the settings that every seed has.
    fn common(rng: &mut Rng) -> Self {
        let drift = pick(rng, &[50, 200, 1_000]);
        Self {
            replicas: rng.u8(2..=5),
            caches: pick(rng, &[1, 1, 1, 1, 2, 3]),
            keys: pick(rng, &[1, 2, 3, 5, 8, 13, 20]),
            actions: 250,
            config: swarm::replica_config(rng, drift),
            max_capacity: pick(rng, &[None, None, None, None, None, None, Some(3), Some(10)]),
            time_to_live: pick(rng, &[None, None, None, None, None, None, None, Some(millis(20_000))]),
            suspect_after: millis(pick(rng, &[300, 1_000, 4_000])),
            skew: millis(pick(rng, &[0, 1, drift / 4, drift / 4])),
            drift_ppm: pick(rng, &[0, 0, 50, 1_000]),
            wrong_clocks: Duration::ZERO,
            latency: millis(pick(rng, &[1, 5, 50, 400])),
            tail_one_in: pick(rng, &[0, 0, 50, 10]),
            tail: millis(pick(rng, &[500, 5_000, 30_000])),
            loss: pick(rng, &[0, 0, 1, 5, 30]),
            duplicate: pick(rng, &[0, 0, 2, 10, 50]),
            bandwidth: pick(rng, &[None, None, Some(5_000), Some(50_000), Some(500_000)]),
            sending: millis(pick(rng, &[0, 1, 20, 300])),
            pause_drops: rng.bool(),
            accept_departed: rng.bool(),
            stays_broken: false,
            other_types: false,
            stills: false,
            direct_writes: false,
            plot: None,
            bugs: Bugs::default(),
            weights: swarm::weights(rng),
            gap: millis(pick(rng, &[5, 50, 300, 1_500])),
        }
    }

    /// Returns the settings of a seed, changed towards lost tombstones: few keys, tiny caps, many deletes, splits and
    /// crashes.
    #[must_use]
    pub fn harsh(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed ^ 0x004A_2581);
        let mut settings = Self::from_seed(seed);
        settings.plot = None;
        settings.replicas = rng.u8(3..=5);
        settings.keys = pick(rng, &[1, 2, 3, 6]);
        settings.config.max_tombstones = pick(rng, &[1, 1, 2, 1_000_000]);
        settings.config.max_retired = 4_096;
        settings.config.forget_after = settings.config.gc_grace.max(millis(pick(rng, &[1_000, 5_000])));
        settings.gap = millis(pick(rng, &[50, 300, 1_500]));
        settings.weights = swarm::harsh_weights(rng);
        settings
    }

    /// Returns these settings without faults and without caps. Latencies, skews and timers stay.
    #[must_use]
    pub fn calm(mut self) -> Self {
        self.loss = 0;
        self.duplicate = 0;
        self.tail_one_in = 0;
        self.drift_ppm = 0;
        self.bandwidth = None;
        self.max_capacity = None;
        self.weights = Weights::calm();
        self.wrong_clocks = Duration::ZERO;
        self.stays_broken = false;
        self.other_types = false;
        self.plot = None;
        self.config.max_tombstones = 1_000_000;
        self
    }

    /// Draws the actions of the safety phase.
    #[must_use]
    pub fn script(&self, seed: u64) -> Vec<Step> {
        let rng = &mut Rng::with_seed(seed ^ 0x5C21_97AC_7105);
        let plot = self.plot.map(|plot| plot.steps(rng)).unwrap_or_default();
        let source = StepSource {
            weights: &self.weights,
            // At least one, so that any settings produce a script.
            keys: self.keys.saturating_mul(self.caches.into()).max(1),
            gap: self.gap.as_micros() as u32,
            drift: self.config.max_drift.as_millis() as i32,
        };
        plot.into_iter().chain((0..self.actions).map(|_| source.step(rng))).collect()
    }

    /// Checks the range of every field.
    ///
    /// # Errors
    /// Returns the name of the first field out of its range, and the range.
    pub fn validate(&self) -> Result<(), String> {
        const HOUR: Duration = Duration::from_secs(3_600);
        let rules: [(bool, &'static str, &dyn std::fmt::Debug, &'static str); 14] = [
            (self.replicas >= 1, "replicas", &self.replicas, "between 1 and 255"),
            ((1..=MAX_CACHES).contains(&self.caches), "caches", &self.caches, "between 1 and 4"),
            ((1..=MAX_KEYS).contains(&self.keys), "keys", &self.keys, "between 1 and 1,000"),
            (
                self.time_to_live.is_none_or(|ttl| !ttl.is_zero()),
                "time_to_live",
                &self.time_to_live.unwrap_or_default(),
                "more than zero; None means that entries do not expire",
            ),
            (
                (millis(1)..=HOUR).contains(&self.suspect_after),
                "suspect_after",
                &self.suspect_after,
                "between 1 ms and 1 h",
            ),
            (self.skew <= HOUR, "skew", &self.skew, "at most 1 h"),
            (self.wrong_clocks <= 720 * HOUR, "wrong_clocks", &self.wrong_clocks, "at most 30 days"),
            (self.drift_ppm <= 1_000_000, "drift_ppm", &self.drift_ppm, "at most 1,000,000"),
            (self.latency <= HOUR, "latency", &self.latency, "at most 1 h"),
            (self.tail <= HOUR, "tail", &self.tail, "at most 1 h"),
            (self.loss <= 100, "loss", &self.loss, "between 0 and 100 percent"),
            (self.duplicate <= 100, "duplicate", &self.duplicate, "between 0 and 100 percent"),
            (self.sending <= HOUR, "sending", &self.sending, "at most 1 h"),
            (self.gap <= HOUR, "gap", &self.gap, "at most 1 h"),
        ];
        let config = self.config.validate().map_err(|error| format!("config.{error}"));
        let wrong = rules.into_iter().find(|(holds, ..)| !holds);
        let ours = wrong
            .map_or(Ok(()), |(_, field, value, must_be)| Err(format!("{field} is {value:?}, and must be {must_be}")));
        ours.and(config).map_err(unfit_settings)
    }

    /// Returns the settings that a plot needs. The actions after the plot have the weights of the seed.
    pub(super) fn for_plot(plot: Plot, weights: Weights) -> Self {
        let mut settings = Self { keys: 12, actions: 40, weights, plot: Some(plot), ..Self::default() };
        settings.config.session_idle = millis(300);
        settings.config.max_drift = millis(1_000);
        settings.config.forget_after = Duration::from_secs(60);
        settings.replicas = match plot {
            Plot::DoubtBetweenTwo => 1,
            Plot::WriteHeardOf => 2,
            Plot::TwoReconciles | Plot::FillOfTheForgotten | Plot::MetByOthersOnly | Plot::FastMember => 3,
            Plot::DeleteHeardByOne | Plot::LeftBehindALink => 4,
        };
        match plot {
            Plot::DeleteHeardByOne => settings.config.max_tombstones = 1,
            Plot::TwoReconciles => settings.latency = millis(100),
            Plot::FillOfTheForgotten => {
                settings.accept_departed = true;
                (settings.suspect_after, settings.config.forget_after) = (millis(300), millis(2_000));
            }
            Plot::LeftBehindALink => settings.stays_broken = true,
            Plot::FastMember => settings.latency = millis(50),
            Plot::DoubtBetweenTwo | Plot::WriteHeardOf | Plot::MetByOthersOnly => {}
        }
        settings
    }

    /// Returns the eviction policy. It depends on the capacity and the number of nodes, so that
    /// every policy is tested.
    pub(super) fn eviction(&self) -> Eviction {
        match self.max_capacity {
            Some(capacity) if capacity % 3 == 0 => Eviction::SegmentedLru,
            Some(_) if self.replicas.is_multiple_of(2) => Eviction::Sieve,
            _ => Eviction::Lru,
        }
    }

    /// Changes that make a run easier to read, for shrinking.
    pub(super) const CALMER: [fn(&mut Self); 19] = [
        |it| it.loss = 0,
        |it| it.duplicate = 0,
        |it| it.tail_one_in = 0,
        |it| it.bandwidth = None,
        |it| it.sending = Duration::ZERO,
        |it| it.drift_ppm = 0,
        |it| it.skew = Duration::ZERO,
        |it| it.wrong_clocks = Duration::ZERO,
        |it| it.stays_broken = false,
        |it| it.other_types = false,
        |it| it.stills = false,
        |it| it.direct_writes = false,
        |it| it.latency = millis(1),
        |it| it.max_capacity = None,
        |it| it.time_to_live = None,
        |it| it.pause_drops = false,
        |it| it.accept_departed = false,
        |it| it.caches = 1,
        |it| it.config.max_tombstones = 1_000_000,
    ];
}

/// Returns the message for settings that cannot be used.
pub(super) fn unfit_settings(what: impl std::fmt::Display) -> String {
    format!("these settings are not valid: {what}")
}
