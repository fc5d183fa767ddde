//! Which process has which cache open, as which replica, and what follows from that: whose words count, whom to greet, who is
//! called gone, when a cache is alone and when it is ready. A machine without IO: the driver of a node drives it, and the
//! simulator does.
//!
//! The ids of the replicas that one process opens rise ([`next_id`]). So of two that speak for one cache there, the smaller one was
//! closed before the greater one was opened, in whichever order their words arrive; or a clone of the process says them.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::{Builder, Uuid};

use crate::bugs::PutBack;
use crate::hlc::HlcTime;
use crate::replica_id::ReplicaId;

/// Departed processes remembered, so that an operator can still name them.
const MAX_DEPARTED: usize = 1_024;
/// A process that said it does not have a cache open is asked again after this, nanoseconds.
const ASK_AGAIN: u64 = 30_000_000_000;

/// What is known of one cache on one process.
#[derive(Clone, Copy, Debug)]
enum Presence {
    /// Open, as this replica.
    Open(ReplicaId),
    /// Not open there, as it said at this monotonic time.
    NotOpen(u64),
}

/// One process, and the `P` by which whoever drives this reaches it.
#[derive(Debug)]
struct Process<P> {
    name: Arc<str>,
    place: P,
    live: bool,
    caches: BTreeMap<String, Presence>,
    /// The greatest replica that was heard from here, by cache: nobody believes in smaller ones any more.
    newest: BTreeMap<String, ReplicaId>,
}

/// The id of the next replica that a process opens, greater than the `last` one: the time, and 74 bits that were `drawn`.
pub(crate) fn next_id(last: Option<Uuid>, drawn: Uuid, wall: HlcTime) -> Uuid {
    let mut random = [0; 10];
    random.copy_from_slice(&drawn.as_bytes()[6..]);
    let by_time = Builder::from_unix_timestamp_millis(wall / 1_000_000, &random).into_uuid();
    // A clock that stands still or goes back does not make it smaller.
    let after_last = last.and_then(|last| last.as_u128().checked_add(1)).map(Uuid::from_u128);
    after_last.map_or(by_time, |least| by_time.max(least))
}

/// The answer of a process that does not have a cache open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotOpen {
    /// The replica that asked.
    pub(crate) asked: ReplicaId,
    /// The greatest replica that the process had opened by then, of whatever cache: all up to it are closed, if they were of this one.
    pub(crate) last: ReplicaId,
}

/// Whether a cache has what the others have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Nobody else is there, and nobody is looked for.
    Alone,
    /// So many others are there, and none of them has the cache open.
    First(usize),
    /// Somebody may have it open, and has not been heard in full.
    Waiting,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Membership<P> {
    processes: BTreeMap<Uuid, Process<P>>,
    /// There are seeds besides this process: where nobody is, somebody may be found.
    awaits_seeds: bool,
    /// Some process has been there since the start.
    met: bool,
    put_back: PutBack,
}

impl<P> Default for Membership<P> {
    fn default() -> Self {
        Self { processes: BTreeMap::new(), awaits_seeds: false, met: false, put_back: PutBack::default() }
    }
}

