//! The source files as trees of tokens, without comments. Strings are single tokens, so rules match code only.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// One source file.
pub struct Source {
    /// The path from the root of the crate.
    pub path: String,
    /// The unchanged text.
    pub text: String,
    /// The tokens. In product sources, test-only modules are removed.
    pub tokens: Vec<TokenTree>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let tokens = TokenStream::from_str(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), text: text.to_owned(), tokens: tokens.into_iter().collect() }
    }

    /// Returns the module path: `src/protocol/push.rs` is `["protocol", "push"]`; the root is empty.
    pub fn module(&self) -> Vec<String> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        path.split('/').filter(|part| !["lib", "mod"].contains(part)).map(str::to_owned).collect()
    }
}

/// Returns all Rust files below a folder of the crate.
pub fn load(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(&root.join(folder), &mut |path| {
        if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            found.push(Source::new(&name, &fs::read_to_string(path).unwrap()));
        }
    });
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Returns the names of the files in a folder that have this extension.
pub fn names(folder: &str, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut |path| {
        if path.extension().is_some_and(|found| found == extension) {
            found.extend(path.file_name().and_then(|name| name.to_str()).map(str::to_owned));
        }
    });
    found
}

fn walk(folder: &Path, each: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { walk(&path, each) } else { each(&path) }
    }
}

/// Removes files and inline modules that are compiled for tests only.
pub fn without_tests(mut sources: Vec<Source>) -> Vec<Source> {
    let mut gone: Vec<Vec<String>> = Vec::new();
    for source in &mut sources {
        let module = source.module();
        let (kept, names) = split_tests(std::mem::take(&mut source.tokens));
        source.tokens = kept;
        gone.extend(names.into_iter().map(|name| [module.clone(), vec![name]].concat()));
    }
    sources.retain(|source| !gone.iter().any(|gone| source.module().starts_with(gone)));
    sources
}

/// Removes `#[cfg(test)] mod name ...`; returns the remaining tokens and the names.
fn split_tests(tokens: Vec<TokenTree>) -> (Vec<TokenTree>, Vec<String>) {
    let (mut kept, mut names) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        match test_module(&tokens[at..]) {
            Some((name, len)) => {
                names.push(name);
                at += len.min(tokens.len() - at);
            }
            None => {
                kept.push(tokens[at].clone());
                at += 1;
            }
        }
    }
    (kept, names)
}

/// Parses `#[cfg(test)] pub(crate) mod name;` or `.. {}`; returns the name and the number of tokens.
fn test_module(tokens: &[TokenTree]) -> Option<(String, usize)> {
    let [hash, cfg, rest @ ..] = tokens else { return None };
    let cfg = inner(cfg, Delimiter::Bracket)?.to_string().replace(' ', "");
    if !is_punct(hash, '#') || cfg != "cfg(test)" {
        return None;
    }
    let is_public = rest.first().and_then(ident).is_some_and(|word| word == "pub");
    let is_restricted = rest.get(1).is_some_and(|group| inner(group, Delimiter::Parenthesis).is_some());
    let skip = usize::from(is_public) + usize::from(is_public && is_restricted);
    let is_module = rest.get(skip).and_then(ident).is_some_and(|word| word == "mod");
    is_module.then(|| Some((ident(rest.get(skip + 1)?)?, skip + 5)))?
}

pub fn ident(token: &TokenTree) -> Option<String> {
    match token {
        TokenTree::Ident(ident) => Some(ident.to_string()),
        _ => None,
    }
}

pub fn is_punct(token: &TokenTree, char: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == char)
}

pub fn inner(token: &TokenTree, delimiter: Delimiter) -> Option<TokenStream> {
    match token {
        TokenTree::Group(group) if group.delimiter() == delimiter => Some(group.stream()),
        _ => None,
    }
}

/// Returns every run of sibling tokens, the outermost first. Skips `#[doc]` attributes, which come from doc comments.
pub fn runs(tokens: &[TokenTree]) -> Vec<Vec<TokenTree>> {
    let mut found = vec![tokens.to_vec()];
    for (at, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(group) = token
            && !(at > 0 && (is_punct(&tokens[at - 1], '#') || is_punct(&tokens[at - 1], '!')) && is_doc(group))
        {
            found.extend(runs(&group.stream().into_iter().collect::<Vec<_>>()));
        }
    }
    found
}

fn is_doc(group: &proc_macro2::Group) -> bool {
    group.stream().into_iter().next().and_then(|first| ident(&first)).is_some_and(|name| name == "doc")
}

/// Parses the longest path at the front: the idents joined by `::`, and the number of tokens they take.
pub fn path_at(run: &[TokenTree]) -> (Vec<String>, usize) {
    let mut path: Vec<_> = run.first().and_then(ident).into_iter().collect();
    let mut at = 1;
    while let Some([a, b, next]) = run.get(at..at + 3)
        && is_punct(a, ':')
        && is_punct(b, ':')
        && let Some(name) = ident(next)
    {
        path.push(name);
        at += 3;
    }
    (path, at)
}
