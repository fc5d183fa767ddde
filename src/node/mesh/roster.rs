//! The live members, and the state that was last reported to the consumer. Events are the difference of the two.
//!
//! Delegate callbacks run under memberlist's table lock, so they only write here, under a short lock of this module. A
//! consumer that falls behind receives the latest state of each member, in order per member, and no queue grows.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::Notify;
use uuid::Uuid;

use super::counters::Counters;
use crate::sync::Mutex;

/// Maximum number of processes remembered as gone for good. A late rumour about one of them must not bring it back.
const RETIRED: usize = 512;
/// Maximum number of notices that wait for the consumer. Above it, the oldest is dropped.
const NOTICES: usize = 64;
/// The time between two reports of the same name conflict.
const CONFLICT_PAUSE: Duration = Duration::from_secs(60);
/// Maximum number of departed members remembered for rejoining.
const LOST: usize = 256;

/// One process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The stable name of the member.
    pub name: Arc<str>,
    /// The address at which it is reached, TCP and UDP.
    pub addr: SocketAddr,
    /// The id of this process. A restarted process has another id.
    pub incarnation: Uuid,
}

/// An event that a mesh reports to its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MeshEvent {
    /// A process is live.
    Up(Peer),
    /// A process is gone.
    Down {
        /// The process that is gone.
        peer: Peer,
        /// True if it said goodbye or was replaced, and will not return. Otherwise it may return.
        left: bool,
    },
    /// Bytes from a member.
    Message {
        /// The bytes as they were sent.
        bytes: Bytes,
        /// True if they were sent by stream, false if by datagram.
        reliable: bool,
    },
    /// No configured seed can be reached; attempts go on.
    SeedsUnreachable {
        /// The rounds of attempts that failed since the last success.
        attempts: u64,
    },
    /// A seed answered again.
    SeedsReachable,
    /// Membership was rebuilt in place. Members stay up unless a later event reports otherwise.
    Rebuilt {
        /// The reason.
        reason: &'static str,
    },
    /// Two live processes use one member name: give each its own.
    NameConflict {
        /// The name.
        name: Arc<str>,
        /// The addresses that claim it.
        addrs: [SocketAddr; 2],
    },
}

/// A member that is live according to memberlist.
struct Here {
    peer: Peer,
    generation: u64,
    seen: Instant,
}

/// The live and the reported state of one member name.
#[derive(Default)]
struct Entry {
    /// The process that is live under the name.
    here: Option<Here>,
    /// The process that the consumer knows as live under the name.
    reported: Option<Peer>,
    /// True if the member in `reported` said goodbye or was replaced, false if it failed.
    left: bool,
    /// True while the name is in `RosterState::dirty`.
    queued: bool,
}

#[derive(Default)]
struct RosterState {
    entries: HashMap<Arc<str>, Entry>,
    /// The names whose live state may differ from the reported one, each once.
    dirty: VecDeque<Arc<str>>,
    /// The second event of a difference, which the consumer receives next.
    pending: Option<MeshEvent>,
    /// The processes that are gone for good, the oldest first, and the same as a set.
    retired: VecDeque<Uuid>,
    retired_set: HashSet<Uuid>,
    /// Members that departed without a goodbye, the latest of each name.
    lost: VecDeque<Peer>,
    /// Members that were reported as failed and said goodbye afterwards.
    gone: VecDeque<Peer>,
    /// The events that are not about one member: seeds, rebuilds, conflicts.
    notices: VecDeque<MeshEvent>,
    /// The last name conflict, and the time at which it was reported.
    conflict: Option<(MeshEvent, Instant)>,
    /// The number of the current memberlist instance.
    generation: u64,
}

/// The roster of a mesh, shared by the delegate, the tasks and the consumer.
pub(super) struct Roster {
    own: Arc<str>,
    state: Mutex<RosterState>,
    pub(super) changed: Notify,
    counters: Arc<Counters>,
}

impl Roster {
    pub(super) fn new(own: Arc<str>, counters: Arc<Counters>) -> Self {
        Self { own, state: Mutex::default(), changed: Notify::new(), counters }
    }

    /// Begins a new memberlist instance. Callbacks of older instances are ignored from now on.
    pub(super) fn next_generation(&self) -> u64 {
        let mut state = self.state.lock();
        state.generation += 1;
        let now = Instant::now();
        // The new instance has probed no member yet, so silence is measured from now on.
        for here in state.entries.values_mut().filter_map(|e| e.here.as_mut()) {
            here.seen = now;
        }
        state.generation
    }

    /// Returns to the previous instance, because the new one did not start.
    pub(super) fn previous_generation(&self) {
        self.state.lock().generation -= 1;
    }

