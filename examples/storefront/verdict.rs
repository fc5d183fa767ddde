//! Is it true? Every value cached anywhere equals its row, and the nodes agree.

use crate::database::Product;
use driftless::Cache;
use std::{
    collections::{HashMap, HashSet},
    thread,
    time::{Duration, Instant},
};

/// What was found when everything had come to rest, or when there was no more time.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Cached values compared with their row.
    pub compared: usize,
    /// How many each node holds.
    pub held: Vec<usize>,
    /// Keys that some nodes hold and others do not: evicted by these.
    pub partly_held: usize,
    /// What must not be, in words.
    pub faults: Vec<String>,
    /// How long it took to come to rest.
    pub took: Duration,
}

impl Verdict {
    pub fn holds(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Looks until nothing is wrong, twice in a row with nothing changed in between, for at most `within`. If every row fits into a cache
/// (`complete`), then the nodes must hold the same keys, too.
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
