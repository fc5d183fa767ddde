//! Detection that memberlist's own tasks have died, which no other part detects, and the rebuild of the instance in
//! place. A *canary* is a message that this member sends to itself through memberlist: if none arrives any more, a task
//! has died.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::{
    delegate::Kind,
    instance::{Core, List},
};

/// Ticks from one stream canary to the next. Each stream canary costs a connection, so they are rarer than datagram
/// canaries, of which one is sent at every tick.
const STREAM_EVERY: u64 = 4;
/// Maximum factor of the silence of a member that leads to a rebuild; see `Watch::stale`.
const STALE_BACKOFF_MAX: u32 = 64;

/// Watches the memberlist instance until the mesh stops.
pub(super) async fn watch(core: Arc<Core>) {
    let mut watch = Watch::new(&core);
    let mut ticks = interval(core.config.failure.canary_interval);
    // A process that was paused must not be judged by the ticks that it missed.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = tokio::select! {
            _ = ticks.tick() => None,
            () = core.rebuild_asked.notified() => Some("asked for"),
        };
        let Some(list) = core.live() else { continue };
        let verdict = match asked {
            Some(reason) => Some(reason),
            None => watch.verdict(&core, &list).await,
        };
        drop(list);
        if let Some(reason) = verdict {
            core.rebuild(reason).await;
            watch.rebuilt(&core);
        }
        watch.sweep(&core);
    }
}

/// One path from this member to itself: the canaries received by the last tick, and the ticks without a new one.
#[derive(Default)]
struct Pulse {
    heard: u64,
    missed: u32,
}

impl Pulse {
    /// Records the canaries received so far. Returns the number of ticks without a new one.
    fn beat(&mut self, heard: u64) -> u32 {
        self.missed = if heard == self.heard { self.missed + 1 } else { 0 };
        self.heard = heard;
        self.missed
    }
}

struct Watch {
    tick: u64,
    packets: Pulse,
    streams: Pulse,
    /// Ticks of silence after which a path counts as dead.
    max_missed: u32,
    /// The silence of a live member below which nothing is wrong.
    stale_after: Duration,
    /// The factor of the silence that leads to the next rebuild. It doubles with each rebuild for this reason.
    stale_backoff: u32,
    /// The time at which members that only an older instance knew are removed.
    sweep_at: Option<Instant>,
}

impl Watch {
    fn new(core: &Core) -> Self {
        let timing = &core.config.failure;
        let ticks = timing.canary_silence.as_secs_f64() / timing.canary_interval.as_secs_f64();
        Self {
            tick: 0,
            packets: Pulse::default(),
            streams: Pulse::default(),
            max_missed: ticks.ceil() as u32 + 1,
            stale_after: timing.longest_suspicion() * 2 + Duration::from_secs(5),
            stale_backoff: 1,
            sweep_at: None,
        }
    }

    /// Returns the reason for a rebuild, if there is one.
    async fn verdict(&mut self, core: &Core, list: &List) -> Option<&'static str> {
        self.tick += 1;
        self.send_canaries(core, list).await;
        let canary = &core.delegate_state.canary;
        if self.packets.beat(canary.packets.load(Ordering::Relaxed)) > self.max_missed {
            return Some("no datagram from this node to itself has arrived");
        }
        // If the connection table is full, the stream canary may be refused although everything works.
        let streams = self.streams.beat(canary.streams.load(Ordering::Relaxed));
        if streams > self.max_missed + 2 * STREAM_EVERY as u32 && core.wire.inbound.has_room() {
            return Some("no stream message from this node to itself has arrived");
        }
        match timeout(core.config.failure.canary_silence, departed(list)).await {
            Err(_) => return Some("the member table is locked"),
            Ok(departed) if departed > core.config.failure.departed_limit => return Some("too many departed members"),
            Ok(_) => {}
        }
        self.stale(core).then_some("a member has not been probed for too long")
    }

    /// Sends the canaries of this tick to this member itself.
    async fn send_canaries(&self, core: &Core, list: &List) {
        let own = Bytes::copy_from_slice(core.config.incarnation.as_bytes());
        let to = core.wire.loopback();
        let limit = core.config.failure.canary_interval;
        drop(timeout(limit, list.send(&to, Kind::PacketCanary.seal(own.clone()))).await);
        if self.tick % STREAM_EVERY == 1 {
            drop(timeout(limit, list.send_reliable(&to, Kind::StreamCanary.seal(own))).await);
        }
    }

    /// Returns true if a live member has been silent for so long that the probing task must have died: live members are
    /// probed in turn. Where only TCP gets through, such a silence is normal, hence the back-off.
    fn stale(&mut self, core: &Core) -> bool {
        let round = core.config.failure.probe_interval * core.delegate_state.roster.members().len() as u32 * 4;
        let silence = core.delegate_state.roster.longest_silence();
        if silence < self.stale_after {
            self.stale_backoff = 1;
            return false;
        }
        if silence < (self.stale_after + round) * self.stale_backoff {
            return false;
        }
        self.stale_backoff = (self.stale_backoff * 2).min(STALE_BACKOFF_MAX);
        true
    }

    fn rebuilt(&mut self, core: &Core) {
        self.packets.missed = 0;
        self.streams.missed = 0;
        // Members that the new instance does not know by then are removed.
        let timing = &core.config.failure;
        self.sweep_at = Some(Instant::now() + timing.connect_timeout + timing.stream_timeout);
    }

    fn sweep(&mut self, core: &Core) {
        if self.sweep_at.is_some_and(|at| at <= Instant::now()) {
            self.sweep_at = None;
            core.delegate_state.roster.sweep();
        }
    }
}

async fn departed(list: &List) -> usize {
    let online = list.num_online_members().await;
    list.num_members().await.saturating_sub(online)
}
