//! The processes of the cluster and the cache replicas that are open on them. This state decides which messages are
//! accepted, which processes are greeted, which replicas have left, whether a cache may have peers, and whether the
//! cache is ready. A state machine without IO, driven by a node's driver and by the simulator.
//!
//! The ids of the replicas that one process opens rise ([`next_id`]). So of two replicas of one cache on one process,
//! the one with the smaller id was closed first, in whichever order their messages arrive. A clone of the process is
//! the exception: it may still use the smaller id.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::{Builder, Uuid};

use crate::bugs::PutBack;
use crate::hlc::HlcTime;
use crate::replica_id::ReplicaId;

/// Maximum number of departed processes kept, so that an operator can still name them.
const MAX_DEPARTED: usize = 1_024;
/// Nanoseconds after which a process that reported "not open" is greeted again.
const ASK_AGAIN: u64 = 30_000_000_000;

/// The state of one cache on one process, as far as this node knows.
#[derive(Clone, Copy, Debug)]
enum Presence {
    /// Open, as this replica.
    Open(ReplicaId),
    /// Not open, as the process reported at this monotonic time.
    NotOpen(u64),
}

/// One process, and the address `P` at which the driver of this state machine reaches the process.
#[derive(Debug)]
struct Process<P> {
    name: Arc<str>,
    place: P,
    live: bool,
    caches: BTreeMap<String, Presence>,
    /// By cache, the greatest replica that has sent from this process, or that a "not open" answer of it covers.
    newest: BTreeMap<String, ReplicaId>,
}

/// Returns an id greater than `last` for the next replica of a process: the wall time and 74 of the `drawn` bits.
pub(crate) fn next_id(last: Option<Uuid>, drawn: Uuid, wall: HlcTime) -> Uuid {
    let mut random = [0; 10];
    random.copy_from_slice(&drawn.as_bytes()[6..]);
    let by_time = Builder::from_unix_timestamp_millis(wall / 1_000_000, &random).into_uuid();
    // A clock that stands still or steps back must not produce a smaller id.
    let after_last = last.and_then(|last| last.as_u128().checked_add(1)).map(Uuid::from_u128);
    after_last.map_or(by_time, |least| by_time.max(least))
}

/// The answer of a process that does not have a cache open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotOpen {
    /// The replica whose digest is answered.
    pub(crate) asked: ReplicaId,
    /// The greatest replica of any cache that the process had opened by then. Its replicas of the cache in question, up
    /// to this one, are closed.
    pub(crate) last: ReplicaId,
}

/// The readiness of a cache that has not caught up with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// No other process is live, and no seed but this process is configured.
    Alone,
    /// This many other processes are live, and each has reported that it does not have the cache open.
    First(usize),
    /// A process may have the cache open, and its state has not been received in full.
    Waiting,
}

/// The known processes and the caches open on them. See the [module](self).
#[derive(Debug)]
pub(crate) struct Membership<P> {
    processes: BTreeMap<Uuid, Process<P>>,
    /// True if a seed besides this process is configured. While no process is live, the seed may still lead to one.
    awaits_seeds: bool,
    /// True once another process has been live since the start.
    met: bool,
    /// True if the replicas of a process may have changed since the last [`take_changed`](Membership::take_changed).
    changed: bool,
    put_back: PutBack,
}

impl<P> Default for Membership<P> {
    fn default() -> Self {
        Self {
            processes: BTreeMap::new(),
            awaits_seeds: false,
            met: false,
            changed: true,
            put_back: PutBack::default(),
        }
    }
}

