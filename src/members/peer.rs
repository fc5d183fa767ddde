//! The state that this replica keeps about one member.

use std::collections::BTreeMap;

use crate::crdt::VersionVector;
use crate::hlc::{HlcTime, Now};
use crate::message::Digest;
use crate::replica_id::ReplicaId;

/// The highest number of entries in a push that counts as small.
const SMALL_PUSH: usize = 16;
/// The shortest time from an acknowledgement to that of a later small push, in nanoseconds.
const ACK_DELAY_SMALL: u64 = 1_000_000;
/// The shortest time from an acknowledgement to that of any later push, in nanoseconds.
const ACK_DELAY: u64 = 10_000_000;

/// A clock of a member and its watermark at that clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) clock: HlcTime,
    pub(crate) watermark: HlcTime,
}

/// The time of a member's wall clock, and this replica's monotonic time when it was received. A step of this replica's
/// wall clock does not affect it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WallClock {
    pub(crate) said: HlcTime,
    pub(crate) at: u64,
}

impl WallClock {
    /// Returns the estimated time of the clock at `now`.
    pub(crate) fn reads(self, now: Now) -> HlcTime {
        self.said.saturating_add(now.mono.saturating_sub(self.at))
    }
}

/// The replicas that name an unmet peer. The flag is true if the replica has met it.
pub(crate) type Namers = BTreeMap<ReplicaId, bool>;

/// The state of a peer that other members name and that has sent nothing to this replica.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unmet {
    pub(crate) namers: Namers,
    /// True if the last replica that named it reported it alive.
    pub(crate) named_alive: bool,
}

/// The times below which a member issues no more writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stability {
    /// Its usable watermark: this replica has seen all that the member wrote before it reported the watermark.
    pub(crate) watermark: HlcTime,
    /// The newest pair of clock and watermark that was reported, by the member itself or in a fact.
    pub(crate) latest: Pair,
    /// Reported pairs whose clock this replica's vector does not cover yet: the oldest and the newest.
    pending: [Option<Pair>; 2],
}

impl Stability {
    /// Notes a reported pair of clock and watermark. `covered` is true if this replica's vector has reached that clock.
    pub(crate) fn note(&mut self, pair: Pair, covered: bool) {
        let clock = pair.clock;
        if clock > self.latest.clock {
            self.latest = pair;
        }
        if covered {
            self.watermark = self.watermark.max(pair.watermark);
        // Two pairs are enough: the oldest becomes usable first, and the newest raises the watermark most.
        } else if self.pending[0].is_none_or(|oldest| clock < oldest.clock) {
            self.pending[0] = Some(pair);
        } else if self.pending[1].is_none_or(|newest| clock > newest.clock) {
            self.pending[1] = Some(pair);
        }
    }

    /// Applies pending pairs that this replica's vector has come to cover.
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

/// The state of what was sent to a member, and of what is in flight.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delivery {
    /// The time up to which it is believed to have this replica's own writes.
    pub(crate) sent_to: HlcTime,
    /// True while a large message is in flight to it.
    pub(crate) busy: bool,
    /// True while a session is sent to it.
    pub(crate) in_session: bool,
    /// True if it has reported that it lacks own writes after `sent_to`. In a large cluster it then gets them directly.
    pub(crate) behind: bool,
    /// True if the interval after `sent_to` cannot be pushed, so that a session is needed.
    pub(crate) needs_session: bool,
    /// The monotonic time before which its digests are not answered with data.
    pub(crate) serve_after: u64,
    /// Its progress, per live origin of which it lacks many writes: the time that it had reached at its last step, and
    /// the monotonic time at which this replica noted that step.
    pub(crate) progress: BTreeMap<ReplicaId, (HlcTime, u64)>,
    /// The monotonic time since which a report of sent writes is awaited, and the number of digests sent to ask for it.
    pub(crate) unacked_since: Option<u64>,
    pub(crate) asked: u32,
}

/// The schedule of acknowledgements of a member's pushes, in monotonic time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Acks {
    pub(crate) due: Option<u64>,
    /// The time of the last acknowledgement.
    pub(crate) sent: Option<u64>,
}

impl Acks {
    /// Makes an acknowledgement due for a push with this many entries: now, or once the last acknowledgement is old
    /// enough. One that is due earlier stays so.
    pub(crate) fn note_push(&mut self, now: u64, entries: usize) {
        // A caller may wait for the acknowledgement of a small push. Large pushes come in bursts, in which one
        // acknowledgement covers many of them.
        let delay = if entries <= SMALL_PUSH { ACK_DELAY_SMALL } else { ACK_DELAY };
        let at = self.sent.map_or(now, |sent| sent.saturating_add(delay).max(now));
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

/// Statements of a member about its own writes, to be compared with the writes that are known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OwnWriteClaims {
    /// The last write of the member that is known here.
    pub(crate) wrote: HlcTime,
    /// Its newest clock, and the time since which it then claimed to have written nothing.
    pub(crate) clock: HlcTime,
    pub(crate) quiet_since: HlcTime,
    /// True if another process uses its id too.
    pub(crate) has_duplicate_id: bool,
}

impl OwnWriteClaims {
    /// Records the statement of a digest. Returns true if the digest denies a known write of its sender. Two processes
    /// under one id cause that, because their digests alternate.
    pub(crate) fn take(&mut self, digest: &Digest) -> bool {
        let forgets = (digest.clock >= self.wrote && digest.quiet_since < self.wrote)
            || (digest.clock > self.clock && digest.quiet_since < self.quiet_since);
        if digest.clock > self.clock {
            (self.clock, self.quiet_since) = (digest.clock, digest.quiet_since);
        }
        self.has_duplicate_id |= forgets;
        forgets
    }
}

/// The state about clocks: a member's clock may be wrong, or this replica's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clocks {
    /// Its wall clock, according to its last digest.
    pub(crate) wall: Option<WallClock>,
    /// True if nothing is sent to it because it asked to wait.
    pub(crate) was_asked_to_wait: bool,
    /// True if it is new and empty, and its clock is behind. It is about to take the time of its members. It would
    /// defer everything that it receives before then.
    pub(crate) held_back: bool,
    /// The monotonic time before which it is not asked for entries that this replica deferred, and the number of such
    /// deferrals in a row.
    pub(crate) deferred_until: u64,
    pub(crate) deferrals: u32,
}

