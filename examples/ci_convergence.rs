//! A user's own types under the simulator, as in a test of an application: 64 clusters with every kind of fault.
//!
//! `cargo run --example ci_convergence --features sim`

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Sku(String);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Price {
    cents: u64,
    currency: String,
}

fn main() {
    driftless::sim::check(|n| Sku(format!("sku-{n}")), |n| Price { cents: n, currency: "EUR".into() });
    println!("these types converge");
}
