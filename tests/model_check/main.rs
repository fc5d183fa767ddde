//! scenario-free: the real core, explored exhaustively to a stated depth.
//!
//! Three replicas of the production core, two keys, real encoder and decoder, a network that
//! reorders, loses and duplicates, clocks that step. See [`world`] for what a state is.
//!
//! - Loss needs no step of its own: a message that is lost is one that never arrives, and the
//!   property that looks at the end loses everything that is still in flight.
//! - `cargo test --features sim --test model_check -- --nocapture` prints depth and states;
//!   `cargo test --release --features sim --test model_check -- --ignored --nocapture` goes deeper.

#![allow(missing_docs)]

mod checks;
mod machine;
mod scope;
mod world;

use std::time::Instant;

use stateright::{Checker, Model};

use checks::{AGREE, BEHAVES, CLAIMS, HEALS};
use scope::Scope;
use world::{Cluster, Spent};

/// Explores a scope. Returns the properties that do not hold, with their schedules.
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

#[test]
fn writes_and_deletes() {
    clean(Scope::new("writes", Spent { writes: 2, deletes: 1, again: 1, depth: 6, ..Spent::default() }));
}
