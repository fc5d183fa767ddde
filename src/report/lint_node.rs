//! Warnings about a node itself: its driver, its seeds, and the faults that other processes cause.

use super::time::span;
use super::warning::{Warning, warning};
use super::{IncidentReport, NodeReport, SeedReport};

/// The silence after which the driver is considered stuck, in milliseconds. Its loop runs at least once a second.
const DRIVER_STUCK: u64 = 5_000;
/// The time after which a first attempt that has not ended counts as a seed that does not answer, in milliseconds.
pub(crate) const TRYING: u64 = 3_000;

/// Returns the warnings about a node itself, without those of its caches.
#[must_use]
pub fn lint_node(report: &NodeReport) -> Vec<Warning> {
    let mut found: Vec<_> = seeds_unreachable(report).into_iter().collect();
    found.extend(report.seeds.iter().filter_map(|seed| refusing_seed(report, seed)));
    found.extend(
        report.incidents.iter().filter(|incident| incident.is_current).filter_map(|it| of_incident(report, it)),
    );
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
    found
}

/// Warns if no seed leads to a member, and one of them does not answer. Seeds that answer and refuse have a warning of
/// their own: the network is not to blame.
fn seeds_unreachable(report: &NodeReport) -> Option<Warning> {
    let failed: Vec<_> = report.seeds.iter().filter(|seed| fails(seed)).collect();
    if !report.seeds_unreachable || failed.is_empty() {
        return None;
    }
    let reason = |seed: &&SeedReport| match seed.state.as_str() {
        "unresolved" => format!("{} does not resolve ({}), check the name", seed.seed, seed.why),
        "trying" => format!("{} has not answered for {}", seed.seed, span(seed.failing_ms)),
        _ => format!("{} does not answer ({}), check that it runs and that TCP and UDP pass", seed.seed, seed.why),
    };
    let reasons: Vec<_> = failed.iter().map(reason).collect();
    let effect = match report.members.len() {
        0 => "this node may be a cluster of its own".to_owned(),
        members => format!("this node has {members} members all the same, and could not find them after a restart"),
    };
    let attempts = failed.iter().map(|seed| seed.attempts).max().unwrap_or(0);
    let text = format!(
        "no configured seed leads to a member after {attempts} attempts: {}. So {effect}. It keeps retrying.",
        reasons.join("; ")
    );
    Some(warning("seeds-unreachable", &report.node, text).from(join(failed.iter().map(|seed| seed.seed.as_str()))))
}

fn fails(seed: &SeedReport) -> bool {
    match seed.state.as_str() {
        "unresolved" | "silent" => true,
        "trying" => seed.failing_ms > TRYING,
        _ => false,
    }
}

fn join<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}

fn refusing_seed(report: &NodeReport, seed: &SeedReport) -> Option<Warning> {
    let (name, text) = match seed.state.as_str() {
        "other-cluster" => (
            "wrong-cluster",
            format!(
                "this seed refuses this node: it is in another cluster, and `cluster` is {:?} here. Give both the same \
                 name, or correct the list of seeds.",
                report.cluster
            ),
        ),
        "other-key" => (
            "wrong-key",
            format!(
                "this seed refuses this node: {}. Set the same encryption_key on all nodes. To change it in a running \
                 cluster, add the new key everywhere first.",
                seed.why
            ),
        ),
        _ => return None,
    };
    Some(warning(name, &seed.seed, text).from(&seed.seed))
}

fn of_incident(report: &NodeReport, incident: &IncidentReport) -> Option<Warning> {
    let IncidentReport { kind, about, source, count, ago_ms, .. } = incident;
    let ago = span(*ago_ms);
    let (name, text) = match kind.as_str() {
        "other-key" => ("wrong-key", wrong_key(incident, "encrypts with a key that this node does not have")),
        "unencrypted" => ("wrong-key", wrong_key(incident, "does not encrypt, and this node has a key")),
        "encrypted" => ("wrong-key", wrong_key(incident, "encrypts, and this node has no key")),
        "other-cluster" => {
            let cluster = &report.cluster;
            let text = format!(
                "a process on this host is in another cluster: it was refused {count} times, the last time {ago} ago. If \
                 it belongs here, set its `cluster` to {cluster:?}; if not, remove this node from its seeds."
            );
            ("wrong-cluster", text)
        }
        "name-taken" => {
            let text = format!(
                "two processes use this member name, at {}, last seen {ago} ago. The second one is not admitted. Stop \
                 one of them, or give it another name.",
                source.as_deref().unwrap_or("two addresses")
            );
            ("name-conflict", text)
        }
        _ => return overload(incident, &ago),
    };
    let found = warning(name, about, text);
    Some(Warning { source: source.clone(), ..found })
}

