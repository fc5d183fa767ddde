//! Checks of the book: mdBook builds it from the pages that rustdoc renders, with links that lead somewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{broken, links, read, root};

#[allow(dead_code)]
#[path = "../../examples/book_links.rs"]
mod book_links;

use book_links::{Items, Links, rewrite};

fn of_the_crate() -> Links {
    let items = Items::read(&root().join("src")).expect("the sources");
    Links { items, rustdoc: "../driftless".into() }
}

/// Returns the names of the pages in `src/docs`, without the table of contents.
fn rendered() -> BTreeSet<String> {
    let listed = std::fs::read_dir(root().join("src/docs")).expect("the pages").flatten();
    let names = listed.map(|entry| entry.file_name().into_string().expect("a plain name"));
    names.filter(|name| name.ends_with(".md") && name != "SUMMARY.md").collect()
}

/// Returns a complaint about each page that the table of contents lacks, lists twice, or lists in vain.
fn against_the_contents(summary: &str, pages: &BTreeSet<String>) -> Vec<String> {
    let mut listed = BTreeSet::new();
    let mut found = Vec::new();
    for page in links(summary) {
        if !pages.contains(&page) {
            found.push(format!("{page} does not exist"));
        }
        if !listed.insert(page.clone()) {
            found.push(format!("{page} is listed twice"));
        }
    }
    found.extend(pages.difference(&listed).map(|page| format!("{page} is not listed")));
    found
}

#[test]
fn the_table_of_contents_lists_every_page() {
    let found = against_the_contents(&read("src/docs/SUMMARY.md"), &rendered());
    assert!(found.is_empty(), "src/docs/SUMMARY.md: {found:#?}");
}

#[test]
fn a_wrong_table_of_contents_is_found() {
    let pages = BTreeSet::from(["a.md".to_owned(), "b.md".to_owned()]);
    let found = |summary| against_the_contents(summary, &pages);
    assert_eq!(found("- [A](a.md)"), ["b.md is not listed"]);
    assert_eq!(found("- [A](a.md)\n- [B](b.md)\n- [C](c.md)"), ["c.md does not exist"]);
    assert_eq!(found("- [A](a.md)\n- [B](b.md)\n- [A](a.md)"), ["a.md is listed twice"]);
    assert_eq!(found("- [A](a.md)\n- [B](b.md)").len(), 0);
}

/// Returns the fault of a page in the book: a link that leads nowhere, or one that only rustdoc understands.
fn faults(links_of: &Links, name: &str, text: &str) -> Vec<String> {
    let page = match links_of.page("Title", text) {
        Ok(page) => page,
        Err(fault) => return vec![format!("{name}: {fault}")],
    };
    let path = root().join("src/docs").join(name);
    let to_pages = links(&page).into_iter().filter(|link| !link.starts_with("../driftless/"));
    let mut found: Vec<_> = to_pages.filter_map(|link| broken(&path, &link)).collect();
    let prose = page.lines().filter(|line| line.contains("[`") && line.contains("`]"));
    for line in prose {
        for rest in line.split("[`").skip(1).filter_map(|part| part.split_once("`]")) {
            if !rest.1.starts_with('(') {
                found.push(format!("{name}: [`{}`] has no target, so mdBook makes no link of it", rest.0));
            }
        }
    }
    found
}

