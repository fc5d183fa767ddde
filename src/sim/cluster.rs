//! The cluster: processes, their open caches, the network between them, and the record of everything that was written.
//! The modules that act on the cluster hold the actions.

use std::collections::BTreeMap;

use fastrand::Rng;
use uuid::Uuid;

use super::agenda::{Agenda, Event};
use super::clock::SimClock;
use super::names::Names;
use super::network::Network;
use super::opening::Opening;
use super::oracle::{Oracle, Record};
use super::process::{Process, State};
use super::report::{Report, Violation};
use super::settings::Settings;
use super::trace::{brief, readable};
use super::types::{SimKey, SimValue, Types, hash_of};
use crate::cache::engine::Engine;
use crate::hlc::Stamp;
use crate::item::Key;
use crate::replica::{Replica, View};
use crate::replica_id::ReplicaId;
use crate::store::Snapshot;

/// The most processes that run at the same time.
pub(super) const MAX_UP: usize = 7;
/// The most processes in one run.
pub(super) const MAX_PROCESSES: usize = 24;
/// The most openings in one run.
pub(super) const MAX_OPENINGS: usize = 64;
/// The largest number of keys that is not reported as "many keys": more do not fit one small frame.
const MANY_KEYS: u16 = 100;
/// The largest number of nodes that is not reported as "many nodes". A larger cluster is reported if it also relays
/// pushes (`broadcast_up_to`).
const MANY_NODES: usize = 16;
/// The weight of values that wait to be absorbed by a cache with a capacity, from which on a stripe would be relieved.
const DIRECT_WEIGHT: u64 = 4;

/// The random generators for everything that settings and script leave open.
pub(super) struct Dice {
    pub(super) rng: Rng,
    /// The generator that decides which sends are reported as failed although they arrive. It is separate, so that the
    /// runs of older seeds do not change.
    pub(super) doubts: Rng,
}

/// The counters of values and fills. Each value and each fill has its own number.
pub(super) struct Issued {
    pub(super) writes: u64,
    pub(super) next_fill: u64,
}

/// The progress of a run.
pub(super) struct Course {
    /// True once no more faults are injected.
    pub(super) healed: bool,
    /// True if the process at the first address was given seeds. Without seeds it does not know of peers before they
    /// contact it.
    pub(super) first_has_seeds: bool,
    /// The latest arrival time of a message that was sent before the network healed.
    pub(super) stragglers_until: u64,
    pub(super) tracing: bool,
    /// Copies of all sent messages with their addresses, for tests that ask for them.
    #[cfg(test)]
    pub(super) copies: Option<Vec<(usize, super::process::Payload)>>,
}

impl Course {
    /// Records that a message arrives at `at`, if it was sent before the network healed.
    pub(super) fn note_straggler(&mut self, at: u64) {
        if !self.healed {
            self.stragglers_until = self.stragglers_until.max(at);
        }
    }
}

/// A cluster in one thread.
pub(super) struct Cluster<'a, K, V> {
    pub(super) types: &'a Types<K, V>,
    pub(super) settings: Settings,
    /// The keys of each cache, with their hashes.
    pub(super) keys: Vec<(u64, K)>,
    pub(super) processes: Vec<Process>,
    /// The process at each address.
    pub(super) holders: Vec<usize>,
    pub(super) openings: Vec<Opening<K, V>>,
    /// The opening of each replica id.
    pub(super) by_id: BTreeMap<ReplicaId, usize>,
    pub(super) network: Network,
    pub(super) at: u64,
    /// The oracle of each cache.
    pub(super) oracles: Vec<Oracle<K, V>>,
    pub(super) report: Report,
    pub(super) agenda: Agenda,
    pub(super) names: Names,
    pub(super) dice: Dice,
    pub(super) issued: Issued,
    pub(super) course: Course,
}

