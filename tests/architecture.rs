//! Rules for this crate's own source, checked by parsing it. Limits are only ever tightened.
//!
//! Every rule is a function from sources to complaints. Each has a sample below that it must refuse: a check that
//! cannot fail checks nothing.

#[path = "architecture/graph.rs"]
mod graph;
#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/source.rs"]
mod source;
#[path = "architecture/types.rs"]
mod types;

use source::{Source, load};

/// The floors of the crate, lowest first. A module imports only from floors below its own or from its own. Modules of
/// one floor form no import cycle, and on the last floor no module imports a sibling.
const FLOORS: &[&[&str]] = &[
    &["sync", "replica_id", "hlc", "durations", "arrival", "garbage"],
    &["crdt", "item", "store", "recency"],
    &["bugs", "config", "counters", "histogram", "message", "wire"],
    &["env", "outbox"],
    &["members"],
    &["ledger"],
    &["protocol"],
    &["replica"],
    &["report", "membership", "stills"],
    &["cache"],
    &["node"],
    &["inspect", "sim", "probe"],
];

/// Lines of the longest file, tests excluded. May only shrink.
const LONGEST_FILE: usize = 500;
/// Most lines of `src/replica.rs`, which routes the calls of a replica.
const LONGEST_ROUTER: usize = 300;
/// Lines of the longest function, tests excluded. May only shrink.
const LONGEST_FUNCTION: usize = 48;

/// Most fields of a struct.
const MOST_FIELDS: usize = 16;
/// Items hidden from the docs. May only shrink.
const HIDDEN_ITEMS: usize = 19;

/// The number of the last failure scenario.
const SCENARIOS: u32 = 96;

