//! Tests of the stills of real nodes: idle caches send no digests, and a write ends the silence.
#![cfg(feature = "node")]

mod common;

use std::time::Duration;

use common::{SOON, cluster, eventually, node, open, stop};
use driftless::Cache;

fn digests(caches: &[Cache<String, String>]) -> u64 {
    caches.iter().map(|cache| cache.counters().digests_out).sum()
}

/// Waits for a second and a half without a digest. Panics after a while.
fn falls_silent(caches: &[Cache<String, String>]) {
    let mut before = digests(caches);
    let silent = || {
        std::thread::sleep(Duration::from_millis(1_500));
        let now = digests(caches);
        std::mem::replace(&mut before, now) == now
    };
    eventually("silence", silent, |silent| *silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_caches_send_stills_and_no_digests() {
    let (mut nodes, mut caches) = cluster("stills", 3).await;
    caches[0].insert("key".into(), "value".into()).unwrap();
    falls_silent(&caches);
    let stills = |cache: &Cache<String, String>| (cache.counters().stills_out, cache.counters().stills_in);
    let (sent, received) = stills(&caches[0]);
    eventually("stills", || stills(&caches[0]), |(out, into)| *out > sent + 3 && *into > received + 3);
    // Writes arrive and are acknowledged as before, and the caches fall silent again.
    let written = caches[1].insert("key".into(), "other".into()).unwrap();
    caches[1].wait_replicated(written, driftless::Members::All, SOON).await.unwrap();
    assert!(caches.iter().all(|cache| cache.get("key").as_deref() == Some("other")));
    falls_silent(&caches);
    // A newcomer catches up with members that are silent.
    let newcomer = node("stills", &[&nodes[0]]).await;
    caches.push(open(&newcomer));
    nodes.push(newcomer);
    assert!(caches[3].ready(SOON).await.is_ready());
    assert_eq!(caches[3].get("key").as_deref(), Some("other"));
    falls_silent(&caches);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_is_closed_is_missed_although_it_was_silent() {
    let (nodes, mut caches) = cluster("closed", 2).await;
    falls_silent(&caches);
    caches.pop();
    eventually("one is left", || caches[0].members(), |members| *members == 0);
    stop(nodes).await;
}
