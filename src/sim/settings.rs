//! What a run is made of, picked by its seed (swarm testing, Groce et al. 2012): every run has other
//! rates, many of them zero, so that every mixture of few faults gets its turn.

use std::time::Duration;

use fastrand::Rng;

use super::action::{Action, Step};
use super::codec::MAX_CACHES;
use crate::recency::Eviction;
use crate::replica::{Bugs, ReplicaConfig};

/// Keys of one cache: each is looked at after every event.
pub(super) const MAX_KEYS: u16 = 1_000;

/// The settings of one run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Nodes at the start, at least 1.
    pub replicas: u8,
    /// Caches that every node opens at the start, 1 to 4.
    pub caches: u8,
    /// Different keys in each cache, 1 to 1,000.
    pub keys: u16,
    /// Actions in the safety phase.
    pub actions: u32,
    /// The settings of every replica.
    pub config: ReplicaConfig,
    /// The weight a replica may hold; beyond it the least recently used values are evicted there.
    pub max_capacity: Option<u64>,
    /// How long a value lives that was written without a time of its own. More than zero.
    pub time_to_live: Option<Duration>,
    /// How long a node must be unreachable before others call it dead. 1 ms to 1 h.
    pub suspect_after: Duration,
    /// Largest offset of a wall clock at the start, and its largest drift per million. At most 1 h, and
    /// a million.
    pub skew: Duration,
    /// See `skew`.
    pub drift_ppm: u32,
    /// Messages take up to this long. At most 1 h.
    pub latency: Duration,
    /// One in this many messages takes up to `tail`; zero is none.
    pub tail_one_in: u32,
    /// See `tail_one_in`. At most 1 h.
    pub tail: Duration,
    /// Lost messages in a hundred, 0 to 100.
    pub loss: u8,
    /// Messages in a hundred that come twice, 0 to 100.
    pub duplicate: u8,
    /// Bytes per second that each link carries; what does not fit waits, and is dropped if it would wait
    /// too long.
    pub bandwidth: Option<u32>,
    /// A message that carries registers takes up to this long to send; the next one waits. At most
    /// 1 h.
    pub sending: Duration,
    /// Messages to a node that is paused are lost instead of waiting.
    pub pause_drops: bool,
    /// Replicas also hear of and speak to those that their process holds for dead: worse than any real node.
    pub heed_the_dead: bool,
    /// Known mistakes to put back.
    pub bugs: Bugs,
    /// How often each kind of action is picked.
    pub weights: Weights,
    /// Largest time between two actions. At most 1 h.
    pub gap: Duration,
}

/// How often each kind of action is picked, relative to each other.
#[derive(Clone, Debug)]
pub struct Weights(Vec<(Kind, u32)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Write,
    WriteTtl,
    Delete,
    InvalidateAll,
    Fill,
    Evict,
    Read,
    CloseCache,
    OpenCache,
    Forget,
    Crash,
    Restart,
    Join,
    Leave,
    Pause,
    Resume,
    Cut,
    CutOneWay,
    SlowLink,
    Isolate,
    Split,
    HealLinks,
    StepClock,
    FreezeClock,
    Idle,
}

impl Default for Settings {
    /// Three replicas of one cache with three keys, short timers, exact clocks, and a network without a
    /// fault: what strategies and shrinking go back to.
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
            latency: millis(1),
            tail_one_in: 0,
            tail: Duration::ZERO,
            loss: 0,
            duplicate: 0,
            bandwidth: None,
            sending: Duration::ZERO,
            pause_drops: false,
            heed_the_dead: false,
            bugs: Bugs::default(),
            weights: Weights(vec![(Kind::Write, 10), (Kind::Delete, 4), (Kind::Idle, 1)]),
            gap: millis(50),
        }
    }
}