    pub(super) fn up(&self, generation: u64, peer: Peer) {
        let mut state = self.state.lock();
        // A retired process does not return: if memberlist reports it live, that is a late rumour.
        if peer.name == self.own || generation != state.generation || state.retired_set.contains(&peer.incarnation) {
            return;
        }
        self.counters.member_changes.one();
        // A name belongs to one process: a predecessor that was declared dead will not return under it.
        if let Some(before) = state.take_lost(|lost| lost.name == peer.name)
            && before.incarnation != peer.incarnation
        {
            state.retire(before.incarnation);
        }
        let entry = state.entries.entry(peer.name.clone()).or_default();
        let replaced = [entry.here.as_ref().map(|h| &h.peer), entry.reported.as_ref()]
            .into_iter()
            .flatten()
            .map(|p| p.incarnation)
            .find(|old| *old != peer.incarnation);
        let name = peer.name.clone();
        entry.here = Some(Here { peer, generation, seen: Instant::now() });
        // `difference` reports that the predecessor has left before it reports this process.
        if let Some(old) = replaced {
            entry.left = true;
            state.retire(old);
        }
        state.mark(&name);
        drop(state);
        self.changed.notify_one();
    }

    pub(super) fn down(&self, generation: u64, name: &Arc<str>) {
        let mut state = self.state.lock();
        if generation != state.generation {
            return;
        }
        self.counters.member_changes.one();
        state.depart(name, false);
        drop(state);
        self.changed.notify_one();
    }

