//! Tests of `Inspector` on real nodes over loopback.

mod common;

use std::time::Duration;

use common::{SOON, cluster, eventually, node, open, stop};
use driftless::inspect::{InspectError, Inspector};
use driftless::report::{Agreement, Blocker, DifferenceKind, Provenance, State};
use driftless::{Cache, Node};

const PATIENCE: Duration = Duration::from_secs(5);

fn sever(nodes: &[Node], alone: usize) {
    let others: Vec<_> =
        nodes.iter().enumerate().filter(|(n, _)| *n != alone).map(|(_, node)| node.local_addr()).collect();
    nodes[alone].sever(Some(others));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_cluster_reports_itself_without_warnings() {
    let (nodes, caches) = cluster("inspect-healthy", 3).await;
    for n in 0..500 {
        caches[n % 3].insert(format!("key-{n}"), "value".into()).unwrap();
    }
    caches[0].invalidate("key-7");
    for cache in &caches {
        eventually("arrived", || cache.entry_count(), |count| *count == 499);
    }
    let inspector = Inspector::new(&nodes[0]);
    let named = || inspector.cache("test").unwrap().peers.iter().filter(|peer| peer.node.is_some()).count();
    eventually("the nodes have names", named, |count| *count == 2);
    let report = eventually_quiet(&inspector);
    assert_eq!((report.entries, report.tombstones.total, report.tombstones.deleted), (499, 1, 1));
    assert!(report.tombstones.blocked_by.contains(&Blocker::Young), "{:?}", report.tombstones);
    assert!(report.bytes_out["push"] > 0 && report.bytes_in["digest"] > 0);
    assert!(report.repairs.push > 0 && report.memory_estimate > 499 * 10);
    assert!(report.staleness().bound_ms.is_some());
    let warnings = inspector.node().warnings;
    assert!(warnings.is_empty(), "{warnings:?}");
    let cluster = inspector.cluster(PATIENCE).await;
    assert_eq!((cluster.nodes.len(), cluster.silent.len()), (3, 0));
    assert!(cluster.nodes.iter().all(|node| node.caches.iter().any(|cache| cache.entries == 499)));
    stop(nodes).await;
}

/// Settings that differ between nodes are reported on both, with both values, until the node with the others departs.
#[tokio::test(flavor = "multi_thread")]
async fn settings_that_differ_between_nodes_are_named_on_both() {
    let a = node("inspect-settings", &[]).await;
    let b = node("inspect-settings", &[&a]).await;
    let open = |node: &Node, bytes, capacity| -> Cache<String, String> {
        node.cache("test").max_value_bytes(bytes).max_capacity(capacity).open().unwrap()
    };
    let (first, second) = (open(&a, 1_000, 10), open(&b, 2_000, 20));
    assert!(first.ready(SOON).await.is_ready() && second.ready(SOON).await.is_ready());
    let found = |node: &Node| {
        let warnings = Inspector::new(node).cache("test").unwrap().warnings;
        warnings.into_iter().filter(|warning| warning.name == "settings-differ").collect::<Vec<_>>()
    };
    for (node, other, said) in [(&a, &b, "1000 here and 2000 there"), (&b, &a, "2000 here and 1000 there")] {
        eventually("both warn", || found(node).len(), |count| *count == 1);
        let warning = found(node).remove(0);
        assert_eq!(warning.about, other.name());
        assert!(warning.text.contains(&format!("max_value_bytes is {said}")), "{}", warning.text);
        assert!(!warning.text.contains("max_capacity"), "a capacity of its own is no mistake: {}", warning.text);
    }
    b.shutdown().await;
    eventually("no longer", || found(&a).len(), |count| *count == 0);
    stop(vec![a]).await;
}

/// An opening with other settings gets the open cache. Each difference is named, functions included.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_is_opened_again_names_the_settings_that_it_ignores() {
    let node = node("inspect-reopened", &[]).await;
    let builder = || node.cache::<String, String>("test");
    let first = builder().max_capacity(10).open().unwrap();
    let found = || Inspector::new(&node).cache("test").unwrap().warnings;
    let handles = [builder().open().unwrap(), builder().max_capacity(10).open().unwrap()];
    assert!(found().is_empty(), "nothing else was asked for: {:?}", found());
    let (told, heard) = std::sync::mpsc::channel();
    let again = builder()
        .time_to_live(Duration::from_secs(60))
        .weigher(|_, _| 1)
        .eviction_listener(move |_, _, cause| told.send(cause).unwrap())
        .open()
        .unwrap();
    let warnings = found();
    assert_eq!(
        (warnings.len(), warnings[0].name.as_str(), warnings[0].about.as_str()),
        (1, "settings-differ", node.name())
    );
    for part in [
        "max_capacity is 10, not none",
        "time_to_live is none, not 60s",
        "this weigher is ignored",
        "this eviction_listener is ignored",
    ] {
        assert!(warnings[0].text.contains(part), "{}", warnings[0].text);
    }
    again.insert("a".into(), "1".into()).unwrap();
    again.remove("a");
    assert!(heard.try_recv().is_err() && first.settings().time_to_live.is_none());
    drop((first, handles, again));
    stop(vec![node]).await;
}

