//! One process of the simulated cluster: its address, its clock and its open caches.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::clock::SimClock;
use crate::hlc::Now;
use crate::membership::{Membership, NotOpen};
use crate::stills::StillExchange;

/// The state of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Up,
    Paused,
    /// Crashed, departed or replaced. This state is final.
    Gone,
}

/// The view that a process's failure detector has of another process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum View {
    #[default]
    Unknown,
    Up,
    Down,
    Left,
}

/// A payload in flight between two processes.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    /// A message of a replica, encoded.
    Message(Bytes),
    /// The answer to a digest: this cache is not open here.
    NotOpen { process: usize, cache: u8, answer: NotOpen },
    /// The stills of a process, encoded.
    Stills { process: usize, body: Bytes },
}

pub(super) struct Process {
    /// The address to which its messages go. A restarted process keeps the address.
    pub(super) address: usize,
    /// The process that this one replaced: a restart under the same name.
    pub(super) replaces: Option<usize>,
    pub(super) clock: SimClock,
    pub(super) state: State,
    /// True if it stopped without a goodbye.
    pub(super) crashed: bool,
    /// The opening of each cache, if it is open.
    pub(super) open: Vec<Option<usize>>,
    /// Payloads that arrived during a pause.
    pub(super) inbox: Vec<Payload>,
    /// The views of this process's failure detector, by process.
    pub(super) views: BTreeMap<usize, View>,
    /// The processes that this process does not reach, each with the time since when.
    pub(super) silent_since: BTreeMap<usize, u64>,
    /// The state machine that the driver of a node uses for membership. A process is addressed by its number.
    pub(super) membership: Membership<usize>,
    /// The state machine that the driver of a node uses for stills.
    pub(super) stills: StillExchange,
}

impl Process {
    /// Returns a process that has just started, with no cache open.
    pub(super) fn new(address: usize, replaces: Option<usize>, clock: SimClock, caches: u8) -> Self {
        Self {
            address,
            replaces,
            clock,
            state: State::Up,
            crashed: false,
            open: vec![None; usize::from(caches)],
            inbox: Vec::new(),
            views: BTreeMap::new(),
            silent_since: BTreeMap::new(),
            membership: Membership::default(),
            stills: StillExchange::default(),
        }
    }

    pub(super) fn now(&self, at: u64) -> Now {
        self.clock.now(at)
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    pub(super) fn runs(&self) -> bool {
        self.state != State::Gone
    }

    /// Returns the openings of its caches, in the order of the caches.
    pub(super) fn openings(&self) -> Vec<usize> {
        self.open.iter().flatten().copied().collect()
    }

    pub(super) fn view_of(&self, other: usize) -> View {
        self.views.get(&other).copied().unwrap_or_default()
    }
}
