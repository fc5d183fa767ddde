//! Checks of the documentation pages: links resolve, and every warning and log line is explained.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[allow(dead_code)]
#[path = "architecture/source.rs"]
mod source;

use proc_macro2::{Delimiter, TokenTree};
use source::{Source, ident, inner, is_punct, load, runs, without_tests};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns every documentation page of the repository.
fn pages() -> Vec<PathBuf> {
    let folders = ["", "src/docs", "examples", "benches", "fuzz"];
    let listed = folders.iter().filter_map(|folder| std::fs::read_dir(root().join(folder)).ok()).flatten().flatten();
    let pages = listed.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == "md"));
    pages.collect()
}

/// Returns the targets of the links in a text, except those in code.
fn links(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("x");
        let inline = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next().map(str::to_owned));
        found.extend(inline);
        if let Some((name, target)) = prose.split_once("]: ").filter(|(name, _)| name.starts_with('[')) {
            assert!(!name.is_empty());
            found.push(target.trim().to_owned());
        }
    }
    found
}

/// Returns the fault of a link, if it can be found without a network. Rustdoc checks paths of items.
fn broken(page: &Path, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("crate::") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() { page.to_owned() } else { page.parent()?.join(path) };
    if !target.exists() {
        return Some(format!("{}: `{link}` leads nowhere", page.display()));
    }
    let headings = || {
        let text = std::fs::read_to_string(&target).unwrap_or_default();
        text.lines().filter(|line| line.starts_with('#')).map(anchor_of).collect::<BTreeSet<_>>()
    };
    let missing = !anchor.is_empty() && !headings().contains(anchor);
    missing.then(|| format!("{}: `{link}`: there is no such heading", page.display()))
}

