//! The network between the processes: it delays, queues, loses, doubles, reorders and cuts.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

use super::settings::Settings;

/// A slow link carries a message this many times later, and this many times fewer bytes.
const SLOWNESS: u64 = 20;
/// What would wait longer than this for its turn is dropped, nanoseconds.
const MAX_QUEUE: u64 = 5_000_000_000;
/// What a slow link carries where there is no other limit, bytes per second.
const SLOW_BANDWIDTH: u64 = 10_000;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    Arrives,
    /// Once more after this.
    Twice(u64),
    Lost,
    /// The queue of its link is full.
    Overflows,
}

/// A message on its way, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) fate: Passage,
    /// Until it arrives.
    pub(super) after: u64,
    /// Until it has left.
    pub(super) queued: u64,
    /// It had to wait for what was sent before it.
    pub(super) waited: bool,
    /// It takes longer than messages do: the tail of the latencies, or a slow link.
    pub(super) slow: bool,
}

/// Which links are cut or slow, and what happens to messages on the others.
#[derive(Debug)]
pub(super) struct Network {
    rng: Rng,
    cut: BTreeSet<(usize, usize)>,
    slow: BTreeSet<(usize, usize)>,
    /// Cut until the end, the lower address first.
    broken: BTreeSet<(usize, usize)>,
    /// When what was sent over a link will have left.
    busy: BTreeMap<(usize, usize), u64>,
    bandwidth: Option<u64>,
    latency: u64,
    tail_one_in: u32,
    tail: u64,
    loss: u8,
    duplicate: u8,
    sending: u64,
    now: u64,
}

impl Network {
    pub(super) fn new(settings: &Settings, seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            cut: BTreeSet::new(),
            slow: BTreeSet::new(),
            broken: BTreeSet::new(),
            busy: BTreeMap::new(),
            bandwidth: settings.bandwidth.map(|bandwidth| u64::from(bandwidth.max(1_000))),
            latency: settings.latency.as_nanos() as u64,
            tail_one_in: settings.tail_one_in,
            tail: settings.tail.as_nanos() as u64,
            loss: settings.loss,
            duplicate: settings.duplicate,
            sending: settings.sending.as_nanos() as u64,
            now: 0,
        }
    }

    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.contains(&(from, to)) || self.broken.contains(&(from.min(to), from.max(to)))
    }

    /// Returns whether the link worked before, as all these do.
    pub(super) fn cut_one_way(&mut self, from: usize, to: usize) -> bool {
        from != to && self.cut.insert((from, to))
    }

    pub(super) fn cut(&mut self, a: usize, b: usize) -> bool {
        let there = self.cut_one_way(a, b);
        self.cut_one_way(b, a) || there
    }

    /// Cuts a link both ways until the end of the faults.
    pub(super) fn break_link(&mut self, a: usize, b: usize) -> bool {
        a != b && self.broken.insert((a.min(b), a.max(b)))
    }

    /// Links that are broken until the end.
    pub(super) fn broken(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.broken.iter().copied()
    }

    /// Makes a link slow, one way.
    pub(super) fn slow_down(&mut self, from: usize, to: usize) -> bool {
        from != to && self.slow.insert((from, to))
    }

    pub(super) fn heal_links(&mut self) {
        self.cut.clear();
        self.slow.clear();
    }

    /// No fault of any kind from now on.
    pub(super) fn heal(&mut self) {
        self.heal_links();
        self.broken.clear();
        self.busy.clear();
        self.bandwidth = None;
        self.loss = 0;
        self.duplicate = 0;
        self.tail_one_in = 0;
        self.latency = self.latency.min(50_000_000);
        self.sending = self.sending.min(20_000_000);
    }

    pub(super) fn set_latency(&mut self, nanos: u64) {
        self.latency = nanos;
    }

    pub(super) fn set_loss(&mut self, percent: u8) {
        self.loss = percent.min(100);
    }

    pub(super) fn set_duplicate(&mut self, percent: u8) {
        self.duplicate = percent.min(100);
    }

    pub(super) fn set_bandwidth(&mut self, bytes_per_second: u32) {
        self.bandwidth = (bytes_per_second > 0).then(|| u64::from(bytes_per_second.max(1_000)));
    }

    /// Sends `size` bytes at a time over a link that is not cut.
    pub(super) fn send(&mut self, now: u64, from: usize, to: usize, size: usize) -> Sent {
        self.now = now;
        let Some((queued, waited)) = self.queue(from, to, size as u64) else {
            return Sent { fate: Passage::Overflows, after: 0, queued: MAX_QUEUE, waited: true, slow: false };
        };
        let slowness = if self.slow.contains(&(from, to)) { SLOWNESS } else { 1 };
        let mut delay = || queued + self.delay() * slowness;
        let (after, again) = (delay(), delay());
        let fate = match () {
            () if self.hits(self.loss) => Passage::Lost,
            () if self.hits(self.duplicate) => Passage::Twice(again),
            () => Passage::Arrives,
        };
        let slow = after - queued > 100_000 + self.latency;
        Sent { fate, after, queued, waited, slow }
    }

    /// Until these bytes have left, and whether anything was before them; nothing if that is too much.
    fn queue(&mut self, from: usize, to: usize, size: u64) -> Option<(u64, bool)> {
        let is_slow = self.slow.contains(&(from, to));
        let slowed = |bandwidth: u64| (bandwidth / SLOWNESS).max(1_000);
        let bandwidth = match (self.bandwidth, is_slow) {
            (None, false) => return Some((0, false)),
            (None, true) => SLOW_BANDWIDTH,
            (Some(bandwidth), true) => slowed(bandwidth),
            (Some(bandwidth), false) => bandwidth,
        };
        let busy = self.busy.entry((from, to)).or_default();
        let starts = self.now.max(*busy);
        if starts - self.now > MAX_QUEUE {
            return None;
        }
        *busy = starts + size * 1_000_000_000 / bandwidth;
        Some((*busy - self.now, starts > self.now))
    }

    fn hits(&mut self, percent: u8) -> bool {
        percent > 0 && self.rng.u8(0..100) < percent
    }

    /// How long the next message takes.
    pub(super) fn delay(&mut self) -> u64 {
        let slow = self.tail_one_in > 0 && self.rng.u32(0..self.tail_one_in) == 0;
        100_000 + self.rng.u64(0..=if slow { self.tail } else { self.latency })
    }

    /// How long until the sender of a large message may send the next, besides the time it queues.
    pub(super) fn sending(&mut self) -> u64 {
        self.rng.u64(0..=self.sending)
    }

    /// A delay of something that is not a message.
    pub(super) fn jitter(&mut self, up_to: u64) -> u64 {
        self.rng.u64(0..=up_to)
    }
}
