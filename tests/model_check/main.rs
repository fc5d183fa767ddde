//! Exhaustive exploration of the real core, to a stated depth.
//!
//! The model has three replicas of the production core, two keys, the real encoder and decoder, a network that
//! reorders, loses and duplicates, and clocks that step. See [`world`] for the definition of a state.
//!
//! - Loss needs no step of its own: a lost message is one that never arrives. The property about the end of a run loses
//!   everything that is still in flight.
//! - `cargo test --profile sim --no-default-features --features sim --test model_check -- --nocapture` prints depth and
//!   states. With `--ignored` it goes deeper. Unoptimised it takes minutes, so this file is empty with the feature
//!   `node`.

#![cfg(not(feature = "node"))]
#![allow(missing_docs)]

mod checks;
mod machine;
mod scope;
mod world;

use std::time::Instant;

use stateright::{Checker, Model};

use scope::Scope;
use world::{Cluster, Spent};

/// Explores a scope. Returns the properties that do not hold, each with a schedule that breaks it.
fn explore(scope: Scope) -> Vec<String> {
    let started = Instant::now();
    let (name, depth) = (scope.name, scope.limits.depth);
    let cluster = Cluster::new(scope.clone(), scope.rules.clone());
    let checker = cluster.checker().spawn_bfs().join();
    let (histories, healed) = checker.model().worked_out();
    println!(
        "{name}: depth {} of {depth}, {} states ({} reached), {histories} histories, {healed} healed, {:.1} s",
        checker.max_depth() - 1,
        checker.unique_state_count(),
        checker.state_count(),
        started.elapsed().as_secs_f64(),
    );
    let mut found = Vec::new();
    for (property, path) in checker.discoveries() {
        let complaints = checks::complaints(checker.model(), path.last_state());
        let last = format!("{:?}", path.last_state());
        let steps: Vec<_> = path.into_actions().iter().map(|step| format!("  {step:?}")).collect();
        found.push(format!("{property}\n{}\n{last}{}", steps.join("\n"), complaints.join("\n")));
    }
    found
}

fn clean(scope: Scope) {
    let found = explore(scope);
    assert!(found.is_empty(), "{}", found.join("\n\n"));
}

/// Returns every scope at the depth that a test can afford, plus `deeper` steps.
fn scopes(deeper: u8) -> Vec<Scope> {
    let spent = |depth: u8| Spent { depth: depth + deeper, ..Spent::default() };
    let heal_one_in = if deeper == 0 { 32 } else { 64 };
    let plain = [
        // Checks concurrent writes and deletes, delivered in any order, twice or not at all.
        Scope::new("writes", Spent { writes: 2, deletes: 1, again: 1, ..spent(5) }),
        // Checks loss and its repair by digests, with eviction.
        Scope::new("repair", Spent { writes: 1, deletes: 1, evictions: 1, ticks: 2, ..spent(5) }),
        // Checks clocks that step further than peers accept.
        Scope::new("clocks", Spent { writes: 2, steps: 1, ticks: 1, ..spent(5) }),
        // Checks values that are computed from a source that was read before another replica wrote.
        Scope::new("fills", Spent { writes: 1, deletes: 1, fills: 1, ..spent(5) }),
        // Checks `invalidate_all` against writes in flight.
        Scope::new("epochs", Spent { writes: 2, epochs: 1, again: 1, ..spent(5) }),
        // Checks a sender that is still busy while other replicas overtake its writes.
        Scope::new("busy", Spent { writes: 3, ..spent(5) }).holding_sends(),
        // Checks pushes that their receivers relay.
        Scope::new("relayed", Spent { writes: 2, deletes: 1, ..spent(6) }).relaying(),
        // Checks a session of several frames that are cut while the state changes.
        Scope::new("session", Spent { writes: 1, deletes: 1, ticks: 2, ..spent(5) })
            .from(scope::one_missed_writes)
            .with_large_values()
            .holding_sends(),
        // Checks tombstones that are forced out, so that a replica which missed them needs a reconcile.
        Scope::new("forced", Spent { deletes: 2, writes: 1, ticks: 2, ..spent(4) })
            .from(scope::one_missed_a_delete)
            .with_few_tombstones(),
        // Checks a fill above a recent tombstone, and a delete by a clock that is behind.
        Scope::new("contested", Spent { deletes: 1, fills: 1, again: 1, ..spent(6) }).from(scope::one_is_ahead),
        // Checks values that one replica has evicted and that arrive there again, after a session that broke off.
        Scope::new("evicted", Spent { ticks: 5, ..spent(7) }).from(scope::one_has_evicted).with_large_values(),
        // Checks a value whose newest version two replicas evicted: a newcomer with an older version gets a reconcile.
        Scope::new("unseen", Spent { ticks: 5, ..spent(7) }).from(scope::the_newest_is_evicted),
        // Checks tombstones that are collected while older and newer writes are in flight.
        Scope::new("collected", Spent { writes: 1, fills: 1, ticks: 3, ..spent(5) }).from(scope::before_collection),
        // Checks a fill of a replica that is not a member yet, or was forgotten meanwhile, and a forgotten delete.
        Scope::new("newcomer", Spent { ticks: 4, ..spent(7) }).from(scope::one_filled_before_it_met),
        Scope::new("returned", Spent { ticks: 4, ..spent(7) }).from(scope::one_filled_and_was_forgotten),
        // Checks a fill that no peer holds, although its replica has received all digests of its peers.
        Scope::new("unheard", Spent { ticks: 3, writes: 1, ..spent(5) })
            .from(scope::the_messages_of_one_filler_are_lost),
        // Checks a fill whose group has forgotten its bound, and had not met the author of a later delete or write.
        Scope::new("stranger", Spent { ticks: 4, ..spent(7) }).from(scope::an_unmet_replica_deleted),
        Scope::new("writer", Spent { ticks: 4, ..spent(7) }).from(scope::an_unmet_replica_wrote),
        // Checks stills in place of digests: lost, late and repeated, around writes whose messages are lost.
        Scope::new("stills", Spent { writes: 1, stills: 2, ticks: 3, again: 1, ..spent(6) }).from(scope::all_at_rest),
        Scope::new("distant", Spent { writes: 1, stills: 1, ticks: 4, ..spent(7) })
            .from(scope::all_at_rest)
            .acted_by(&[0])
            .relaying(),
    ];
    plain.into_iter().map(|scope| scope.healing_one_in(heal_one_in)).collect()
}

