//! Tests of the debug page: properties of its text in every run, and by hand in a browser with the keyboard alone.
#![cfg(feature = "inspect-http")]

use std::collections::BTreeSet;

#[path = "page/browser.rs"]
mod browser;

const PAGE: &str = include_str!("../src/inspect/http/page.html");

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
    for name in ["input", "select", "svg"] {
        for tag in tags(page, name) {
            must(tag.contains("aria-label="), format!("nothing says what this is: <{name} {tag}>"));
        }
    }
    for tag in tags(page, "div").into_iter().filter(|tag| tag.contains("\"scroll\"")) {
        must(
            tag.contains("tabindex=\"0\"") && tag.contains("aria-label="),
            format!("cannot be scrolled to: <div {tag}>"),
        );
    }
    // Only a real button is reached with Tab and pressed with Enter and the space bar.
    for before in
        page.split(".addEventListener(\"click\"").map(|part| part.rsplit("byId(\"").next().unwrap_or_default())
    {
        let Some(id) = before.strip_suffix("\")") else { continue };
        must(page.contains(&format!("<button id=\"{id}\"")), format!("`{id}` is clicked and is no button"));
    }
    for forbidden in ["onclick", "onmouse", "\"mousedown\"", "tabindex=\"1\"", "outline:none", "outline:0", "autofocus"]
    {
        must(!page.contains(forbidden), format!("{forbidden} shuts the keyboard out"));
    }
    must(page.contains(":focus-visible { outline:2px"), "what has the focus must be seen".into());
    must(page.contains("id=\"state\" role=\"status\""), "a change of state must be announced".into());
    must(!page.contains("http://") || page.matches("http://www.w3.org/2000/svg").count() == 1, "asks elsewhere".into());
    found
}

#[test]
fn the_page_can_be_used_with_the_keyboard_alone() {
    assert_eq!(complaints(PAGE), Vec::<String>::new());
    assert!(tags(PAGE, "svg").len() == 4 && tags(PAGE, "input").len() == 1, "tags are found");
    for (good, bad) in [
        (" aria-label=\"key\"", ""),
        ("class=\"scroll\" tabindex=\"0\"", "class=\"scroll\""),
        ("<button id=\"pause\"", "<span id=\"pause\""),
        (":focus-visible { outline:2px", ":focus-visible { outline:0"),
        ("role=\"status\"", ""),
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