impl std::fmt::Display for Settings {
    /// The cluster, and what is wrong with its network and clocks; nothing that is as it should be.
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
            rarely(self.max_capacity.is_some(), format!("capacity {}", self.max_capacity.unwrap_or_default())),
            rarely(self.time_to_live.is_some(), format!("time to live {:?}", self.time_to_live.unwrap_or_default())),
            rarely(self.pause_drops, "pauses drop messages".into()),
            rarely(self.heed_the_dead, "the dead are heard".into()),
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
    /// Checks the range of every field.
    ///
    /// # Errors
    /// Names the first field that is out of its range, and the range.
    pub fn validate(&self) -> Result<(), String> {
        const HOUR: Duration = Duration::from_secs(3_600);
        let rules = [
            (self.replicas >= 1, "replicas", "between 1 and 255"),
            ((1..=MAX_CACHES).contains(&self.caches), "caches", "between 1 and 4"),
            ((1..=MAX_KEYS).contains(&self.keys), "keys", "between 1 and 1,000"),
            (self.time_to_live.is_none_or(|ttl| !ttl.is_zero()), "time_to_live", "more than zero; None is for ever"),
            ((millis(1)..=HOUR).contains(&self.suspect_after), "suspect_after", "between 1 ms and 1 h"),
            (self.skew <= HOUR, "skew", "at most 1 h"),
            (self.drift_ppm <= 1_000_000, "drift_ppm", "at most 1,000,000"),
            (self.latency <= HOUR, "latency", "at most 1 h"),
            (self.tail <= HOUR, "tail", "at most 1 h"),
            (self.loss <= 100, "loss", "between 0 and 100, in a hundred"),
            (self.duplicate <= 100, "duplicate", "between 0 and 100, in a hundred"),
            (self.sending <= HOUR, "sending", "at most 1 h"),
            (self.gap <= HOUR, "gap", "at most 1 h"),
        ];
        let config = self.config.validate().map_err(|error| format!("config.{error}"));
        let wrong = rules.into_iter().find(|(holds, ..)| !holds);
        let ours = wrong.map_or(Ok(()), |(_, field, must_be)| Err(format!("{field} must be {must_be}")));
        ours.and(config).map_err(unfit_settings)
    }

    /// Both orders of eviction have their turn.
    pub(super) fn eviction(&self) -> Eviction {
        if self.max_capacity.is_some_and(|capacity| capacity % 3 == 0) { Eviction::SegmentedLru } else { Eviction::Lru }
    }

    /// Ways to make a run easier to read, for shrinking.
    pub(super) const CALMER: [fn(&mut Self); 14] = [
        |it| it.loss = 0,
        |it| it.duplicate = 0,
        |it| it.tail_one_in = 0,
        |it| it.bandwidth = None,
        |it| it.sending = Duration::ZERO,
        |it| it.drift_ppm = 0,
        |it| it.skew = Duration::ZERO,
        |it| it.latency = millis(1),
        |it| it.max_capacity = None,
        |it| it.time_to_live = None,
        |it| it.pause_drops = false,
        |it| it.heed_the_dead = false,
        |it| it.caches = 1,
        |it| it.config.max_tombstones = 1_000_000,
    ];