impl<P: Clone> Membership<P> {
    /// Puts known mistakes back.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn set_bugs(&mut self, bugs: crate::bugs::Bugs) {
        self.put_back.set(bugs);
    }

    /// A process is there. What it had open before a silence it is believed to have still. Returns its predecessors: other
    /// processes of its name, which stands for one process at a time. They will not return, whether or not they were called
    /// dead before; the caller drops them for good.
    #[must_use]
    pub(crate) fn up(&mut self, incarnation: Uuid, name: &Arc<str>, place: P) -> Vec<Uuid> {
        let process = self.known(incarnation, name, place.clone());
        process.place = place;
        process.live = true;
        self.met = true;
        let predecessors = self.processes.iter().filter(|(id, it)| it.name == *name && **id != incarnation);
        predecessors.map(|(id, _)| *id).collect()
    }

    /// A process speaks that is not called up: whoever heeds the dead knows it from then on.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn heed(&mut self, incarnation: Uuid, name: &Arc<str>, place: P) {
        self.known(incarnation, name, place);
    }

    /// A process that is heard of, for dead until it is called up.
    fn known(&mut self, incarnation: Uuid, name: &Arc<str>, place: P) -> &mut Process<P> {
        let name = Arc::clone(name);
        let new = || Process { name, place, live: false, caches: BTreeMap::new(), newest: BTreeMap::new() };
        self.processes.entry(incarnation).or_insert_with(new)
    }

    /// A process is gone; gives the replicas that lived there.
    pub(crate) fn down(&mut self, incarnation: Uuid, for_good: bool) -> Vec<(String, ReplicaId)> {
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
        for id in departed.iter().take(departed.len().saturating_sub(MAX_DEPARTED)) {
            self.processes.remove(id);
        }
    }

    /// A replica spoke from a process. Gives the replica whose place it takes, if the cache was
    /// reopened there.
    pub(crate) fn heard(&mut self, incarnation: Uuid, cache: &str, replica: ReplicaId) -> Option<ReplicaId> {
        let believed = self.put_back.bugs().former_believed;
        let Process { caches, newest, .. } = self.processes.get_mut(&incarnation)?;
        let newest = newest.entry(cache.to_owned()).or_insert(replica);
        if *newest > replica && !believed {
            return None;
        }
        *newest = replica;
        match caches.insert(cache.to_owned(), Presence::Open(replica)) {
            Some(Presence::Open(before)) if before != replica => Some(before),
            _ => None,
        }
    }

    /// Whether what a replica says comes too late: its process is gone, or another replica has taken its place there. Heard, it
    /// would become a member that never leaves again.
    pub(crate) fn is_late(&self, incarnation: Uuid, cache: &str, replica: ReplicaId) -> bool {
        !self.is_live(incarnation) || self.is_former(incarnation, cache, replica)
    }

    /// Whether another replica has taken this one's place, or it was closed: what it says is late, or a clone of that process says it.
    pub(crate) fn is_former(&self, incarnation: Uuid, cache: &str, replica: ReplicaId) -> bool {
        let Some(Process { caches, newest, .. }) = self.processes.get(&incarnation) else { return false };
        let is_closed = matches!(caches.get(cache), Some(Presence::NotOpen(_)));
        let is_former = |newest: &ReplicaId| *newest > replica || (is_closed && *newest == replica);
        newest.get(cache).is_some_and(is_former) && !self.put_back.bugs().former_believed
    }

    /// Takes in a "not open" answer; `ours` is the present replica of the cache here. Returns the replica that is thereby gone.
    ///
    /// Ignores an answer to a predecessor of the present replica, because the process may have opened the cache since. Also ignores one
    /// that the process gave before it opened a replica that has been heard: the answer was overtaken.
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
        *newest = answer.last.max(*newest);
        match caches.insert(cache.to_owned(), Presence::NotOpen(mono)) {
            Some(Presence::Open(replica)) => Some(replica),
            Some(Presence::NotOpen(_)) | None => None,
        }
    }

    /// Notes that a cache is opened here, and forgets "not open" answers about it: they were given to another replica, and the process may
    /// have opened the cache since. Kept, they would hide two replicas from each other that were opened at about the same time.
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

    /// Whether a process is there.
    pub(crate) fn is_live(&self, incarnation: Uuid) -> bool {
        self.processes.get(&incarnation).is_some_and(|process| process.live)
    }

    /// An operator says that a process will not return; gives the replicas that lived there. One that
    /// is there all the same is met again like a new one.
    pub(crate) fn forget(&mut self, incarnation: Uuid) -> Vec<(String, ReplicaId)> {
        if !self.is_live(incarnation) {
            return self.down(incarnation, true);
        }
        let Some(process) = self.processes.get_mut(&incarnation) else { return Vec::new() };
        let replicas = open_replicas(process);
        process.caches.clear();
        replicas
    }

    /// Where a replica lives, if that process is there.
    pub(crate) fn home(&self, cache: &str, replica: ReplicaId) -> Option<&P> {
        self.lives_on(cache, replica).filter(|process| process.live).map(|process| &process.place)
    }

    /// The process a replica lives on, or lived on.
    fn lives_on(&self, cache: &str, replica: ReplicaId) -> Option<&Process<P>> {
        let here =
            |process: &&Process<P>| matches!(process.caches.get(cache), Some(Presence::Open(id)) if *id == replica);
        self.processes.values().filter(here).max_by_key(|process| process.live)
    }

    /// Where a process is, if it is there.
    pub(crate) fn place_of(&self, incarnation: Uuid) -> Option<&P> {
        self.processes.get(&incarnation).filter(|process| process.live).map(|process| &process.place)
    }

    /// Whether any other process is there.
    pub(crate) fn is_alone(&self) -> bool {
        self.live().next().is_none()
    }

    /// How many other processes are there.
    pub(crate) fn live_len(&self) -> usize {
        self.live().count()
    }

    /// The names of those that are there.
    pub(crate) fn live_names(&self) -> Vec<String> {
        self.live().map(|process| process.name.to_string()).collect()
    }

    fn live(&self) -> impl Iterator<Item = &Process<P>> {
        self.processes.values().filter(|process| process.live)
    }

    /// Says whether there are seeds besides this process.
    pub(crate) fn await_seeds(&mut self, awaits: bool) {
        self.awaits_seeds = awaits;
    }

    /// Whether somebody may have this cache open whom it has not heard yet. A cache that was alone for a while with
    /// others out there must not take its own word for everybody's.
    pub(crate) fn awaits_company(&self, cache: &str) -> bool {
        if self.is_alone() { self.awaits_seeds } else { !self.nobody_has(cache) }
    }

    /// Whether members may be there that a cache has not met: `members` are those that it knows. Once some process was there, a
    /// node without others is alone, until one comes back.
    pub(crate) fn expects_members(&self, cache: &str, members: &[ReplicaId]) -> bool {
        if self.is_alone() { !self.met && self.awaits_seeds } else { self.has_strangers(cache, members) }
    }

    /// Whether a cache that has not caught up with anybody is ready all the same.
    pub(crate) fn readiness(&self, cache: &str) -> Readiness {
        match self.live_len() {
            0 if !self.awaits_seeds => Readiness::Alone,
            others if others > 0 && self.nobody_has(cache) => Readiness::First(others),
            _ => Readiness::Waiting,
        }
    }

    /// Live processes that should be told of our replica of a cache: it is not known whether they have it open, theirs is not among
    /// the `members` that our replica knows, or they said half a minute ago that it is not open.
    pub(crate) fn to_greet(&self, cache: &str, members: &[ReplicaId], mono: u64) -> Vec<P> {
        let stranger = |process: &&Process<P>| match process.caches.get(cache) {
            None => true,
            Some(Presence::Open(replica)) => !members.contains(replica),
            Some(Presence::NotOpen(at)) => mono.saturating_sub(*at) >= ASK_AGAIN,
        };
        self.live().filter(stranger).map(|process| process.place.clone()).collect()
    }

    /// Whether a live process may have a cache open whose replica is not among the `members` that our replica knows.
    fn has_strangers(&self, cache: &str, members: &[ReplicaId]) -> bool {
        self.live().any(|process| match process.caches.get(cache) {
            None => true,
            Some(Presence::Open(replica)) => !members.contains(replica),
            Some(Presence::NotOpen(_)) => false,
        })
    }

    /// Whether every live process has said that it does not have a cache open.
    fn nobody_has(&self, cache: &str) -> bool {
        self.live().all(|process| matches!(process.caches.get(cache), Some(Presence::NotOpen(_))))
    }

    /// The processes that a name stands for, dead ones included, the live ones last.
    pub(crate) fn named(&self, name: &str) -> Vec<Uuid> {
        let mut named: Vec<_> = self.processes.iter().filter(|(_, process)| &*process.name == name).collect();
        named.sort_by_key(|(_, process)| process.live);
        named.into_iter().map(|(incarnation, _)| *incarnation).collect()
    }

    /// The names of all processes, by cache and by the replicas that live there.
    pub(crate) fn roll(&self) -> BTreeMap<String, BTreeMap<ReplicaId, String>> {
        let mut roll: BTreeMap<String, BTreeMap<_, _>> = BTreeMap::new();
        for process in self.processes.values() {
            for (cache, replica) in open_replicas(process) {
                roll.entry(cache).or_default().insert(replica, process.name.to_string());
            }
        }
        roll
    }

    /// The name of the process a replica lives on, or lived on.
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

    /// Process 1, which has opened nothing after `last`, tells the replica that is open here.
    fn says_not_open(all: &mut Membership<u8>, last: ReplicaId, mono: u64) -> Option<ReplicaId> {
        all.not_open(process(1), "c", (NotOpen { asked: replica(200), last }, Some(replica(200))), mono)
    }

    /// The cache was opened there, spoke, and only then comes what was said before: it must not be taken for gone.
    #[test]
    fn an_answer_from_before_a_cache_was_opened_closes_nothing() {
        let mut all = Membership::default();
        is_up(&mut all, 1);
        all.heard(process(1), "c", replica(2));
        assert_eq!(says_not_open(&mut all, replica(1), 0), None);
        assert_eq!(all.home("c", replica(2)), Some(&1));
        assert_eq!(says_not_open(&mut all, replica(2), 0), Some(replica(2)), "closed since");
    }

    /// A replica asked and was closed; the answer comes to its successor, which has asked anew.
    #[test]
    fn an_answer_to_the_replica_before_is_none() {
        let mut all = Membership::default();
        is_up(&mut all, 1);
        let answer = NotOpen { asked: replica(100), last: replica(1) };
        assert_eq!(all.not_open(process(1), "c", (answer, Some(replica(200))), 0), None);
        assert_eq!((all.to_greet("c", &[], 1).len(), all.awaits_company("c")), (1, true));
        assert_eq!(all.not_open(process(1), "c", (answer, None), 0), None);
        says_not_open(&mut all, replica(1), 0);
        assert_eq!((all.to_greet("c", &[], 1).len(), all.awaits_company("c")), (0, false));
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

    /// The words of a replica that was closed come after those of the one that was opened then.
    #[test]
    fn the_first_words_of_two_replicas_may_come_in_any_order() {
        let mut all = Membership::default();
        is_up(&mut all, 1);
        assert_eq!(all.heard(process(1), "c", replica(2)), None);
        assert!(all.is_late(process(1), "c", replica(1)));
        assert_eq!(all.heard(process(1), "c", replica(1)), None, "whoever heeds it all the same changes nothing");
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
        assert_eq!(all.to_greet("c", &[], 0).len(), 1, "our replica is new and knows nobody");
        assert!(all.to_greet("c", &[replica(1)], 0).is_empty());
        says_not_open(&mut all, replica(1), 0);
        assert!(all.to_greet("c", &[], ASK_AGAIN - 1).is_empty());
        assert_eq!(all.to_greet("c", &[], ASK_AGAIN).len(), 1);
    }

    #[test]
    fn who_opens_a_cache_asks_everybody_anew() {
        let mut all = Membership::default();
        is_up(&mut all, 1);
        says_not_open(&mut all, replica(1), 0);
        assert_eq!((all.to_greet("c", &[], 1).len(), all.awaits_company("c")), (0, false));
        all.opened("c");
        assert_eq!((all.to_greet("c", &[], 1).len(), all.awaits_company("c")), (1, true));
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
    fn a_cache_is_alone_only_where_nobody_is_and_nobody_is_looked_for() {
        let mut all = Membership::default();
        assert_eq!((all.readiness("c"), all.awaits_company("c")), (Readiness::Alone, false));
        all.await_seeds(true);
        assert_eq!((all.readiness("c"), all.awaits_company("c")), (Readiness::Waiting, true));
        assert!(all.expects_members("c", &[]));
        is_up(&mut all, 1);
        assert_eq!((all.readiness("c"), all.awaits_company("c")), (Readiness::Waiting, true));
        says_not_open(&mut all, replica(1), 0);
        assert_eq!((all.readiness("c"), all.awaits_company("c")), (Readiness::First(1), false));
        all.down(process(1), false);
        assert!(all.awaits_company("c"), "the seeds may lead to others");
        assert!(!all.expects_members("c", &[]), "somebody was there, and is gone");
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
