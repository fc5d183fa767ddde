//! A measurement, on real nodes, of the time from a write until all members have confirmed it. It is run by hand: a
//! timed assertion would fail on a busy machine.
//!
//! `cargo test --test acknowledging -- --ignored --nocapture`
#![cfg(feature = "node")]

mod common;

use std::time::{Duration, Instant};

use common::{SOON, cluster, stop};
use driftless::Members;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn an_idle_cluster_acknowledges_within_milliseconds() {
    for count in [2, 3] {
        let (nodes, caches) = cluster(&format!("acks-{count}"), count).await;
        for (pause, what) in [(20, "one write at a time"), (0, "one after the other")] {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let mut took = Vec::new();
            for number in 0..200 {
                let start = Instant::now();
                let written = caches[0].insert(format!("key {number}"), "value".into()).unwrap();
                caches[0].wait_replicated(written, Members::All, SOON).await.unwrap();
                took.push(start.elapsed());
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            took.sort_unstable();
            let at = |percent: usize| took[took.len() * percent / 100];
            println!("{count} nodes, {what}: p50 {:?}, p99 {:?}, worst {:?}", at(50), at(99), took[took.len() - 1]);
        }
        stop(nodes).await;
    }
}