fn scope(name: &str) -> Scope {
    scopes(0).into_iter().find(|scope| scope.name == name).expect("a scope")
}

macro_rules! explored {
    ($($test:ident $name:literal,)*) => { $(
        #[test]
        fn $test() {
            clean(scope($name));
        }
    )* };
}

explored! {
    concurrent_writes_and_deletes "writes",
    loss_and_repair "repair",
    stepping_clocks "clocks",
    fills "fills",
    invalidate_all "epochs",
    overtaken_while_busy "busy",
    relayed_pushes "relayed",
    sessions_of_several_frames "session",
    forced_drops_and_reconcile "forced",
    contested_fills "contested",
    arrivals_below_an_eviction "evicted",
    reconciles_of_who_has_evicted "unseen",
    collection "collected",
    fills_of_newcomers "newcomer",
    fills_of_the_forgotten "returned",
    fills_that_nobody_heard_of "unheard",
    deletes_of_strangers "stranger",
    writes_of_strangers "writer",
    stills_in_place_of_digests "stills",
    stills_about_relayed_writes "distant",
}

/// Switches a known mistake on. Returns the number of properties that then fail.
fn caught(bug: &str, scope: Scope) -> usize {
    let found = explore(scope.with_bug(bug));
    println!("{bug}: {} properties fail", found.len());
    if std::env::var("SHOW").is_ok() {
        println!("{}", found.join("\n"));
    }
    found.len()
}

/// Checks that the model can fail: known mistakes that are switched on are found.
#[test]
fn known_mistakes_are_found() {
    let two = |depth| Spent { writes: 2, depth, ..Spent::default() };
    let plain = |depth| Scope::new("power", two(depth));
    let cases = [
        ("apply_over_gap", plain(3)),
        ("evict_without_tombstone", Scope::new("power", Spent { evictions: 1, ..two(5) }).acted_by(&[0, 1])),
        (
            "fill_stamped_late",
            Scope::new("power", Spent { writes: 1, fills: 1, ticks: 1, depth: 5, ..Spent::default() })
                .healing_one_in(256),
        ),
        ("delete_unknown_is_noop", Scope::new("power", Spent { deletes: 1, depth: 1, ..Spent::default() })),
        ("fill_bound_ignored", scope("contested")),
        ("returned_fills_believed", scope("newcomer").healing_one_in(1)),
        ("returned_fills_believed", scope("returned").healing_one_in(1)),
        ("late_fills_uncontested", scope("returned").healing_one_in(1)),
        ("bounds_dropped_unseen", scope("unheard").healing_one_in(1)),
        ("unbounded_believed", scope("stranger").healing_one_in(1)),
        ("unbounded_believed", scope("writer").healing_one_in(1)),
        ("eviction_voids", scope("evicted")),
        ("evictions_spared_unseen", scope("unseen")),
        ("still_after_write", scope("stills")),
        ("still_over_lost_digest", scope("distant")),
        ("no_deferral", Scope::new("power", Spent { writes: 1, steps: 1, depth: 3, ..Spent::default() })),
    ];
    let only = std::env::var("BUG").ok();
    let wanted = |bug: &str| only.as_ref().is_none_or(|only| bug == only);
    for (bug, scope) in cases.into_iter().filter(|(bug, _)| wanted(bug)) {
        assert!(caught(bug, scope) > 0, "{bug} was not found");
    }
}

/// Checks every scope one step deeper, and heals fewer states: `-- --ignored --nocapture`, in release.
#[test]
#[ignore = "takes minutes"]
fn deeper() {
    let steps = std::env::var("DEEPER").ok().and_then(|steps| steps.parse().ok()).unwrap_or(1);
    let only = std::env::var("SCOPE").ok();
    let wanted = |scope: &Scope| only.as_ref().is_none_or(|only| scope.name == only);
    scopes(steps).into_iter().filter(wanted).for_each(clean);
}

/// Checks that the own deletes of a lossy replica are served. The scope "forced" found a fault here. A replica that had
/// dropped a tombstone by force left the replicas that missed it to a peer, but no peer had its own deletes.
#[test]
fn own_deletes_of_a_lossy_replica_are_served() {
    let limits = Spent { deletes: 2, depth: 2, ..Spent::default() };
    let scope = Scope::new("lossy", limits).from(scope::both_written).with_few_tombstones();
    clean(scope);
}

/// Checks that a fill never has the same time as the next write by a slower clock. The scope "fills" found a fault
/// here. A slower clock stamped a write that followed the register the fill saw, with exactly the time of that fill.
#[test]
fn a_fill_never_ties_with_the_next_write_of_a_slower_clock() {
    let limits = Spent { writes: 1, deletes: 1, fills: 1, depth: 6, ..Spent::default() };
    let mut scope = Scope::new("tie", limits).acted_by(&[1, 2]).healing_one_in(256);
    scope.rules.fills_never_tie = true;
    clean(scope);
}
