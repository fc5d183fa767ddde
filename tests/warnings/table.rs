//! The table of warnings, and what its cases are made of.

use std::fmt;
use std::time::{Duration, Instant};

use driftless::inspect::Inspector;
use driftless::report::Warning;
use driftless::{Node, NodeBuilder};

/// The time within which a warning begins after its cause, with the timing of tests.
const BEGINS: Duration = Duration::from_secs(5);
/// The time within which a warning ends after its cause: faults of the past are shown for up to 30 s.
const ENDS: Duration = Duration::from_secs(45);

/// A warning that was seen to begin and to end.
pub struct Row {
    pub case: &'static str,
    pub name: String,
    pub about: String,
    pub source: String,
    pub on: String,
    pub begun: Duration,
    pub ended: Option<Duration>,
}

#[derive(Default)]
pub struct Table {
    pub rows: Vec<Row>,
    /// The cases that did not hold, with their reasons.
    pub failed: Vec<String>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Row { case, name, about, source, on, begun, ended } in &self.rows {
            writeln!(f, "{case:28} {name:20} about {about:22} from {source:34} on {on:22} {begun:>10.1?} {ended:?}")?;
        }
        Ok(())
    }
}

/// A warning that a case expects on one node.
pub struct Expected<'a> {
    pub on: &'a Node,
    pub name: &'a str,
    pub about: String,
    /// Texts that `source` contains; none if there is no source.
    pub source: Vec<String>,
    /// Words of the text that say what to do.
    pub advice: &'a str,
}

/// Creates a builder with fast failure detection.
pub fn builder(cluster: &str, name: &str, seeds: &[&Node]) -> NodeBuilder {
    let seeds: Vec<_> = seeds.iter().map(|node| node.local_addr().to_string()).collect();
    Node::builder().cluster(cluster).name(name).seeds(seeds).local_timing()
}

/// Returns all warnings that a node reports, of itself and of its caches.
pub fn warnings(node: &Node) -> Vec<Warning> {
    let report = Inspector::new(node).node();
    report.warnings.into_iter().chain(report.caches.into_iter().flat_map(|cache| cache.warnings)).collect()
}

/// Returns the warnings that have ended on a node.
fn ended(node: &Node) -> Vec<Warning> {
    let report = Inspector::new(node).node();
    let of_caches = report.caches.into_iter().flat_map(|cache| cache.ended_warnings);
    report.ended_warnings.into_iter().chain(of_caches).collect()
}

/// Waits for one warning on each of these nodes, and checks what it says.
pub async fn begin(case: &'static str, cause: Instant, expected: &[Expected<'_>]) -> Vec<Row> {
    let mut rows = Vec::new();
    for Expected { on, name, about, source, advice } in expected {
        let warning = loop {
            let seen = warnings(on);
            if let Some(found) = seen.iter().find(|warning| warning.name == *name && warning.about == *about) {
                break found.clone();
            }
            let waited = cause.elapsed();
            assert!(waited < BEGINS, "{case}: {name} about {about} on {} after {waited:?}: {seen:#?}", on.name());
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let from = warning.source.clone().unwrap_or_default();
        assert!(source.iter().all(|part| from.contains(part)), "{case}: {source:?} in {warning:?}");
        assert_eq!(source.is_empty(), from.is_empty(), "{case}: {warning:?}");
        assert!(warning.text.contains(advice), "{case}: {advice:?} in {warning:?}");
        assert!(warning.since.starts_with("20") && warning.until.is_none(), "{case}: {warning:?}");
        rows.push(Row {
            case,
            name: (*name).into(),
            about: about.clone(),
            source: from,
            on: on.name().into(),
            begun: cause.elapsed(),
            ended: None,
        });
    }
    rows
}

/// Waits until the warnings of these rows have ended on these nodes, and until their reports say so.
pub async fn end(rows: &mut [Row], nodes: &[&Node], remedy: Instant) {
    for row in rows {
        let Some(node) = nodes.iter().find(|node| node.name() == row.on) else { continue };
        let is_it = |warning: &Warning| warning.name == row.name && warning.about == row.about;
        // A warning that comes back within five seconds goes on, so it is gone once it is listed as ended.
        let lasted = |warning: &Warning| warning.until.as_ref().is_some_and(|until| *until > warning.since);
        while warnings(node).iter().any(is_it) || !ended(node).iter().any(|warning| is_it(warning) && lasted(warning)) {
            let (waited, now, past) = (remedy.elapsed(), warnings(node), ended(node));
            assert!(waited < ENDS, "{}: {} still on {}: {now:#?}, ended: {past:#?}", row.case, row.name, row.on);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        row.ended = Some(remedy.elapsed());
    }
}

/// Checks that no node blames a node or an address that is not in `allowed`, and has no other warning.
pub fn blames_only(case: &str, nodes: &[&Node], allowed: &[(&str, &str)]) {
    for node in nodes {
        for warning in warnings(node) {
            let known = allowed.iter().any(|(name, about)| *name == warning.name && *about == warning.about);
            assert!(known, "{case}: false on {}: {warning:#?}", node.name());
        }
    }
}
