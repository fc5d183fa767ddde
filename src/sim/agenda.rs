//! The scheduled events of a run, in the order in which they happen.

use std::collections::BTreeMap;

use super::process::Payload;
use crate::replica_id::ReplicaId;

/// A scheduled event. `Sent` reports to a sender that its bulk message to one receiver has left (`ok`), or has failed.
/// `Left` is the arrival of the goodbye of process `who`. `Detector` is one round of all failure detectors.
/// `Stills` is the time at which a process sends stills.
#[derive(Debug)]
pub(super) enum Event {
    Deliver { address: usize, payload: Payload },
    Sent { opening: usize, to: ReplicaId, ok: bool },
    FillDone { opening: usize, fill: u64 },
    Left { process: usize, who: usize },
    Detector,
    Stills { process: usize },
}

/// The scheduled events.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// Events by time, then by the order in which they were added.
    events: BTreeMap<(u64, u64), Event>,
    added: u64,
}

impl Agenda {
    /// Adds an event. Events of the same time happen in the order in which they were added.
    pub(super) fn add(&mut self, at: u64, event: Event) {
        self.added += 1;
        self.events.insert((at, self.added), event);
    }

    /// Returns the time of the first event.
    pub(super) fn next_at(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// Removes and returns the first event.
    pub(super) fn pop(&mut self) -> Option<Event> {
        self.events.pop_first().map(|(_, event)| event)
    }
}
