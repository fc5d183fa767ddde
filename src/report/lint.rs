//! Warnings by name. Each has a text that says what to do.

use super::clocks::clocks;
use super::time::span;
use super::warning::{Warning, name_of, warning};
use super::{Blocker, CacheReport, NodeReport, PeerReport};

/// The age of the oldest missing write above which a member is lagging, in milliseconds.
const LAGGING: u64 = 1_000;
/// The age of the oldest tombstone above which collection is stalled, in milliseconds.
const STALLED: u64 = 120_000;
/// The silence after which the driver is considered stuck, in milliseconds. Its loop runs at least once a second.
pub(crate) const DRIVER_STUCK: u64 = 5_000;

/// Returns the warnings about one cache.
#[must_use]
pub fn lint_cache(report: &CacheReport) -> Vec<Warning> {
    let mut found: Vec<_> = report.peers.iter().filter_map(lagging).collect();
    found.extend(clocks(report));
    found.extend(tombstones(report));
    found.extend(undecodable(report));
    found.extend(unencodable(report));
    found.extend(unreadable(report));
    found.extend(split(report));
    found
}

fn lagging(peer: &PeerReport) -> Option<Warning> {
    if peer.lag_entries == 0 || peer.lag_ms < LAGGING {
        return None;
    }
    let state = if peer.live { "alive" } else { "dead" };
    let text = format!(
        "{} of our writes, the oldest {} old, are not known to have reached it; it is called {state} and was last heard {} ago. \
         Look whether the process is paused or starved and whether the network passes UDP and TCP both ways. What it \
         misses is repaired by itself once it answers.",
        peer.lag_entries,
        span(peer.lag_ms),
        span(peer.silent_ms)
    );
    Some(warning("lagging-peer", name_of(peer), text))
}

fn tombstones(report: &CacheReport) -> Vec<Warning> {
    let stones = &report.tombstones;
    let mut found = Vec::new();
    if stones.oldest_ms.is_some_and(|age| age > STALLED) && !stones.blocked_by.is_empty() {
        let whom: Vec<_> = stones.blocked_by.iter().map(blocker).collect();
        let text = format!(
            "{} tombstones, the oldest {} old, cannot be collected: {}. If a member will not return, `forget` it; \
             else bring it back.",
            stones.total,
            span(stones.oldest_ms.unwrap_or(0)),
            whom.join("; ")
        );
        found.push(warning("collection-stalled", &report.cache, text));
    }
    if stones.total * 10 >= stones.cap * 8 {
        let text = format!(
            "{} tombstones of at most {}: above that the oldest are dropped by force, and members that missed them get a \
             reconcile. Raise max_tombstones, or see what holds back collection.",
            stones.total, stones.cap
        );
        found.push(warning("tombstones-near-cap", &report.cache, text));
    }
    found
}

fn blocker(blocker: &Blocker) -> String {
    let name = |replica: &String, node: &Option<String>| node.clone().unwrap_or_else(|| replica.clone());
    match blocker {
        Blocker::Young => "it is within the grace period".into(),
        Blocker::Session => "a session is coming in".into(),
        Blocker::OwnWatermark => "a fill runs here".into(),
        Blocker::Unseen { replica, node, silent_ms } => {
            format!("{} is not known to have seen it (silent for {})", name(replica, node), span(*silent_ms))
        }
        Blocker::Watermark { replica, node, silent_ms } => {
            format!("{} may still write below it (silent for {})", name(replica, node), span(*silent_ms))
        }
        Blocker::DepartedWrites { replica, node, silent_ms } => {
            let who = name(replica, node);
            format!("{who} has still to send what a replica wrote that has left (silent for {})", span(*silent_ms))
        }
    }
}

fn undecodable(report: &CacheReport) -> Option<Warning> {
    let count = |name: &str| report.intake.get(name).copied().unwrap_or(0);
    let (keys, values, whole) = (count("undecodable_keys"), count("undecodable_values"), count("malformed"));
    if keys + values + whole == 0 {
        return None;
    }
    let text = format!(
        "{keys} keys and {values} values did not decode as this cache's types, and {whole} messages were not understood: \
         do all nodes open it with the same types and limits, and run compatible releases? Such entries are kept and \
         passed on, but cannot be read here."
    );
    Some(warning("undecodable-entries", &report.cache, text))
}

fn unencodable(report: &CacheReport) -> Option<Warning> {
    let count = report.intake.get("unencodable").copied().filter(|count| *count > 0)?;
    let text = format!(
        "{count} entries were serialised when they were written and could not be when they were to be sent; they were removed \
         here and everywhere. Look at the `Serialize` of this cache's types: it must not depend on anything but the value."
    );
    Some(warning("unencodable-entries", &report.cache, text))
}

fn unreadable(report: &CacheReport) -> Option<Warning> {
    let count = report.intake.get("unreadable").copied().filter(|count| *count > 0)?;
    let text = format!(
        "{count} writes or deletes were refused here, because what `Serialize` writes of their key or value does not decode again: no \
         other node could read them. The log names the type and the reason; see \"Types that do not come back\" in \
         driftless::docs::questions."
    );
    Some(warning("unreadable-entries", &report.cache, text))
}

/// Warns if at least as many members are dead as alive; this node counts as alive. Perhaps this node is cut off.
fn split(report: &CacheReport) -> Option<Warning> {
    let dead: Vec<_> = report.peers.iter().filter(|peer| !peer.live).map(name_of).collect();
    let alive = report.peers.len() - dead.len() + 1;
    if dead.is_empty() || dead.len() < alive {
        return None;
    }
    let text = format!(
        "{} of {} members are unreachable ({}): perhaps the cluster is split and they go on elsewhere. Both sides take \
         writes, and the greater stamp wins once they meet. Look at the network; do not `forget` members that may return.",
        dead.len(),
        dead.len() + alive,
        dead.join(", ")
    );
    Some(warning("split-suspected", &report.cache, text))
}

