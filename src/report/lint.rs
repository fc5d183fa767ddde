//! Warnings by name. Each has a text that says what to do.

use super::clocks::clocks;
use super::time::span;
use super::warning::{Warning, name_of, warning};
use super::{Blocker, CacheReport, NodeReport, PeerReport, SettingsDiffer};

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
    found.extend(report.settings_differ.iter().map(|other| settings(report, other)));
    found
}

fn settings(report: &CacheReport, other: &SettingsDiffer) -> Warning {
    let differences = other.differences.join("; ");
    let text = match &other.node {
        Some(_) => {
            format!("this node has other settings than {}: {differences}. Give all nodes the same.", report.node)
        }
        None => format!(
            "this cache was opened again on this node with other settings: {differences}. The first opening counts: \
             open the cache once and clone the handle, or open it with the same settings everywhere."
        ),
    };
    warning("settings-differ", other.node.as_ref().unwrap_or(&report.node), text)
}

fn lagging(peer: &PeerReport) -> Option<Warning> {
    if peer.lag_entries == 0 || peer.lag_ms < LAGGING {
        return None;
    }
    let state = if peer.live { "alive" } else { "dead" };
    let text = format!(
        "this member is not known to have {} writes of this node, the oldest {} old. The failure detector considers \
         it {state}; its last message arrived {} ago. Check whether the process is paused or starved, and whether \
         UDP and TCP pass both ways. Missing writes are sent again once it answers.",
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
        let reasons: Vec<_> = stones.blocked_by.iter().map(blocker).collect();
        let text = format!(
            "{} tombstones, the oldest {} old, cannot be collected: {}. Bring the named member back, or `forget` it \
             if it will not return.",
            stones.total,
            span(stones.oldest_ms.unwrap_or(0)),
            reasons.join("; ")
        );
        found.push(warning("collection-stalled", &report.cache, text));
    }
    if stones.total * 10 >= stones.cap * 8 {
        let text = format!(
            "there are {} tombstones, and max_tombstones is {}. Above it the oldest are dropped by force, and \
             members that missed them receive a reconcile. Raise max_tombstones, or find out what holds back \
             collection.",
            stones.total, stones.cap
        );
        found.push(warning("tombstones-near-cap", &report.cache, text));
    }
    found
}

fn blocker(blocker: &Blocker) -> String {
    let name = |replica: &String, node: &Option<String>| node.clone().unwrap_or_else(|| replica.clone());
    match blocker {
        Blocker::Young => "the oldest is younger than gc_grace".into(),
        Blocker::Session => "this node is receiving a session".into(),
        Blocker::OwnWatermark => "a fill runs on this node".into(),
        Blocker::Unseen { replica, node, silent_ms } => {
            format!("{} is not known to have seen the oldest (silent for {})", name(replica, node), span(*silent_ms))
        }
        Blocker::Watermark { replica, node, silent_ms } => {
            format!("{} may still write below the oldest (silent for {})", name(replica, node), span(*silent_ms))
        }
        Blocker::DepartedWrites { replica, node, silent_ms } => {
            let member = name(replica, node);
            format!("{member} has not yet sent the writes of a departed replica (silent for {})", span(*silent_ms))
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
        "{keys} keys and {values} values did not decode as this cache's types, and {whole} messages did not decode \
         at all. This node keeps and passes on such entries, but cannot read them. Open the cache with the same \
         types and limits on every node, and run compatible releases."
    );
    Some(warning("undecodable-entries", &report.cache, text))
}

fn unencodable(report: &CacheReport) -> Option<Warning> {
    let count = report.intake.get("unencodable").copied().filter(|count| *count > 0)?;
    let text = format!(
        "{count} entries could be serialised when they were written, and not when they were sent. They were removed \
         on all nodes. Make `Serialize` of this cache's types depend on the value alone."
    );
    Some(warning("unencodable-entries", &report.cache, text))
}

fn unreadable(report: &CacheReport) -> Option<Warning> {
    let count = report.intake.get("unreadable").copied().filter(|count| *count > 0)?;
    let text = format!(
        "{count} writes or deletes were refused on this node: what `Serialize` writes of their key or value does not \
         decode again, so other nodes could not read it. The log names the type and the reason; see \"Types that do \
         not come back\" in driftless::docs::questions."
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
        "{} of {} members are unreachable ({}): the cluster may be split, with this node on one side. Both sides \
         accept writes, and the greater stamp wins when they meet. Check the network; do not `forget` members that \
         may return.",
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
        let text = "no configured seed can be reached, so this node may be a cluster of its own. It keeps retrying. \
            Check the addresses of the seeds, and firewalls for TCP and UDP.";
        found.push(warning("seeds-unreachable", &report.node, text));
    }
    if !report.encrypted && !report.loopback {
        let text = "any process that reaches this address can read and write the caches: set encryption_key on every \
            node, or keep the port on a trusted network";
        found.push(warning("unencrypted", &report.addr, text));
    }
    if report.down {
        found.push(warning("shut-down", &report.node, "the node was shut down: its caches are no longer replicated"));
    } else if !report.driver_alive || report.driver_silent_ms > DRIVER_STUCK {
        let text = format!(
            "the task that moves messages {}, so this node does not replicate: restart its process, and report the \
             panic in its log",
            if report.driver_alive { "is stuck" } else { "has died" }
        );
        found.push(warning("task-died", &report.node, text));
    }
    found.extend(network(report));
    found
}

/// Returns the warnings about faults that the network layer has counted since the start.
fn network(report: &NodeReport) -> Vec<Warning> {
    let mut found = Vec::new();
    let dropped = report.network.get("inbox_dropped").copied().unwrap_or(0);
    if dropped > 0 {
        let text = format!(
            "{dropped} messages arrived faster than this node processed them and were dropped; digests repair the \
             loss. Provide more CPU, or make fewer and larger writes (insert_many)."
        );
        found.push(warning("inbox-overflow", &report.node, text));
    }
    let of_one = ["inbox_over_share", "crowded_connections", "crowded_frames"];
    let [messages, connections, frames] = of_one.map(|name| report.network.get(name).copied().unwrap_or(0));
    if messages + connections + frames > 0 {
        let text = format!(
            "{messages} messages, {connections} connections and {frames} frames of addresses that exceeded their \
             share were dropped, to leave room for other addresses. The log names one such address a minute: find \
             out what it sends."
        );
        found.push(warning("source-over-share", &report.node, text));
    }
    let restarts = report.network.get("task_restarts").copied().unwrap_or(0);
    if restarts > 0 {
        let text = format!(
            "background tasks of the network died {restarts} times and were restarted: report the log lines that \
             name them"
        );
        found.push(warning("task-restarted", &report.node, text));
    }
    if report.network.get("name_conflicts").is_some_and(|count| *count > 0) {
        found.push(warning(
            "name-conflict",
            &report.node,
            "two processes used one member name: give each process its own name",
        ));
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
    fn a_repaired_clock_is_not_reported_as_behind() {
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
        cache.settings_differ = [None, Some("b".to_owned())].map(|node| SettingsDiffer::of(node, Vec::new())).into();
        let expected = [
            "lagging-peer",
            "clock-behind",
            "collection-stalled",
            "tombstones-near-cap",
            "undecodable-entries",
            "unencodable-entries",
            "unreadable-entries",
            "split-suspected",
            "settings-differ",
            "settings-differ",
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
