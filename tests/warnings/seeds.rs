//! Nodes that cannot join: another key, another cluster, seeds that lead nowhere.

use std::net::TcpListener;
use std::time::Instant;

use driftless::Node;

use crate::addresses::unused;
use crate::table::{Expected, Row, begin, blames_only, builder, end, warnings};

fn on<'a>(node: &'a Node, name: &'a str, about: impl ToString, advice: &'a str) -> Expected<'a> {
    Expected { on: node, name, about: about.to_string(), source: vec![about.to_string()], advice }
}

/// Starts a node, then one that it refuses. Each side names the reason. Then the second stops, or finds a member.
async fn refused(
    case: &'static str,
    name: &'static str,
    advice: &str,
    keys: [Option<u8>; 2],
    clusters: [&str; 2],
) -> Vec<Row> {
    let start = |which: usize, name: &str, seeds: &[&Node]| {
        let plain = builder(clusters[which], name, seeds);
        match keys[which] {
            Some(key) => plain.encryption_key([key; 32]),
            None => plain,
        }
    };
    let addr = unused();
    let first = start(0, "first", &[]).bind(addr).start().await.unwrap();
    let cause = Instant::now();
    let second = start(1, "second", &[&first]).start().await.unwrap();
    let expected = [on(&second, name, addr, advice), on(&first, name, "127.0.0.1", advice)];
    let mut rows = begin(case, cause, &expected).await;
    blames_only(case, &[&first, &second], &[(name, &addr.to_string()), (name, "127.0.0.1")]);
    // The first makes room for a member that the second can join.
    first.shutdown().await;
    let remedy = Instant::now();
    let other = start(1, "other", &[]).bind(addr).start().await.unwrap();
    end(&mut rows, &[&second], remedy).await;
    second.shutdown().await;
    // No process is refused any more, so the warning of the first would have ended too; it was shut down above, and a fresh
    // pair shows it.
    let again = start(0, "again", &[]).start().await.unwrap();
    let third = start(1, "third", &[&again]).start().await.unwrap();
    let mut more = begin(case, Instant::now(), &[on(&again, name, "127.0.0.1", advice)]).await;
    third.shutdown().await;
    end(&mut more, &[&again], Instant::now()).await;
    for node in [other, again] {
        node.shutdown().await;
    }
    rows.extend(more);
    rows
}

pub async fn another_key() -> Vec<Row> {
    refused("another key", "wrong-key", "encryption_key on all nodes", [Some(1), Some(2)], ["w-key"; 2]).await
}

pub async fn a_key_on_one_side_only() -> Vec<Row> {
    let advice = "encryption_key on all nodes";
    let mut rows = refused("no key there", "wrong-key", advice, [Some(1), None], ["w-half"; 2]).await;
    rows.extend(refused("no key here", "wrong-key", advice, [None, Some(1)], ["w-other-half"; 2]).await);
    rows
}

pub async fn another_cluster() -> Vec<Row> {
    refused("another cluster", "wrong-cluster", "cluster", [None, None], ["w-shop", "w-shops"]).await
}

pub async fn seeds_that_lead_nowhere() -> Vec<Row> {
    let case = "no seed answers";
    // A port on which nothing listens, and one whose listener accepts nothing: the kernel completes the handshake.
    let closed = unused();
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = mute.local_addr().unwrap().to_string();
    let mut rows = Vec::new();
    for (which, seed, advice) in [
        ("unresolved", "no-such-host.invalid:7946".to_owned(), "does not resolve"),
        ("closed", closed.to_string(), "check that it runs"),
        ("mute", silent, "has not answered"),
    ] {
        let cause = Instant::now();
        let node = builder("w-seeds", which, &[]).seeds([seed.clone()]).start().await.unwrap();
        let expected =
            [Expected { on: &node, name: "seeds-unreachable", about: which.into(), source: vec![seed], advice }];
        // After the mute seed's time limit, its reason is that it does not answer.
        let mut found = if which == "mute" {
            let either = Expected { advice: "answer", ..expected.into_iter().next().unwrap() };
            begin(case, cause, &[either]).await
        } else {
            begin(case, cause, &expected).await
        };
        blames_only(case, &[&node], &[("seeds-unreachable", which)]);
        if which == "closed" {
            let found_at_last = builder("w-seeds", "late", &[]).bind(closed).start().await.unwrap();
            end(&mut found, &[&node], Instant::now()).await;
            found_at_last.shutdown().await;
        }
        node.shutdown().await;
        rows.extend(found);
    }
    rows
}

/// A node whose only seed is itself is a cluster of one, which is no fault.
pub async fn a_seed_that_is_the_node_itself() -> Vec<Row> {
    let addr = unused();
    let alone = builder("w-own", "own", &[]).bind(addr).seeds([addr.to_string()]).start().await.unwrap();
    let mixed = builder("w-mixed", "mixed", &[]).bind("127.0.0.1:0".parse().unwrap());
    let mixed = mixed.seeds(["no-such-host.invalid:1".to_owned()]).start().await.unwrap();
    let rows = begin(
        "one seed of two",
        Instant::now(),
        &[Expected {
            on: &mixed,
            name: "seeds-unreachable",
            about: "mixed".into(),
            source: vec!["no-such-host.invalid:1".into()],
            advice: "check the name",
        }],
    )
    .await;
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert!(warnings(&alone).is_empty(), "{:?}", warnings(&alone));
    alone.shutdown().await;
    mixed.shutdown().await;
    rows
}