fn holds(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn product() -> Vec<Source> {
    source::without_tests(load("src"))
}

fn everything() -> Vec<Source> {
    ["src", "tests", "examples", "benches", "crates"].into_iter().flat_map(load).collect()
}

#[test]
fn imports_point_down() {
    holds(&graph::against_the_floors(&product(), FLOORS));
}

#[test]
fn files_of_one_folder_make_no_knot() {
    let knots = graph::knots(&product());
    assert!(knots.is_empty(), "files import each other in circles, parents aside: {knots:#?}");
}

#[test]
fn conversations_do_not_know_of_each_other() {
    holds(&graph::siblings(&product(), "protocol"));
}

#[test]
fn clocks_are_read_and_dice_thrown_in_their_rooms() {
    holds(&rules::outside_their_rooms(&product()));
}

#[test]
fn deterministic_floors_iterate_over_no_hash_table() {
    holds(&rules::hash_order(&product()));
}

#[test]
fn nothing_is_unsafe() {
    holds(&rules::unsafety(&everything()));
}

#[test]
fn files_and_functions_stay_short() {
    holds(&rules::too_long(&product(), LONGEST_FILE, LONGEST_FUNCTION));
    let (file, function) = rules::longest(&product());
    println!("the longest file has {file} lines, the longest function {function}");
}

/// Checks that the router stays short: every call of a replica passes through this file, which does no work itself.
#[test]
fn the_router_of_a_replica_stays_short() {
    let router: Vec<_> = product().into_iter().filter(|source| source.path == "src/replica.rs").collect();
    assert_eq!(router.len(), 1, "it has moved");
    holds(&rules::too_long(&router, LONGEST_ROUTER, LONGEST_FUNCTION));
}

#[test]
fn types_are_implemented_where_they_are_declared() {
    let spread = types::spread(&product());
    assert!(spread.is_empty(), "types are implemented outside of their files: {spread:#?}");
}

#[test]
fn structs_stay_small() {
    holds(&types::too_many_fields(&product(), MOST_FIELDS));
}

#[test]
fn names_of_types_say_which_one_is_meant() {
    let twice = types::taken_twice(&product(), FLOORS);
    assert!(twice.is_empty(), "{} names are taken twice on a floor: {twice:#?}", twice.len());
}

#[test]
fn nothing_is_taken_and_thrown_away() {
    holds(&types::thrown_away(&product()));
}

#[test]
fn what_is_hidden_from_the_docs_becomes_less() {
    let hidden = rules::count(&load("src"), "#[doc(hidden)]");
    assert!(hidden <= HIDDEN_ITEMS, "{hidden} items are hidden from the docs");
}

#[test]
fn every_page_of_the_docs_is_rendered() {
    let mut pages = source::names("src/docs", "md");
    pages.retain(|page| page != "SUMMARY.md"); // the table of contents of the book: `tests/docs/book.rs` checks it
    holds(&rules::orphaned_pages(&load("src"), &pages));
}

#[test]
fn scenario_numbers_exist() {
    let sources: Vec<_> = ["src", "tests"].into_iter().flat_map(load).collect();
    holds(&rules::unknown_scenarios(&sources, SCENARIOS));
    let covered = rules::scenarios(&sources).into_values().collect::<std::collections::BTreeSet<_>>();
    let missing: Vec<_> = (1..=SCENARIOS).filter(|n| !covered.contains(n)).collect();
    assert!(missing.is_empty(), "no test names these scenarios: {missing:?}");
}

mod each_rule_can_fail {
    use super::*;

    fn bad(path: &str, text: &str) -> Vec<Source> {
        vec![Source::new(path, text)]
    }

    fn both(a: (&str, &str), b: (&str, &str)) -> Vec<Source> {
        vec![Source::new(a.0, a.1), Source::new(b.0, b.1)]
    }

    #[test]
    fn floors() {
        let refused = |path, text| assert_eq!(graph::against_the_floors(&bad(path, text), FLOORS).len(), 1, "{text}");
        refused("src/hlc.rs", "use crate::replica::Replica;");
        refused("src/replica/push.rs", "fn f() { let cache = crate::cache::Cache::open(); }");
        refused("src/crdt.rs", "use crate::{item::Item, cache::{self, Cache}};");
        refused("src/store.rs", "use super::cache::Cache;");
        refused("src/node/driver.rs", "macro_rules! m { () => { crate::sim::run() } }");
        refused("src/parlour.rs", "fn f() {}");
        let circle = both(("src/item.rs", "use crate::store::Slot;"), ("src/store.rs", "use crate::item::Item;"));
        assert_eq!(graph::against_the_floors(&circle, FLOORS).len(), 1);
        let fine = bad("src/cache.rs", "// crate::node\nuse crate::replica::Replica; const S: &str = \"crate::node\";");
        holds(&graph::against_the_floors(&fine, FLOORS));
    }

    #[test]
    fn knots() {
        let a = ("src/replica/push.rs", "use super::digest::Digest;");
        let knot = both(a, ("src/replica/digest.rs", "use crate::replica::push::Push;"));
        assert_eq!(graph::knots(&knot), [["replica::digest", "replica::push"]]);
        let fine = both(a, ("src/replica/digest.rs", "use super::Replica;"));
        assert!(graph::knots(&fine).is_empty());
    }

    #[test]
    fn siblings() {
        let push = ("src/protocol/push.rs", "use super::Context; use crate::ledger::Ledger;");
        let relay = "use super::push::Pushes;";
        assert_eq!(graph::siblings(&both(push, ("src/protocol/relay.rs", relay)), "protocol").len(), 1);
        assert_eq!(
            graph::siblings(
                &both(push, ("src/protocol/relay.rs", "fn f() { crate::protocol::push::poll() }")),
                "protocol"
            )
            .len(),
            1
        );
        holds(&graph::siblings(&both(push, ("src/protocol.rs", "pub(crate) mod push;")), "protocol"));
        holds(&graph::siblings(&both(push, ("src/replica.rs", "use crate::protocol::push;")), "protocol"));
    }

    #[test]
    fn rooms() {
        let refused = |path, text| assert_eq!(rules::outside_their_rooms(&bad(path, text)).len(), 1, "{text}");
        refused("src/replica/timers.rs", "fn f() { let now = std::time::Instant::now(); }");
        refused("src/cache.rs", "use std::time::SystemTime;");
        refused("src/node/registry.rs", "fn f() { Instant::now(); }");
        refused("src/node/driver.rs", "fn f() { SystemTime::now(); }");
        refused("src/replica/push.rs", "fn f() { fastrand::u64(..); }");
        refused("src/sim/run.rs", "fn f() { let rng = Rng::new(); }");
        refused("src/replica.rs", "fn f() { Uuid::new_v4(); }");
        refused("src/store.rs", "use foldhash::fast::RandomState;");
        refused("src/cache/fill.rs", "fn f() { tokio::spawn(async {}); }");
        refused("src/sim/cluster.rs", "fn f() { std::thread::spawn(|| ()); }");
        refused("src/cache/iter.rs", "use std::net::SocketAddr;");
        refused("src/cache/stats.rs", "use crdts::CmRDT;");
        refused("src/node/driver.rs", "use std::sync::atomic::AtomicBool;");
        refused("src/node/driver.rs", "use parking_lot::Mutex;");
        refused("src/node.rs", "pub fn list() -> memberlist::Memberlist {}");
        holds(&rules::outside_their_rooms(&bad("src/node/clock.rs", "fn f() { SystemTime::now(); Uuid::new_v4(); }")));
        holds(&rules::outside_their_rooms(&bad(
            "src/replica.rs",
            "/// Instant::now\nfn f() { fastrand::Rng::with_seed(1); }",
        )));
    }

    #[test]
    fn hash_order() {
        let refused = |path, text| assert_eq!(rules::hash_order(&bad(path, text)).len(), 1, "{text}");
        refused("src/sim/oracle.rs", "use std::collections::HashMap;");
        refused("src/crdt/vector.rs", "struct V(std::collections::HashSet<u8>);");
        refused("src/store.rs", "struct S { index: HashTable<u32> } fn f(s: &S) { s.index.iter(); }");
        refused("src/replica/log.rs", "struct S { index: HashTable<u32> } fn f(s: S) { for a in &s.index {} }");
        holds(&rules::hash_order(&bad(
            "src/store.rs",
            "struct S { index: HashTable<u32> } fn f(s: &S) { s.index.iter_hash(1); }",
        )));
        holds(&rules::hash_order(&bad("src/node/mesh/roster.rs", "use std::collections::HashMap;")));
    }

    #[test]
    fn spread_types() {
        let home = (
            "src/replica.rs",
            "pub struct Replica<K, V> { a: u8 } impl<K: Into<Vec<u8>>, V> Replica<K, V> { fn a() {} }",
        );
        let spread = |text| types::spread(&both(home, ("src/replica/inspect.rs", text))).len();
        assert_eq!(spread("impl<K, V> Replica<K, V> where K: Fn() -> u8 { fn look() {} }"), 1);
        assert_eq!(spread("use x; impl crate::replica::Replica<u8, u8> {}"), 1);
        assert_eq!(spread("impl<K, V> Clone for Replica<K, V> { fn f(x: impl Fn(&Replica<K, V>)) {} }"), 0);
        assert!(types::spread(&bad("src/replica.rs", home.1)).is_empty());
    }

    #[test]
    fn fields() {
        let count = |text, limit| types::too_many_fields(&bad("src/ledger.rs", text), limit).len();
        assert_eq!(count("struct L<K: Ord> { a: u8, pub b: std::vec::Vec<u8>, c: BTreeMap<K, fn(u8) -> u8> }", 2), 1);
        assert_eq!(count("struct L { a: u8, b: std::vec::Vec<u8> }", 2), 0);
        assert_eq!(count("pub struct Report { pub a: u8, pub b: u8, pub c: u8 }", 2), 0, "plain data");
        assert_eq!(count("pub struct Report { pub a: u8, pub(crate) b: u8, pub c: u8 }", 2), 1);
    }

    #[test]
    fn names_of_types() {
        let twice = both(("src/node/a.rs", "struct State;"), ("src/node/b.rs", "enum State {}"));
        assert_eq!(types::taken_twice(&twice, FLOORS).len(), 1);
        let fine = both(("src/node/a.rs", "struct State;"), ("src/cache/b.rs", "enum State {}"));
        assert!(types::taken_twice(&fine, FLOORS).is_empty());
    }

    #[test]
    fn thrown_away() {
        assert_eq!(types::thrown_away(&bad("src/a.rs", "fn f(a: u8) { let _ = a; }")).len(), 1);
        holds(&types::thrown_away(&bad("src/a.rs", "fn f(a: u8) { let _ = send(a); let b = a; }")));
    }

    #[test]
    fn hidden() {
        assert_eq!(
            rules::count(&bad("src/a.rs", "#[doc(hidden)] pub mod a {} #[doc(hidden)] fn b() {}"), "#[doc(hidden)]"),
            2
        );
    }

    #[test]
    fn unsafety() {
        assert_eq!(rules::unsafety(&bad("examples/a.rs", "fn f() { unsafe { g() } }")).len(), 1);
        holds(&rules::unsafety(&bad("src/a.rs", "// unsafe\nconst S: &str = \"unsafe\";")));
    }

    #[test]
    fn length() {
        let long = "fn f() {\n\n\n}\n";
        assert_eq!(rules::too_long(&bad("src/a.rs", long), 9, 3).len(), 1);
        assert_eq!(rules::too_long(&bad("src/a.rs", long), 3, 9).len(), 1);
        holds(&rules::too_long(&bad("src/a.rs", long), 4, 4));
        let nested = "impl A { fn f(&self) -> [u8; { 1 }] where Self: Sized {\n\n\n} }";
        assert_eq!(rules::longest(&bad("src/a.rs", nested)), (4, 4));
    }

    #[test]
    fn tests_are_left_out() {
        let with = both(
            (
                "src/a.rs",
                "#[cfg(test)]\npub(crate) mod laws;\nfn f() {}\n#[cfg(test)]\nmod tests { use std::time::Instant; }",
            ),
            ("src/a/laws.rs", "use std::time::Instant;"),
        );
        assert_eq!(rules::outside_their_rooms(&with).len(), 2);
        let without = source::without_tests(with);
        assert_eq!(without.len(), 1);
        holds(&rules::outside_their_rooms(&without));
    }

    #[test]
    fn pages() {
        let lib = bad("src/lib.rs", "#[doc = include_str!(\"docs/limits.md\")]\nmod limits {}");
        assert_eq!(rules::orphaned_pages(&lib, &["limits.md".into(), "new.md".into()]).len(), 1);
    }

    #[test]
    fn scenarios() {
        let text = |n: &str| format!("// {} {n}: behaviour", "scenario");
        let check = |n| rules::unknown_scenarios(&bad("tests/a.rs", &text(n)), SCENARIOS).len();
        assert_eq!((check("0"), check("97"), check("96"), check("1")), (1, 1, 0, 0));
        assert_eq!(rules::scenarios(&bad("tests/a.rs", &text("12"))).into_values().collect::<Vec<_>>(), [12]);
    }
}
