//! Clocks that are ahead, behind, or set while the node runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use driftless::{Cache, Node};

use crate::common::{SOON, eventually, open};
use crate::table::{Expected, Row, begin, builder, end, warnings};

async fn member(cluster: &str, name: &str, seeds: &[&Node], offset: &Arc<AtomicI64>) -> (Node, Cache<String, String>) {
    let node = builder(cluster, name, seeds).clock_offset(Arc::clone(offset)).start().await.unwrap();
    let cache = open(&node);
    assert!(cache.ready(SOON).await.is_ready());
    (node, cache)
}

fn seconds(seconds: i64) -> Arc<AtomicI64> {
    Arc::new(AtomicI64::new(seconds * 1_000_000_000))
}

/// Checks that each node warns of the clock of `wrong` and of no other clock.
fn only(case: &str, nodes: &[&Node], wrong: &str) {
    for node in nodes {
        for warning in warnings(node) {
            let is_clock = warning.name.starts_with("clock-") || warning.name == "stamps-ahead";
            assert!(is_clock && warning.about == wrong, "{case}: false on {}: {warning:#?}", node.name());
        }
    }
}

/// Nodes that agree, then one more whose clock is wrong from the start: each node names that one.
async fn wrong(case: &'static str, right: usize, offset: i64, expected: (&'static str, &'static str)) -> Vec<Row> {
    let (name, about) = expected;
    let exact = seconds(0);
    let mut nodes = vec![member(case, "a", &[], &exact).await];
    for other in ["b", "c"].iter().take(right - 1) {
        let next = member(case, other, &[&nodes[0].0], &exact).await;
        nodes.push(next);
    }
    let cause = Instant::now();
    nodes.push(member(case, "z", &[&nodes[0].0], &seconds(offset)).await);
    let all: Vec<_> = nodes.iter().map(|(node, _)| node).collect();
    let on = |node| Expected { on: node, name, about: about.into(), source: Vec::new(), advice: "NTP" };
    let mut rows = begin(case, cause, &all.iter().map(|node| on(*node)).collect::<Vec<_>>()).await;
    // Writes of every node go on, and no other node is blamed for them.
    for (number, (_, cache)) in nodes.iter().enumerate() {
        cache.insert(format!("key-{number}"), "value".into()).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    only(case, &all, about);
    let (gone, _) = nodes.pop().unwrap();
    gone.shutdown().await;
    let remedy = Instant::now();
    end(&mut rows, &nodes.iter().map(|(node, _)| node).collect::<Vec<_>>(), remedy).await;
    for (node, _) in nodes {
        node.shutdown().await;
    }
    rows
}

pub async fn one_of_three(case: &'static str, offset: i64) -> Vec<Row> {
    wrong(case, 2, offset, (if offset > 0 { "clock-ahead" } else { "clock-behind" }, "z")).await
}

/// With two clocks no node can know which is right. Both name the one that is ahead, and say to check both.
pub async fn one_of_two(case: &'static str, offset: i64) -> Vec<Row> {
    wrong(case, 1, offset, ("clock-ahead", if offset > 0 { "z" } else { "a" })).await
}

/// A wall clock that is set while the node runs.
pub async fn a_step() -> Vec<Row> {
    let case = "a clock is set";
    let offset = seconds(0);
    let (node, cache) = member(case, "a", &[], &offset).await;
    cache.insert("key".into(), "value".into()).unwrap();
    let cause = Instant::now();
    offset.store(-20_000_000_000, Ordering::Relaxed);
    let expected =
        Expected { on: &node, name: "clock-stepped", about: "a".into(), source: Vec::new(), advice: "check NTP" };
    let mut rows = begin(case, cause, &[expected]).await;
    offset.store(0, Ordering::Relaxed);
    end(&mut rows, &[&node], Instant::now()).await;
    eventually("quiet", || warnings(&node), Vec::is_empty);
    node.shutdown().await;
    rows
}
