//! Checks of the documentation pages: links resolve, and every warning and log line is explained.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[allow(dead_code)]
#[path = "architecture/source.rs"]
mod source;

#[path = "docs/book.rs"]
mod book;

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
    pages.chain(files("crates", &["md"])).collect()
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
    let mut names = BTreeSet::new();
    for run in without_tests(load("src/report")).iter().flat_map(|source| runs(&source.tokens)) {
        for two in run.windows(2).filter(|two| ident(&two[0]).is_some_and(|name| name == "warning")) {
            let arguments = inner(&two[1], Delimiter::Parenthesis).map(literals).unwrap_or_default();
            names.extend(arguments.into_iter().next());
        }
    }
    assert!(names.len() > 10 && names.contains("clock-ahead"), "{names:?}");
    let page = read("src/docs/operations.md");
    let missing: Vec<_> = names.iter().filter(|name| !page.contains(&format!("| `{name}` |"))).collect();
    assert!(missing.is_empty(), "src/docs/operations.md does not explain {missing:?}");
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
            let Some(number) = number.as_u64() else { return vec![number.as_f64().expect("a number").to_string()] };
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
    for command in ["cargo run --release --example storefront", "cargo test --workspace --all-features"] {
        assert!(readme.contains(command), "{command}");
    }
}

/// Returns the lines of a text that are one of the commands of a build, without their indentation and comment.
fn commands(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(|line| line.split(" #").next().unwrap_or(line).trim().to_owned());
    lines.filter(|line| ["cargo test", "cargo clippy -", "cargo fmt -"].iter().any(|it| line.starts_with(it))).collect()
}

/// Checks that the README, CONTRIBUTING and the script of CI have the same commands.
#[test]
fn the_commands_are_those_of_ci() {
    let ci = commands(&read(".ci/run"));
    let ci: BTreeSet<_> = ci.into_iter().filter(|command| !command.contains("--version")).collect();
    assert!(ci.len() >= 6, "{ci:?}");
    let contributing = read("CONTRIBUTING.md");
    let (_, section) = contributing.split_once("## How to run what CI runs").expect("the section");
    let listed = commands(section.split("\n## ").next().expect("its text"));
    assert_eq!(listed, ci, "CONTRIBUTING.md and .ci/run differ");
    let tests: BTreeSet<_> = ci.into_iter().filter(|command| command.starts_with("cargo test")).collect();
    assert_eq!(commands(&read("README.md")), tests, "README.md and .ci/run differ");
}

/// Checks that the program in the README is the example that `tests/examples.rs` runs in two processes.
#[test]
fn the_program_in_the_readme_is_the_example() {
    let example = read("examples/two_processes.rs");
    let program: String = example
        .lines()
        .skip_while(|line| line.is_empty() || line.starts_with("//!"))
        .map(|line| line.to_owned() + "\n")
        .collect();
    assert!(program.contains("fn main"), "{program}");
    assert!(read("README.md").contains(&format!("```rust,no_run\n{program}```")), "README.md prints another program");
}

/// Returns the files below a folder with one of these endings, in order.
fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the repository").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| endings.iter().any(|ending| it == *ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    let parts = text.split(|c: char| !c.is_alphanumeric() && c != '\'');
    parts.filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// Returns the first word of each doc comment.
fn openings(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut continues = false;
    for line in text.lines().map(str::trim_start) {
        let doc = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
        if let Some(doc) = doc.filter(|_| !continues) {
            found.extend(words(doc).next());
        }
        continues = doc.is_some();
    }
    found
}

/// Returns the number of times that a text names an actor by a pronoun. (A pair of words that is mostly followed by a
/// noun is not in the list.)
fn pronouns(text: &str) -> usize {
    const ONE: [&str; 9] =
        ["somebody", "nobody", "everybody", "whoever", "whomever", "anybody", "someone", "anyone", "everyone"];
    const TWO: [(&str, &str); 3] = [("another", "one"), ("no", "one"), ("the", "others")];
    let words: Vec<_> = words(text).collect();
    let single = words.iter().filter(|word| ONE.contains(&word.as_str())).count();
    let is_pair = |pair: &[String]| TWO.contains(&(pair[0].as_str(), pair[1].as_str()));
    single + words.windows(2).filter(|pair| is_pair(pair)).count()
}

