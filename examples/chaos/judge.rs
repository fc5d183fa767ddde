//! The checks of a cluster after all faults have ended.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::client::Stamp;
use crate::load::{Act, History, Outcome, key};
use crate::net::Net;
use crate::process::{Node, Nodes};

type Held = Option<(Stamp, String)>;

/// Waits until all nodes agree, then checks the state they agree on.
pub fn settle(nodes: &Nodes, history: &History, keys: usize, patience: Duration) -> Vec<String> {
    let start = Instant::now();
    let (mut same, mut last) = (0, Vec::new());
    while start.elapsed() < patience {
        let held: Vec<_> = nodes.iter().map(|node| all(node, keys)).collect();
        // Nodes are read one after another, so one equal round proves nothing: the state must repeat three times
        // unchanged.
        let agree = held.iter().all(|one| one.is_some() && *one == held[0]);
        same = if agree && held == last { same + 1 } else { 0 };
        last = held;
        if same >= 3 {
            println!("agreed {:.1} s after the last write", start.elapsed().as_secs_f64());
            return judge(&last[0].clone().unwrap_or_default(), nodes, history, keys);
        }
        std::thread::sleep(Duration::from_millis(700));
    }
    disagreements(nodes, &last, keys)
}

/// Returns everything a node serves, or `None` if the node does not answer.
fn all(node: &Node, keys: usize) -> Option<Vec<Held>> {
    let mut client = node.client().ok()?;
    (0..keys).map(|number| client.get(&key(number)).ok()).collect()
}

fn disagreements(nodes: &Nodes, held: &[Option<Vec<Held>>], keys: usize) -> Vec<String> {
    let mut findings = vec!["the nodes do not agree, long after all faults have ended".to_owned()];
    for (node, held) in nodes.iter().zip(held) {
        if held.is_none() {
            findings.push(format!("node {} does not answer", node.number));
        }
    }
    let held: Vec<_> = held.iter().flatten().collect();
    for number in 0..keys {
        let here: Vec<_> = held.iter().filter_map(|one| one.get(number)).collect();
        if here.iter().any(|one| *one != here[0]) {
            findings.push(format!("{}: {here:?}", key(number)));
        }
    }
    findings
}

fn judge(held: &[Held], nodes: &Nodes, history: &History, keys: usize) -> Vec<String> {
    let lives: Vec<u32> = nodes.iter().map(|node| node.life()).collect();
    let mut findings = Vec::new();
    for (number, acts) in history.by_key(keys).iter().enumerate() {
        // A process that still runs cannot have lost a write that it acknowledged.
        let safe = |act: &&Act| lives[act.node] == act.life;
        let wrong = match &held[number] {
            Some((stamp, value)) => wrong_value(stamp, value, acts, safe),
            None => wrong_absence(acts, safe),
        };
        if let Some(wrong) = wrong {
            let explained = nodes.iter().find_map(|node| node.explain(&key(number))).unwrap_or_default();
            findings.push(format!("{}: {wrong}; explained: {explained}", key(number)));
        }
    }
    findings
}

fn wrong_value(stamp: &Stamp, value: &str, acts: &[Act], safe: impl Fn(&&Act) -> bool) -> Option<String> {
    let Some(writer) = acts.iter().find(|act| act.value.as_deref() == Some(value)) else {
        return Some(format!("{value} was never written"));
    };
    if let Outcome::Written(written) = &writer.outcome
        && written != stamp
    {
        return Some(format!("{value} of {stamp:?} was written as {written:?}"));
    }
    let newer = acts.iter().filter(&safe).find(|act| match &act.outcome {
        Outcome::Written(written) => written > stamp,
        Outcome::Deleted(below, _) => below > stamp,
        Outcome::Unknown => false,
    });
    newer.map(|newer| format!("{value} of {stamp:?} is served, but {newer:?} is newer"))
}

fn wrong_absence(acts: &[Act], safe: impl Fn(&&Act) -> bool) -> Option<String> {
    let written = |act: &Act| match &act.outcome {
        Outcome::Written(stamp) => Some(stamp.clone()),
        _ => None,
    };
    let newest = acts.iter().filter(safe).filter_map(written).max()?;
    let deleted = acts.iter().any(|act| match &act.outcome {
        Outcome::Deleted(_, above) => *above > newest,
        // A delete without a reply may have happened after the newest write.
        Outcome::Unknown => act.value.is_none(),
        Outcome::Written(_) => false,
    });
    (!deleted).then(|| format!("is gone, although no delete followed {newest:?}"))
}

/// Prints the operations of the load and the sums of the nodes' counters.
pub fn report(nodes: &Nodes, history: &History, net: &Net) {
    let acts: Vec<Act> = history.by_key(1 << 16).into_iter().flatten().collect();
    let count = |wanted: fn(&Outcome) -> bool| acts.iter().filter(|act| wanted(&act.outcome)).count();
    println!(
        "load: {} writes and {} deletes acknowledged, {} without an answer, {} reads, {}",
        count(|outcome| matches!(outcome, Outcome::Written(_))),
        count(|outcome| matches!(outcome, Outcome::Deleted(..))),
        count(|outcome| matches!(outcome, Outcome::Unknown)),
        history.reads.load(Relaxed),
        net.describe(),
    );
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for node in nodes {
        let counters = node.client().and_then(|mut client| client.counters()).unwrap_or_default();
        counters.into_iter().for_each(|(name, count)| *sums.entry(name).or_default() += count);
    }
    let told: Vec<_> =
        sums.iter().filter(|(_, count)| **count > 0).map(|(name, count)| format!("{name} {count}")).collect();
    println!("processes that are there now, together: {}", told.join(", "));
}