impl<P: Clone> Membership<P> {
    /// Puts known mistakes back, for tests of the checkers.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn set_bugs(&mut self, bugs: crate::bugs::Bugs) {
        self.put_back.set(bugs);
    }

    /// Marks a process as live. If it returns after a silence, assumes that the caches which it had open are still
    /// open.
    ///
    /// Returns its predecessors: the other processes of its name. A name belongs to one process at a time, so they will
    /// not return, even if they were not declared dead before. The caller must drop them for good with
    /// [`down`](Self::down).
    #[must_use]
    pub(crate) fn up(&mut self, incarnation: Uuid, name: &Arc<str>, place: P) -> Vec<Uuid> {
        let process = self.known(incarnation, name, place.clone());
        process.place = place;
        process.live = true;
        self.met = true;
        let predecessors = self.processes.iter().filter(|(id, it)| it.name == *name && **id != incarnation);
        predecessors.map(|(id, _)| *id).collect()
    }

    /// Records a process that sends but was not reported live, for simulations that accept messages of dead processes.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn note_sender(&mut self, incarnation: Uuid, name: &Arc<str>, place: P) {
        self.known(incarnation, name, place);
    }

    /// Returns the record of a process. A new record is not live until [`up`](Self::up).
    fn known(&mut self, incarnation: Uuid, name: &Arc<str>, place: P) -> &mut Process<P> {
        self.changed = true;
        let name = Arc::clone(name);
        let new = || Process { name, place, live: false, caches: BTreeMap::new(), newest: BTreeMap::new() };
        self.processes.entry(incarnation).or_insert_with(new)
    }

    /// Marks a process as not live, or drops it if it is gone `for_good`. Returns the replicas that were open there.
    pub(crate) fn down(&mut self, incarnation: Uuid, for_good: bool) -> Vec<(String, ReplicaId)> {
        self.changed = true;
        let Some(process) = self.processes.get_mut(&incarnation) else { return Vec::new() };
        process.live = false;
        let replicas = open_replicas(process);
        if for_good {
            self.processes.remove(&incarnation);
        }
        self.bound_departed();
        replicas
    }

    fn bound_departed(&mut self) {
        let departed: Vec<_> = self.processes.iter().filter(|(_, process)| !process.live).map(|(id, _)| *id).collect();
        // Removes in the order of ids, which are random: the map does not record when a process departed.
        for id in departed.iter().take(departed.len().saturating_sub(MAX_DEPARTED)) {
            self.processes.remove(id);
        }
    }

    /// Records a replica that sent from a process. Returns the replica that it replaces, if the cache was reopened.
    /// Ignores a replica that a greater one of the process has replaced already: its message is late.
    pub(crate) fn heard(&mut self, incarnation: Uuid, cache: &str, replica: ReplicaId) -> Option<ReplicaId> {
        let believed = self.put_back.bugs().former_believed;
        let Process { caches, newest, .. } = self.processes.get_mut(&incarnation)?;
        let newest = newest.entry(cache.to_owned()).or_insert(replica);
        if *newest > replica && !believed {
            return None;
        }
        *newest = replica;
        let before = match caches.insert(cache.to_owned(), Presence::Open(replica)) {
            Some(Presence::Open(before)) if before == replica => return None,
            Some(Presence::Open(before)) => Some(before),
            _ => None,
        };
        self.changed = true;
        before
    }

    /// Returns true if messages of a replica must be ignored: its process is not live, or the replica is former.
    /// Accepting them would re-create a member that is never reported down.
    pub(crate) fn is_late(&self, incarnation: Uuid, cache: &str, replica: ReplicaId) -> bool {
        !self.is_live(incarnation) || self.is_former(incarnation, cache, replica)
    }

    /// Returns true if a greater replica has replaced this one on its process, or this one was closed there. A message
    /// of such a replica is late, or was sent by a clone of the process.
    pub(crate) fn is_former(&self, incarnation: Uuid, cache: &str, replica: ReplicaId) -> bool {
        let Some(Process { caches, newest, .. }) = self.processes.get(&incarnation) else { return false };
        let is_closed = matches!(caches.get(cache), Some(Presence::NotOpen(_)));
        let is_former = |newest: &ReplicaId| *newest > replica || (is_closed && *newest == replica);
        newest.get(cache).is_some_and(is_former) && !self.put_back.bugs().former_believed
    }

    /// Applies a "not open" answer of a process. `ours` is the current replica of the cache on this node. Returns the
    /// replica of that process which the answer closes.
    ///
    /// Ignores an answer to a predecessor of `ours`, because the process may have opened the cache since. Also ignores
    /// an answer that is older than a replica from which a message has already arrived: the process opened the cache
    /// after it answered.
    pub(crate) fn not_open(
        &mut self,
        incarnation: Uuid,
        cache: &str,
        (answer, ours): (NotOpen, Option<ReplicaId>),
        mono: u64,
    ) -> Option<ReplicaId> {
        let believed = self.put_back.bugs().stale_answers_believed;
        let Process { caches, newest, .. } = self.processes.get_mut(&incarnation)?;
        let newest = newest.entry(cache.to_owned()).or_insert(answer.last);
        if (ours != Some(answer.asked) || *newest > answer.last) && !believed {
            return None;
        }
        self.changed = true;
        *newest = answer.last.max(*newest);
        match caches.insert(cache.to_owned(), Presence::NotOpen(mono)) {
            Some(Presence::Open(replica)) => Some(replica),
            Some(Presence::NotOpen(_)) | None => None,
        }
    }

    /// Discards "not open" answers about a cache that was opened here: they answered an earlier replica of this node
    /// and may be outdated. Without this, two replicas that are opened at about the same time would not find each other
    /// until one of them asks again.
    pub(crate) fn opened(&mut self, cache: &str) {
        if self.put_back.bugs().not_open_for_long {
            return;
        }
        for process in self.processes.values_mut() {
            if matches!(process.caches.get(cache), Some(Presence::NotOpen(_))) {
                process.caches.remove(cache);
            }
        }
    }

    /// Returns true if a process is live.
    pub(crate) fn is_live(&self, incarnation: Uuid) -> bool {
        self.processes.get(&incarnation).is_some_and(|process| process.live)
    }

    /// Forgets a process, because an operator declared that it will not return. Returns the replicas that were open
    /// there. If the process is live nevertheless, it is greeted again like a new one.
    pub(crate) fn forget(&mut self, incarnation: Uuid) -> Vec<(String, ReplicaId)> {
        if !self.is_live(incarnation) {
            return self.down(incarnation, true);
        }
        self.changed = true;
        let Some(process) = self.processes.get_mut(&incarnation) else { return Vec::new() };
        let replicas = open_replicas(process);
        process.caches.clear();
        replicas
    }

    /// Returns the address of the process on which a replica is open, if that process is live.
    pub(crate) fn home(&self, cache: &str, replica: ReplicaId) -> Option<&P> {
        self.lives_on(cache, replica).filter(|process| process.live).map(|process| &process.place)
    }

    /// Returns the process on which a replica is or was open, preferably a live one.
    fn lives_on(&self, cache: &str, replica: ReplicaId) -> Option<&Process<P>> {
        let here =
            |process: &&Process<P>| matches!(process.caches.get(cache), Some(Presence::Open(id)) if *id == replica);
        self.processes.values().filter(here).max_by_key(|process| process.live)
    }

    /// Returns true if [`node_names`](Self::node_names) may have changed since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Returns the ids of the live processes, in ascending order.
    pub(crate) fn live_ids(&self) -> Vec<Uuid> {
        self.processes.iter().filter(|(_, process)| process.live).map(|(id, _)| *id).collect()
    }

    /// Returns the replica of a cache that is open on a live process.
    pub(crate) fn open_on(&self, incarnation: Uuid, cache: &str) -> Option<ReplicaId> {
        match self.processes.get(&incarnation).filter(|process| process.live)?.caches.get(cache)? {
            Presence::Open(replica) => Some(*replica),
            Presence::NotOpen(_) => None,
        }
    }

    /// Returns the address of a process, if it is live.
    pub(crate) fn place_of(&self, incarnation: Uuid) -> Option<&P> {
        self.processes.get(&incarnation).filter(|process| process.live).map(|process| &process.place)
    }

    /// Returns true if no other process is live.
    pub(crate) fn is_alone(&self) -> bool {
        self.live().next().is_none()
    }

    /// Returns the number of other live processes.
    pub(crate) fn live_len(&self) -> usize {
        self.live().count()
    }

    /// Returns the names of the other live processes.
    pub(crate) fn live_names(&self) -> Vec<String> {
        self.live().map(|process| process.name.to_string()).collect()
    }

    fn live(&self) -> impl Iterator<Item = &Process<P>> {
        self.processes.values().filter(|process| process.live)
    }

    /// Records that seeds besides this process are configured, or that none are.
    pub(crate) fn await_seeds(&mut self, awaits: bool) {
        self.awaits_seeds = awaits;
    }

    /// Returns true if a cache may be open on another live process, or, while none is live, on one that a seed leads
    /// to. While this is true and the cache has no member, it collects no tombstone: its floor would void writes of
    /// members that it has not seen.
    pub(crate) fn expects_peers(&self, cache: &str) -> bool {
        if self.is_alone() { self.awaits_seeds } else { !self.is_open_nowhere(cache) }
    }

    /// Returns true if there may be live members that a cache has not met; `members` are those that it has met. If no
    /// other process is live, seeds count only until a process has been live for the first time.
    pub(crate) fn expects_members(&self, cache: &str, members: &[ReplicaId]) -> bool {
        if self.is_alone() { !self.met && self.awaits_seeds } else { self.has_unmet(cache, members) }
    }

    /// Returns the readiness of a cache that has not caught up with a member.
    pub(crate) fn readiness(&self, cache: &str) -> Readiness {
        match self.live_len() {
            0 if !self.awaits_seeds => Readiness::Alone,
            others if others > 0 && self.is_open_nowhere(cache) => Readiness::First(others),
            _ => Readiness::Waiting,
        }
    }

    /// Returns the live processes to greet: those of which it is not known whether they have the cache open, those
    /// whose replica is not among `members`, and those that reported "not open" at least 30 seconds ago. `members` are
    /// the members of this node's replica.
    pub(crate) fn to_greet(&self, cache: &str, members: &[ReplicaId], mono: u64) -> Vec<P> {
        let stranger = |process: &&Process<P>| match process.caches.get(cache) {
            None => true,
            Some(Presence::Open(replica)) => !members.contains(replica),
            Some(Presence::NotOpen(at)) => mono.saturating_sub(*at) >= ASK_AGAIN,
        };
        self.live().filter(stranger).map(|process| process.place.clone()).collect()
    }

    /// Returns true if a live process may have a cache open with a replica that is not among the `members`.
    fn has_unmet(&self, cache: &str, members: &[ReplicaId]) -> bool {
        self.live().any(|process| match process.caches.get(cache) {
            None => true,
            Some(Presence::Open(replica)) => !members.contains(replica),
            Some(Presence::NotOpen(_)) => false,
        })
    }

    /// Returns true if every live process has reported that it does not have a cache open.
    fn is_open_nowhere(&self, cache: &str) -> bool {
        self.live().all(|process| matches!(process.caches.get(cache), Some(Presence::NotOpen(_))))
    }

    /// Returns the processes of a name, dead ones included, live ones last.
    pub(crate) fn named(&self, name: &str) -> Vec<Uuid> {
        let mut named: Vec<_> = self.processes.iter().filter(|(_, process)| &*process.name == name).collect();
        named.sort_by_key(|(_, process)| process.live);
        named.into_iter().map(|(incarnation, _)| *incarnation).collect()
    }

    /// Returns the name of the process of each replica, by cache.
    pub(crate) fn node_names(&self) -> BTreeMap<String, BTreeMap<ReplicaId, String>> {
        let mut node_names: BTreeMap<String, BTreeMap<_, _>> = BTreeMap::new();
        for process in self.processes.values() {
            for (cache, replica) in open_replicas(process) {
                node_names.entry(cache).or_default().insert(replica, process.name.to_string());
            }
        }
        node_names
    }

    /// Returns the name of the process on which a replica is or was open.
    pub(crate) fn name_of(&self, cache: &str, replica: ReplicaId) -> Option<String> {
        self.lives_on(cache, replica).map(|process| process.name.to_string())
    }
}