/// Returns the sentences of a page. Code blocks are left out; each table cell and each list item starts a new sentence.
fn sentences(page: &str) -> Vec<String> {
    let mut fenced = false;
    let mut text = String::new();
    for line in page.lines() {
        let trimmed = line.trim_start();
        fenced ^= trimmed.starts_with("```");
        let starts = ["- ", "* ", "#", "|", "```"].iter().any(|mark| trimmed.starts_with(mark));
        let numbered = trimmed.split_once(". ").is_some_and(|(number, _)| number.parse::<u8>().is_ok());
        if fenced || trimmed.is_empty() || starts || numbered {
            text.push('\n');
        }
        if !fenced {
            text.push_str(&trimmed.replace('|', "\n"));
            text.push(' ');
        }
    }
    let mut found = Vec::new();
    for block in text.lines() {
        let mut sentence = String::new();
        for word in block.split_whitespace() {
            sentence.push_str(word);
            sentence.push(' ');
            let bare = word.trim_end_matches(['*', '`', ')', '"', '_']);
            if bare.ends_with(['.', '?', '!', ':', ';']) {
                found.push(std::mem::take(&mut sentence));
            }
        }
        found.push(sentence);
    }
    found
}

/// Checks by counts that the prose is plain English. The counts show where to look; a reader decides.
#[test]
fn the_prose_is_plain() {
    let code: Vec<_> =
        ["src", "examples", "tests", "crates"].iter().flat_map(|folder| files(folder, &["rs"])).collect();
    let texts: Vec<_> = code.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let openings: Vec<_> = texts.iter().flat_map(|text| openings(text)).collect();
    let asks = |word: &&String| {
        ["what", "who", "whoever", "whose", "whom", "whether", "how", "where", "why", "when", "which"]
            .contains(&word.as_str())
    };
    let asking = openings.iter().filter(asks).count();
    assert!(openings.len() > 3_000, "{}", openings.len());
    assert!(asking * 100 < openings.len() * 3, "{asking} of {} docs open with an interrogative", openings.len());

    let others =
        ["src", "examples", "tests", "crates"].iter().flat_map(|folder| files(folder, &["md", "html", "json"]));
    let others = others.chain([root().join("README.md"), root().join("SECURITY.md")]);
    let found: Vec<_> = code.into_iter().chain(others).filter(|path| !path.ends_with("tests/docs.rs")).collect();
    let found = found.iter().map(|path| (pronouns(&std::fs::read_to_string(path).unwrap()), path.display()));
    let found: Vec<_> = found.filter(|(count, _)| *count > 0).collect();
    assert!(found.iter().map(|(count, _)| count).sum::<usize>() < 20, "pronouns for actors: {found:#?}");

    let long = files("src/docs", &["md"]).into_iter().flat_map(|path| {
        let page = std::fs::read_to_string(&path).unwrap();
        let long = sentences(&page).into_iter().filter(|sentence| sentence.split_whitespace().count() > 40);
        long.map(|sentence| format!("{}: {sentence}", path.display())).collect::<Vec<_>>()
    });
    let long: Vec<_> = long.collect();
    assert!(long.is_empty(), "sentences of more than 40 words:\n{}", long.join("\n"));
}

#[test]
fn prose_that_is_not_plain_is_found() {
    assert_eq!(openings("/// What it is.\n/// Who.\nfn f() {}\n    //! Whether."), ["what", "whether"]);
    assert_eq!(pronouns("Nobody and the others, no one; the other node"), 3);
    let long = "a ".repeat(41);
    let page = format!("# Title\n\nOne. {long}\n- {long}\n\n```\n{long}\n```\n| {long} | b |\n");
    let long = |sentence: &String| sentence.split_whitespace().count() > 40;
    assert_eq!(sentences(&page).into_iter().filter(long).count(), 3, "a list item has its mark as a word");
}
