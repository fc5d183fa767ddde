//! The files in `deploy` that Prometheus and Grafana load: each name in them is exported.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::has;
use crate::names::{kinds, scrape};

/// Returns the names of metrics in an expression.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("driftless_") || word.starts_with("process_"));
    let stem = |word: &str| {
        let ends = ["_bucket", "_sum", "_count"];
        ends.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).to_owned()
    };
    ours.map(stem).collect()
}

/// Returns the expressions of a dashboard.
fn expressions(dashboard: &Value) -> Vec<String> {
    match dashboard {
        Value::Object(fields) => {
            let own = fields.get("expr").and_then(Value::as_str).map(str::to_owned);
            let query = fields.get("query").and_then(Value::as_str).filter(|query| query.contains("label_values"));
            own.into_iter().chain(query.map(str::to_owned)).chain(fields.values().flat_map(expressions)).collect()
        }
        Value::Array(items) => items.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

/// Returns the values that an expression selects by one label: `label="a"` or `label=~"a|b"`.
fn selected(text: &str, label: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for start in [format!("{label}=\""), format!("{label}=~\"")] {
        for (at, _) in text.match_indices(&start) {
            let values = text[at + start.len()..].split('"').next().unwrap_or_default();
            found.extend(values.split('|').filter(|value| !value.starts_with('$')).map(str::to_owned));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_in_alerts_and_dashboard_is_exported() {
    let text = scrape("deployed").await;
    let exported = kinds(&text);
    let alerts = std::fs::read_to_string("deploy/alerts.yaml").unwrap();
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string("deploy/grafana.json").unwrap()).unwrap();
    let expressions = expressions(&dashboard);
    assert!(expressions.len() > 30, "{expressions:?}");
    let all = format!("{alerts}\n{}", expressions.join("\n"));
    let used = names_in(&all);
    assert!(used.len() > 25, "{used:?}");
    let unknown: Vec<_> = used.iter().filter(|name| !exported.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "not exported: {unknown:?}");
    // The names of warnings and events are values of labels.
    let page = std::fs::read_to_string("src/docs/operations.md").unwrap();
    let warnings: BTreeSet<_> = selected(&alerts, "name").into_iter().collect();
    assert!(warnings.len() > 15, "{warnings:?}");
    let unexplained: Vec<_> = warnings.iter().filter(|name| !page.contains(&format!("| `{name}` |"))).collect();
    assert!(unexplained.is_empty(), "no such warnings: {unexplained:?}");
    let events = selected(&all, "event");
    let unknown: Vec<_> = events.iter().filter(|event| !text.contains(&format!("event=\"{event}\""))).collect();
    assert!(events.len() > 8 && unknown.is_empty(), "no such events: {unknown:?} of {events:?}");
    // Every warning has an alert, except the one that an intended shutdown causes.
    let documented = page.split("# Warnings").nth(1).unwrap().split("\n## ").next().unwrap();
    let documented = documented.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let silent: Vec<_> = documented.filter(|name| !warnings.contains(*name)).collect();
    assert_eq!(silent, ["lagging-peer", "shut-down"], "an alert on the lag itself has the first");
}

#[test]
fn prometheus_reads_every_rule_and_expression() {
    if !has("promtool", "the rules and expressions in `deploy` were not parsed") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let check = |path: &std::path::Path| {
        let output = Command::new("promtool").args(["check", "rules"]).arg(path).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (good, said) = check("deploy/alerts.yaml".as_ref());
    assert!(good && said.contains("SUCCESS: 15 rules"), "{said}");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string("deploy/grafana.json").unwrap()).unwrap();
    let expressions: Vec<_> = expressions(&dashboard).into_iter().filter(|one| !one.contains("label_values")).collect();
    let plain = |text: &str| text.replace("$__rate_interval", "5m").replace("$cache", ".*").replace("$instance", ".*");
    let rules = |expressions: &[String]| {
        let rule = |(number, text): (usize, &String)| {
            format!("      - record: panel:{number}\n        expr: {}\n", serde_json::to_string(&plain(text)).unwrap())
        };
        let lines: String = expressions.iter().enumerate().map(rule).collect();
        let path = folder.path().join("panels.yaml");
        std::fs::write(&path, format!("groups:\n  - name: panels\n    rules:\n{lines}")).unwrap();
        check(&path)
    };
    let (good, said) = rules(&expressions);
    assert!(good, "{said}");
    assert!(!rules(&["sum by (cache (driftless_entries)".to_owned()]).0, "the check can fail");
}