fn open_replicas<P>(process: &Process<P>) -> Vec<(String, ReplicaId)> {
    let open = process.caches.iter().filter_map(|(cache, presence)| match presence {
        Presence::Open(replica) => Some((cache.clone(), *replica)),
        Presence::NotOpen(_) => None,
    });
    open.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(n: u8) -> Uuid {
        Uuid::from_bytes([n; 16])
    }

    fn is_up(membership: &mut Membership<u8>, n: u8) -> Vec<Uuid> {
        membership.up(process(n), &format!("n{n}").into(), n)
    }

    fn replica(n: u8) -> ReplicaId {
        ReplicaId::from_bytes([n; 16])
    }

    /// Process 1, which has opened nothing after `last`, answers "not open" to the replica that is open here.
    fn says_not_open(all: &mut Membership<u8>, last: ReplicaId, mono: u64) -> Option<ReplicaId> {
        all.not_open(process(1), "c", (NotOpen { asked: replica(200), last }, Some(replica(200))), mono)
    }

    /// Checks that an answer is ignored if the process opened the cache after it and has already sent from it.
    #[test]
    fn an_answer_from_before_a_cache_was_opened_closes_nothing() {
        let mut all = Membership::default();
        is_up(&mut all, 1);
        all.heard(process(1), "c", replica(2));
        assert_eq!(says_not_open(&mut all, replica(1), 0), None);
        assert_eq!(all.home("c", replica(2)), Some(&1));
        assert_eq!(says_not_open(&mut all, replica(2), 0), Some(replica(2)), "closed since");
    }

    /// Checks that an answer to a closed replica is ignored when it reaches the successor, which has asked again.
    #[test]
    fn an_answer_to_the_replica_before_is_none() {
        let mut all = Membership::default();
        is_up(&mut all, 1);
        let answer = NotOpen { asked: replica(100), last: replica(1) };
        assert_eq!(all.not_open(process(1), "c", (answer, Some(replica(200))), 0), None);
        assert_eq!((all.to_greet("c", &[], 1).len(), all.expects_peers("c")), (1, true));
        assert_eq!(all.not_open(process(1), "c", (answer, None), 0), None);
        says_not_open(&mut all, replica(1), 0);
        assert_eq!((all.to_greet("c", &[], 1).len(), all.expects_peers("c")), (0, false));
    }

    #[test]
    fn a_reopened_cache_takes_the_place_of_the_old_replica() {
        let mut all = Membership::default();
        is_up(&mut all, 1);
        assert_eq!(all.heard(process(1), "c", replica(1)), None);
        assert_eq!(all.heard(process(1), "c", replica(2)), Some(replica(1)));
        assert!(all.home("c", replica(1)).is_none());
        assert!(all.is_late(process(1), "c", replica(1)) && !all.is_late(process(1), "d", replica(1)));
        assert!(!all.is_late(process(1), "c", replica(2)) && !all.is_former(process(2), "c", replica(1)));
        assert_eq!(all.home("c", replica(2)), Some(&1));
        assert_eq!(says_not_open(&mut all, replica(2), 0), Some(replica(2)));
        assert!(all.is_late(process(1), "c", replica(2)), "closed");
        assert_eq!(all.readiness("c"), Readiness::First(1));
    }

    /// Checks that a replica counts as former even if its first message arrives after that of its successor.
    #[test]
    fn the_first_words_of_two_replicas_may_come_in_any_order() {
        let mut all = Membership::default();
        is_up(&mut all, 1);
        assert_eq!(all.heard(process(1), "c", replica(2)), None);
        assert!(all.is_late(process(1), "c", replica(1)));
        assert_eq!(all.heard(process(1), "c", replica(1)), None, "processing it anyway changes nothing");
        assert_eq!(all.home("c", replica(2)), Some(&1));
        assert!(!all.is_late(process(1), "c", replica(2)));
    }

    #[test]
    fn the_ids_of_one_process_rise() {
        let hour = 3_600_000_000_000;
        let (first, drawn) = (next_id(None, Uuid::max(), 2 * hour), Uuid::nil());
        let after = next_id(Some(first), drawn, 2 * hour + 5_000_000);
        let back = next_id(Some(after), drawn, hour);
        assert!(first < after && after < back, "{first} {after} {back}");
        assert_ne!(next_id(None, Uuid::max(), hour), next_id(None, drawn, hour), "and no two processes have one");
        assert_eq!(next_id(Some(Uuid::max()), drawn, hour), next_id(None, drawn, hour), "nothing is greater");
    }

    #[test]
    fn processes_are_greeted_until_they_answer_and_asked_again_after_a_while() {
        let mut all = Membership::default();
        is_up(&mut all, 1);
        assert_eq!(all.to_greet("c", &[], 0).len(), 1);
        all.heard(process(1), "c", replica(1));
        assert_eq!(all.to_greet("c", &[], 0).len(), 1, "the replica of this process is new and knows no member");
        assert!(all.to_greet("c", &[replica(1)], 0).is_empty());
        says_not_open(&mut all, replica(1), 0);
        assert!(all.to_greet("c", &[], ASK_AGAIN - 1).is_empty());
        assert_eq!(all.to_greet("c", &[], ASK_AGAIN).len(), 1);
    }

    #[test]
    fn a_replica_that_opens_a_cache_greets_every_process_again() {
        let mut all = Membership::default();
        is_up(&mut all, 1);
        says_not_open(&mut all, replica(1), 0);
        assert_eq!((all.to_greet("c", &[], 1).len(), all.expects_peers("c")), (0, false));
        all.opened("c");
        assert_eq!((all.to_greet("c", &[], 1).len(), all.expects_peers("c")), (1, true));
        all.heard(process(1), "c", replica(1));
        all.opened("c");
        assert_eq!(all.home("c", replica(1)), Some(&1), "who has it open has it open");
    }

    #[test]
    fn who_left_is_not_live_and_who_is_forgotten_while_there_is_met_again() {
        let mut all = Membership::default();
        is_up(&mut all, 1);
        is_up(&mut all, 2);
        all.heard(process(1), "c", replica(1));
        all.down(process(2), true);
        assert!(all.place_of(process(1)).is_some() && all.is_late(process(2), "c", replica(2)));
        assert_eq!(all.forget(process(1)), [("c".to_owned(), replica(1))]);
        assert_eq!(all.to_greet("c", &[replica(1)], 0).len(), 1);
    }

    #[test]
    fn a_process_replaces_all_others_of_its_name_dead_or_alive() {
        let mut all = Membership::default();
        let restarted = |all: &mut Membership<u8>, n: u8| all.up(process(n), &"n1".into(), n);
        assert!(is_up(&mut all, 2).is_empty() && is_up(&mut all, 1).is_empty());
        all.heard(process(1), "c", replica(1));
        assert_eq!(all.down(process(1), false), [("c".to_owned(), replica(1))]);
        assert!(is_up(&mut all, 1).is_empty(), "the same process has come back");
        all.down(process(1), false);
        assert_eq!(restarted(&mut all, 7), [process(1)]);
        assert_eq!(restarted(&mut all, 8).len(), 2, "until they are dropped");
        assert_eq!(all.down(process(1), true), [("c".to_owned(), replica(1))]);
        all.down(process(7), true);
        assert_eq!(all.named("n1"), [process(8)]);
    }

    #[test]
    fn a_cache_is_alone_only_without_members_and_without_expected_members() {
        let mut all = Membership::default();
        assert_eq!((all.readiness("c"), all.expects_peers("c")), (Readiness::Alone, false));
        all.await_seeds(true);
        assert_eq!((all.readiness("c"), all.expects_peers("c")), (Readiness::Waiting, true));
        assert!(all.expects_members("c", &[]));
        is_up(&mut all, 1);
        assert_eq!((all.readiness("c"), all.expects_peers("c")), (Readiness::Waiting, true));
        says_not_open(&mut all, replica(1), 0);
        assert_eq!((all.readiness("c"), all.expects_peers("c")), (Readiness::First(1), false));
        all.down(process(1), false);
        assert!(all.expects_peers("c"), "the seeds may lead to others");
        assert!(!all.expects_members("c", &[]), "a member was there and has departed");
    }

    #[test]
    fn departed_processes_are_bounded() {
        let mut all = Membership::default();
        for n in 0..3_000u32 {
            let incarnation = Uuid::from_u128(u128::from(n) + 1);
            let _predecessors = all.up(incarnation, &n.to_string().into(), n);
            all.down(incarnation, false);
        }
        assert!(all.processes.len() <= MAX_DEPARTED);
    }
}
