//! The rules about types: the file of an `impl`, the number of fields, the uniqueness of names.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenTree};

use super::source::{Source, ident, inner, is_punct, runs};

/// Returns the types declared in a file. Structs with a body in braces have its tokens.
fn declared(source: &Source) -> Vec<(String, Option<Vec<TokenTree>>)> {
    let mut found = Vec::new();
    for run in runs(&source.tokens) {
        for at in 0..run.len().saturating_sub(1) {
            let kind = ident(&run[at]).filter(|word| ["struct", "enum"].contains(&word.as_str()));
            let Some((kind, name)) = kind.zip(ident(&run[at + 1])) else { continue };
            let ends = |token: &&TokenTree| is_punct(token, ';') || inner(token, Delimiter::Brace).is_some();
            let body = run[at + 2..].iter().find(ends).and_then(|body| inner(body, Delimiter::Brace));
            found.push((name, body.filter(|_| kind == "struct").map(|body| body.into_iter().collect())));
        }
    }
    found
}

/// Returns the types with an inherent `impl` in a file: `impl<..> Path<..> .. {` without `for`.
fn implemented(source: &Source) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for run in runs(&source.tokens) {
        for at in 0..run.len() {
            // `impl Trait` in a signature follows other tokens; an `impl` item starts after an item, a block or an
            // attribute.
            let starts = at == 0
                || is_punct(&run[at - 1], ';')
                || inner(&run[at - 1], Delimiter::Brace).is_some()
                || inner(&run[at - 1], Delimiter::Bracket).is_some();
            if !starts || ident(&run[at]).is_none_or(|word| word != "impl") {
                continue;
            }
            let head = run[at + 1..].iter().take_while(|token| inner(token, Delimiter::Brace).is_none());
            found.extend(self_type(&head.cloned().collect::<Vec<_>>()));
        }
    }
    found
}

/// Returns the last name of the path after the generics, or `None` if a trait is implemented.
fn self_type(head: &[TokenTree]) -> Option<String> {
    let (mut depth, mut name) = (0, None);
    for (at, token) in head.iter().enumerate() {
        let is_arrow = at > 0 && is_punct(&head[at - 1], '-');
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '<' => depth += 1,
            TokenTree::Punct(punct) if punct.as_char() == '>' && !is_arrow => depth -= 1,
            _ => {}
        }
        let word = ident(token).filter(|_| depth == 0);
        match word.as_deref() {
            Some("for") => return None,
            Some("where") => break,
            Some(_) => name = word,
            None => {}
        }
    }
    name
}

/// Returns inherent `impl`s outside the file that declares their type, by type.
pub fn spread(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let mut homes: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for source in sources {
        for (name, _) in declared(source) {
            homes.entry(name).or_default().insert(&source.path);
        }
    }
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        for name in implemented(source) {
            if homes.get(&name).is_some_and(|homes| !homes.contains(source.path.as_str())) {
                found.entry(name).or_default().insert(source.path.clone());
            }
        }
    }
    found
}

/// Returns structs with more fields than the limit. Plain data is exempt: with every field public there is no
/// invariant.
pub fn too_many_fields(sources: &[Source], limit: usize) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        for (name, body) in declared(source) {
            let (count, public) = body.map_or((0, 0), |body| (fields(&body), public(&body)));
            if count > limit && public < count {
                complaints.push(format!("{}: `{name}` has {count} fields, the limit is {limit}", source.path));
            }
        }
    }
    complaints
}

/// Counts `pub` without a restriction.
fn public(body: &[TokenTree]) -> usize {
    let restricted = |at: usize| body.get(at + 1).is_some_and(|next| inner(next, Delimiter::Parenthesis).is_some());
    (0..body.len()).filter(|at| ident(&body[*at]).is_some_and(|word| word == "pub") && !restricted(*at)).count()
}

/// Counts names followed by one colon, outside of angle brackets.
fn fields(body: &[TokenTree]) -> usize {
    let (mut depth, mut count) = (0, 0);
    for (at, token) in body.iter().enumerate() {
        let before = |char| at > 0 && is_punct(&body[at - 1], char);
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '<' => depth += 1,
            TokenTree::Punct(punct) if punct.as_char() == '>' && !before('-') => depth -= 1,
            TokenTree::Punct(punct) if punct.as_char() == ':' && depth == 0 => {
                let doubled = before(':') || body.get(at + 1).is_some_and(|next| is_punct(next, ':'));
                count += usize::from(!doubled);
            }
            _ => {}
        }
    }
    count
}

/// Returns names that two types of one floor share.
pub fn taken_twice(sources: &[Source], floors: &[&[&str]]) -> BTreeMap<String, BTreeSet<String>> {
    let mut taken: BTreeMap<(usize, String), BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        let module = source.module();
        let floor = module.first().and_then(|top| floors.iter().position(|floor| floor.contains(&top.as_str())));
        for (name, _) in declared(source) {
            taken.entry((floor.unwrap_or(usize::MAX), name)).or_default().insert(source.path.clone());
        }
    }
    let twice = taken.into_iter().filter(|(_, files)| files.len() > 1);
    twice.map(|((_, name), files)| (name, files)).collect()
}

/// Returns each `let _ = name;`: an unused argument must be removed instead.
pub fn thrown_away(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        for run in runs(&source.tokens) {
            for five in run.windows(5) {
                let named = ident(&five[3]).filter(|_| is_punct(&five[2], '=') && is_punct(&five[4], ';'));
                let is_let = ident(&five[0]).is_some_and(|word| word == "let");
                let is_nothing = ident(&five[1]).is_some_and(|word| word == "_");
                if let Some(name) = named.filter(|_| is_let && is_nothing) {
                    complaints.push(format!("{}: `let _ = {name}`", source.path));
                }
            }
        }
    }
    complaints
}
