//! What is believed of one member.

use std::collections::BTreeMap;

use crate::crdt::VersionVector;
use crate::hlc::{HlcTime, Now};
use crate::message::Digest;
use crate::replica_id::ReplicaId;

/// A clock of a member and its watermark at that clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) clock: HlcTime,
    pub(crate) watermark: HlcTime,
}

/// What a wall clock said, and when it did by our monotonic clock: a step of our own wall clock does not spoil it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WallClock {
    pub(crate) said: HlcTime,
    pub(crate) at: u64,
}

impl WallClock {
    /// What it says now.
    pub(crate) fn reads(self, now: Now) -> HlcTime {
        self.said.saturating_add(now.mono.saturating_sub(self.at))
    }
}

/// The replicas that name an unmet peer, and whether they met it.
pub(crate) type Namers = BTreeMap<ReplicaId, bool>;

/// A peer that others name and that has not spoken to us.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unmet {
    pub(crate) namers: Namers,
    /// Whether the last replica that named it called it alive.
    pub(crate) named_alive: bool,
}

/// Below which time a member writes nothing any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stability {
    /// Its usable watermark.
    pub(crate) watermark: HlcTime,
    /// The clock of its newest statement, first or second hand, and that statement.
    pub(crate) latest: Pair,
    /// Pairs whose clock our own vector does not cover yet: the oldest and the newest.
    pending: [Option<Pair>; 2],
}

impl Stability {
    /// Takes note of what a member said of its clock and watermark. `covered`: our vector has come to that clock.
    pub(crate) fn note(&mut self, pair: Pair, covered: bool) {
        let clock = pair.clock;
        if clock > self.latest.clock {
            self.latest = pair;
        }
        if covered {
            self.watermark = self.watermark.max(pair.watermark);
        } else if self.pending[0].is_none_or(|oldest| clock < oldest.clock) {
            self.pending[0] = Some(pair);
        } else if self.pending[1].is_none_or(|newest| clock > newest.clock) {
            self.pending[1] = Some(pair);
        }
    }

    /// Uses pending pairs that our vector has come to cover.
    pub(crate) fn use_pending(&mut self, seen: HlcTime) {
        for pending in &mut self.pending {
            if let Some(pair) = pending.take_if(|pair| pair.clock <= seen) {
                self.watermark = self.watermark.max(pair.watermark);
            }
        }
        if self.pending[0].is_none() {
            self.pending.swap(0, 1);
        }
    }
}

/// How far a member has been brought, and what is under way to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delivery {
    /// What it is believed to have of our own writes.
    pub(crate) sent_to: HlcTime,
    /// A large message is on its way to it.
    pub(crate) busy: bool,
    /// A session goes out to it.
    pub(crate) in_session: bool,
    /// It said that it lacks own writes after `sent_to`: in a large cluster it gets them by itself.
    pub(crate) behind: bool,
    /// The push interval after `sent_to` cannot be pushed: a session is needed.
    pub(crate) needs_session: bool,
    /// No answer to a digest of it before this monotonic time.
    pub(crate) serve_after: u64,
    /// How far it was with live origins of which it lacks much, and since which monotonic time.
    pub(crate) progress: BTreeMap<ReplicaId, (HlcTime, u64)>,
    /// Monotonic time of the last push that is not yet acknowledged, and how often we have asked.
    pub(crate) unacked_since: Option<u64>,
    pub(crate) asked: u32,
}

/// When acknowledgements of a member's pushes are due, by monotonic time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Acks {
    pub(crate) due: Option<u64>,
    /// The next one may leave then.
    pub(crate) after: u64,
}

/// What a member has said of its own writes, to be compared with what is known of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Word {
    /// The last own write of it that is known of.
    pub(crate) wrote: HlcTime,
    /// Its newest clock, and since when it said then that it had written nothing.
    pub(crate) clock: HlcTime,
    pub(crate) quiet_since: HlcTime,
    /// Its id is another process's too.
    pub(crate) has_twin: bool,
}

