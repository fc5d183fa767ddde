//! The verdict: every value cached on any node equals its row, and the nodes agree.

use crate::{database::Product, report::number};
use driftless::Cache;
use std::{
    collections::{HashMap, HashSet},
    fmt, thread,
    time::{Duration, Instant},
};

/// The findings once the caches have settled, or when the time is up.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Number of cached values compared with their row.
    pub compared: usize,
    /// Number of values that each node holds.
    pub held: Vec<usize>,
    /// Number of different keys that are cached on any node.
    pub different: usize,
    /// Number of keys that are cached on some nodes and evicted on the rest.
    pub partly_held: usize,
    /// Descriptions of all violations.
    pub faults: Vec<String>,
    /// The time until the caches settled.
    pub took: Duration,
}

impl Verdict {
    pub fn holds(&self) -> bool {
        self.faults.is_empty()
    }
}

/// The verdict in one line. Of the violations it has the number only.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (compared, took) = (number(self.compared as f64), self.took.as_secs_f64());
        match self.faults.len() {
            0 => write!(
                f,
                "HOLDS: each of {compared} cached values equals its row, and the nodes agree; at rest after {took:.2} s"
            ),
            faults => write!(f, "FAILS: {faults} faults after {took:.1} s, the first of them:"),
        }
    }
}

/// Compares the caches with the rows until there is no fault and two reads in a row are equal, for at most `within`. If
/// every row fits into a cache (`complete`), the nodes must also hold the same keys.
pub fn judge(
    caches: &[Cache<u32, Product>],
    rows: &HashMap<u32, Product>,
    complete: bool,
    within: Duration,
) -> Verdict {
    let start = Instant::now();
    let mut before: Option<Vec<HashMap<u32, Product>>> = None;
    loop {
        let now: Vec<_> = caches.iter().map(snapshot).collect();
        let took = start.elapsed();
        let verdict = Verdict { took, ..compare(&now, rows, complete) };
        let at_rest = before.as_ref() == Some(&now);
        if (verdict.holds() && at_rest) || took >= within {
            return verdict;
        }
        before = Some(now);
        thread::sleep(Duration::from_millis(50));
    }
}

fn snapshot(cache: &Cache<u32, Product>) -> HashMap<u32, Product> {
    cache.run_pending_tasks();
    cache.iter().map(|(id, product)| (*id, product)).collect()
}

fn compare(nodes: &[HashMap<u32, Product>], rows: &HashMap<u32, Product>, complete: bool) -> Verdict {
    let held = nodes.iter().map(HashMap::len).collect();
    let mut verdict = Verdict { held, ..Verdict::default() };
    for (node, cached) in nodes.iter().enumerate() {
        verdict.compared += cached.len();
        let wrong = cached.iter().filter(|&(id, product)| rows.get(id) != Some(product));
        verdict.faults.extend(
            wrong.map(|(id, product)| {
                format!("node {node} holds {product:?} for {id}, but its row is {:?}", rows.get(id))
            }),
        );
    }
    let anywhere: HashSet<u32> = nodes.iter().flat_map(HashMap::keys).copied().collect();
    verdict.different = anywhere.len();
    let partly = |id: &&u32| nodes.iter().any(|node| !node.contains_key(id));
    verdict.partly_held = anywhere.iter().filter(partly).count();
    if complete && verdict.partly_held > 0 {
        verdict
            .faults
            .push(format!("{} keys are on some nodes only, and nothing had to be evicted", verdict.partly_held));
    }
    verdict.faults.extend(anywhere.iter().filter_map(|&id| disagreement(nodes, id)));
    verdict
}

fn disagreement(nodes: &[HashMap<u32, Product>], id: u32) -> Option<String> {
    let mut values = nodes.iter().filter_map(|node| node.get(&id));
    let first = values.next()?;
    let other = values.find(|&value| value != first)?;
    Some(format!("of {id}, one node holds {first:?} and another {other:?}"))
}
