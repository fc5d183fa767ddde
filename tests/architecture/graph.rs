//! The import graph: extracts it, and finds imports that break a rule.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenTree};

use super::source::{Source, inner, is_punct, path_at, runs};

type Module = Vec<String>;

/// Returns the modules that each module names, itself excluded.
fn edges(sources: &[Source]) -> BTreeMap<Module, BTreeSet<Module>> {
    let known: BTreeSet<Module> = sources.iter().map(Source::module).collect();
    let mut edges = BTreeMap::new();
    for source in sources {
        let module = source.module();
        let mut paths = Vec::new();
        runs(&source.tokens).iter().for_each(|run| paths_in(run, &[], &mut paths));
        let named = paths.iter().filter_map(|path| resolve(&module, path, &known));
        edges.insert(module.clone(), named.filter(|other| *other != module).collect());
    }
    edges
}

/// Collects the paths that begin with `crate`, `self` or `super`, with lists in braces expanded.
fn paths_in(run: &[TokenTree], before: &[String], found: &mut Vec<Vec<String>>) {
    let mut at = 0;
    while at < run.len() {
        let (path, len) = path_at(&run[at..]);
        let rooted = path.first().is_some_and(|first| ["crate", "self", "super"].contains(&first.as_str()));
        let joined_before = at > 1 && is_punct(&run[at - 1], ':') && is_punct(&run[at - 2], ':');
        if !path.is_empty() && !joined_before && (rooted || !before.is_empty()) {
            let whole = [before, &path].concat();
            let list = run.get(at + len + 2).and_then(|list| inner(list, Delimiter::Brace));
            let follows = run.get(at + len).is_some_and(|next| is_punct(next, ':'));
            match list.filter(|_| follows) {
                Some(list) => paths_in(&list.into_iter().collect::<Vec<_>>(), &whole, found),
                None => found.push(whole),
            }
        }
        at += len.max(1);
    }
}

/// Resolves a path to a module: the longest known one, or the top-level name if its file is not among the sources.
fn resolve(from: &[String], path: &[String], known: &BTreeSet<Module>) -> Option<Module> {
    let mut base: Vec<String> = from.to_vec();
    let mut rest = path;
    while let Some((first, others)) = rest.split_first() {
        match first.as_str() {
            "crate" => base.clear(),
            "super" => drop(base.pop()),
            "self" => {}
            _ => break,
        }
        rest = others;
    }
    for len in (1..=rest.len()).rev() {
        let module = [&base[..], &rest[..len]].concat();
        if known.contains(&module) {
            return Some(module);
        }
    }
    match (base.is_empty(), rest.first()) {
        (true, Some(first)) if first.starts_with(char::is_lowercase) => Some(vec![first.clone()]),
        (true, _) => None,
        (false, _) => Some(base),
    }
}

/// Returns imports that point up or sideways, and modules without a floor.
pub fn against_the_floors(sources: &[Source], floors: &[&[&str]]) -> Vec<String> {
    let floor = |name: &str| floors.iter().position(|floor| floor.contains(&name));
    let mut complaints = Vec::new();
    let mut tops: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, named) in edges(sources) {
        let Some(top) = module.first() else { continue };
        let Some(from) = floor(top) else {
            complaints.push(format!("`{top}` has no floor: give it one in tests/architecture.rs"));
            continue;
        };
        for other in named.iter().filter_map(|other| other.first()).filter(|other| *other != top) {
            let Some(to) = floor(other) else { continue };
            tops.entry(top.clone()).or_default().insert(other.clone());
            if to > from || (to == from && from + 1 == floors.len()) {
                complaints.push(format!("`{}` imports `{other}`, which is not below it", module.join("::")));
            }
        }
    }
    let circles = circles(&tops).into_iter().filter(|circle| {
        let floors: BTreeSet<_> = circle.iter().map(|name| floor(name)).collect();
        floors.len() == 1 // Cycles across floors are reported above.
    });
    complaints.extend(circles.map(|circle| format!("{circle:?} import each other in a circle")));
    complaints
}

/// Returns files of a folder that name a sibling. Code that needs two of them belongs in the module that uses both.
pub fn siblings(sources: &[Source], folder: &str) -> Vec<String> {
    let is_inside = |module: &[String]| module.len() > 1 && module[0] == folder;
    let mut complaints = Vec::new();
    for (module, named) in edges(sources).into_iter().filter(|(module, _)| is_inside(module)) {
        let others = named.iter().filter(|other| is_inside(other) && other[1] != module[1]);
        complaints.extend(others.map(|other| format!("`{}` names `{}`", module.join("::"), other.join("::"))));
    }
    complaints
}

/// Returns groups of files that import each other in a cycle. A file may name its parent, whose type it extends.
pub fn knots(sources: &[Source]) -> Vec<Vec<String>> {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, named) in edges(sources) {
        let down = named.iter().filter(|other| !module.starts_with(other));
        graph.insert(module.join("::"), down.map(|other| other.join("::")).collect());
    }
    circles(&graph)
}

/// Returns the groups of more than one node in which each node reaches each other node.
fn circles(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reach = |from: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(node) = next.pop() {
            next.extend(graph.get(node).into_iter().flatten().filter(|other| seen.insert((*other).clone())));
        }
        seen
    };
    let reached: BTreeMap<_, _> = graph.keys().map(|node| (node.clone(), reach(node))).collect();
    let both = |a: &String, b: &String| reached[a].contains(b) && reached.get(b).is_some_and(|back| back.contains(a));
    let mut groups: Vec<Vec<String>> = Vec::new();
    for node in graph.keys().filter(|node| reached[*node].contains(*node)) {
        match groups.iter_mut().find(|group| both(&group[0], node)) {
            Some(group) => group.push(node.clone()),
            None => groups.push(vec![node.clone()]),
        }
    }
    groups.retain(|group| group.len() > 1);
    groups
}