/// The last digest that was sent to a member while this replica was at rest: its clock, and a hash of its content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentDigest {
    pub(crate) clock: HlcTime,
    pub(crate) content: u64,
}

/// The last digest of a member: its clock, and the distance of its watermark from that clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeardDigest {
    pub(crate) clock: HlcTime,
    pub(crate) lag: u64,
}

/// The state of the stills that this replica exchanges with a member.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StillState {
    /// The digest that stills to the member repeat. `None` if they cannot repeat the last one.
    pub(crate) sent: Option<SentDigest>,
    /// The digest that stills of the member repeat. `None` if only a digest will do.
    pub(crate) heard: Option<HeardDigest>,
    /// The monotonic time at which the member last reported that it had accepted a still.
    pub(crate) accepted_at: Option<u64>,
}

impl StillState {
    /// Notes a digest of the member that is newer than all before. `is_plain` is true if it was applied and a repetition
    /// of it would have no effect but to raise times.
    pub(crate) fn note_heard(&mut self, digest: &Digest, is_plain: bool) {
        let is_plain = is_plain && digest.renew.is_none() && digest.deferring == 0;
        let lag = digest.clock.saturating_sub(digest.watermark);
        self.heard = is_plain.then_some(HeardDigest { clock: digest.clock, lag });
    }
}

/// A member, live, or dead and not yet forgotten.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The monotonic time at which it was reported dead.
    pub(crate) dead_since: Option<u64>,
    pub(crate) last_heard: u64,
    /// The monotonic time at which it became a member.
    pub(crate) known_since: u64,
    /// The time from which contests are kept for its fills: stamps that contest a fill are remembered if the fill's
    /// bound begins at or above it. Before it became a member, none were kept for it.
    pub(crate) contests_kept_from: HlcTime,
    /// The highest vector it ever reported.
    pub(crate) reported: VersionVector,
    /// True if it has evicted or dropped values that other replicas may still hold.
    pub(crate) lossy: bool,
    /// Set while it has sent nothing to this replica.
    pub(crate) unmet: Option<Unmet>,
    pub(crate) stability: Stability,
    pub(crate) delivery: Delivery,
    pub(crate) acks: Acks,
    /// A *quiet since* that it has reported and that this replica's vector had not reached, and the monotonic time at
    /// which this replica checks again.
    pub(crate) suspected: Option<(HlcTime, u64)>,
    /// The vector that this replica must reach to have caught up with its first digest, and the clock of that digest.
    pub(crate) target: Option<(VersionVector, HlcTime)>,
    /// The greatest number of a session from it that is finished, abandoned or superseded.
    pub(crate) session_done: u64,
    pub(crate) claims: OwnWriteClaims,
    pub(crate) clocks: Clocks,
    pub(crate) stills: StillState,
}

impl Peer {
    /// Notes that the member has the writes of this replica, `own`, up to `time`. Returns true if that is news.
    pub(crate) fn acknowledge(&mut self, own: ReplicaId, time: HlcTime, now: u64) -> bool {
        let is_news = time > self.reported.get(&own);
        self.reported.raise(own, time);
        let delivery = &mut self.delivery;
        delivery.sent_to = delivery.sent_to.max(time);
        delivery.asked = 0;
        delivery.unacked_since = (delivery.sent_to > time).then_some(now);
        is_news
    }

    pub(super) fn new(now: Now, wrote: HlcTime, contests_kept_from: HlcTime) -> Self {
        Self {
            dead_since: None,
            last_heard: now.mono,
            known_since: now.mono,
            contests_kept_from,
            reported: VersionVector::new(),
            lossy: false,
            unmet: None,
            stability: Stability::default(),
            delivery: Delivery::default(),
            acks: Acks::default(),
            suspected: None,
            target: None,
            session_done: 0,
            claims: OwnWriteClaims { wrote, ..OwnWriteClaims::default() },
            clocks: Clocks::default(),
            stills: StillState::default(),
        }
    }

    /// Creates an unmet peer that has been unreachable since this monotonic time. A peer that is named alive counts as
    /// unreachable here as well, so that it is sent nothing.
    pub(super) fn unmet(now: Now, since: u64, unmet: Unmet, contests_kept_from: HlcTime) -> Self {
        Self { dead_since: Some(since), unmet: Some(unmet), ..Self::new(now, 0, contests_kept_from) }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.dead_since.is_none()
    }

    pub(crate) fn is_met(&self) -> bool {
        self.unmet.is_none()
    }

    /// Returns true if it can be sent a large message now.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_live() && !self.delivery.busy
    }

    /// Returns true if it is ready for a push and is not believed to have all own writes of this replica.
    pub(crate) fn is_pushable(&self, last_own: HlcTime) -> bool {
        let Delivery { sent_to, needs_session, in_session, .. } = self.delivery;
        self.is_ready() && !needs_session && !in_session && !self.clocks.held_back && sent_to < last_own
    }
}
