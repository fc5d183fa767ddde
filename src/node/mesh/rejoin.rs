//! The search for unreachable seeds and lost members. It never ends, so that a partition of any length heals without
//! intervention.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::{
    net::lookup_host,
    time::{Instant, sleep, timeout},
};

use super::{
    config::FailureTiming,
    instance::Core,
    roster::MeshEvent,
    seeds::{SeedState, state_of},
};

/// Maximum number of targets sought at one time.
const PARALLEL: usize = 16;
/// The time that the resolution of a seed's name may take.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(5);

/// The target of a search: a seed by name, because names move, or a lost member by its last address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Target {
    Seed(String),
    Lost(SocketAddr),
}

/// The outcome of the last attempt, and the time of the next one.
struct Attempt {
    outcome: Outcome,
    due: Instant,
    /// The delay without its jitter, which the next failure doubles; zero after a success.
    delay: Duration,
}

/// Looks for seeds and lost members until the mesh stops.
pub(super) async fn rejoin(core: Arc<Core>) {
    let mut state = Rejoin::default();
    loop {
        state.round(&core).await;
        sleep(core.config.failure.rejoin_min / 2).await;
    }
}

/// The state of the search between two rounds.
#[derive(Default)]
struct Rejoin {
    attempts: HashMap<Target, Attempt>,
    /// The rounds that failed since a seed was last found.
    failed_rounds: u64,
    /// True if it was reported that no seed can be reached, and not yet that one can be reached again.
    reported: bool,
}

impl Rejoin {
    async fn round(&mut self, core: &Core) {
        let targets = targets(core);
        self.attempts.retain(|t, _| targets.contains(t));
        let now = Instant::now();
        let due = targets.into_iter().filter(|t| self.attempts.get(t).is_none_or(|a| a.due <= now));
        // In parallel, because an attempt to reach a lost member behind a firewall ends only with its timeout.
        let outcomes: Vec<(Target, Outcome)> =
            stream::iter(due).map(|t| seek(core, t)).buffer_unordered(PARALLEL).collect().await;
        let failed = outcomes.iter().any(|(t, o)| matches!(t, Target::Seed(_)) && *o == Outcome::Absent);
        for (target, outcome) in outcomes {
            self.schedule(&core.config.failure, target, outcome);
        }
        self.report(core, failed);
    }

    fn schedule(&mut self, timing: &FailureTiming, target: Target, outcome: Outcome) {
        let last = self.attempts.get(&target).map_or(Duration::ZERO, |a| a.delay);
        let (wait, delay) = match outcome {
            Outcome::Present => (timing.rejoin_max, Duration::ZERO),
            // `Own` is tried again as early as `Absent`. Members often start together, so the seed's name may soon
            // resolve to further members.
            Outcome::Absent | Outcome::Own => {
                let delay = (last * 2).clamp(timing.rejoin_min, timing.rejoin_max);
                (delay, delay)
            }
        };
        // Jitter, so that the members of a healed partition do not dial at the same time.
        let due = Instant::now() + wait.mul_f64(0.75 + fastrand::f64() / 2.0);
        self.attempts.insert(target, Attempt { outcome, due, delay });
    }

    /// Reports that all seeds are unreachable, again after each doubling of the failures, and once that a seed is reachable again.
    fn report(&mut self, core: &Core, failed: bool) {
        let seeds = || self.attempts.iter().filter(|(t, _)| matches!(t, Target::Seed(_))).map(|(_, a)| a.outcome);
        core.seeds_are_own.store(seeds().next().is_some() && seeds().all(|o| o == Outcome::Own), Ordering::Release);
        if seeds().any(|o| o == Outcome::Present) {
            self.failed_rounds = 0;
            if std::mem::take(&mut self.reported) {
                core.delegate_state.roster.notice(MeshEvent::SeedsReachable);
            }
        } else if failed {
            self.failed_rounds += 1;
            self.reported = true;
            // The first failure, and then the next one after each doubling.
            if self.failed_rounds.is_power_of_two() {
                core.delegate_state.roster.notice(MeshEvent::SeedsUnreachable { attempts: self.failed_rounds });
            }
        }
    }
}

