//! All other rules: one function each, from sources to complaints.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenTree};

use super::source::{Source, ident, inner, is_punct, path_at, runs};

/// The names with restricted use: consecutive names in a path, and the files or folders that may use them.
const ROOMS: &[(&[&str], &[&str])] = &[
    (&["SystemTime"], &["src/node/clock.rs"]),
    // The driver sleeps until the next deadline of the replica, by tokio's clock. The mesh has its own timers.
    (&["Instant"], &["src/node/clock.rs", "src/node/driver", "src/node/ready.rs", "src/node/mesh"]),
    (&["Uuid", "new_v4"], &["src/node/clock.rs", "src/node/mesh"]),
    // The seeds of hash tables whose order no code depends on.
    (&["RandomState"], &["src/cache"]),
    (&["OsRng"], &[]),
    (&["thread_rng"], &[]),
    (&["Rng", "new"], &["src/node/mesh"]),
    (&["tokio"], &["src/node", "src/inspect"]),
    (&["memberlist"], &["src/node/mesh"]),
    // One module per dependency: a dependency that appears in no signature can be replaced.
    (&["crdts"], &["src/crdt"]),
    (&["axum"], &["src/inspect/http"]),
    (&["serde_json"], &["src/inspect/http"]),
    (&["metrics"], &["src/cache/published.rs", "src/inspect/http"]),
    (&["hyper"], &["src/inspect/http"]),
    (&["procfs"], &["src/inspect/http"]),
    (&["ciborium"], &["src/wire", "src/report", "src/cache/explain.rs", "src/node/inquiry.rs"]),
    (&["ciborium_ll"], &["src/wire"]),
    (&["lru"], &["src/recency/order.rs"]),
    (&["event_listener"], &["src/sync.rs"]),
    (&["thread", "spawn"], &["src/node"]),
    (&["thread", "sleep"], &["src/node"]),
    (&["parking_lot"], &["src/sync.rs"]),
    (&["std", "sync", "atomic"], &["src/sync.rs"]),
    (&["std", "sync", "Mutex"], &["src/sync.rs"]),
    (&["std", "sync", "RwLock"], &["src/sync.rs"]),
    (&["std", "sync", "Condvar"], &["src/sync.rs"]),
    (&["std", "net"], &["src/node", "src/inspect/http"]),
];

/// The modules whose every run must produce the same result.
const DETERMINISTIC: &[&str] =
    &["hlc", "crdt", "item", "store", "env", "members", "ledger", "protocol", "replica", "sim"];

/// Returns clock reads, randomness, sockets and spawns outside the files that may use them.
pub fn outside_their_rooms(sources: &[Source]) -> Vec<String> {
    let mut complaints = BTreeSet::new();
    for source in sources {
        for run in runs(&source.tokens) {
            for at in 0..run.len() {
                let (path, _) = path_at(&run[at..]);
                complaints
                    .extend(stranger(source, &path).map(|what| format!("{}: `{what}` has no place here", source.path)));
            }
        }
    }
    complaints.into_iter().collect()
}

fn stranger(source: &Source, path: &[String]) -> Option<String> {
    let at_home = |rooms: &[&str]| rooms.iter().any(|room| source.path.starts_with(room));
    let listed = ROOMS.iter().find(|(what, rooms)| path.iter().take(what.len()).eq(what.iter()) && !at_home(rooms));
    // `fastrand::u64(..)` draws from a generator without a fixed seed. `fastrand::Rng` has to be seeded.
    let free = path.len() > 1 && path[0] == "fastrand" && path[1].starts_with(char::is_lowercase);
    match listed {
        Some((what, _)) => Some(what.join("::")),
        None => (free && !at_home(&["src/node/mesh"])).then(|| path.join("::")),
    }
}

/// Returns hash tables in deterministic modules: each `HashMap` or similar type, and each iteration over a `HashTable`,
/// which may only be used for lookups.
pub fn hash_order(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| is_deterministic(source)) {
        let runs = runs(&source.tokens);
        let tables: BTreeSet<_> = runs.iter().flat_map(|run| tables_in(run)).collect();
        for run in &runs {
            for (at, token) in run.iter().enumerate() {
                let Some(name) = ident(token) else { continue };
                if ["HashMap", "HashSet", "IndexMap", "DashMap"].contains(&name.as_str()) {
                    complaints.push(format!("{}: `{name}` in a deterministic floor", source.path));
                }
                if tables.contains(&name) && is_walked(run, at) {
                    complaints.push(format!("{}: walks over the hash table `{name}`", source.path));
                }
            }
        }
    }
    complaints
}