impl<'a, K: SimKey, V: SimValue> Cluster<'a, K, V> {
    pub(super) fn new(types: &'a Types<K, V>, settings: Settings, seed: u64, tracing: bool) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0xC105_7E12);
        let network = Network::new(&settings, rng.u64(..));
        let keys: Vec<_> = (0..settings.keys).map(|n| types.key(n.into())).map(|key| (hash_of(&key), key)).collect();
        let oracles = (0..settings.caches).map(|_| Oracle::new(keys.len())).collect();
        let replicas = settings.replicas;
        let names = Names::new(&keys, settings.other_types);
        let mut cluster = Self {
            types,
            settings,
            keys,
            processes: Vec::new(),
            holders: Vec::new(),
            openings: Vec::new(),
            by_id: BTreeMap::new(),
            network,
            at: 0,
            oracles,
            report: Report::default(),
            agenda: Agenda::default(),
            names,
            dice: Dice { rng, doubts: Rng::with_seed(seed ^ 0x00D0_0B75) },
            issued: Issued { writes: 0, next_fill: 0 },
            course: Course {
                healed: false,
                first_has_seeds: Rng::with_seed(seed ^ 0x5EED_1E55).bool(),
                stragglers_until: 0,
                tracing,
                #[cfg(test)]
                copies: None,
            },
        };
        cluster.tell_what_is_special();
        (0..replicas).for_each(|_| cluster.start(None));
        cluster.schedule(0, Event::Detector);
        cluster
    }

    fn tell_what_is_special(&mut self) {
        let Settings { caches, keys, replicas, ref config, .. } = self.settings;
        let told = [
            (caches > 1, "several caches"),
            (keys > MANY_KEYS, "many keys"),
            (usize::from(replicas) > config.broadcast_up_to.max(MANY_NODES), "many nodes"),
        ];
        for (_, name) in told.into_iter().filter(|(so, _)| *so) {
            self.report.fault(name);
        }
    }

    /// Starts a process with all caches open. With `replaces`, the process takes over the name, address and clock of
    /// the old one.
    pub(super) fn start(&mut self, replaces: Option<usize>) {
        let clock = match (replaces, self.course.healed) {
            // A restart happens on the same machine, so the wrong clock stays.
            (Some(old), _) => self.processes[old].clock.clone(),
            (None, true) => SimClock::new(0, 0, self.at),
            (None, false) => self.new_clock(),
        };
        let number = self.processes.len();
        let address = replaces.map_or(self.holders.len(), |old| self.processes[old].address);
        match replaces {
            Some(_) => self.holders[address] = number,
            None => self.holders.push(number),
        }
        self.processes.push(Process::new(address, replaces, clock, self.settings.caches));
        let has_seeds = address > 0 || self.course.first_has_seeds;
        self.processes[number].membership.await_seeds(has_seeds);
        self.processes[number].membership.set_bugs(self.settings.bugs);
        (0..self.settings.caches).for_each(|cache| self.open(number, cache));
        if self.settings.stills {
            self.schedule(0, Event::Stills { process: number });
        }
    }

    /// Opens a cache on a process, as a new replica.
    pub(super) fn open(&mut self, process: usize, cache: u8) {
        let id = self.next_id(process, cache);
        let now = self.processes[process].now(self.at);
        let replica = Replica::new(id, self.settings.config.clone(), self.dice.rng.u64(..), now);
        let mut replica = replica.expect("the settings were checked");
        replica.set_bugs(self.settings.bugs);
        self.processes[process].open[usize::from(cache)] = Some(self.openings.len());
        self.by_id.insert(id, self.openings.len());
        let eviction = self.settings.eviction();
        let mut engine = Engine::new(replica, self.settings.max_capacity, eviction);
        engine.set_budget(DIRECT_WEIGHT);
        let opening = Opening::new((process, cache), (engine, eviction), self.keys.len(), now);
        self.openings.push(opening);
        self.processes[process].membership.opened(super::codec::name_of(cache));
        self.expect_peers(self.openings.len() - 1);
    }

    /// Reports to a replica whether to expect members that it has not received a digest from. Runs when the cache is
    /// opened and at each timer, as the driver of a node does.
    pub(super) fn expect_peers(&mut self, number: usize) {
        let (process, cache) = (self.openings[number].process, self.openings[number].cache);
        let awaits = self.expects_peers(process, cache);
        let replica = &mut self.openings[number].engine.replica;
        replica.expect_peers(awaits);
        if replica.view().peer_len() == 0 {
            self.report.fault(if awaits { "alone and expecting peers" } else { "alone" });
        }
    }

