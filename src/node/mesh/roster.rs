//! Who is here, and what the consumer has been told: the events are the difference of the two.
//!
//! Delegate callbacks run under memberlist's table lock, so they only write here, under a short lock of ours. A
//! consumer that falls behind is told the latest state of each member, in order per member, and nothing grows.

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

/// Processes known to be gone for good. A late rumour about one of the last few hundred must not bring it back.
const RETIRED: usize = 512;
const NOTICES: usize = 64;
const CONFLICT_PAUSE: Duration = Duration::from_secs(60);
/// Departed members remembered for rejoining.
const LOST: usize = 256;

/// One process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Stable name of the member.
    pub name: Arc<str>,
    /// Where it is reached, TCP and UDP.
    pub addr: SocketAddr,
    /// Which process this is; a restart has another one.
    pub incarnation: Uuid,
}

/// What a mesh tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MeshEvent {
    /// A process is there.
    Up(Peer),
    /// A process is gone.
    Down {
        /// The one that is gone.
        peer: Peer,
        /// It said goodbye or was replaced, and will not return; otherwise it may.
        left: bool,
    },
    /// Bytes from some member.
    Message {
        /// As they were sent.
        bytes: Bytes,
        /// Sent by stream, not by datagram.
        reliable: bool,
    },
    /// No configured seed can be reached; attempts go on.
    SeedsUnreachable {
        /// Attempts that failed since the last success.
        attempts: u64,
    },
    /// A seed answered again.
    SeedsReachable,
    /// Membership was rebuilt in place; members stay up unless told otherwise.
    Rebuilt {
        /// Why.
        reason: &'static str,
    },
    /// Another live process uses this member name: give each its own.
    NameConflict {
        /// The name.
        name: Arc<str>,
        /// The addresses that claim it.
        addrs: [SocketAddr; 2],
    },
}

/// A member that is there according to memberlist.
struct Here {
    peer: Peer,
    generation: u64,
    seen: Instant,
}

#[derive(Default)]
struct Entry {
    here: Option<Here>,
    told: Option<Peer>,
    /// How the member `told` about went, if it did.
    left: bool,
    queued: bool,
}

#[derive(Default)]
struct RosterState {
    entries: HashMap<Arc<str>, Entry>,
    dirty: VecDeque<Arc<str>>,
    pending: Option<MeshEvent>,
    retired: VecDeque<Uuid>,
    retired_set: HashSet<Uuid>,
    /// Members that went without a goodbye, the latest of each name.
    lost: VecDeque<Peer>,
    /// Members reported as down that turned out to have left: they said goodbye afterwards.
    gone: VecDeque<Peer>,
    notices: VecDeque<MeshEvent>,
    conflict: Option<(MeshEvent, Instant)>,
    generation: u64,
}

/// Shared by the delegate, the tasks and the consumer.
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

    /// A new memberlist instance begins; what older ones still say is ignored from now on.
    pub(super) fn next_generation(&self) -> u64 {
        let mut state = self.state.lock();
        state.generation += 1;
        let now = Instant::now();
        for here in state.entries.values_mut().filter_map(|e| e.here.as_mut()) {
            here.seen = now;
        }
        state.generation
    }

    /// The new instance did not start: listen to the old one again.
    pub(super) fn previous_generation(&self) {
        self.state.lock().generation -= 1;
    }

    pub(super) fn up(&self, generation: u64, peer: Peer) {
        let mut state = self.state.lock();
        if peer.name == self.own || generation != state.generation || state.retired_set.contains(&peer.incarnation) {
            return;
        }
        self.counters.member_changes.one();
        // A name stands for one process: a predecessor that was called dead will not return under it.
        if let Some(before) = state.take_lost(|lost| lost.name == peer.name)
            && before.incarnation != peer.incarnation
        {
            state.retire(before.incarnation);
        }
        let entry = state.entries.entry(peer.name.clone()).or_default();
        let replaced = [entry.here.as_ref().map(|h| &h.peer), entry.told.as_ref()]
            .into_iter()
            .flatten()
            .map(|p| p.incarnation)
            .find(|old| *old != peer.incarnation);
        let name = peer.name.clone();
        entry.here = Some(Here { peer, generation, seen: Instant::now() });
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

    /// A process said it is leaving, which memberlist's own callback cannot tell from a failure.
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

    /// A probe of this member was answered.
    pub(super) fn seen(&self, name: &Arc<str>) {
        if let Some(here) = self.state.lock().entries.get_mut(name).and_then(|e| e.here.as_mut()) {
            here.seen = Instant::now();
        }
    }

    /// How long the most silent live member has been silent.
    pub(super) fn longest_silence(&self) -> Duration {
        let now = Instant::now();
        let state = self.state.lock();
        let silences = state.entries.values().filter_map(|e| e.here.as_ref()).map(|h| now - h.seen);
        silences.max().unwrap_or_default()
    }

    /// After a rebuild: members only an older instance knew are gone.
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

    /// Whether this member is known, or one more would not be too many.
    pub(super) fn has_room_for(&self, name: &Arc<str>, most: usize) -> bool {
        let state = self.state.lock();
        *name == self.own || state.entries.contains_key(name) || state.entries.len() < most
    }

    pub(super) fn is_here(&self, addr: SocketAddr) -> bool {
        let state = self.state.lock();
        state.entries.values().filter_map(|e| e.here.as_ref()).any(|h| h.peer.addr == addr)
    }

    /// Members that went without a goodbye, to be looked for.
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

    /// The same conflict is gossiped for as long as it lasts; tell it once a minute.
    pub(super) fn conflict(&self, name: &Arc<str>, addrs: [SocketAddr; 2]) {
        let event = MeshEvent::NameConflict { name: name.clone(), addrs };
        let mut state = self.state.lock();
        if state.conflict.as_ref().is_some_and(|(e, at)| *e == event && at.elapsed() < CONFLICT_PAUSE) {
            return;
        }
        state.conflict = Some((event.clone(), Instant::now()));
        drop(state);
        tracing::warn!(%name, ?addrs, "two processes use one member name: give each its own");
        self.notice(event);
    }

    /// The next thing the consumer does not know yet.
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

    /// The goodbye of a process that was called dead before it came.
    fn leave_after_all(&mut self, incarnation: Uuid) {
        let Some(peer) = self.take_lost(|lost| lost.incarnation == incarnation) else { return };
        match self.entries.get_mut(&peer.name) {
            // Its departure is not reported yet.
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

    /// Turns what is here and what was told into one event, or two with the second kept for next time.
    fn difference(&mut self, name: &Arc<str>) -> Option<MeshEvent> {
        let entry = self.entries.get_mut(name)?;
        entry.queued = false;
        let here = entry.here.as_ref().map(|h| h.peer.clone());
        if here == entry.told {
            if here.is_none() {
                self.entries.remove(name);
            }
            return None;
        }
        let told = std::mem::replace(&mut entry.told, here.clone());
        let left = entry.left;
        if here.is_none() {
            self.entries.remove(name);
        } else {
            entry.left = false;
        }
        let up = here.map(MeshEvent::Up);
        match told {
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