fn is_deterministic(source: &Source) -> bool {
    source.module().first().is_some_and(|top| DETERMINISTIC.contains(&top.as_str()))
}

/// Returns the names declared as `name: HashTable<..>`.
fn tables_in(run: &[TokenTree]) -> Vec<String> {
    let declared = run
        .windows(3)
        .filter(|three| is_punct(&three[1], ':') && ident(&three[2]).is_some_and(|name| name == "HashTable"));
    declared.filter_map(|three| ident(&three[0])).collect()
}

/// Returns true for `name.iter()` and similar calls, or `in &a.name {`.
fn is_walked(run: &[TokenTree], at: usize) -> bool {
    const WALKS: &[&str] = &["iter", "iter_mut", "into_iter", "drain", "retain", "extract_if"];
    let method = run.get(at + 1).is_some_and(|dot| is_punct(dot, '.')).then(|| run.get(at + 2)).flatten();
    let walks = method.and_then(ident).is_some_and(|name| WALKS.contains(&name.as_str()));
    let ends_a_for = run.get(at + 1).is_some_and(|body| inner(body, Delimiter::Brace).is_some())
        && run[..at].iter().rev().take(8).any(|token| ident(token).is_some_and(|name| name == "in"));
    walks || ends_a_for
}

/// Returns files that contain `unsafe`.
pub fn unsafety(sources: &[Source]) -> Vec<String> {
    let is_unsafe = |source: &&Source| {
        runs(&source.tokens).iter().flatten().any(|token| ident(token).is_some_and(|name| name == "unsafe"))
    };
    sources.iter().filter(is_unsafe).map(|source| format!("{}: `unsafe`", source.path)).collect()
}

/// Returns files and functions above a limit of lines.
pub fn too_long(sources: &[Source], file: usize, function: usize) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let lines = lines_of(source);
        if lines > file {
            complaints.push(format!("{} has {lines} lines, the limit is {file}: split it", source.path));
        }
        for (name, lines) in functions(source).into_iter().filter(|(_, lines)| *lines > function) {
            complaints.push(format!("{}: `{name}` has {lines} lines, the limit is {function}: split it", source.path));
        }
    }
    complaints
}

/// Returns the lines of the longest file and of the longest function.
pub fn longest(sources: &[Source]) -> (usize, usize) {
    let files = sources.iter().map(lines_of).max();
    let functions = sources.iter().flat_map(functions).map(|(_, lines)| lines).max();
    (files.unwrap_or(0), functions.unwrap_or(0))
}

/// Returns the line of the last remaining token, so that unit tests at the end do not count.
fn lines_of(source: &Source) -> usize {
    source.tokens.iter().map(|token| token.span().end().line).max().unwrap_or(0)
}

fn functions(source: &Source) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for run in runs(&source.tokens) {
        for at in 0..run.len().saturating_sub(1) {
            let is_fn = ident(&run[at]).is_some_and(|word| word == "fn");
            let Some(name) = ident(&run[at + 1]).filter(|_| is_fn) else { continue };
            let ends = |token: &&TokenTree| is_punct(token, ';') || inner(token, Delimiter::Brace).is_some();
            if let Some(body) = run[at..].iter().find(ends) {
                found.push((name, body.span().end().line - run[at].span().start().line + 1));
            }
        }
    }
    found
}

/// Counts the occurrences of a text.
pub fn count(sources: &[Source], text: &str) -> usize {
    sources.iter().map(|source| source.text.matches(text).count()).sum()
}

/// Returns pages that `lib.rs` does not include.
pub fn orphaned_pages(sources: &[Source], pages: &[String]) -> Vec<String> {
    let included = |page: &&String| {
        sources.iter().any(|source| source.path == "src/lib.rs" && source.text.contains(&format!("docs/{page}")))
    };
    pages.iter().filter(|page| !included(page)).map(|page| format!("src/docs/{page} is not rendered")).collect()
}

/// Returns each place that names a scenario, with its number.
pub fn scenarios(sources: &[Source]) -> BTreeMap<(String, usize), u32> {
    let mut found = BTreeMap::new();
    for source in sources {
        for (at, word) in source.text.match_indices("cenario ") {
            let digits: String = source.text[at + word.len()..].chars().take_while(char::is_ascii_digit).collect();
            if let Ok(number) = digits.parse() {
                found.insert((source.path.clone(), at), number);
            }
        }
    }
    found
}

/// Returns scenario numbers that do not exist.
pub fn unknown_scenarios(sources: &[Source], last: u32) -> Vec<String> {
    let unknown = scenarios(sources).into_iter().filter(|(_, number)| !(1..=last).contains(number));
    unknown.map(|((path, _), number)| format!("{path}: there is no scenario {number}")).collect()
}