/// Returns the warning of an incident that does not keep a process from joining.
fn overload(incident: &IncidentReport, ago: &str) -> Option<Warning> {
    let IncidentReport { kind, about, source, count, .. } = incident;
    let (name, text) = match kind.as_str() {
        "over-share" => {
            let text = format!(
                "this host exceeded its share of messages, connections or bytes {count} times, the last time {ago} ago. \
                 The excess was dropped, to leave room for other hosts. It is a member that writes more than this node \
                 processes, a host of many members, or no member: find out what it sends."
            );
            ("source-over-share", text)
        }
        "inbox-full" => {
            let text = format!(
                "messages arrived faster than this node processed them, and {count} of this host were dropped, the last \
                 {ago} ago; digests repair the loss. Provide more CPU, or make fewer and larger writes (insert_many)."
            );
            ("inbox-overflow", text)
        }
        "task-died" => {
            let text = format!(
                "this background task of the network died {count} times, the last time {ago} ago, and was restarted: \
                 report the log lines that name it"
            );
            ("task-restarted", text)
        }
        _ => return None,
    };
    let found = warning(name, about, text);
    Some(Warning { source: source.clone(), ..found })
}

fn wrong_key(incident: &IncidentReport, fault: &str) -> String {
    format!(
        "a process on this host {fault}: it was refused {} times, the last time {} ago. If it belongs to this cluster, \
         set the same encryption_key on all nodes.",
        incident.count,
        span(incident.ago_ms)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(report: &NodeReport) -> Vec<String> {
        lint_node(report).into_iter().map(|warning| warning.name).collect()
    }

    fn healthy() -> NodeReport {
        NodeReport { loopback: true, driver_alive: true, ..NodeReport::default() }
    }

    fn seed(state: &str, failing_ms: u64) -> SeedReport {
        SeedReport { seed: format!("{state}:7946"), state: state.into(), failing_ms, ..SeedReport::default() }
    }

    #[test]
    fn a_healthy_node_has_no_warnings() {
        assert!(names(&healthy()).is_empty());
        assert_eq!(names(&NodeReport::default()), ["unencrypted", "task-died"]);
    }

    #[test]
    fn each_incident_has_its_warning_until_it_is_past() {
        for (kind, name) in [
            ("other-key", "wrong-key"),
            ("unencrypted", "wrong-key"),
            ("encrypted", "wrong-key"),
            ("other-cluster", "wrong-cluster"),
            ("over-share", "source-over-share"),
            ("inbox-full", "inbox-overflow"),
            ("name-taken", "name-conflict"),
            ("task-died", "task-restarted"),
        ] {
            let incident = |is_current| IncidentReport { kind: kind.into(), is_current, ..IncidentReport::default() };
            assert_eq!(names(&NodeReport { incidents: vec![incident(true)], ..healthy() }), [name]);
            assert!(names(&NodeReport { incidents: vec![incident(false)], ..healthy() }).is_empty());
        }
    }

    #[test]
    fn a_seed_is_blamed_for_what_it_did() {
        let with = |seeds: Vec<SeedReport>, seeds_unreachable| {
            let warnings = lint_node(&NodeReport { seeds, seeds_unreachable, ..healthy() });
            warnings.into_iter().map(|warning| (warning.name, warning.source.unwrap_or_default())).collect::<Vec<_>>()
        };
        let one = |name: &str, source: &str| vec![(name.to_owned(), source.to_owned())];
        let both = vec![seed("silent", 9), seed("unresolved", 9), seed("own", 0)];
        assert_eq!(with(both, true), one("seeds-unreachable", "silent:7946, unresolved:7946"));
        assert_eq!(with(vec![seed("trying", TRYING)], true), []);
        assert_eq!(with(vec![seed("trying", TRYING + 1)], true), one("seeds-unreachable", "trying:7946"));
        // The network is not to blame for a seed that answers.
        assert_eq!(with(vec![seed("other-key", 9)], true), one("wrong-key", "other-key:7946"));
        assert_eq!(with(vec![seed("other-cluster", 9)], true), one("wrong-cluster", "other-cluster:7946"));
        assert_eq!(with(vec![seed("present", 0), seed("silent", 9)], false), []);
    }
}