/// Returns the warnings about a node itself, without those of its caches.
#[must_use]
pub fn lint_node(report: &NodeReport) -> Vec<Warning> {
    let mut found = Vec::new();
    if report.seeds_unreachable {
        let text = "no configured seed can be reached; attempts go on. Look at the addresses and the network: a node that \
                    starts without its seeds is a cluster of its own.";
        found.push(warning("seeds-unreachable", &report.node, text));
    }
    if !report.encrypted && !report.loopback {
        let text = "whoever reaches this address can read and write the caches: set encryption_key on every node, or keep \
                    the port on a trusted network";
        found.push(warning("unencrypted", &report.addr, text));
    }
    if report.down {
        found.push(warning("shut-down", &report.node, "the node was shut down: its caches are no longer replicated"));
    } else if !report.driver_alive || report.driver_silent_ms > DRIVER_STUCK {
        let text = format!(
            "the task that moves messages {}: nothing is replicated here. Restart this process, and report the panic in its log.",
            if report.driver_alive { "is stuck" } else { "has died" }
        );
        found.push(warning("task-died", &report.node, text));
    }
    let dropped = report.network.get("inbox_dropped").copied().unwrap_or(0);
    if dropped > 0 {
        let text = format!("{dropped} messages came faster than they were taken and were dropped; digests repair that");
        found.push(warning("inbox-overflow", &report.node, text));
    }
    let of_one = ["inbox_over_share", "crowded_connections", "crowded_frames"];
    let [messages, connections, frames] = of_one.map(|name| report.network.get(name).copied().unwrap_or(0));
    if messages + connections + frames > 0 {
        let text = format!(
            "single addresses wanted more than their share: {messages} of their messages, {connections} of their connections and {frames} \
             of their frames were dropped, so that others were heard. The log names one a minute."
        );
        found.push(warning("source-over-share", &report.node, text));
    }
    let restarts = report.network.get("task_restarts").copied().unwrap_or(0);
    if restarts > 0 {
        let text =
            format!("background tasks died {restarts} times and were restarted: report what the log says of them");
        found.push(warning("task-restarted", &report.node, text));
    }
    if report.network.get("name_conflicts").is_some_and(|count| *count > 0) {
        found.push(warning("name-conflict", &report.node, "two processes used one member name: give each its own"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::TombstoneReport;

    fn names(warnings: &[Warning]) -> Vec<&str> {
        warnings.iter().map(|warning| warning.name.as_str()).collect()
    }

    #[test]
    fn a_healthy_report_has_no_warnings() {
        let mut cache = CacheReport { max_drift_ms: 1_000, ..CacheReport::default() };
        cache.tombstones.cap = 10;
        cache.peers = vec![PeerReport { live: true, ..PeerReport::default() }];
        assert!(lint_cache(&cache).is_empty());
        let node = NodeReport { loopback: true, driver_alive: true, ..NodeReport::default() };
        assert!(lint_node(&node).is_empty());
    }

    /// After a wall clock was set right again, no warning asks to set it.
    #[test]
    fn a_repaired_clock_is_not_called_behind() {
        let day = 86_400_000;
        let cache = CacheReport { max_drift_ms: 1_000, clock_ahead_ms: day, clock_step_ms: -day, ..Default::default() };
        let mut cache = CacheReport { tombstones: TombstoneReport { cap: 10, ..Default::default() }, ..cache };
        assert_eq!(names(&lint_cache(&cache)), ["stamps-ahead", "clock-stepped"]);
        cache.clock_step_ms = 0; // The wall clock never stepped: other clocks are ahead of it.
        assert_eq!(names(&lint_cache(&cache)), ["clock-behind"]);
    }

    #[test]
    fn each_fault_has_its_name() {
        let mut cache = CacheReport { max_drift_ms: 1_000, clock_ahead_ms: 900, ..CacheReport::default() };
        cache.peers =
            vec![PeerReport { lag_ms: 2_000, lag_entries: 3, node: Some("b".into()), ..PeerReport::default() }];
        cache.tombstones.total = 9;
        cache.tombstones.cap = 10;
        cache.tombstones.oldest_ms = Some(1_000_000);
        cache.tombstones.blocked_by = vec![Blocker::Unseen { replica: "r".into(), node: None, silent_ms: 9_000 }];
        cache.intake.insert("undecodable_keys".into(), 1);
        cache.intake.insert("unencodable".into(), 1);
        cache.intake.insert("unreadable".into(), 1);
        let expected = [
            "lagging-peer",
            "clock-behind",
            "collection-stalled",
            "tombstones-near-cap",
            "undecodable-entries",
            "unencodable-entries",
            "unreadable-entries",
            "split-suspected",
        ];
        assert_eq!(names(&lint_cache(&cache)), expected);
        let node = NodeReport { seeds_unreachable: true, ..NodeReport::default() };
        assert_eq!(names(&lint_node(&node)), ["seeds-unreachable", "unencrypted", "task-died"]);
        for (what, name) in [
            ("inbox_dropped", "inbox-overflow"),
            ("inbox_over_share", "source-over-share"),
            ("crowded_connections", "source-over-share"),
            ("crowded_frames", "source-over-share"),
            ("task_restarts", "task-restarted"),
            ("name_conflicts", "name-conflict"),
        ] {
            let network = [(what.to_owned(), 1)].into();
            let node = NodeReport { loopback: true, driver_alive: true, network, ..NodeReport::default() };
            assert_eq!(names(&lint_node(&node)), [name], "{what}");
        }
    }
}
