//! Tests of the debug page: properties of its text, and the page in a browser. Without a browser, these print that they
//! were not run.
#![cfg(feature = "inspect-http")]

use std::collections::BTreeSet;

#[path = "page/browser.rs"]
mod browser;
#[allow(dead_code)]
#[path = "common/http.rs"]
mod http;
#[path = "page/process.rs"]
mod process;
#[path = "page/simulated.rs"]
mod simulated;
#[path = "page/views.rs"]
mod views;

/// The parts of the page that have text of their own. `src/inspect/http/page.rs` joins them.
const PAGE: &str = concat!(
    include_str!("../src/inspect/http/page/head.html"),
    include_str!("../src/inspect/http/page/style.css"),
    include_str!("../src/inspect/http/page/body.html"),
    include_str!("../src/inspect/http/page/base.js"),
    include_str!("../src/inspect/http/page/model.js"),
    include_str!("../src/inspect/http/page/chart.js"),
    include_str!("../src/inspect/http/page/overview.js"),
    include_str!("../src/inspect/http/page/cache.js"),
    include_str!("../src/inspect/http/page/key.js"),
    include_str!("../src/inspect/http/page/events.js"),
    include_str!("../src/inspect/http/page/main.js"),
);

/// Returns the start tags of an element, with attributes.
fn tags<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let open = format!("<{name} ");
    page.split(&open[..]).skip(1).filter_map(|rest| rest.split('>').next()).collect()
}

/// Returns the obstacles of the page for users with a keyboard and no mouse, and for users of a screen reader.
fn complaints(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            found.push(what);
        }
    };
    for tag in tags(page, "select") {
        must(tag.contains("aria-label="), format!("nothing says what this is: <select {tag}>"));
    }
    // Only real buttons are clicked, which Tab reaches, and which Enter and the space bar press.
    must(page.matches("\"click\"").count() == 1 && page.contains("closest?.(\"button[data-do]\")"), "clicks".into());
    for forbidden in ["onclick", "onmouse", "\"mousedown\"", "tabindex=\"1\"", "outline:none", "outline:0", "autofocus"]
    {
        must(!page.contains(forbidden), format!("{forbidden} shuts the keyboard out"));
    }
    must(page.contains(":focus-visible { outline:2px"), "what has the focus must be seen".into());
    must(page.contains("id=\"health\" role=\"status\""), "a change of state must be announced".into());
    must(page.matches("http").count() == page.matches("http://www.w3.org/2000/svg").count(), "asks elsewhere".into());
    found
}

#[test]
fn the_page_can_be_used_with_the_keyboard_alone() {
    assert_eq!(complaints(PAGE), Vec::<String>::new());
    assert!(tags(PAGE, "select").len() == 2, "tags are found");
    for (good, bad) in [
        ("<select id=\"cache\" aria-label=\"cache\"", "<select id=\"cache\""),
        ("button[data-do]", "span[data-do]"),
        (":focus-visible { outline:2px", ":focus-visible { outline:0"),
        ("id=\"health\" role=\"status\"", "id=\"health\""),
        ("<title>", "<script src='http://elsewhere'></script><title>"),
    ] {
        assert!(PAGE.contains(good), "{good}");
        assert!(!complaints(&PAGE.replace(good, bad)).is_empty(), "without {good}");
    }
}

#[test]
fn every_route_is_in_the_openapi_description() {
    let source = include_str!("../src/inspect/http.rs");
    let routes = source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let routes: BTreeSet<_> = routes.map(str::to_owned).collect();
    let described: serde_json::Value = serde_json::from_str(include_str!("../src/inspect/http/openapi.json")).unwrap();
    let described: BTreeSet<_> = described["paths"].as_object().unwrap().keys().cloned().collect();
    assert!(routes.len() > 10, "{routes:?}");
    assert_eq!(routes, described);
}