    /// The settings that a seed stands for.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let drift = pick(rng, &[50, 200, 1_000]);
        Self {
            replicas: rng.u8(2..=5),
            caches: pick(rng, &[1, 1, 1, 1, 2, 3]),
            keys: pick(rng, &[1, 2, 3, 5, 8, 13, 20]),
            actions: 250,
            config: config(rng, drift),
            max_capacity: pick(rng, &[None, None, None, None, None, None, Some(1), Some(3)]),
            time_to_live: pick(rng, &[None, None, None, None, None, None, None, Some(millis(20_000))]),
            suspect_after: millis(pick(rng, &[300, 1_000, 4_000])),
            skew: millis(pick(rng, &[0, 1, drift / 4, drift / 4])),
            drift_ppm: pick(rng, &[0, 0, 50, 1_000]),
            latency: millis(pick(rng, &[1, 5, 50, 400])),
            tail_one_in: pick(rng, &[0, 0, 50, 10]),
            tail: millis(pick(rng, &[500, 5_000, 30_000])),
            loss: pick(rng, &[0, 0, 1, 5, 30]),
            duplicate: pick(rng, &[0, 0, 2, 10, 50]),
            bandwidth: pick(rng, &[None, None, Some(5_000), Some(50_000), Some(500_000)]),
            sending: millis(pick(rng, &[0, 1, 20, 300])),
            pause_drops: rng.bool(),
            heed_the_dead: rng.bool(),
            bugs: Bugs::default(),
            weights: weights(rng),
            gap: millis(pick(rng, &[5, 50, 300, 1_500])),
        }
    }

    /// The same, bent towards lost tombstones: few keys, tiny caps, many deletes, splits and crashes.
    #[must_use]
    pub fn harsh(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed ^ 0x004A_2581);
        let mut settings = Self::from_seed(seed);
        settings.replicas = rng.u8(3..=5);
        settings.keys = pick(rng, &[1, 2, 3, 6]);
        settings.config.max_tombstones = pick(rng, &[1, 1, 2, 1_000_000]);
        settings.config.max_retired = 4_096;
        settings.config.forget_after = settings.config.gc_grace.max(millis(pick(rng, &[1_000, 5_000])));
        settings.gap = millis(pick(rng, &[50, 300, 1_500]));
        let mut weights =
            vec![(Kind::Write, 60), (Kind::Delete, 60), (Kind::HealLinks, pick(rng, &[5, 15])), (Kind::Idle, 5)];
        let mut maybe = |kind, choices: &[u32]| weights.push((kind, pick(rng, choices)));
        maybe(Kind::Fill, &[0, 0, 20]);
        maybe(Kind::Evict, &[0, 0, 20]);
        maybe(Kind::Crash, &[1, 3, 6]);
        maybe(Kind::Join, &[1, 3, 6]);
        maybe(Kind::Split, &[5, 15]);
        maybe(Kind::Isolate, &[0, 10]);
        maybe(Kind::Cut, &[0, 20]);
        maybe(Kind::CutOneWay, &[0, 20]);
        settings.weights = Weights(weights);
        settings
    }

    /// The same without any fault.
    #[must_use]
    pub fn calm(mut self) -> Self {
        self.loss = 0;
        self.duplicate = 0;
        self.tail_one_in = 0;
        self.drift_ppm = 0;
        self.bandwidth = None;
        self.max_capacity = None;
        self.weights = Weights(vec![(Kind::Write, 10), (Kind::Delete, 4), (Kind::Idle, 1)]);
        self.config.max_tombstones = 1_000_000;
        self
    }

    /// The actions of the safety phase.
    #[must_use]
    pub fn script(&self, seed: u64) -> Vec<Step> {
        let rng = &mut Rng::with_seed(seed ^ 0x5C21_97AC_7105);
        (0..self.actions).map(|_| self.step(rng)).collect()
    }

    fn step(&self, rng: &mut Rng) -> Step {
        let gap = self.gap.as_micros() as u32;
        // Bursts and lulls.
        let after = if rng.u8(0..4) == 0 { rng.u32(0..=gap) } else { rng.u32(0..=gap / 16) };
        Step { after, action: self.action(rng) }
    }

    /// Never zero, so that a script can be made of any settings.
    fn all_keys(&self) -> u16 {
        self.keys.saturating_mul(self.caches.into()).max(1)
    }

    fn action(&self, rng: &mut Rng) -> Action {
        let total = self.weights.0.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.u32(0..total);
        let kind = self.weights.0.iter().find(|(_, weight)| {
            let hit = at < *weight;
            at = at.saturating_sub(*weight);
            hit
        });
        self.action_of(kind.map_or(Kind::Idle, |(kind, _)| *kind), rng)
    }

    fn action_of(&self, kind: Kind, rng: &mut Rng) -> Action {
        let (node, other, key) = (rng.u8(..), rng.u8(..), rng.u16(..) % self.all_keys());
        let drift = self.config.max_drift.as_millis() as i32;
        match kind {
            Kind::Write => Action::Write(node, key, 0),
            Kind::WriteTtl => Action::Write(node, key, rng.u32(1..20_000)),
            Kind::Delete => Action::Delete(node, key),
            Kind::InvalidateAll => Action::InvalidateAll(node, other),
            Kind::Fill => Action::Fill(node, key, pick(rng, &[1, 20, 500, 5_000])),
            Kind::Evict => Action::Evict(node, key),
            Kind::Read => Action::Read(node, key),
            Kind::CloseCache => Action::CloseCache(node, other),
            Kind::OpenCache => Action::OpenCache(node, other),
            Kind::Forget => Action::Forget(node, other),
            Kind::Crash => Action::Crash(node),
            Kind::Restart => Action::Restart(node),
            Kind::Join => Action::Join,
            Kind::Leave => Action::Leave(node),
            Kind::Pause => Action::Pause(node),
            Kind::Resume => Action::Resume,
            Kind::Cut => Action::Cut(node, other),
            Kind::CutOneWay => Action::CutOneWay(node, other),
            Kind::SlowLink => Action::SlowLink(node, other),
            Kind::Isolate => Action::Isolate(node),
            Kind::Split => Action::Split(other),
            Kind::HealLinks => Action::HealLinks,
            Kind::StepClock => {
                let far = pick(rng, &[drift / 4, drift, 4 * drift, 20_000]).max(1);
                Action::StepClock(node, rng.i32(-far..=far))
            }
            Kind::FreezeClock => Action::FreezeClock(node, rng.bool()),
            Kind::Idle => Action::Wait,
        }
    }
}