async fn seek(core: &Core, target: Target) -> (Target, Outcome) {
    let outcome = match &target {
        Target::Lost(addr) => Outcome::from(core.join_all(vec![*addr]).await > 0),
        Target::Seed(seed) => {
            let state = seek_seed(core, seed).await;
            let outcome = match state {
                SeedState::Present => Outcome::Present,
                SeedState::Own => Outcome::Own,
                _ => Outcome::Absent,
            };
            core.seeds.note(seed, state);
            outcome
        }
    };
    (target, outcome)
}

/// The outcome of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// A member was found.
    Present,
    /// No address answered, or the seed did not resolve.
    Absent,
    /// Every address of the seed is this member's own: there is no other member to find.
    Own,
}

impl From<bool> for Outcome {
    fn from(present: bool) -> Self {
        if present { Self::Present } else { Self::Absent }
    }
}

fn targets(core: &Core) -> Vec<Target> {
    let seeds = core.config.seeds.iter().cloned().map(Target::Seed);
    let lost = core.delegate_state.roster.lost().into_iter().filter(|a| !is_own(core, *a)).map(Target::Lost);
    seeds.chain(lost).collect()
}

/// Looks for a seed. It is present if one of its addresses belongs to a live member or answers. Own addresses are not
/// contacted and prove nothing: a node that lists itself among its seeds must not believe that it has found them.
async fn seek_seed(core: &Core, seed: &str) -> SeedState {
    let addrs = match resolve(core, seed).await {
        Ok(addrs) => addrs,
        Err(error) => return SeedState::Unresolved(error),
    };
    let (own, others): (Vec<_>, Vec<_>) = addrs.into_iter().partition(|a| is_own(core, *a));
    if others.is_empty() {
        return if own.is_empty() { SeedState::Unresolved(no_address(core)) } else { SeedState::Own };
    }
    let (here, absent): (Vec<_>, Vec<_>) = others.into_iter().partition(|a| core.delegate_state.roster.is_here(*a));
    let joined = core.join_each(absent).await;
    if !here.is_empty() || joined.iter().any(|(_, joined)| joined.is_ok()) {
        return SeedState::Present;
    }
    let failures: Vec<_> = joined.into_iter().filter_map(|(addr, joined)| Some((addr, joined.err()?))).collect();
    state_of(&failures)
}

fn no_address(core: &Core) -> String {
    let family = if core.wire.local.is_ipv4() { "IPv4" } else { "IPv6" };
    format!("it has no {family} address, and this node listens on one")
}

/// Returns true if this address leads to this member itself: its advertised or bound address, or, if it listens on all
/// addresses, any address of this machine with its port.
fn is_own(core: &Core, addr: SocketAddr) -> bool {
    let bound = core.wire.local;
    let everywhere = bound.ip().is_unspecified() && addr.port() == bound.port();
    addr == core.advertise || addr == bound || (everywhere && is_of_this_machine(addr))
}

/// Returns true if this address belongs to this machine. For such an address, the kernel selects the address itself as
/// the source. Nothing is sent here: connecting a datagram socket only selects a route.
fn is_of_this_machine(addr: SocketAddr) -> bool {
    let any: IpAddr = if addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(addr)?;
        socket.local_addr()
    };
    addr.ip().is_loopback() || source().is_ok_and(|source: SocketAddr| source.ip() == addr.ip())
}

/// Returns the addresses of a seed that are of this member's family, or the error of the resolver.
async fn resolve(core: &Core, seed: &str) -> Result<Vec<SocketAddr>, String> {
    let error = match timeout(RESOLVE_PATIENCE, lookup_host(seed)).await {
        Ok(Ok(addrs)) => return Ok(addrs.filter(|a| a.is_ipv4() == core.wire.local.is_ipv4()).collect()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("the resolver did not answer within {RESOLVE_PATIENCE:?}"),
    };
    core.counters.resolve_failures.one();
    tracing::debug!(seed, error, "seed did not resolve");
    Err(error)
}