/// Returns the anchor that GitHub generates for a heading.
fn anchor_of(heading: &str) -> String {
    let kept = |c: char| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        _ => c.is_alphanumeric().then(|| c.to_ascii_lowercase()),
    };
    heading.trim_start_matches('#').trim().chars().filter_map(kept).collect()
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    assert!(pages.len() >= 8, "{pages:?}");
    let mut complaints = Vec::new();
    let mut count = 0;
    for page in &pages {
        let text = std::fs::read_to_string(page).unwrap();
        for link in &links(&text) {
            count += 1;
            complaints.extend(broken(page, link));
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    assert!(count > 30, "only {count} links were found");
}

#[test]
fn a_broken_link_is_found() {
    let page = root().join("README.md");
    assert!(broken(&page, "src/docs/guarantees.md").is_none());
    assert!(broken(&page, "src/docs/guarantees.md#eviction").is_none());
    assert!(broken(&page, "src/docs/guarantees.md#evictions").is_some());
    assert!(broken(&page, "src/docs/no-such-page.md").is_some());
    assert_eq!(links("[a](b.md) `[c](d)`\n```\n[e](f)\n```\n[g]: h.md"), ["b.md", "h.md"]);
}

/// Returns the string literals among the tokens, in order.
fn literals(tokens: impl IntoIterator<Item = TokenTree>) -> Vec<String> {
    let text = |token: TokenTree| match token {
        TokenTree::Literal(literal) => literal.to_string().strip_prefix('"')?.strip_suffix('"').map(str::to_owned),
        _ => None,
    };
    tokens.into_iter().filter_map(text).collect()
}

/// Returns the texts of `tracing::warn!(.., "text")` and similar macros, except `debug`.
fn events(sources: &[Source]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for run in sources.iter().flat_map(|source| runs(&source.tokens)) {
        for at in 4..run.len() {
            let level = ident(&run[at - 2]).is_some_and(|name| ["error", "warn", "info"].contains(&name.as_str()));
            let called = ident(&run[at - 5.min(at)]).is_some_and(|name| name == "tracing");
            if level && called && is_punct(&run[at - 1], '!') {
                let said = inner(&run[at], Delimiter::Parenthesis).map(literals).unwrap_or_default();
                found.extend(said.last().cloned());
            }
        }
    }
    found
}

#[test]
fn every_log_line_is_explained() {
    let page = read("src/docs/operations.md");
    let said = events(&without_tests(load("src")));
    assert!(said.len() > 20, "{said:?}");
    let missing: Vec<_> = said.iter().filter(|text| !page.contains(text.as_str())).collect();
    assert!(missing.is_empty(), "src/docs/operations.md does not explain {missing:#?}");
    let sample = Source::new(
        "src/a.rs",
        r#"fn f() { tracing::warn!(cache = %self.name, why = "x", "a new line"); tracing::debug!("no"); }"#,
    );
    assert_eq!(events(&[sample]).into_iter().collect::<Vec<_>>(), ["a new line"]);
}

#[test]
fn every_span_is_explained() {
    let page = read("src/docs/operations.md");
    let mut names = BTreeSet::new();
    for run in without_tests(load("src")).iter().flat_map(|source| runs(&source.tokens)) {
        for three in run.windows(3).filter(|three| ident(&three[0]).is_some_and(|name| name.ends_with("_span"))) {
            let said = inner(&three[2], Delimiter::Parenthesis).filter(|_| is_punct(&three[1], '!')).map(literals);
            names.extend(said.unwrap_or_default().into_iter().next());
        }
    }
    assert!(names.len() >= 2, "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !page.contains(&format!("`{name}{{"))).collect();
    assert!(missing.is_empty(), "src/docs/operations.md does not explain {missing:?}");
}

#[test]
fn every_warning_is_explained() {
    let lints = without_tests(load("src/report")).into_iter().find(|source| source.path.ends_with("lint.rs")).unwrap();
    let mut names = BTreeSet::new();
    for run in runs(&lints.tokens) {
        for two in run.windows(2).filter(|two| ident(&two[0]).is_some_and(|name| name == "warning")) {
            let arguments = inner(&two[1], Delimiter::Parenthesis).map(literals).unwrap_or_default();
            names.extend(arguments.into_iter().next());
        }
    }
    assert!(names.len() > 10, "{names:?}");
    let page = read("src/docs/operations.md");
    let missing: Vec<_> = names.iter().filter(|name| !page.contains(&format!("| `{name}` |"))).collect();
    assert!(missing.is_empty(), "src/docs/operations.md does not explain {missing:?}");
}

/// Returns the names in the table of metrics for one feature.
fn documented_metrics(feature: &str) -> BTreeSet<String> {
    let page = read("src/docs/operations.md");
    let rows =
        page.lines().filter(|line| line.starts_with("| both |") || line.starts_with(&format!("| `{feature}` |")));
    let names = rows.filter_map(|row| row.split('|').nth(2)).flat_map(|cell| cell.split(','));
    names.map(|name| name.trim().trim_matches('`').to_owned()).filter(|name| name.starts_with("driftless_")).collect()
}

#[cfg(feature = "inspect-http")]
#[tokio::test]
async fn the_scraped_metrics_are_those_in_the_table() {
    use driftless::inspect::{
        Inspector,
        http::{HttpConfig, HttpServer},
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let node = driftless::Node::builder().start().await.unwrap();
    let _cache: driftless::Cache<u32, u32> = node.cache("test").open().unwrap();
    let config = HttpConfig::new(([127, 0, 0, 1], 0).into());
    let server = HttpServer::start(Inspector::new(&node), config).await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let types = answer.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let scraped: BTreeSet<_> = types.filter_map(|line| line.split(' ').next().map(str::to_owned)).collect();
    assert_eq!(scraped, documented_metrics("inspect-http"));
    node.shutdown().await;
}

#[test]
fn the_published_metrics_are_those_in_the_table() {
    // A test of its own compares `src/cache/metrics_facade.rs` with the metrics that are published.
    let table = read("src/cache/metrics_facade.rs");
    let rows = table.lines().filter(|line| line.starts_with("//! | `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1)).flat_map(|names| names.split(','));
    let names = cells.filter_map(|name| name.trim().trim_matches('`').split('{').next().map(str::to_owned));
    let names: BTreeSet<_> = names.filter(|name| name.starts_with("driftless_")).collect();
    assert!(names.len() > 8, "{names:?}");
    assert_eq!(names, documented_metrics("metrics"));
}

/// Returns the forms in which the table of limits may write a default.
fn written(default: &serde_json::Value) -> Vec<String> {
    let grouped = |number: u64| {
        let digits = number.to_string();
        let parts: Vec<_> = digits.as_bytes().rchunks(3).rev().map(|part| String::from_utf8_lossy(part)).collect();
        parts.join(",")
    };
    match default {
        serde_json::Value::Null => ["none", "unbounded", "for ever", "off"].map(str::to_owned).into(),
        serde_json::Value::String(text) => vec![text.clone(), format!("`{text}`")],
        serde_json::Value::Number(number) => {
            let number = number.as_u64().expect("a count");
            let units = [(1 << 20, "MiB"), (1 << 10, "KiB")].into_iter().filter(|(unit, _)| number % unit == 0);
            units.map(|(unit, name)| format!("{}{name}", number / unit)).chain([grouped(number)]).collect()
        }
        other => panic!("{other} is no setting"),
    }
}

/// Returns the number of a cell with its unit, if that is a unit of time or size.
fn quantity(cell: &str) -> String {
    let mut words = cell.split_whitespace().map(|word| word.trim_end_matches(','));
    let (number, unit) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match unit {
        "min" => format!("{number}m"),
        "ms" | "s" | "KiB" | "MiB" => format!("{number}{unit}"),
        "ever" => format!("{number} ever"),
        _ => number.to_owned(),
    }
}

#[test]
fn the_table_of_limits_has_every_setting_and_its_default() {
    let page = read("src/docs/limits.md");
    let defaults = serde_json::to_value(driftless::CacheSettings::default()).unwrap();
    let replication = defaults["replication"].as_object().unwrap();
    let cache = defaults.as_object().unwrap().iter().filter(|(name, _)| *name != "replication");
    let mut count = 0;
    for (name, default) in cache.chain(replication) {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let said = quantity(row.unwrap_or_else(|| panic!("{name} is missing")).split('|').nth(2).unwrap());
        let wanted = written(default);
        assert!(wanted.contains(&said), "{name}: `{said}` is written, and the default is {default}");
        count += 1;
    }
    assert!(count > 20, "{count}");
}

#[test]
fn the_readme_has_the_two_commands() {
    let readme = read("README.md");
    for command in ["cargo run --release --example storefront", "cargo test --all-features"] {
        assert!(readme.contains(command), "{command}");
    }
}
