//! Test caches on hosts without a network, with clocks that the test moves.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::runtime::Runtime;
use uuid::Uuid;

use super::host::{Executor, Host, NodeServices, ReadyFuture, Task, TaskRuntime};
use super::port::{NodeEvent, Parcel, Port};
use super::{Cache, CacheBuilder, CacheKey, CacheValue, TimeSource};
use crate::hlc::{HlcTime, Now, nanos};
use crate::replica_id::ReplicaId;
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering};

/// The runtime in which the fillers of all tests run.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// A clock that stands still until the test moves it. Starts in 2024.
pub(crate) struct TestClock {
    wall: AtomicU64,
    mono: AtomicU64,
}

impl TestClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { wall: AtomicU64::new(1_704_067_200_000_000_000), mono: AtomicU64::new(1_000_000_000) })
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.wall.fetch_add(nanos(by), Ordering::SeqCst);
        self.mono.fetch_add(nanos(by), Ordering::SeqCst);
    }

    /// Steps the wall clock alone, forward or back, by milliseconds.
    pub(crate) fn skew(&self, millis: i64) {
        let by = Duration::from_millis(millis.unsigned_abs());
        if millis < 0 {
            self.wall.fetch_sub(nanos(by), Ordering::SeqCst);
        } else {
            self.wall.fetch_add(nanos(by), Ordering::SeqCst);
        }
    }
}

impl TimeSource for TestClock {
    fn now(&self) -> Now {
        Now { wall: self.wall(), mono: self.mono.load(Ordering::SeqCst) }
    }

    fn wall(&self) -> HlcTime {
        self.wall.load(Ordering::SeqCst)
    }
}

/// A host for one cache.
pub(crate) struct TestHost {
    clock: Arc<TestClock>,
    id: Uuid,
    /// True once the id was drawn: later ids are random.
    drawn: AtomicBool,
}

impl Host for TestHost {
    fn services(&self, _cache: &str) -> NodeServices {
        NodeServices {
            node: self.id,
            node_name: Arc::from("test"),
            time: Arc::clone(&self.clock) as _,
            wake: Arc::new(|| {}),
            sender: None,
            tasks: Arc::new(TestTasks),
        }
    }

    fn draw_replica(&self) -> (ReplicaId, u64) {
        let first = !self.drawn.swap(true, Ordering::Relaxed);
        (ReplicaId::from_uuid(if first { self.id } else { Uuid::new_v4() }), 7)
    }

    fn names(&self, _: &str) -> BTreeMap<ReplicaId, String> {
        BTreeMap::new()
    }

    fn open(&self, _: &str, make: &mut dyn FnMut() -> Option<Arc<dyn Port>>) -> Option<Arc<dyn Port>> {
        make()
    }

    fn close(&self, _: &Arc<dyn Port>) {}

    fn is_forked(&self) -> bool {
        false
    }

    fn ready(&self, _: &str, _: Duration) -> ReadyFuture {
        Box::pin(async { None })
    }
}

/// An executor that runs all tasks in one runtime.
struct TestTasks;

impl Executor for TestTasks {
    fn spawn(&self, _: TaskRuntime, task: Task) -> bool {
        RUNTIME.spawn(task);
        true
    }

    fn is_sole_driver(&self) -> bool {
        false
    }

    fn sleep(&self, duration: Duration) -> Task {
        let _inside = RUNTIME.enter();
        Box::pin(tokio::time::sleep(duration))
    }
}

pub(crate) fn builder<K: CacheKey, V: CacheValue>(clock: &Arc<TestClock>, number: u8) -> CacheBuilder<K, V> {
    let host = TestHost { clock: Arc::clone(clock), id: Uuid::from_bytes([number; 16]), drawn: AtomicBool::new(false) };
    CacheBuilder::new(Arc::new(host), "test")
}

/// Opens a cache that has no peers.
pub(crate) fn alone<K: CacheKey, V: CacheValue>(
    settings: impl FnOnce(CacheBuilder<K, V>) -> CacheBuilder<K, V>,
) -> (Cache<K, V>, Arc<TestClock>) {
    let clock = TestClock::new();
    (settings(builder(&clock, 1)).open().unwrap(), clock)
}

