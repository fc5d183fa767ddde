//! Which replica lives on which process, and who has which cache open.

use std::collections::{BTreeMap, VecDeque};

use uuid::Uuid;

use super::mesh::Peer;
use crate::replica_id::ReplicaId;

/// Departed processes remembered, so that an operator can still name them.
const MAX_DEPARTED: usize = 1_024;
/// Former replicas remembered for each cache of a process.
const MAX_FORMER: usize = 8;
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

#[derive(Debug)]
struct Process {
    peer: Peer,
    live: bool,
    caches: BTreeMap<String, Presence>,
    /// Replicas that lived here and whose place another one took, the last few by cache: nobody believes in them any more.
    former: BTreeMap<String, VecDeque<ReplicaId>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    processes: BTreeMap<Uuid, Process>,
}

impl Directory {
    /// A process is there. What it had open before a silence it is believed to have still. Returns its predecessors: other
    /// processes of its name, which stands for one process at a time. They will not return, whether or not they were called
    /// dead before; the caller drops them for good.
    #[must_use]
    pub(crate) fn up(&mut self, peer: Peer) -> Vec<Uuid> {
        let process = Process { peer: peer.clone(), live: true, caches: BTreeMap::new(), former: BTreeMap::new() };
        let process = self.processes.entry(peer.incarnation).or_insert(process);
        process.peer = peer.clone();
        process.live = true;
        let predecessors = self.processes.values().map(|process| &process.peer);
        let predecessors = predecessors.filter(|it| it.name == peer.name && it.incarnation != peer.incarnation);
        predecessors.map(|it| it.incarnation).collect()
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
        let Process { caches, former, .. } = self.processes.get_mut(&incarnation)?;
        match caches.get(cache) {
            Some(Presence::Open(known)) if *known == replica => None,
            Some(Presence::Open(known)) => {
                let before = *known;
                caches.insert(cache.to_owned(), Presence::Open(replica));
                let former = former.entry(cache.to_owned()).or_default();
                former.truncate(MAX_FORMER - 1);
                former.push_front(before);
                Some(before)
            }
            Some(Presence::NotOpen(_)) | None => {
                caches.insert(cache.to_owned(), Presence::Open(replica));
                None
            }
        }
    }

    /// Whether another replica has taken this one's place: what it says is late, or a clone of that process says it.
    pub(crate) fn is_former(&self, incarnation: Uuid, cache: &str, replica: ReplicaId) -> bool {
        let former = self.processes.get(&incarnation).and_then(|process| process.former.get(cache));
        former.is_some_and(|former| former.contains(&replica))
    }

