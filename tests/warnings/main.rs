//! Every warning, caused by its real cause on real nodes: which nodes warn, whom they name, from where it comes, what
//! they advise, when the warning begins, and that it ends with its cause.
//!
//! The cases run side by side, each in a cluster of its own. `--nocapture` prints the table.

#[path = "../common/addresses.rs"]
mod addresses;
#[path = "../common/mod.rs"]
mod common;

mod clocks;
mod faults;
mod members;
mod seeds;
mod table;

use table::{Row, Table};

/// The cases. Each returns the rows that it has seen.
async fn run_all() -> Table {
    let mut running = tokio::task::JoinSet::new();
    running.spawn(seeds::another_key());
    running.spawn(seeds::a_key_on_one_side_only());
    running.spawn(seeds::another_cluster());
    running.spawn(seeds::seeds_that_lead_nowhere());
    running.spawn(seeds::a_seed_that_is_the_node_itself());
    running.spawn(members::a_name_that_is_taken());
    running.spawn(members::a_paused_process());
    running.spawn(members::a_killed_process_that_is_started_again());
    running.spawn(members::a_cut_in_one_direction());
    running.spawn(members::a_member_that_stands_still());
    running.spawn(members::other_settings());
    running.spawn(clocks::one_of_three("ahead", 5));
    running.spawn(clocks::one_of_three("behind", -5));
    running.spawn(clocks::one_of_two("pair-ahead", 5));
    running.spawn(clocks::one_of_two("pair-behind", -5));
    running.spawn(clocks::a_step());
    running.spawn(faults::too_many_tombstones());
    running.spawn(faults::another_type());
    running.spawn(faults::a_flood_from_one_host());
    running.spawn(faults::a_task_that_dies());
    running.spawn(faults::an_open_port_and_a_shutdown());
    let mut table = Table::default();
    while let Some(rows) = running.join_next().await {
        match rows {
            Ok(rows) => table.rows.extend(rows),
            Err(error) => table.failed.push(error.to_string()),
        }
    }
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn every_warning_is_true() {
    let begun = std::time::Instant::now();
    let table = run_all().await;
    println!("{table}\n{} warnings in {:?}", table.rows.len(), begun.elapsed());
    assert!(table.failed.is_empty(), "{} cases failed: {:#?}", table.failed.len(), table.failed);
    let names: std::collections::BTreeSet<_> = table.rows.iter().map(|row: &Row| row.name.as_str()).collect();
    let page = std::fs::read_to_string("src/docs/operations.md").unwrap();
    let warnings = page.split("# Warnings").nth(1).unwrap().split("\n## ").next().unwrap();
    let documented = warnings.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: Vec<_> = documented.collect();
    let unknown: Vec<_> = names.iter().filter(|name| !documented.contains(name)).collect();
    assert!(unknown.is_empty(), "the page does not explain {unknown:?}");
    // These need minutes, a broken type or a crash; tests of their own cause them.
    let elsewhere = ["collection-stalled", "split-suspected", "stamps-ahead", "task-died", "inbox-overflow"];
    let elsewhere = [&elsewhere[..], &["unencodable-entries", "unreadable-entries"]].concat();
    let missing: Vec<_> =
        documented.into_iter().filter(|name| !names.contains(name) && !elsewhere.contains(name)).collect();
    assert!(missing.is_empty(), "no case causes {missing:?}");
}

/// A member in a process of its own, which `members` pauses and kills. Not a test.
#[test]
#[ignore = "a process that other tests start"]
fn member_process() {
    members::run_member();
}