/// A few caches that exchange messages when the test says so, each with a clock of its own.
pub(crate) struct Cluster<K, V> {
    pub(crate) caches: Vec<Cache<K, V>>,
    pub(crate) clocks: Vec<Arc<TestClock>>,
    ports: Vec<Arc<dyn Port>>,
}

impl<K: CacheKey, V: CacheValue> Cluster<K, V> {
    pub(crate) fn new(count: u8, settings: impl Fn(usize, CacheBuilder<K, V>) -> CacheBuilder<K, V>) -> Self {
        Self::of(&(1..=count).collect::<Vec<_>>(), settings)
    }

    /// Opens a cluster with these numbers for replica ids.
    pub(crate) fn of(numbers: &[u8], settings: impl Fn(usize, CacheBuilder<K, V>) -> CacheBuilder<K, V>) -> Self {
        let clocks: Vec<_> = numbers.iter().map(|_| TestClock::new()).collect();
        let open = |(index, clock)| settings(index, builder(clock, numbers[index])).open().unwrap();
        let caches: Vec<Cache<K, V>> = clocks.iter().enumerate().map(open).collect();
        let ports: Vec<Arc<dyn Port>> = caches.iter().map(|cache| Arc::clone(&cache.shared) as _).collect();
        let cluster = Self { caches, clocks, ports };
        cluster.ports.iter().for_each(|port| port.handle_event(NodeEvent::Connected(true)));
        cluster.meet();
        cluster.advance(Duration::from_secs(3));
        cluster
    }

    /// Takes out all messages that one cache wants to send, and reports them to that cache as sent.
    pub(crate) fn take(&self, from: usize) -> Vec<Parcel> {
        let mut parcels = Vec::new();
        while let Some(parcel) = self.ports[from].poll() {
            if parcel.bulk {
                parcel.to.iter().for_each(|to| self.ports[from].sent(*to, true));
            }
            parcels.push(parcel);
        }
        parcels
    }

    pub(crate) fn deliver(&self, parcels: &[Parcel]) {
        for parcel in parcels {
            for port in self.ports.iter().filter(|port| parcel.to.contains(&port.id())) {
                port.deliver(parcel.bytes.clone());
            }
        }
    }

    /// Delivers messages until no cache has any to send.
    pub(crate) fn exchange(&self) {
        loop {
            let parcels: Vec<_> = (0..self.ports.len()).flat_map(|from| self.take(from)).collect();
            if parcels.is_empty() {
                return;
            }
            self.deliver(&parcels);
        }
    }

    /// Lets time pass for one cache, without exchanging messages.
    pub(crate) fn tick(&self, index: usize, by: Duration) {
        self.clocks[index].advance(by);
        self.ports[index].tick();
    }

    /// Lets time pass for all caches in steps of 50 ms, and exchanges all messages after each step.
    pub(crate) fn advance(&self, by: Duration) {
        let step = Duration::from_millis(50);
        for _ in 0..by.as_millis().div_ceil(step.as_millis()) {
            (0..self.ports.len()).for_each(|index| self.tick(index, step));
            self.exchange();
        }
    }

    /// Sends a greeting from each cache to each other cache. Reports replica ids that no cache has any more as departed
    /// for good.
    pub(crate) fn meet(&self) {
        for (index, port) in self.ports.iter().enumerate() {
            let greeting = port.greeting().unwrap();
            let others = self.ports.iter().enumerate().filter(|(other, _)| *other != index);
            for (_, other) in others {
                other.deliver(greeting.clone());
            }
        }
        for port in &self.ports {
            let known = port.status().members;
            let gone = known.into_iter().filter(|id| self.ports.iter().all(|port| port.id() != *id));
            gone.for_each(|id| port.handle_event(NodeEvent::MemberLeft(id)));
        }
        self.exchange();
    }

    /// Reports one cache to its peers as dead, or as departed for good.
    pub(crate) fn down(&self, gone: usize, for_good: bool) {
        let id = self.ports[gone].id();
        let event = if for_good { NodeEvent::MemberLeft(id) } else { NodeEvent::MemberDown(id) };
        for (_, port) in self.ports.iter().enumerate().filter(|(index, _)| *index != gone) {
            port.handle_event(event);
        }
    }
}
