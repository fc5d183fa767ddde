//! Tests of nodes that start, restart and end, as their peers see them: short jobs, crashes, seeds.
#![cfg(feature = "node")]

#[path = "common/addresses.rs"]
mod addresses;
mod common;
#[path = "common/log.rs"]
mod log;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use addresses::{unused, unused_port};
use common::{SOON, eventually, node, open, stop};
use driftless::inspect::Inspector;
use driftless::{Cache, Members, Node, NodeBuilder, Ready};

/// The time limit of a shutdown. A shutdown that waits for a member takes this long.
const HANDOVER: Duration = Duration::from_secs(5);

fn builder(cluster: &str, seeds: &[SocketAddr]) -> NodeBuilder {
    Node::builder().cluster(cluster).seeds(seeds.iter().map(SocketAddr::to_string)).local_timing()
}

/// Ends a node as by `kill -9`: without a goodbye.
fn crash(node: Node, cache: Cache<String, String>) {
    node.kill_network_task("thread");
    eventually("crashed", || node.is_running(), |running| !running);
    drop((node, cache));
}

/// Returns the replicas that a cache counts as members, with the names of their nodes and whether they are live.
fn peers(cache: &Cache<String, String>) -> Vec<(String, Option<String>, bool)> {
    cache.inspect().peers.into_iter().map(|peer| (peer.replica, peer.node, peer.live)).collect()
}

fn is_replaced(cache: &Cache<String, String>, by: &Cache<String, String>, among: usize) {
    eventually(
        "the new replica is there, alone under its name",
        || peers(cache),
        |peers| {
            let names: BTreeSet<_> = peers.iter().map(|(_, name, _)| name).collect();
            peers.len() == among
                && names.len() == among
                && peers.iter().all(|(_, name, live)| *live && name.is_some())
                && peers.iter().any(|(replica, ..)| *replica == by.replica_id().to_string())
        },
    );
}

// scenario 64: the predecessor was declared dead before its successor started, at the same or at another address.
#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_member_that_was_called_dead_is_replaced_by_its_successor() {
    let (a, c) = (node("crashed", &[]).await, node("crashed", &[]).await);
    let seeds = [a.local_addr()];
    let d = node("crashed", &[&a]).await;
    drop(c);
    let start = |bind: SocketAddr| builder("crashed", &seeds).name("b").bind(bind).start();
    let (first, other) = (open(&a), open(&d));
    let mut b = start(unused()).await.unwrap();
    for round in 0..2 {
        let there = open(&b);
        assert!(there.ready(SOON).await.is_ready());
        is_replaced(&first, &there, 2);
        is_replaced(&other, &there, 2);
        first.insert("before".into(), round.to_string()).unwrap();
        there.insert("told".into(), round.to_string()).unwrap();
        eventually("arrives", || other.get("told"), |told| told.as_deref() == Some(&*round.to_string()));
        let (addr, gone) = (b.local_addr(), there.replica_id().to_string());
        crash(b, there);
        for cache in [&first, &other] {
            let is_dead = |seen: &Vec<_>| seen.iter().any(|(replica, _, live)| *replica == gone && !live);
            eventually("declared dead", || peers(cache), is_dead);
        }
        first.remove("before"); // A tombstone that the dead member holds back.
        b = start(if round == 0 { addr } else { unused() }).await.unwrap();
    }
    let there = open(&b);
    assert!(there.ready(SOON).await.is_ready());
    is_replaced(&first, &there, 2);
    is_replaced(&other, &there, 2);
    let inspector = Inspector::new(&a);
    let suspicious = ["split-suspected", "lagging-peer", "collection-stalled"];
    eventually(
        "no warning about the predecessor",
        || inspector.cache("test").unwrap().warnings,
        |warnings| warnings.iter().all(|warning| !suspicious.contains(&&*warning.name)),
    );
    let told = inspector.explain("test", "told", SOON).await.unwrap();
    assert_eq!(told.nodes.iter().filter(|node| node.node == "b").count(), 1, "{told:?}");
    stop(vec![a, b, d]).await;
}