    /// A process said that it does not have a cache open. Gives the replica that is thereby gone.
    pub(crate) fn not_open(&mut self, incarnation: Uuid, cache: &str, mono: u64) -> Option<ReplicaId> {
        let caches = &mut self.processes.get_mut(&incarnation)?.caches;
        match caches.insert(cache.to_owned(), Presence::NotOpen(mono)) {
            Some(Presence::Open(replica)) => Some(replica),
            Some(Presence::NotOpen(_)) | None => None,
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
    pub(crate) fn home(&self, cache: &str, replica: ReplicaId) -> Option<&Peer> {
        let here = |process: &&Process| matches!(process.caches.get(cache), Some(Presence::Open(id)) if *id == replica);
        self.processes.values().filter(|process| process.live).find(here).map(|process| &process.peer)
    }

    /// The live processes.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Peer> {
        self.processes.values().filter(|process| process.live).map(|process| &process.peer)
    }

    /// Live processes that should be told of our replica of a cache: it is not known whether they have
    /// it open, or theirs is not among the `members` that our replica knows.
    pub(crate) fn to_greet(&self, cache: &str, members: &[ReplicaId], mono: u64) -> Vec<Peer> {
        let stranger = |process: &&Process| match process.caches.get(cache) {
            None => true,
            Some(Presence::Open(replica)) => !members.contains(replica),
            Some(Presence::NotOpen(at)) => mono.saturating_sub(*at) >= ASK_AGAIN,
        };
        let live = self.processes.values().filter(|process| process.live);
        live.filter(stranger).map(|process| process.peer.clone()).collect()
    }

    /// Whether a live process may have a cache open whose replica is not among the `members` that our replica knows.
    pub(crate) fn has_strangers(&self, cache: &str, members: &[ReplicaId]) -> bool {
        let mut live = self.processes.values().filter(|process| process.live);
        live.any(|process| match process.caches.get(cache) {
            None => true,
            Some(Presence::Open(replica)) => !members.contains(replica),
            Some(Presence::NotOpen(_)) => false,
        })
    }

    /// Whether every live process has said that it does not have a cache open.
    pub(crate) fn nobody_has(&self, cache: &str) -> bool {
        let mut live = self.processes.values().filter(|process| process.live);
        live.all(|process| matches!(process.caches.get(cache), Some(Presence::NotOpen(_))))
    }

    /// The processes that a name stands for, dead ones included, the live ones last.
    pub(crate) fn named(&self, name: &str) -> Vec<Uuid> {
        let mut named: Vec<_> = self.processes.values().filter(|process| &*process.peer.name == name).collect();
        named.sort_by_key(|process| process.live);
        named.into_iter().map(|process| process.peer.incarnation).collect()
    }

    /// The names of all processes, by cache and by the replicas that live there.
    pub(crate) fn roll(&self) -> BTreeMap<String, BTreeMap<ReplicaId, String>> {
        let mut roll: BTreeMap<String, BTreeMap<_, _>> = BTreeMap::new();
        for process in self.processes.values() {
            for (cache, replica) in open_replicas(process) {
                roll.entry(cache).or_default().insert(replica, process.peer.name.to_string());
            }
        }
        roll
    }

    /// The name of the process a replica lives on, or lived on.
    pub(crate) fn name_of(&self, cache: &str, replica: ReplicaId) -> Option<String> {
        let here = |process: &&Process| matches!(process.caches.get(cache), Some(Presence::Open(id)) if *id == replica);
        self.processes.values().find(here).map(|process| process.peer.name.to_string())
    }
}

fn open_replicas(process: &Process) -> Vec<(String, ReplicaId)> {
    let open = process.caches.iter().filter_map(|(cache, presence)| match presence {
        Presence::Open(replica) => Some((cache.clone(), *replica)),
        Presence::NotOpen(_) => None,
    });
    open.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> Peer {
        Peer {
            name: format!("n{n}").into(),
            addr: ([127, 0, 0, 1], u16::from(n)).into(),
            incarnation: Uuid::from_bytes([n; 16]),
        }
    }

    fn replica(n: u8) -> ReplicaId {
        ReplicaId::from_bytes([n; 16])
    }

    #[test]
    fn a_reopened_cache_takes_the_place_of_the_old_replica() {
        let mut directory = Directory::default();
        let _ = directory.up(peer(1));
        let process = peer(1).incarnation;
        assert_eq!(directory.heard(process, "c", replica(1)), None);
        assert_eq!(directory.heard(process, "c", replica(2)), Some(replica(1)));
        assert!(directory.home("c", replica(1)).is_none());
        assert!(directory.is_former(process, "c", replica(1)) && !directory.is_former(process, "d", replica(1)));
        assert!(
            !directory.is_former(process, "c", replica(2))
                && !directory.is_former(peer(2).incarnation, "c", replica(1))
        );
        assert_eq!(directory.home("c", replica(2)), Some(&peer(1)));
        assert_eq!(directory.not_open(process, "c", 0), Some(replica(2)));
        assert!(directory.nobody_has("c"));
    }

    #[test]
    fn processes_are_greeted_until_they_answer_and_asked_again_after_a_while() {
        let mut directory = Directory::default();
        let _ = directory.up(peer(1));
        assert_eq!(directory.to_greet("c", &[], 0).len(), 1);
        directory.heard(peer(1).incarnation, "c", replica(1));
        assert_eq!(directory.to_greet("c", &[], 0).len(), 1, "our replica is new and knows nobody");
        assert!(directory.to_greet("c", &[replica(1)], 0).is_empty());
        directory.not_open(peer(1).incarnation, "c", 0);
        assert!(directory.to_greet("c", &[], ASK_AGAIN - 1).is_empty());
        assert_eq!(directory.to_greet("c", &[], ASK_AGAIN).len(), 1);
    }

    #[test]
    fn who_left_is_not_live_and_who_is_forgotten_while_there_is_met_again() {
        let mut directory = Directory::default();
        let _ = directory.up(peer(1));
        let _ = directory.up(peer(2));
        directory.heard(peer(1).incarnation, "c", replica(1));
        directory.down(peer(2).incarnation, true);
        assert!(directory.is_live(peer(1).incarnation) && !directory.is_live(peer(2).incarnation));
        assert_eq!(directory.forget(peer(1).incarnation), [("c".to_owned(), replica(1))]);
        assert_eq!(directory.to_greet("c", &[replica(1)], 0).len(), 1);
    }

    #[test]
    fn a_process_replaces_all_others_of_its_name_dead_or_alive() {
        let mut directory = Directory::default();
        let restarted = |n: u8| Peer { incarnation: Uuid::from_bytes([n; 16]), ..peer(1) };
        assert!(directory.up(peer(2)).is_empty() && directory.up(peer(1)).is_empty());
        directory.heard(peer(1).incarnation, "c", replica(1));
        assert_eq!(directory.down(peer(1).incarnation, false), [("c".to_owned(), replica(1))]);
        assert!(directory.up(peer(1)).is_empty(), "the same process has come back");
        directory.down(peer(1).incarnation, false);
        assert_eq!(directory.up(restarted(7)), [peer(1).incarnation]);
        assert_eq!(directory.up(restarted(8)).len(), 2, "until they are dropped");
        assert_eq!(directory.down(peer(1).incarnation, true), [("c".to_owned(), replica(1))]);
        directory.down(restarted(7).incarnation, true);
        assert_eq!(directory.named("n1"), [restarted(8).incarnation]);
    }

    #[test]
    fn departed_processes_are_bounded() {
        let mut directory = Directory::default();
        for n in 0..3_000u32 {
            let incarnation = Uuid::from_u128(u128::from(n) + 1);
            let _ = directory.up(Peer { name: n.to_string().into(), incarnation, ..peer(1) });
            directory.down(incarnation, false);
        }
        assert!(directory.processes.len() <= MAX_DEPARTED);
    }
}
