//! The state of each configured seed, for reports.

use std::net::SocketAddr;

use tokio::time::Instant;

use super::frame::Refusal;
use crate::sync::Mutex;

/// The state of a seed after the last attempt to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeedState {
    /// The first attempt has not ended.
    Trying,
    /// It leads to a member.
    Present,
    /// Every address of it is this member's own.
    Own,
    /// Its name does not resolve. The text is the error of the resolver.
    Unresolved(String),
    /// No address of it answers. The text is the last error.
    Silent(String),
    /// It answers, and refuses this member: it is in another cluster.
    OtherCluster,
    /// It answers, and refuses this member: it has no key of this member, or only one of the two encrypts.
    OtherKey(&'static str),
}

/// A seed and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The seed, as it was configured.
    pub name: String,
    /// Its state.
    pub state: SeedState,
    /// The attempts that failed since the last success.
    pub attempts: u64,
    /// The time since the first of these attempts began. Zero after a success.
    pub failing_for: std::time::Duration,
}

struct Tracked {
    name: String,
    state: SeedState,
    attempts: u64,
    since: Instant,
}

/// The states of all seeds.
pub(super) struct Seeds(Mutex<Vec<Tracked>>);

impl Seeds {
    pub(super) fn new(names: &[String]) -> Self {
        let (state, since) = (SeedState::Trying, Instant::now());
        let tracked = |name: &String| Tracked { name: name.clone(), state: state.clone(), attempts: 0, since };
        Self(Mutex::new(names.iter().map(tracked).collect()))
    }

    /// Records the outcome of an attempt.
    pub(super) fn note(&self, name: &str, state: SeedState) {
        for seed in self.0.lock().iter_mut().filter(|seed| seed.name == name) {
            let works = matches!(state, SeedState::Present | SeedState::Own);
            if works {
                (seed.attempts, seed.since) = (0, Instant::now());
            } else {
                if matches!(seed.state, SeedState::Present | SeedState::Own) {
                    seed.since = Instant::now();
                }
                seed.attempts += 1;
            }
            seed.state = state.clone();
        }
    }

    pub(super) fn list(&self) -> Vec<Seed> {
        let one = |seed: &Tracked| {
            let works = matches!(seed.state, SeedState::Present | SeedState::Own);
            let failing_for = if works { std::time::Duration::ZERO } else { seed.since.elapsed() };
            Seed { name: seed.name.clone(), state: seed.state.clone(), attempts: seed.attempts, failing_for }
        };
        self.0.lock().iter().map(one).collect()
    }
}

/// The reason why a seed could not be joined at one address.
#[derive(Clone, Debug)]
pub(super) enum NotJoined {
    /// The member there refused this one.
    Refused(Refusal),
    /// No member answered.
    Failed(String),
}

/// The state of a seed none of whose addresses could be joined. A refusal says more than a missing answer.
pub(super) fn state_of(failures: &[(SocketAddr, NotJoined)]) -> SeedState {
    let refusal = failures.iter().find_map(|(_, failure)| match failure {
        NotJoined::Refused(refusal) => Some(*refusal),
        NotJoined::Failed(_) => None,
    });
    match (refusal, failures.last()) {
        (Some(Refusal::OtherCluster | Refusal::ForeignLabel), _) => SeedState::OtherCluster,
        (Some(refusal), _) => SeedState::OtherKey(refusal.of_sender()),
        (None, Some((addr, NotJoined::Failed(error)))) => SeedState::Silent(format!("{addr}: {error}")),
        (None, _) => SeedState::Silent("no address".into()),
    }
}