    /// Records that a process is leaving. memberlist's own callback cannot tell a goodbye from a failure.
    pub(super) fn goodbye(&self, incarnation: Uuid) {
        let mut state = self.state.lock();
        state.retire(incarnation);
        let name = state
            .entries
            .iter()
            .find(|(_, e)| e.here.as_ref().is_some_and(|h| h.peer.incarnation == incarnation))
            .map(|(name, _)| name.clone());
        match name {
            Some(name) => state.depart(&name, true),
            None => state.leave_after_all(incarnation),
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Records that a probe of this member was answered.
    pub(super) fn seen(&self, name: &Arc<str>) {
        if let Some(here) = self.state.lock().entries.get_mut(name).and_then(|e| e.here.as_mut()) {
            here.seen = Instant::now();
        }
    }

    /// Returns the longest time for which a live member has answered no probe.
    pub(super) fn longest_silence(&self) -> Duration {
        let now = Instant::now();
        let state = self.state.lock();
        let silences = state.entries.values().filter_map(|e| e.here.as_ref()).map(|h| now - h.seen);
        silences.max().unwrap_or_default()
    }

    /// Removes the members that only an older instance knew, some time after a rebuild.
    pub(super) fn sweep(&self) {
        let mut state = self.state.lock();
        let generation = state.generation;
        let stale: Vec<_> = state
            .entries
            .iter()
            .filter(|(_, e)| e.here.as_ref().is_some_and(|h| h.generation < generation))
            .map(|(name, _)| name.clone())
            .collect();
        for name in &stale {
            state.depart(name, false);
        }
        drop(state);
        self.changed.notify_one();
    }

    pub(super) fn members(&self) -> Vec<Peer> {
        let state = self.state.lock();
        state.entries.values().filter_map(|e| e.here.as_ref()).map(|h| h.peer.clone()).collect()
    }

    /// Returns true if this member is known, or if one more member does not exceed `most`.
    pub(super) fn has_room_for(&self, name: &Arc<str>, most: usize) -> bool {
        let state = self.state.lock();
        *name == self.own || state.entries.contains_key(name) || state.entries.len() < most
    }

    pub(super) fn is_here(&self, addr: SocketAddr) -> bool {
        let state = self.state.lock();
        state.entries.values().filter_map(|e| e.here.as_ref()).any(|h| h.peer.addr == addr)
    }

    /// Returns the addresses of members that departed without a goodbye, to look for them.
    pub(super) fn lost(&self) -> Vec<SocketAddr> {
        self.state.lock().lost.iter().map(|peer| peer.addr).collect()
    }

    pub(super) fn notice(&self, event: MeshEvent) {
        let mut state = self.state.lock();
        if state.notices.len() == NOTICES {
            state.notices.pop_front();
        }
        state.notices.push_back(event);
        drop(state);
        self.changed.notify_one();
    }

    /// Reports a name conflict. The same conflict is gossiped for as long as it lasts, so it is reported once a minute.
    pub(super) fn conflict(&self, name: &Arc<str>, addrs: [SocketAddr; 2]) {
        let event = MeshEvent::NameConflict { name: name.clone(), addrs };
        let mut state = self.state.lock();
        if state.conflict.as_ref().is_some_and(|(e, at)| *e == event && at.elapsed() < CONFLICT_PAUSE) {
            return;
        }
        state.conflict = Some((event.clone(), Instant::now()));
        drop(state);
        tracing::warn!(%name, ?addrs, "two processes use one member name: give each process its own name");
        self.notice(event);
    }

    /// Returns the next event that the consumer has not received.
    pub(super) fn next_event(&self) -> Option<MeshEvent> {
        let mut state = self.state.lock();
        if let Some(event) = state.pending.take() {
            return Some(event);
        }
        if let Some(peer) = state.gone.pop_front() {
            return Some(MeshEvent::Down { peer, left: true });
        }
        while let Some(name) = state.dirty.pop_front() {
            if let Some(event) = state.difference(&name) {
                return Some(event);
            }
        }
        state.notices.pop_front()
    }
}

impl RosterState {
    fn mark(&mut self, name: &Arc<str>) {
        if let Some(entry) = self.entries.get_mut(name)
            && !std::mem::replace(&mut entry.queued, true)
        {
            self.dirty.push_back(name.clone());
        }
    }

    fn depart(&mut self, name: &Arc<str>, left: bool) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let Some(here) = entry.here.take() else { return };
        // A retired process said goodbye or was replaced, even if memberlist reports a failure.
        let left = left || self.retired_set.contains(&here.peer.incarnation);
        entry.left = left;
        if !left {
            self.lost.retain(|lost| lost.name != *name);
            if self.lost.len() == LOST {
                self.lost.pop_front();
            }
            self.lost.push_back(here.peer);
        }
        self.mark(name);
    }

    fn take_lost(&mut self, which: impl Fn(&Peer) -> bool) -> Option<Peer> {
        let index = self.lost.iter().position(which)?;
        self.lost.remove(index)
    }

    /// Records the goodbye of a process that was declared dead before the goodbye arrived.
    fn leave_after_all(&mut self, incarnation: Uuid) {
        let Some(peer) = self.take_lost(|lost| lost.incarnation == incarnation) else { return };
        match self.entries.get_mut(&peer.name) {
            // The consumer has not received the failure yet: report a goodbye instead.
            Some(entry) => entry.left = true,
            None => self.gone.push_back(peer),
        }
    }

    fn retire(&mut self, incarnation: Uuid) {
        if !self.retired_set.insert(incarnation) {
            return;
        }
        self.retired.push_back(incarnation);
        if self.retired.len() > RETIRED
            && let Some(oldest) = self.retired.pop_front()
        {
            self.retired_set.remove(&oldest);
        }
    }

    /// Turns the difference between the live and the reported state of a member into an event. If there are two events,
    /// keeps the second one for the next call.
    fn difference(&mut self, name: &Arc<str>) -> Option<MeshEvent> {
        let entry = self.entries.get_mut(name)?;
        entry.queued = false;
        let here = entry.here.as_ref().map(|h| h.peer.clone());
        if here == entry.reported {
            if here.is_none() {
                self.entries.remove(name);
            }
            return None;
        }
        let reported = std::mem::replace(&mut entry.reported, here.clone());
        let left = entry.left;
        if here.is_none() {
            self.entries.remove(name);
        } else {
            entry.left = false;
        }
        let up = here.map(MeshEvent::Up);
        match reported {
            Some(peer) => {
                self.pending = up;
                Some(MeshEvent::Down { peer, left })
            }
            None => up,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster() -> Roster {
        let roster = Roster::new("own".into(), Arc::default());
        assert_eq!(roster.next_generation(), 1);
        roster
    }

    fn peer(incarnation: u128) -> Peer {
        let addr = ([127, 0, 0, 1], 7).into();
        Peer { name: "b".into(), addr, incarnation: Uuid::from_u128(incarnation) }
    }

    fn events(roster: &Roster) -> Vec<MeshEvent> {
        std::iter::from_fn(|| roster.next_event()).collect()
    }

    fn down(incarnation: u128, left: bool) -> MeshEvent {
        MeshEvent::Down { peer: peer(incarnation), left }
    }

    #[test]
    fn a_goodbye_counts_after_a_process_was_called_dead() {
        for reported in [true, false] {
            let roster = roster();
            roster.up(1, peer(1));
            assert_eq!(events(&roster), [MeshEvent::Up(peer(1))]);
            roster.down(1, &peer(1).name);
            if reported {
                assert_eq!(events(&roster), [down(1, false)]);
            }
            assert_eq!(roster.lost(), [peer(1).addr]);
            roster.goodbye(peer(1).incarnation);
            roster.goodbye(peer(1).incarnation);
            assert_eq!(events(&roster), [down(1, true)]);
            assert!(roster.lost().is_empty());
        }
    }

    #[test]
    fn a_process_called_dead_does_not_come_back_once_another_has_its_name() {
        let roster = roster();
        roster.up(1, peer(1));
        roster.down(1, &peer(1).name);
        roster.up(1, peer(2));
        roster.up(1, peer(1));
        assert_eq!(events(&roster), [MeshEvent::Up(peer(2))]);
        roster.down(1, &peer(2).name);
        assert_eq!(events(&roster), [down(2, false)]);
        roster.up(1, peer(3));
        roster.up(1, peer(2));
        assert_eq!(events(&roster), [MeshEvent::Up(peer(3))]);
        assert_eq!(roster.members(), [peer(3)]);
    }
}
