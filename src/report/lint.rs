//! Warnings by name. Each has a text that says what to do.

use super::clocks::clocks;
use super::time::span;
use super::warning::{Warning, name_of, warning};
use super::{Blocker, CacheReport, PeerReport, SettingsDiffer};

/// The age of the oldest missing write above which a member is lagging, in milliseconds.
const LAGGING: u64 = 1_000;
/// The age of the oldest tombstone above which collection is stalled, in milliseconds.
const STALLED: u64 = 120_000;
/// The time after which a count of faulty input no longer matters, in milliseconds.
const RECENT: u64 = 30_000;

/// Returns the warnings about one cache.
#[must_use]
pub fn lint_cache(report: &CacheReport) -> Vec<Warning> {
    let mut found: Vec<_> = report.peers.iter().filter_map(|peer| lagging(report, peer)).collect();
    found.extend(report.peers.iter().filter_map(down));
    found.extend(report.peers.iter().filter_map(|peer| silent(report, peer)));
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

/// Warns of a live member that lacks writes of this node. A dead one has a warning of its own. A member whose clock is
/// behind this node's holds back writes until they are due there: until then only the clocks are to blame.
fn lagging(report: &CacheReport, peer: &PeerReport) -> Option<Warning> {
    let behind = peer.clock_skew_ms.map_or(0, |skew| skew.min(0).unsigned_abs());
    let held_back = if behind > report.max_drift_ms { behind } else { 0 };
    if !peer.live || peer.lag_entries == 0 || peer.lag_ms < LAGGING + held_back {
        return None;
    }
    let text = format!(
        "this member is not known to have {} writes of this node, the oldest {} old; its last message arrived {} ago. \
         Check whether its process is paused or starved, and whether UDP and TCP pass both ways between the two nodes. \
         Missing writes are sent again once it answers.",
        peer.lag_entries,
        span(peer.lag_ms),
        span(peer.silent_ms)
    );
    Some(warning("lagging-peer", name_of(peer), text))
}

fn down(peer: &PeerReport) -> Option<Warning> {
    if peer.live {
        return None;
    }
    let text = format!(
        "the failure detector found this member dead {} ago, and it did not say goodbye: its process was killed, is \
         paused, or cannot be reached. It is not known to have {} writes of this node. Start it again under its name, or \
         resume it, or check the network; `forget` it if it will not return. Until then it holds back tombstones.",
        span(peer.dead_ms.unwrap_or(0)),
        peer.lag_entries
    );
    Some(warning("member-down", name_of(peer), text))
}

/// Warns of a live member from which nothing arrives, so that its writes are missing here.
fn silent(report: &CacheReport, peer: &PeerReport) -> Option<Warning> {
    if !peer.live || peer.silent_ms <= report.silence_limit_ms {
        return None;
    }
    let text = format!(
        "nothing from this member has arrived for {}, although the failure detector considers it alive: its writes are \
         missing here. Check whether UDP and TCP pass from it to this node, and whether its process is starved or its \
         eviction listener blocks.",
        span(peer.silent_ms)
    );
    Some(warning("silent-member", name_of(peer), text))
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

/// Returns true if a count of faulty input rose lately.
fn is_recent(report: &CacheReport, name: &str) -> bool {
    report.intake_age_ms.get(name).is_some_and(|age| *age < RECENT)
}

fn undecodable(report: &CacheReport) -> Option<Warning> {
    let names = ["undecodable_keys", "undecodable_values", "malformed"];
    if !names.iter().any(|name| is_recent(report, name)) {
        return None;
    }
    let [keys, values, whole] = names.map(|name| report.intake.get(name).copied().unwrap_or(0));
    let text = format!(
        "{keys} keys and {values} values did not decode as this cache's types, and {whole} messages did not decode \
         at all. This node keeps and passes on such entries, but cannot read them. Open the cache with the same \
         types and limits on every node, and run compatible releases."
    );
    Some(warning("undecodable-entries", &report.cache, text))
}

fn unencodable(report: &CacheReport) -> Option<Warning> {
    let count = report.intake.get("unencodable").copied().filter(|_| is_recent(report, "unencodable"))?;
    let text = format!(
        "{count} entries could be serialised when they were written, and not when they were sent. They were removed \
         on all nodes. Make `Serialize` of this cache's types depend on the value alone."
    );
    Some(warning("unencodable-entries", &report.cache, text))
}

fn unreadable(report: &CacheReport) -> Option<Warning> {
    let count = report.intake.get("unreadable").copied().filter(|_| is_recent(report, "unreadable"))?;
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

    /// A member whose clock is behind by 5 s takes this node's writes 4 s late or later.
    #[test]
    fn a_member_that_waits_for_its_clock_does_not_lag() {
        let peer = |skew, lag_ms| PeerReport {
            live: true,
            lag_entries: 1,
            lag_ms,
            clock_skew_ms: Some(skew),
            ..PeerReport::default()
        };
        let report = CacheReport { max_drift_ms: 1_000, ..CacheReport::default() };
        for (skew, lag_ms, lags) in
            [(-5_000, 5_999, false), (-5_000, 6_000, true), (-900, 1_000, true), (5_000, 1_000, true)]
        {
            assert_eq!(lagging(&report, &peer(skew, lag_ms)).is_some(), lags, "{skew} {lag_ms}");
        }
    }

    #[test]
    fn each_fault_has_its_name() {
        let mut cache = CacheReport { max_drift_ms: 1_000, clock_ahead_ms: 900, ..CacheReport::default() };
        let peer =
            |live| PeerReport { lag_ms: 2_000, lag_entries: 3, node: Some("b".into()), live, ..PeerReport::default() };
        cache.peers = vec![peer(true), peer(false), peer(false)];
        cache.peers[0].silent_ms = 1;
        cache.tombstones.total = 9;
        cache.tombstones.cap = 10;
        cache.tombstones.oldest_ms = Some(1_000_000);
        cache.tombstones.blocked_by = vec![Blocker::Unseen { replica: "r".into(), node: None, silent_ms: 9_000 }];
        for name in ["undecodable_keys", "unencodable", "unreadable"] {
            cache.intake.insert(name.into(), 1);
            cache.intake_age_ms.insert(name.into(), RECENT - 1);
        }
        cache.settings_differ = [None, Some("b".to_owned())].map(|node| SettingsDiffer::of(node, Vec::new())).into();
        let expected = [
            "lagging-peer",
            "member-down",
            "member-down",
            "silent-member",
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
        cache.intake_age_ms.values_mut().for_each(|age| *age = RECENT);
        assert!(names(&lint_cache(&cache)).iter().all(|name| !name.starts_with("un")), "faults of the past end");
    }
}
