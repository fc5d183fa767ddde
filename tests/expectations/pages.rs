//! Checks that each difference which a test states is documented, and that each documented one has a test.

use std::collections::BTreeSet;
use std::path::Path;

/// A reference to the documentation of a difference.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Citation {
    page: String,
    heading: String,
    text: String,
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the citations in the comments of a source file.
fn citations(source: &str) -> Vec<Citation> {
    let comments = source.lines().filter_map(|line| line.trim_start().strip_prefix("// Differs: "));
    let parse = |comment: &str| {
        let (page, rest) = comment.split_once(", \"")?;
        let (heading, text) = rest.strip_suffix('"')?.split_once("\", \"")?;
        Some(Citation { page: page.into(), heading: heading.into(), text: text.into() })
    };
    comments.map(|comment| parse(comment).unwrap_or_else(|| panic!("not a citation: {comment}"))).collect()
}

/// Returns the citations of all modules of this program.
fn all() -> Vec<Citation> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expectations");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let modules = files.filter(|path| !path.ends_with("pages.rs"));
    modules.flat_map(|path| citations(&std::fs::read_to_string(path).unwrap())).collect()
}

/// Returns the text below a heading, up to the next heading.
fn section(page: &str, heading: &str) -> Option<String> {
    let is_heading = |line: &&str| line.starts_with('#');
    let mut lines = page.lines().skip_while(|line| !is_heading(line) || line.trim_start_matches('#').trim() != heading);
    lines.next()?;
    Some(lines.take_while(|line| !is_heading(line)).collect::<Vec<_>>().join("\n"))
}

/// Returns each heading of a page with the text below it.
fn headings(page: &str) -> Vec<(String, String)> {
    let headings = page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings.map(|heading| (heading.to_owned(), section(page, heading).unwrap())).collect()
}

/// Returns the rows of the tables in a text, without their heads, each with the heading above it.
fn rows(heading: &str, text: &str) -> Vec<(String, String)> {
    let lines: Vec<_> = text.lines().collect();
    let is_row =
        |pair: &&[&str]| pair[0].starts_with("| ") && ![pair[0], pair[1]].iter().any(|it| it.starts_with("| ---"));
    let with_next: Vec<_> = lines.iter().copied().chain([""]).collect();
    with_next.windows(2).filter(is_row).map(|pair| (heading.to_owned(), pair[0].to_owned())).collect()
}

/// Returns the reason why a citation leads nowhere.
fn fault(citation: &Citation, page: &str) -> Option<String> {
    let Some(section) = section(page, &citation.heading) else {
        return Some(format!("{citation:?}: there is no such heading"));
    };
    (!section.contains(&citation.text)).then(|| format!("{citation:?}: there is no such text below the heading"))
}

#[test]
fn each_difference_is_documented() {
    let cited = all();
    assert!(cited.len() > 60, "only {} citations were found", cited.len());
    let faults: Vec<_> = cited.iter().filter_map(|it| fault(it, &read(&format!("src/docs/{}", it.page)))).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn each_documented_difference_has_a_test() {
    let cited: BTreeSet<_> = all().into_iter().collect();
    let page = |page: &str| read(&format!("src/docs/{page}"));
    let moka = page("migrating-from-moka.md");
    let moka = rows("What is different", &section(&moka, "What is different").unwrap());
    let rows: Vec<_> = headings(&page("coming-from-other-caches.md"))
        .into_iter()
        .flat_map(|(heading, text)| rows(&heading, &text))
        .chain(moka)
        .collect();
    assert!(rows.len() > 80, "only {} rows were found", rows.len());
    let is_cited =
        |(heading, row): &&(String, String)| cited.iter().any(|it| it.heading == *heading && row.contains(&it.text));
    let untested: Vec<_> = rows.iter().filter(|row| !is_cited(row)).collect();
    assert!(untested.is_empty(), "no test cites {untested:#?}");
}

#[test]
fn a_citation_that_leads_nowhere_is_found() {
    let source = "fn f() {\n    // Differs: a.md, \"One\", \"first\"\n    // Differs: a.md, \"Two\", \"first\"\n}";
    let found = citations(source);
    let page = "# One\n\nfirst\n\n## Two\n\nsecond\n";
    assert_eq!(fault(&found[0], page), None);
    assert!(fault(&found[1], page).is_some_and(|it| it.contains("no such text")));
    assert!(fault(&found[0], "# Other\n").is_some_and(|it| it.contains("no such heading")));
}