    /// Returns true if a process may still meet peers that have a cache open.
    pub(super) fn expects_peers(&self, process: usize, cache: u8) -> bool {
        self.processes[process].membership.expects_peers(super::codec::name_of(cache))
    }

    /// Returns the greatest id of the replicas of a cache that a process has opened.
    pub(super) fn last_id(&self, process: usize, cache: u8) -> Option<ReplicaId> {
        self.openings.iter().filter(|it| (it.process, it.cache) == (process, cache)).map(|it| it.id).max()
    }

    /// Draws the id of a new replica. The ids of one process rise. A drawn id is changed only if it would not rise, so
    /// that the runs of older seeds do not change.
    fn next_id(&mut self, process: usize, cache: u8) -> ReplicaId {
        let drawn = self.dice.rng.u128(..);
        let last = self.last_id(process, cache).map_or(0, |last| last.as_uuid().as_u128());
        let risen = if drawn > last { drawn } else { last.saturating_add(1 + (drawn >> 80)) };
        ReplicaId::from_uuid(Uuid::from_u128(risen))
    }

    fn new_clock(&mut self) -> SimClock {
        let skew = self.settings.skew.as_nanos() as i64;
        let drift = i64::from(self.settings.drift_ppm);
        let (mut offset, drift) = (self.dice.rng.i64(-skew..=skew), self.dice.rng.i64(-drift..=drift));
        let wrong = self.settings.wrong_clocks.as_nanos() as i64;
        if wrong > 0 && self.dice.rng.u8(0..3) == 0 {
            offset = self.dice.rng.i64(-wrong..=wrong);
            self.report.fault("clock wrong from the start");
        }
        for (is, name) in [(offset, "clocks apart"), (drift, "clock drifts")] {
            if is != 0 {
                self.report.fault(name);
            }
        }
        SimClock::new(offset, drift, self.at)
    }

    /// Schedules an event this many nanoseconds from now.
    pub(super) fn schedule(&mut self, after: u64, event: Event) {
        self.agenda.add(self.at + after, event);
    }

    pub(super) fn trace(&mut self, line: impl FnOnce() -> String) {
        if self.course.tracing {
            let line = readable(self.openings.iter().map(|opening| opening.id), line());
            let line = format!("{:.6} {line}", self.at as f64 / 1e9);
            self.report.trace.push(line);
        }
    }

    pub(super) fn violation(&self, what: String) -> Violation {
        let what = readable(self.openings.iter().map(|opening| opening.id), what);
        Violation { at: self.at, what }
    }

    /// Returns the processes that run and are not paused.
    pub(super) fn up(&self) -> Vec<usize> {
        (0..self.processes.len()).filter(|&process| self.processes[process].is_up()).collect()
    }

    /// Returns the processes that run, paused ones included.
    pub(super) fn running(&self) -> Vec<usize> {
        (0..self.processes.len()).filter(|&process| self.processes[process].runs()).collect()
    }

    /// Returns the process that an action names: an index into the processes that are up, modulo their number.
    pub(super) fn chosen(&self, node: u8) -> Option<usize> {
        let up = self.up();
        up.get(usize::from(node).checked_rem(up.len())?).copied()
    }

    /// Returns the cache that an action names.
    pub(super) fn cache(&self, cache: u8) -> usize {
        usize::from(cache % self.settings.caches)
    }

    /// Returns true if all messages between two openings are lost, even after all other faults have ended.
    pub(super) fn never_meet(&self, a: usize, b: usize) -> bool {
        let address = |number: usize| self.processes[self.openings[number].process].address;
        self.network.is_cut(address(a), address(b))
    }

    /// Returns the openings of a cache that are not closed.
    pub(super) fn replicas_of(&self, cache: u8) -> Vec<usize> {
        let here = |number: &usize| self.openings[*number].is_open && self.openings[*number].cache == cache;
        (0..self.openings.len()).filter(here).collect()
    }

    pub(super) fn replica(&self, opening: usize) -> &Replica<K, V> {
        &self.openings[opening].engine.replica
    }