#[test]
fn the_links_of_every_page_work_in_the_book() {
    let links_of = of_the_crate();
    let mut found = Vec::new();
    let mut rewritten = 0;
    for name in rendered() {
        let text = read(&format!("src/docs/{name}"));
        rewritten += text.matches("](crate::").count();
        found.extend(faults(&links_of, &name, &text));
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
    assert!(rewritten > 100, "only {rewritten} links were rewritten");
}

#[test]
fn a_link_that_does_not_work_in_the_book_is_found() {
    let links_of = of_the_crate();
    let count = |text: &str| faults(&links_of, "limits.md", text).len();
    assert_eq!(
        count("[a](crate::Cache::get), [b](crate::docs::guarantees#clocks), [`c`](crate::report::Staleness)"),
        0
    );
    assert_eq!(count("[a](crate::NoSuchType)"), 1);
    assert_eq!(count("[a](crate::Cache::no_such_method)"), 1);
    assert_eq!(count("[a](crate::docs::no_such_page)"), 1);
    assert_eq!(count("[a](crate::docs::guarantees#no-such-heading)"), 1);
    assert_eq!(count("see [`Cache`], or [`Node`](crate::Node)"), 1);
}

#[test]
fn links_of_rustdoc_become_links_of_the_book() {
    let links_of = of_the_crate();
    let page = |text: &str| links_of.page("Limits", text).expect("all items exist");
    assert_eq!(page("# One\n\nText."), "# Limits\n\n## One\n\nText.\n");
    assert_eq!(page("```\n# [a](crate::Cache)\n```"), "# Limits\n\n```\n# [a](crate::Cache)\n```\n", "code stays");
    for (path, target) in [
        ("docs::migrating_from_moka#calls", "migrating-from-moka.md#calls"),
        ("Cache::get", "../driftless/cache/struct.Cache.html#method.get"),
        ("Cache::get_with", "../driftless/cache/struct.Cache.html#method.get_with"),
        ("CacheBuilder::weigher", "../driftless/cache/builder/struct.CacheBuilder.html#method.weigher"),
        ("InsertError::Unreadable", "../driftless/cache/enum.InsertError.html#variant.Unreadable"),
        ("ReplicaConfig::forget_after", "../driftless/struct.ReplicaConfig.html#structfield.forget_after"),
        ("Stamp", "../driftless/hlc/struct.Stamp.html"),
        ("sim::check", "../driftless/sim/fn.check.html"),
        ("report::Staleness", "../driftless/report/struct.Staleness.html"),
    ] {
        assert_eq!(page(&format!("[x](crate::{path}).")), format!("# Limits\n\n[x]({target}).\n"));
    }
    // A book as mdBook sends it: chapters may have chapters.
    let chapter = |name: &str, content: &str, below: serde_json::Value| json!({ "Chapter": { "name": name, "content": content, "sub_items": below } });
    let inner = chapter("Inner", "[a](crate::Node)", json!([]));
    let mut book =
        json!({ "items": [{ "PartTitle": "Use" }, chapter("Outer", "[b](crate::Nothing)", json!([inner]))] });
    let found = rewrite(&mut book, &links_of);
    assert_eq!(found, ["the page `Outer`: `crate::Nothing` is no item of this crate"]);
    let inner = &book["items"][1]["Chapter"]["sub_items"][0]["Chapter"]["content"];
    assert_eq!(inner, "# Inner\n\n[a](../driftless/node/struct.Node.html)\n");
}

/// Returns the values of an attribute in a page of HTML.
fn attributes<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    html.split(start.as_str()).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// Returns a complaint about each link of a page of HTML that leads to no file, or to no element of a file.
fn dead_links(page: &Path) -> Vec<String> {
    let html = std::fs::read_to_string(page).expect("a page");
    let mut found = Vec::new();
    for link in attributes(&html, "href") {
        if link.contains("://") || link.starts_with("javascript:") {
            continue;
        }
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target = if path.is_empty() { page.to_owned() } else { page.with_file_name(path) };
        let text = std::fs::read_to_string(&target).unwrap_or_default();
        if !target.is_file() {
            found.push(format!("{}: `{link}` leads nowhere", page.display()));
        } else if !anchor.is_empty() && !attributes(&text, "id").contains(&anchor) {
            found.push(format!("{}: `{link}`: there is no such element", page.display()));
        }
    }
    found
}

/// Checks every link of the built book, also those into the output of rustdoc. Set `BOOK` to the folder of the book if
/// it is not `target/doc/book`.
#[test]
#[ignore = "needs mdbook: cargo doc --no-deps --all-features && mdbook build"]
fn the_built_book_has_no_dead_link() {
    let folder = std::env::var_os("BOOK").map_or_else(|| root().join("target/doc/book"), PathBuf::from);
    let listed = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())).flatten();
    let pages = listed.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == "html"));
    let pages: Vec<_> = pages.filter(|path| !path.ends_with("404.html") && !path.ends_with("toc.html")).collect();
    for name in rendered() {
        assert!(pages.contains(&folder.join(&name).with_extension("html")), "{name} is not in the book");
    }
    let found: Vec<_> = pages.iter().flat_map(|page| dead_links(page)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
    let unrendered = pages.iter().filter(|page| std::fs::read_to_string(page).unwrap().contains("crate::docs"));
    assert_eq!(unrendered.collect::<Vec<_>>(), Vec::<&PathBuf>::new());
}

#[test]
fn a_dead_link_of_the_built_book_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("a.html");
    std::fs::write(&page, r##"<h1 id="here"></h1><a href="#here"></a><a href="#there"></a><a href="b.html"></a>"##)
        .expect("a file");
    assert_eq!(dead_links(&page).len(), 2, "{:?}", dead_links(&page));
}