impl Word {
    /// Takes in what a digest of it says. Returns whether it has forgotten what it wrote: two processes say so in turn.
    pub(crate) fn take(&mut self, digest: &Digest) -> bool {
        let forgets = (digest.clock >= self.wrote && digest.quiet_since < self.wrote)
            || (digest.clock > self.clock && digest.quiet_since < self.quiet_since);
        if digest.clock > self.clock {
            (self.clock, self.quiet_since) = (digest.clock, digest.quiet_since);
        }
        self.has_twin |= forgets;
        forgets
    }
}

/// A member whose clock may be wrong, or ours.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clocks {
    /// Its wall clock, by its last digest.
    pub(crate) wall: Option<WallClock>,
    /// Nothing is served to it because it asked to wait.
    pub(crate) was_asked_to_wait: bool,
    /// It is new, holds nothing and its clock is behind: it is about to take the time of its members, and would defer
    /// whatever it is sent before.
    pub(crate) held_back: bool,
    /// Until this monotonic time it is not asked for what it sent and we deferred; and how often that was so in a row.
    pub(crate) deferred_until: u64,
    pub(crate) deferrals: u32,
}

/// A member, live or dead but not yet forgotten.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// When it was found dead, by monotonic time.
    pub(crate) dead_since: Option<u64>,
    pub(crate) last_heard: u64,
    /// When it became a member, by monotonic time.
    pub(crate) known_since: u64,
    /// What contests a fill of it is remembered if the fill's bound begins here or later. Before it was a member nothing was
    /// kept for it.
    pub(crate) contests_kept_after: HlcTime,
    /// The highest vector it ever reported.
    pub(crate) reported: VersionVector,
    /// Whether it has given up values.
    pub(crate) lossy: bool,
    /// As long as it has not spoken to us.
    pub(crate) unmet: Option<Unmet>,
    pub(crate) stability: Stability,
    pub(crate) delivery: Delivery,
    pub(crate) acks: Acks,
    /// It said it had written up to this; checked again at the monotonic time.
    pub(crate) suspected: Option<(HlcTime, u64)>,
    /// What we need to have seen to be caught up with what it first told us.
    pub(crate) target: Option<(VersionVector, HlcTime)>,
    /// The greatest session of it that is finished or superseded.
    pub(crate) session_done: u64,
    pub(crate) word: Word,
    pub(crate) clocks: Clocks,
}

impl Peer {
    pub(super) fn new(now: Now, wrote: HlcTime, contests_kept_after: HlcTime) -> Self {
        Self {
            dead_since: None,
            last_heard: now.mono,
            known_since: now.mono,
            contests_kept_after,
            reported: VersionVector::new(),
            lossy: false,
            unmet: None,
            stability: Stability::default(),
            delivery: Delivery::default(),
            acks: Acks::default(),
            suspected: None,
            target: None,
            session_done: 0,
            word: Word { wrote, ..Word::default() },
            clocks: Clocks::default(),
        }
    }

    /// A peer that others name, unreachable since this monotonic time.
    pub(super) fn unmet(now: Now, since: u64, unmet: Unmet, contests_kept_after: HlcTime) -> Self {
        Self { dead_since: Some(since), unmet: Some(unmet), ..Self::new(now, 0, contests_kept_after) }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.dead_since.is_none()
    }

    pub(crate) fn is_met(&self) -> bool {
        self.unmet.is_none()
    }

    /// Whether it takes a large message now.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_live() && !self.delivery.busy
    }

    /// Whether it is ready to be pushed something of ours that it is not believed to have.
    pub(crate) fn is_pushable(&self, last_own: HlcTime) -> bool {
        let Delivery { sent_to, needs_session, in_session, .. } = self.delivery;
        self.is_ready() && !needs_session && !in_session && !self.clocks.held_back && sent_to < last_own
    }
}