    pub(super) fn view(&self, opening: usize) -> View<'_, K, V> {
        self.replica(opening).view()
    }

    pub(super) fn now_at(&self, opening: usize) -> crate::hlc::Now {
        self.processes[self.openings[opening].process].now(self.at)
    }

    /// Returns the state of an opening's process, or `Gone` if the cache is closed.
    pub(super) fn state_of(&self, opening: usize) -> State {
        let opening = &self.openings[opening];
        if opening.is_open { self.processes[opening.process].state } else { State::Gone }
    }

    /// Returns true if the process of an opening has the types of another release.
    pub(super) fn has_other_types(&self, number: usize) -> bool {
        self.settings.other_types && self.openings[number].process % 2 == 1
    }

    /// Returns true if the process of an opening cannot read a key.
    pub(super) fn is_foreign_to(&self, number: usize, key: usize) -> bool {
        self.names.foreign(key).is_some() && self.has_other_types(number)
    }

    /// Returns the oracle of an opening's cache.
    pub(super) fn oracle(&self, number: usize) -> &Oracle<K, V> {
        &self.oracles[usize::from(self.openings[number].cache)]
    }

    pub(super) fn oracle_mut(&mut self, number: usize) -> &mut Oracle<K, V> {
        &mut self.oracles[usize::from(self.openings[number].cache)]
    }

    /// Returns the record of the write with this stamp in an opening's cache.
    pub(super) fn record_mut(&mut self, number: usize, key: usize, stamp: &Stamp) -> Option<&mut Record<K, V>> {
        self.oracle_mut(number).get_mut(key, stamp)
    }

    /// Returns the register that an opening holds for a key.
    pub(super) fn held(&self, number: usize, key: usize) -> Option<Snapshot<K, V>> {
        if self.is_foreign_to(number, key) {
            return self.held_unread(number, key);
        }
        let (hash, key) = &self.keys[key];
        self.view(number).store().get(*hash, key)
    }

    /// Returns the register that an opening holds for a key that it cannot read.
    fn held_unread(&self, number: usize, key: usize) -> Option<Snapshot<K, V>> {
        let (hash, bytes) = self.names.foreign(key)?;
        let matches = |key: &Key<K>| matches!(key, Key::Opaque(held) if **held == *bytes);
        self.view(number).store().find_by(*hash, matches)
    }

    /// Returns the register that a reader gets now, and its stamp.
    pub(super) fn served(&self, number: usize, key: usize) -> Option<(Stamp, Snapshot<K, V>)> {
        let held = self.held(number, key)?;
        self.is_served(number, &held).then(|| (self.view(number).stamp_at(&held.meta), held))
    }

    /// Returns true if a reader gets the value of a held register.
    pub(super) fn is_served(&self, number: usize, held: &Snapshot<K, V>) -> bool {
        let readable = held.meta.kind.is_live() && held.meta.stamp_time > self.view(number).epoch();
        readable && (held.meta.expires == 0 || held.meta.expires > self.now_at(number).wall)
    }

    /// Returns the number of a key, if the run has this key.
    pub(super) fn number_of(&self, key: &Key<K>) -> Option<usize> {
        let (hash, same): (_, &dyn Fn(usize) -> bool) = match key {
            Key::Known(key) => (hash_of(key), &|at| self.keys[at].1 == *key),
            Key::Opaque(bytes) => {
                (hash_of::<[u8]>(bytes), &|at| self.names.foreign(at).is_some_and(|(_, known)| *known == **bytes))
            }
            Key::Gone => return None,
        };
        self.names.number(hash).filter(|at| same(*at))
    }

    /// Returns a readable form of a key.
    pub(super) fn key_name(&self, key: usize) -> String {
        brief(&self.keys[key].1)
    }

    /// Returns a readable name of an opening: the replica and its process.
    pub(super) fn name(&self, opening: usize) -> String {
        let Opening { process, cache, .. } = self.openings[opening];
        let cache = if self.settings.caches > 1 { format!("/c{cache}") } else { String::new() };
        format!("r{opening}(n{process}{cache})")
    }
}