fn eventually_quiet(inspector: &Inspector) -> driftless::report::CacheReport {
    let look = || inspector.cache("test").unwrap();
    eventually("no lag", || look().peers.iter().map(|peer| peer.lag_entries).sum::<u64>(), |lag| *lag == 0);
    let report = look();
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_what_each_node_holds_and_that_they_agree() {
    let (nodes, caches) = cluster("inspect-explain", 3).await;
    caches[1].insert("apple".into(), "crimson".into()).unwrap();
    for cache in &caches {
        eventually("arrived", || cache.get("apple"), Option::is_some);
    }
    let inspector = Inspector::new(&nodes[0]);
    let told = inspector.explain("test", "apple", PATIENCE).await.unwrap();
    assert_eq!((told.nodes.len(), told.silent.len(), told.agreement), (3, 0, Agreement::Agree), "{told:?}");
    assert!(told.nodes.iter().all(|held| held.state == State::Live && held.stamp == told.nodes[0].stamp));
    assert!(
        told.nodes[0].value_hash.is_some() && told.nodes.iter().all(|held| held.value_hash == told.nodes[0].value_hash)
    );
    assert!(told.nodes[0].stamp.as_ref().unwrap().starts_with("20"), "{told:?}");
    let ways: Vec<_> = told.nodes.iter().map(|held| (held.node == nodes[1].name(), held.provenance.unwrap())).collect();
    assert_eq!(ways.iter().filter(|(_, by)| *by == Provenance::Written).count(), 1, "{told:?}");
    assert!(ways.iter().all(|(writer, by)| *writer == (*by == Provenance::Written)), "{told:?}");
    assert!(told.nodes.iter().all(|held| held.arrival.as_ref().is_some_and(|at| at.starts_with("20"))), "{told:?}");
    // scenario 92: values are shown only on request.
    assert!(told.value.is_none() && !format!("{told:?}").contains("crimson"), "values are shown only on request");
    assert_eq!(inspector.value("test", "apple").unwrap().as_deref(), Some("\"crimson\""));
    caches[2].invalidate("apple");
    for cache in &caches {
        eventually("deleted", || cache.get("apple"), Option::is_none);
    }
    let told = inspector.explain("test", "apple", PATIENCE).await.unwrap();
    assert!(told.nodes.iter().all(|held| held.state == State::Deleted), "{told:?}");
    assert!(told.verdict.contains("the delete"), "{told:?}");
    let unknown = inspector.explain("test", "never heard of", PATIENCE).await.unwrap();
    assert!(unknown.nodes.iter().all(|held| held.state == State::Unknown));
    assert!(matches!(inspector.explain("none", "k", PATIENCE).await, Err(InspectError::NoSuchCache(_))));
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_shows_as_lagging_and_explain_says_who_lacks_the_write() {
    let (nodes, caches) = cluster("inspect-lag", 3).await;
    let inspector = Inspector::new(&nodes[0]);
    let named = || inspector.cache("test").unwrap().peers.iter().filter(|peer| peer.node.is_some()).count();
    eventually("the nodes have names", named, |count| *count == 2);
    sever(&nodes, 2);
    caches[0].insert("meanwhile".into(), "written".into()).unwrap();
    let warned = || inspector.cache("test").unwrap().warnings;
    let lagging = |warnings: &Vec<driftless::report::Warning>| {
        warnings.iter().any(|warning| warning.name == "lagging-peer" && warning.about == nodes[2].name())
    };
    eventually("lagging", warned, lagging);
    let told = inspector.explain("test", "meanwhile", Duration::from_millis(500)).await.unwrap();
    assert!(told.silent.iter().any(|text| text.contains(nodes[2].name()) && text.contains("newest write")), "{told:?}");
    assert!(told.verdict.ends_with(", 1 silent"), "the verdict must not read as an agreement of all nodes: {told:?}");
    nodes[2].sever(None);
    eventually("healed", || caches[2].get("meanwhile"), Option::is_some);
    eventually("green", warned, Vec::is_empty);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn diff_pages_over_all_keys_and_an_audit_of_equal_nodes_is_clean() {
    // scenario 93 (smaller): everything is paged, and no query is larger than a page.
    let (nodes, caches) = cluster("inspect-diff", 2).await;
    for n in 0..3_000 {
        caches[0].insert(format!("key-{n}"), "value".into()).unwrap();
    }
    eventually("arrived", || caches[1].entry_count(), |count| *count == 3_000);
    let inspector = Inspector::new(&nodes[0]);
    let (mut pages, mut examined, mut cursor) = (0, 0, None);
    loop {
        let page = inspector.diff("test", nodes[1].name(), cursor.as_deref(), 500).await.unwrap();
        assert!(page.differences.is_empty(), "{page:?}");
        (pages, examined) = (pages + 1, examined + page.examined);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert!(pages > 5, "{pages}");
    assert_eq!(examined, 6_000);
    let audit = inspector.audit_now("test").await.unwrap();
    assert!(audit.clean && audit.members[0].examined == 6_000, "{audit:?}");
    assert!(matches!(inspector.diff("test", "no-such-node", None, 1).await, Err(InspectError::NoSuchMember(_))));
    let bad = inspector.diff("test", nodes[1].name(), Some("…"), 1).await;
    assert_eq!(bad.unwrap_err(), InspectError::BadCursor);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_evicted_is_a_difference_with_a_reason() {
    let a = node("inspect-evict", &[]).await;
    let b = node("inspect-evict", &[&a]).await;
    let all: Cache<String, String> = open(&a);
    let few: Cache<String, String> = b.cache("test").max_capacity(10).open().unwrap();
    assert!(few.ready(SOON).await.is_ready());
    for n in 0..50 {
        all.insert(format!("key-{n}"), "value".into()).unwrap();
    }
    let took = || few.counters().merged;
    eventually("arrived", took, |count| *count >= 50);
    let page = Inspector::new(&a).diff("test", b.name(), None, 10_000).await.unwrap();
    assert_eq!(page.differences.len(), 40, "{page:?}");
    let told = |found: &driftless::report::Difference| found.kind == DifferenceKind::OnlyHere && found.reason.is_some();
    assert!(page.differences.iter().all(told), "{page:?}");
    assert!(Inspector::new(&a).audit_now("test").await.unwrap().clean);
    stop(vec![a, b]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_touches_neither_recency_nor_counts() {
    // scenario 44, scenario 94 (recency): inspection changes neither the order of eviction nor the hit counts.
    let a = node("inspect-recency", &[]).await;
    let cache: Cache<u64, String> = a.cache("test").max_capacity(3).open().unwrap();
    for n in 0..3 {
        cache.insert(n, "value".into()).unwrap();
    }
    let inspector = Inspector::new(&a);
    let before = inspector.recent_keys("test", 10).unwrap();
    assert_eq!(before, ["2", "1", "0"]);
    for _ in 0..100 {
        inspector.explain("test", "0", PATIENCE).await.unwrap();
        inspector.value("test", "0").unwrap();
        drop(inspector.node());
        assert!(cache.contains_key(&0));
    }
    assert_eq!(inspector.recent_keys("test", 10).unwrap(), before);
    assert_eq!(cache.hits_and_misses(), (0, 0));
    cache.insert(3, "value".into()).unwrap();
    assert_eq!(cache.get(&0), None, "still the least recently used");
    for typed in ["no number", "cbor:zz", "cbor:"] {
        assert!(matches!(inspector.explain("test", typed, PATIENCE).await, Err(InspectError::NotAKey(_))), "{typed}");
    }
    stop(vec![a]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_shut_down_says_so() {
    // scenario 73 (seen from outside): a node that was shut down reports a warning.
    let a = node("inspect-down", &[]).await;
    let inspector = Inspector::new(&a);
    assert!(inspector.summary().warnings.is_empty());
    a.shutdown().await;
    let warnings = inspector.summary().warnings;
    assert!(warnings.iter().any(|warning| warning.name == "shut-down"), "{warnings:?}");
}