// scenario 64: the successor starts before the predecessor was declared dead, at the same address.
#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_member_is_replaced_by_a_successor_that_comes_at_once() {
    let a = node("quick", &[]).await;
    let seeds = [a.local_addr()];
    let first = open(&a);
    let mut b = builder("quick", &seeds).name("b").bind(unused()).start().await.unwrap();
    for _ in 0..4 {
        let there = open(&b);
        assert!(there.ready(SOON).await.is_ready());
        is_replaced(&first, &there, 1);
        let addr = b.local_addr();
        crash(b, there);
        b = builder("quick", &seeds).name("b").bind(addr).start().await.unwrap();
    }
    stop(vec![a, b]).await;
}

/// Checks a short job: it writes and shuts down before it has met a member. Promise: a member has its writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_writes_and_shuts_down_at_once_has_replicated_to_a_member() {
    let a = node("job", &[]).await;
    let here = open(&a);
    here.insert("old".into(), "v".into()).unwrap();
    here.insert("removed".into(), "v".into()).unwrap();
    for round in 0..4 {
        let job = node("job", &[&a]).await;
        let cache = open(&job);
        cache.insert(format!("job-{round}"), "v".into()).unwrap();
        cache.remove("removed");
        let unsent = job.shutdown().await;
        assert!(unsent.is_empty(), "{unsent}");
        eventually("told", || here.get(&format!("job-{round}")), Option::is_some);
        eventually("removed", || here.get("removed"), Option::is_none);
        assert!(here.get("old").is_some());
    }
    let job = node("job", &[&a]).await;
    open(&job).invalidate_all();
    assert!(job.shutdown().await.is_empty());
    eventually("invalidated", || here.entry_count(), |entries| *entries == 0);
    stop(vec![a]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_drops_its_handles_at_once_has_replicated_to_a_member() {
    log::listen("driftless=warn");
    let a = node("dropped-job", &[]).await;
    let here = open(&a);
    for round in 0..4 {
        let job = node("dropped-job", &[&a]).await;
        let cache = open(&job);
        cache.insert(format!("job-{round}"), "v".into()).unwrap();
        // Three orders: drop the cache only, the cache first, the node first.
        let left = match round {
            0 => {
                drop(cache);
                Some(job)
            }
            1 => {
                drop(cache);
                drop(job);
                None
            }
            _ => {
                drop(job);
                drop(cache);
                None
            }
        };
        eventually("told", || here.get(&format!("job-{round}")), Option::is_some);
        if let Some(job) = left {
            assert!(job.shutdown().await.is_empty());
        }
    }
    assert!(log::text().contains("the last handle of the node was dropped with writes"), "the process may end first");
    stop(vec![a]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_member_took_is_returned_and_named() {
    log::listen("driftless=warn");
    let job = builder("unheard", &[unused()]).start().await.unwrap();
    let open = |name: &str| -> Cache<String, u64> { job.cache(name).open().unwrap() };
    let closed = open("unheard-closed");
    closed.insert("a".into(), 1).unwrap();
    drop(closed);
    let (written, invalidated, untouched) =
        (open("unheard-written"), open("unheard-invalidated"), open("unheard-untouched"));
    for n in 0..10 {
        written.insert((n % 5).to_string(), n).unwrap();
    }
    written.remove("0");
    written.remove("never there");
    invalidated.invalidate_all();
    let start = Instant::now();
    let (unsent, again) = tokio::join!(job.shutdown(), job.shutdown());
    assert!(start.elapsed() >= Duration::from_secs(4), "a seed may come back until the deadline");
    assert_eq!(unsent, again);
    let named: Vec<_> = unsent.caches.iter().map(|it| (&*it.cache, it.writes)).collect();
    assert_eq!(named, [("unheard-closed", 1), ("unheard-invalidated", 1), ("unheard-written", 6)]);
    assert_eq!(untouched.entry_count(), 0);
    assert_eq!(job.shutdown().await, unsent, "at any time the same");
    let log = log::text();
    for (cache, _) in named {
        let line = log.lines().find(|line| line.contains(cache) && line.contains("writes that no other member has"));
        assert!(line.is_some_and(|line| line.contains("WARN")), "{cache}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_closed_in_vain_is_returned_later() {
    let job = builder("long-closed", &[unused()]).start().await.unwrap();
    let cache = open(&job);
    cache.insert("a".into(), "1".into()).unwrap();
    let seen = cache.clone();
    drop(cache);
    let again = open(&job);
    assert!(again.get("a").is_some(), "it is still there");
    drop((seen, again));
    let is_closed = || job.cache::<u8, u8>("test").open().is_ok();
    eventually("closed after five seconds", is_closed, |closed| *closed);
    let unsent = job.shutdown().await;
    assert_eq!(unsent.caches.iter().map(|it| (&*it.cache, it.writes)).collect::<Vec<_>>(), [("test", 1)]);
}

/// Checks a cache that no member has open: waiting cannot help, so the shutdown is fast and reports the writes as
/// unsent.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_no_member_has_open_is_returned_and_not_waited_for() {
    let a = node("private", &[]).await;
    let job = node("private", &[&a]).await;
    let cache: Cache<String, u64> = job.cache("mistyped").open().unwrap();
    cache.insert("a".into(), 1).unwrap();
    assert_eq!(cache.ready(SOON).await, Ready::First { members: 1 });
    let start = Instant::now();
    let unsent = job.shutdown().await;
    assert!(start.elapsed() < HANDOVER, "{:?}", start.elapsed());
    assert_eq!(unsent.caches.iter().map(|it| (&*it.cache, it.writes)).collect::<Vec<_>>(), [("mistyped", 1)]);
    stop(vec![a]).await;
}

/// Checks that a node without a cluster, and the last node of a cluster, shut down without waiting for a receiver.
#[tokio::test(flavor = "multi_thread")]
async fn a_lone_node_and_the_last_of_a_cluster_end_at_once() {
    let timed = async |node: &Node| {
        let start = Instant::now();
        let unsent = node.shutdown().await;
        assert!(unsent.is_empty(), "{unsent}");
        assert!(start.elapsed() < HANDOVER, "{:?}", start.elapsed());
    };
    let lone = node("lone", &[]).await;
    let cache = open(&lone);
    cache.insert("a".into(), "1".into()).unwrap();
    timed(&lone).await;

    let (nodes, caches) = common::cluster("last", 2).await;
    let written = caches[1].insert("a".into(), "1".into()).unwrap();
    caches[1].wait_replicated(written, Members::All, SOON).await.unwrap();
    timed(&nodes[0]).await;
    eventually("alone", || nodes[1].members().len(), |members| *members == 0);
    timed(&nodes[1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_members_are_those_that_should_be_there() {
    let addr = unused();
    let early = builder("awaited", &[addr]).start().await.unwrap();
    let cache = open(&early);
    let written = cache.insert("a".into(), "1".into()).unwrap();
    for members in [Members::All, Members::Count(1)] {
        let missing = cache.wait_replicated(written, members, Duration::from_millis(300)).await.unwrap_err();
        assert!(missing.unmet && missing.missing.is_empty(), "{missing}");
        assert!(missing.to_string().contains("seeds"), "{missing}");
    }
    let waits = tokio::spawn({
        let cache = cache.clone();
        async move { cache.wait_replicated(written, Members::All, SOON).await }
    });
    let too_few = early.wait_for_members(1, Duration::from_millis(100)).await.unwrap_err();
    assert_eq!((too_few.wanted, too_few.present), (1, 0));
    let seed = builder("awaited", &[]).bind(addr).start().await.unwrap();
    let there = open(&seed);
    early.wait_for_members(1, SOON).await.unwrap();
    let replicated = waits.await.unwrap().unwrap();
    assert_eq!(replicated.seen, [there.replica_id()]);
    assert_eq!(there.get("a").as_deref(), Some("1"));
    seed.wait_for_members(1, SOON).await.unwrap();
    let too_few = early.wait_for_members(2, Duration::from_millis(50)).await.unwrap_err();
    assert_eq!((too_few.wanted, too_few.present), (2, 1), "{too_few}");
    early.wait_for_members(0, Duration::ZERO).await.unwrap();
    stop(vec![seed]).await;
    eventually("alone", || cache.members(), |members| *members == 0);
    // Every member has departed with a goodbye, so the call waits for none.
    let written = cache.insert("b".into(), "2".into()).unwrap();
    let seen = cache.wait_replicated(written, Members::All, SOON).await.unwrap().seen;
    assert!(seen.is_empty());
    let waits = tokio::spawn({
        let early = early.clone();
        async move { early.wait_for_members(1, Duration::from_secs(600)).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(early.shutdown().await);
    assert_eq!(waits.await.unwrap().unwrap_err().present, 0);
    assert!(early.wait_for_members(1, SOON).await.is_err());
    assert!(cache.wait_replicated(written, Members::All, SOON).await.is_err(), "a node that is down has no members");
}

/// Checks a wait right after the start: when it returns, the member has the write.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_the_first_moment_can_be_waited_for() {
    let a = node("first-moment", &[]).await;
    let there = open(&a);
    for round in 0..4 {
        let job = node("first-moment", &[&a]).await;
        let cache = open(&job);
        let written = cache.insert(format!("job-{round}"), "v".into()).unwrap();
        let members = if round % 2 == 0 { Members::All } else { Members::Count(1) };
        let replicated = cache.wait_replicated(written, members, SOON).await.unwrap();
        assert_eq!(replicated.seen, [there.replica_id()]);
        assert!(there.get(&format!("job-{round}")).is_some());
        job.shutdown().await;
    }
    // A cache for which the member has not yet reported whether it is open there.
    let job = node("first-moment", &[&a]).await;
    job.wait_for_members(1, SOON).await.unwrap();
    let cache: Cache<String, String> = job.cache("other").open().unwrap();
    let written = cache.insert("a".into(), "b".into()).unwrap();
    let replicated = cache.wait_replicated(written, Members::All, SOON).await.unwrap();
    assert!(replicated.seen.is_empty(), "every member has reported that it does not have it open");
    stop(vec![job, a]).await;
}

#[test]
fn members_can_be_waited_for_without_a_runtime() {
    let one = builder("plain", &[]).start_blocking().unwrap();
    assert_eq!(one.wait_for_members_blocking(1, Duration::from_millis(20)).unwrap_err().present, 0);
    let two = builder("plain", &[one.local_addr()]).start_blocking().unwrap();
    one.wait_for_members_blocking(1, SOON).unwrap();
    two.wait_for_members_blocking(1, SOON).unwrap();
    let dead = builder("plain", &[]).start_blocking().unwrap();
    dead.kill_driver();
    assert_eq!(dead.wait_for_members_blocking(1, Duration::MAX).unwrap_err().wanted, 1);
    assert!(two.shutdown_blocking().is_empty() && one.shutdown_blocking().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_only_seed_is_itself_is_alone() {
    let (local, port) = (unused(), unused_port());
    let everywhere: SocketAddr = ([0, 0, 0, 0], port).into();
    let advertised: SocketAddr = ([127, 0, 0, 9], port).into();
    let named: SocketAddr = ([127, 0, 0, 1], unused_port()).into();
    let cases = [
        // In turn: by the address it binds, by a name for it, by the address it advertises, by another address of the
        // machine.
        (builder("own", &[]).bind(local), vec![local.to_string()]),
        (builder("own", &[]).bind(named), vec![format!("localhost:{}", named.port()), named.to_string()]),
        (builder("own", &[]).bind(everywhere).advertise(advertised), vec![advertised.to_string()]),
        (builder("own", &[]).bind(everywhere).advertise(advertised), vec![format!("127.0.0.1:{port}")]),
    ];
    for (builder, seeds) in cases {
        let node = builder.seeds(seeds.clone()).start().await.unwrap();
        let cache = open(&node);
        let written = cache.insert("a".into(), "1".into()).unwrap();
        assert_eq!(cache.ready(SOON).await, Ready::Alone, "{seeds:?}");
        assert!(Inspector::new(&node).is_ready().await);
        assert!(cache.wait_replicated(written, Members::All, SOON).await.is_ok());
        let start = Instant::now();
        assert!(node.shutdown().await.is_empty());
        assert!(start.elapsed() < HANDOVER, "{:?}", start.elapsed());
    }
}

/// Checks that a node which lists itself among its seeds does not count itself as a seed that was found.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_among_its_seeds_waits_for_the_others() {
    let (local, other) = (unused(), unused());
    let node = builder("among", &[local, other]).bind(local).start().await.unwrap();
    let cache = open(&node);
    assert!(matches!(cache.ready(Duration::from_millis(300)).await, Ready::TimedOut { .. }));
    let inspector = Inspector::new(&node);
    eventually(
        "its seeds are unreachable",
        || inspector.node().warnings,
        |warnings| warnings.iter().any(|warning| warning.name == "seeds-unreachable"),
    );
    let second = builder("among", &[local, other]).bind(other).start().await.unwrap();
    node.wait_for_members(1, SOON).await.unwrap();
    eventually(
        "a seed answers",
        || inspector.node().warnings,
        |warnings| warnings.iter().all(|warning| warning.name != "seeds-unreachable"),
    );
    stop(vec![node, second]).await;
}
