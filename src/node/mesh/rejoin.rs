//! Looking for absent seeds and lost members, for ever, so that a cut of any length heals by itself.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::lookup_host,
    time::{Instant, sleep, timeout},
};

use super::{instance::Core, roster::MeshEvent};

const RESOLVE_PATIENCE: Duration = Duration::from_secs(5);

/// Who is looked for: a seed by name, because names move; a lost member by the address it had.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Target {
    Seed(String),
    Lost(SocketAddr),
}

/// When a target is due again.
struct Attempt {
    due: Instant,
    delay: Duration,
}

/// Runs until the mesh stops.
pub(super) async fn rejoin(core: Arc<Core>) {
    let mut state = Rejoin { attempts: HashMap::new(), failures: 0, reported: false };
    loop {
        state.round(&core).await;
        sleep(core.config.failure.rejoin_min / 2).await;
    }
}

struct Rejoin {
    attempts: HashMap<Target, Attempt>,
    failures: u64,
    reported: bool,
}

impl Rejoin {
    async fn round(&mut self, core: &Core) {
        let targets = targets(core);
        self.attempts.retain(|t, _| targets.contains(t));
        let now = Instant::now();
        let mut answered = false;
        let mut failed = false;
        for target in targets {
            if self.attempts.get(&target).is_some_and(|a| a.due > now) {
                continue;
            }
            let seed = matches!(target, Target::Seed(_));
            let outcome = self.attempt(core, target).await;
            answered |= seed && outcome == Outcome::Present;
            failed |= seed && outcome == Outcome::Absent;
        }
        self.report(core, answered, failed);
    }

    async fn attempt(&mut self, core: &Core, target: Target) -> Outcome {
        let outcome = match &target {
            Target::Lost(addr) => Outcome::from(core.join_all(vec![*addr]).await > 0),
            Target::Seed(seed) => seek_seed(core, seed).await,
        };
        let timing = &core.config.failure;
        let last = self.attempts.get(&target).map_or(Duration::ZERO, |a| a.delay);
        let delay = match outcome {
            Outcome::Present => timing.rejoin_max,
            Outcome::Absent => (last * 2).clamp(timing.rejoin_min, timing.rejoin_max),
        };
        // Jitter, so that the members of a healed half do not dial in step.
        let due = Instant::now() + delay.mul_f64(0.75 + fastrand::f64() / 2.0);
        self.attempts.insert(target, Attempt { due, delay: if outcome == Outcome::Present { Duration::ZERO } else { delay } });
        outcome
    }

    /// Tells the owner once when all seeds are gone and once when one is back.
    fn report(&mut self, core: &Core, answered: bool, failed: bool) {
        if answered {
            self.failures = 0;
            if std::mem::take(&mut self.reported) {
                core.ears.roster.notice(MeshEvent::SeedsReachable);
            }
        } else if failed {
            self.failures += 1;
            if !self.reported {
                self.reported = true;
                tracing::warn!(attempts = self.failures, "no seed can be reached; serving alone and trying on");
                core.ears.roster.notice(MeshEvent::SeedsUnreachable { attempts: self.failures });
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Present,
    Absent,
}

impl From<bool> for Outcome {
    fn from(present: bool) -> Self {
        if present { Self::Present } else { Self::Absent }
    }
}

fn targets(core: &Core) -> Vec<Target> {
    let seeds = core.config.seeds.iter().cloned().map(Target::Seed);
    let lost = core.ears.roster.lost().into_iter().filter(|a| *a != core.advertise).map(Target::Lost);
    seeds.chain(lost).collect()
}

/// A seed is present when one of its addresses is ourselves, a live member, or answers.
async fn seek_seed(core: &Core, seed: &str) -> Outcome {
    let addrs = resolve(core, seed).await;
    let known = |a: &SocketAddr| *a == core.advertise || *a == core.wire.local || core.ears.roster.is_here(*a);
    let absent: Vec<SocketAddr> = addrs.iter().copied().filter(|a| !known(a)).collect();
    let some_known = absent.len() < addrs.len();
    Outcome::from(core.join_all(absent).await > 0 || some_known)
}

async fn resolve(core: &Core, seed: &str) -> Vec<SocketAddr> {
    match timeout(RESOLVE_PATIENCE, lookup_host(seed)).await {
        Ok(Ok(addrs)) => addrs.filter(|a| a.is_ipv4() == core.wire.local.is_ipv4() || a.is_ipv6()).collect(),
        failed => {
            core.counters.resolve_failures.one();
            tracing::debug!(seed, error = ?failed.map(|r| r.err()), "seed did not resolve");
            Vec::new()
        }
    }
}
