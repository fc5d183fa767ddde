//! The network between the processes. It delays, queues, loses, duplicates and reorders messages, and cuts links.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

use super::settings::Settings;

/// The factor by which a slow link has a longer delay and a smaller bandwidth.
const SLOWNESS: u64 = 20;
/// The longest time that a message waits in the queue of its link, in nanoseconds. A message that would wait longer is
/// dropped.
const MAX_QUEUE: u64 = 5_000_000_000;
/// The bandwidth of a slow link where no other limit applies, in bytes per second.
const SLOW_BANDWIDTH: u64 = 10_000;

/// The fate of a message in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    Arrives,
    /// Duplicated: the copy arrives after this many nanoseconds.
    Twice(u64),
    Lost,
    /// Dropped, because the queue of its link is full.
    Overflows,
}

/// A message in flight. Times are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) fate: Passage,
    /// The time until it arrives.
    pub(super) after: u64,
    /// The time until it has left the sender.
    pub(super) queued: u64,
    /// True if it had to wait for messages that were sent before it.
    pub(super) waited: bool,
    /// True if it takes longer than usual: it is in the tail of the latencies, or on a slow link.
    pub(super) slow: bool,
}

/// The state of the links: cut, slow or normal, and the faults of messages on links that work.
#[derive(Debug)]
pub(super) struct Network {
    rng: Rng,
    cut: BTreeSet<(usize, usize)>,
    slow: BTreeSet<(usize, usize)>,
    /// Links that are cut until the faults end, the lower address first.
    broken: BTreeSet<(usize, usize)>,
    /// The time at which everything that was sent over a link will have left.
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

    /// Cuts a link in one direction. Returns true if this changes the link, as `cut`, `break_link` and `slow_down` do.
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

    /// Returns the links that are cut until the faults end.
    pub(super) fn broken(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.broken.iter().copied()
    }

    /// Makes a link slow, in one direction.
    pub(super) fn slow_down(&mut self, from: usize, to: usize) -> bool {
        from != to && self.slow.insert((from, to))
    }

    pub(super) fn heal_links(&mut self) {
        self.cut.clear();
        self.slow.clear();
    }

    /// Ends all faults of the network.
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

    /// Sends `size` bytes in one message over a link that is not cut.
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

    /// Returns the time until these bytes have left, and true if other bytes were queued before them. Returns `None` if
    /// the wait would exceed `MAX_QUEUE`.
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

    /// Draws the latency of the next message.
    pub(super) fn delay(&mut self) -> u64 {
        let slow = self.tail_one_in > 0 && self.rng.u32(0..self.tail_one_in) == 0;
        100_000 + self.rng.u64(0..=if slow { self.tail } else { self.latency })
    }

    /// Draws the time until the sender of a large message may send the next one, in addition to the queueing time.
    pub(super) fn sending(&mut self) -> u64 {
        self.rng.u64(0..=self.sending)
    }

    /// Draws a delay of an event that is not a message.
    pub(super) fn jitter(&mut self, up_to: u64) -> u64 {
        self.rng.u64(0..=up_to)
    }
}
