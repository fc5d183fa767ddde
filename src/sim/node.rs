//! One process of the simulated cluster, with the one replica it has open.

use std::collections::BTreeMap;

use super::clock::SimClock;
use super::workload::Workload;
use crate::hlc::{Now, Stamp};
use crate::replica::message::Message;
use crate::replica::{FillTicket, Replica};
use crate::replica_id::ReplicaId;

/// Whether a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Up,
    Paused,
    /// Crashed, left or replaced: it never comes back.
    Gone,
}

/// What a node's failure detector thinks of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum View {
    #[default]
    Unknown,
    Up,
    Down,
    Left,
}

/// A fill that runs.
pub(super) struct RunningFill<K> {
    pub(super) key: K,
    pub(super) ticket: FillTicket,
    /// When it began, by true time and by the clock of its node.
    pub(super) at: u64,
    pub(super) began: u64,
    /// Writes stamped up to here had lost before it began.
    pub(super) above: u64,
}

pub(super) struct Node<W: Workload> {
    pub(super) id: ReplicaId,
    pub(super) replica: Replica<W::Key, W::Value>,
    pub(super) clock: SimClock,
    pub(super) state: State,
    /// The opening it replaces: a restart under the same name.
    pub(super) replaces: Option<usize>,
    pub(super) inbox: Vec<(usize, Message<W::Key, W::Value>)>,
    pub(super) wake: u64,
    pub(super) views: BTreeMap<usize, View>,
    pub(super) silent_since: BTreeMap<usize, u64>,
    pub(super) fills: BTreeMap<u64, RunningFill<W::Key>>,
    /// The newest register each key ever had here, and whether it was a tombstone.
    pub(super) newest: BTreeMap<W::Key, (Stamp, bool)>,
    /// What a listener who follows the changes believes to be there.
    pub(super) mirror: BTreeMap<W::Key, Stamp>,
    /// Consecutive wake-ups at one instant.
    pub(super) spins: u32,
    pub(super) last_timeout: u64,
}

impl<W: Workload> Node<W> {
    pub(super) fn now(&self, at: u64) -> Now {
        self.clock.now(at)
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    pub(super) fn runs(&self) -> bool {
        self.state != State::Gone
    }
}