/// What is said of any settings that cannot be.
pub(super) fn unfit_settings(what: impl std::fmt::Display) -> String {
    format!("these settings cannot be: {what}")
}

fn millis(n: u32) -> Duration {
    Duration::from_millis(u64::from(n))
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(0..from.len())]
}

fn config(rng: &mut Rng, drift: u32) -> ReplicaConfig {
    let grace = pick(rng, &[0, 300, 2_000, 10_000]);
    let forget = grace.max(pick(rng, &[1_000, 5_000, 60_000, 900_000]));
    ReplicaConfig {
        max_drift: millis(drift),
        digest_interval: millis(pick(rng, &[100, 300, 1_000])),
        gc_grace: millis(grace),
        forget_after: millis(forget),
        max_tombstones: pick(rng, &[1, 2, 5, 1_000_000, 1_000_000, 1_000_000]),
        max_frame_bytes: pick(rng, &[1_024, 1_024, 2_048, 256 * 1_024]),
        max_deferred: pick(rng, &[2, 4_096, 4_096]),
        max_retained_bytes: pick(rng, &[0, 500, 64 << 20]),
        max_retired: pick(rng, &[1, 3, 4_096, 4_096]),
        repair_delay: millis(pick(rng, &[10, 50])),
        session_idle: millis(pick(rng, &[300, 3_000])),
        session_deadline: millis(pick(rng, &[5_000, 120_000])),
        fill_hold: millis(pick(rng, &[1_000, 30_000])),
        broadcast_up_to: pick(rng, &[1, 2, 16, 16]),
        fanout: pick(rng, &[1, 2, 4]),
        audit_interval: millis(pick(rng, &[0, 1_000, 10_000])),
        ..ReplicaConfig::default()
    }
}

fn weights(rng: &mut Rng) -> Weights {
    let mut weights = vec![(Kind::Write, 100), (Kind::Idle, 5)];
    let mut maybe = |kind, choices: &[u32]| weights.push((kind, pick(rng, choices)));
    maybe(Kind::WriteTtl, &[0, 0, 10, 40]);
    maybe(Kind::Delete, &[0, 20, 50, 100]);
    maybe(Kind::InvalidateAll, &[0, 0, 0, 1, 3]);
    maybe(Kind::Fill, &[0, 0, 10, 60]);
    maybe(Kind::Evict, &[0, 0, 10, 60]);
    maybe(Kind::Read, &[0, 20]);
    maybe(Kind::CloseCache, &[0, 0, 0, 2, 6]);
    maybe(Kind::OpenCache, &[5, 10]);
    maybe(Kind::Forget, &[0, 0, 0, 2]);
    maybe(Kind::SlowLink, &[0, 0, 0, 5]);
    maybe(Kind::Crash, &[0, 0, 1, 3]);
    maybe(Kind::Restart, &[0, 0, 1, 5]);
    maybe(Kind::Join, &[0, 0, 1, 5]);
    maybe(Kind::Leave, &[0, 0, 1, 3]);
    maybe(Kind::Pause, &[0, 0, 2, 5]);
    maybe(Kind::Resume, &[1, 5]);
    maybe(Kind::Cut, &[0, 0, 5, 15]);
    maybe(Kind::CutOneWay, &[0, 0, 5, 15]);
    maybe(Kind::Isolate, &[0, 0, 3, 10]);
    maybe(Kind::Split, &[0, 0, 3, 10]);
    maybe(Kind::HealLinks, &[2, 8, 20]);
    maybe(Kind::StepClock, &[0, 0, 0, 2, 10]);
    maybe(Kind::FreezeClock, &[0, 0, 0, 2]);
    Weights(weights)
}
